//! Compiles @source@ to a static library, with the compilers that CXX and AR name (c++ and ar unless set).
use std::{env, path::PathBuf, process::Command};

fn run(variable: &str, default: &str, arguments: &[&str]) {
    println!("cargo:rerun-if-env-changed={variable}");
    let tool = env::var(variable).unwrap_or_else(|_| default.into());
    let status = Command::new(&tool).args(arguments).status();
    let done = status.unwrap_or_else(|e| panic!("{tool} cannot be run ({e}); set {variable} to another"));
    assert!(done.success(), "{tool} {} failed", arguments.join(" "));
}

fn main() {
    let folder = PathBuf::from(env::var("OUT_DIR").unwrap());
    let object = folder.join("@name@.o").display().to_string();
    let archive = folder.join("lib@name@.a").display().to_string();
    let flags = [@flag_list@, "-fPIC", "-fno-exceptions", "-fno-rtti"];
    run("CXX", "c++", &[&flags[..], &["-c", "src/@source@", "-o", &object]].concat());
    run("AR", "ar", &["crs", &archive, &object]);
    println!("cargo:rerun-if-changed=src/@source@");
    println!("cargo:rustc-link-search=native={}", folder.display());
    println!("cargo:rustc-link-lib=static=@name@");
}

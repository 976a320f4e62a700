//! The C API, as @header@ describes it.
use std::ffi::CStr;
use std::os::raw::{c_char, c_void};

#[repr(C)]
pub struct Handle {
    _private: [u8; 0],
}

//@ if shapes
#[repr(C)]
pub struct RawTensor {
    _text: [*const c_char; 2],
    _shape: *const i64,
    _rank: i32,
    pub bytes: usize,
    _scale: f32,
    _zero_point: i32,
}

//@ end
//@ if classes
#[repr(C)]
pub struct RawClass {
    pub index: i32,
    pub probability: f32,
    pub label: *const c_char,
}

//@ end
//@ if boxes
#[repr(C)]
pub struct RawDetection {
    pub index: i32,
    pub score: f32,
    pub corner_and_size: [f32; 4],
    pub label: *const c_char,
}

//@ end
//@ if decodes
#[repr(C)]
pub struct RawSampler {
    pub temperature: f32,
    pub top_k: i32,
    pub top_p: f32,
    pub seed: u64,
}

pub type OnToken = unsafe extern "C" fn(*mut c_void, i64) -> i32;
//@ if writes
pub type OnText = unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> i32;
//@ end

//@ end
extern "C" {
    @declarations@
}

pub fn text(from: *const c_char) -> String {
    unsafe { CStr::from_ptr(from) }.to_string_lossy().into_owned()
}
//@ if lists

pub fn label(name: *const c_char, index: i32) -> String {
    if name.is_null() { index.to_string() } else { text(name) }
}
//@ end

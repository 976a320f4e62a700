// Uses the bindings of the model of test_bindings.py's `awkward`, which reads what it prints. Its argument: the weights.
fn main() {
    let weights = std::env::args().nth(1).unwrap();
    let mut p = awkward::Predictor::open(&weights).unwrap();
    let y = p.run(&[1.0, 2.0, 3.0, 4.0], &[10, 20, 30]).unwrap();
    println!("func {} {} {}", y.func[0], y.func[1], y.func[2]);
    println!("in {} {} {}", y.in_0[0], y.in_0[1], y.in_0[2]);
    println!("class {}", p.classify(&[1.0, 2.0, 3.0, 4.0], &[10, 20, 30], 1).unwrap()[0].label);
    println!("length {}", if p.run(&[1.0], &[1, 2, 3]).is_err() { "error" } else { "none" });
    println!("weights {}", if awkward::Predictor::open("absent").is_err() { "error" } else { "none" });
}

//! Uses the crate found; what it prints is read by test_bindings_sets.py.
use found::Predictor;

fn main() {
    let picture = std::fs::read(std::env::args().nth(1).unwrap()).unwrap();
    let (first, second): (Vec<f32>, Vec<f32>) = (vec![1.5; 192], vec![2.5; 108]);
    let mut p = Predictor::new().unwrap();
    p.set_threads(2).unwrap();
    p.reshape_image(&[1, 3, 8, 8]).unwrap();
    let twice = p.run(&first).unwrap().twice;
    println!("set {} {} {}", p.shape(), twice.len(), twice[191]);
    p.set_shape(0).unwrap();
    let twice = p.run(&second).unwrap().twice;
    println!("set {} {} {}", p.shape(), twice.len(), twice[107]);
    for d in p.detect(&picture, 7, 5, None).unwrap() {
        println!("found {} {} {:e} {:e} {:e} {:e} {:e}", d.index, d.label, d.score, d.x, d.y, d.width, d.height);
    }
    println!("sure {}", p.detect(&picture, 7, 5, Some(2.0)).unwrap().len());
    let mut small = Predictor::within(Predictor::memory_for_image(&[1, 3, 8, 8]).unwrap()).unwrap();
    small.reshape_image(&[1, 3, 8, 8]).unwrap();
    println!("small {}", small.run(&first).unwrap().twice[191]);
    println!("memory: {}", small.reshape_image(&[1, 3, 206, 206]).unwrap_err());
    println!("memory: {}", small.set_shape(10200).unwrap_err());
    println!("largest: {}", Predictor::memory_for_image(&[1, 3, 8, 7]).unwrap_err());
    println!("bounds: {}", p.reshape_image(&[1, 3, 8, 208]).unwrap_err());
    println!("step: {}", p.reshape_image(&[1, 3, 8, 7]).unwrap_err());
    println!("length: {}", p.run(&first).unwrap_err());
    println!("picture: {}", p.detect(&picture, 8, 5, None).unwrap_err());
    println!("shape: {}", p.set_shape(10201).unwrap_err());
    println!("threads: {}", p.set_threads(3).unwrap_err());
}

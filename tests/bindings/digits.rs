//! Uses the crate digits; what it prints is read by test_bindings.py.
use digits::Predictor;

fn main() {
    let files: Vec<Vec<u8>> = std::env::args().skip(1).map(|path| std::fs::read(path).unwrap()).collect();
    let image: Vec<f32> = files[0].chunks(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut predictor = Predictor::new().unwrap();
    for p in predictor.run(&image).unwrap().probability {
        println!("run {p:e}");
    }
    for class in predictor.classify(&files[1], 8, 8, 3).unwrap() {
        println!("class {} {} {:e}", class.index, class.label, class.probability);
    }
    println!("length: {}", predictor.run(&image[1..]).unwrap_err());
    println!("picture: {}", predictor.classify(&files[1], 9, 8, 3).unwrap_err());
    println!("count: {}", predictor.classify(&files[1], 8, 8, 0).unwrap_err());
    let elsewhere = std::thread::spawn(move || predictor.run(&image).unwrap().probability[0]);
    println!("thread {:e}", elsewhere.join().unwrap());
}

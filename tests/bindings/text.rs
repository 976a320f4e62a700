use std::panic::{catch_unwind, AssertUnwindSafe};
use writer::{Generation, Predictor, TextError};

fn told(text: &str) -> String {
    format!("{} {}", text.len(), text.bytes().map(u64::from).sum::<u64>())
}

fn joined<T: ToString>(numbers: &[T]) -> String {
    numbers.iter().map(T::to_string).collect::<Vec<_>>().join(" ")
}

fn drawn(max_tokens: usize) -> Generation {
    Generation { max_tokens, temperature: 1.2, top_k: 50, top_p: 0.95, seed: 7, ..Generation::default() }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let prompt = std::env::args().nth(1).unwrap();
    let mut p = Predictor::new()?;
    let ids = p.tokenize(&prompt, true)?;
    let tokens: Vec<i64> = ids.iter().map(|&id| id.into()).collect();
    println!("ids {}", joined(&ids));
    println!("back {}", p.detokenize(&ids, false)?);
    println!("plain {}", p.tokenize(&prompt, false)?.len());
    println!("tokens {}", joined(&p.generate(&tokens, &drawn(6), |_| false)?));
    let mut pieces = 0;
    let text = p.write(&prompt, &drawn(20), |_| { pieces += 1; false })?;
    println!("text {} {pieces}", told(&text));
    println!("first {}", told(&p.write(&prompt, &drawn(20), |_| true)?));
    p.write(&prompt, &drawn(5), |_| false)?;
    let more = Generation { max_tokens: 4, keep: true, ..Generation::default() };
    println!("kept {}", told(&p.write("and", &more, |_| false)?));
    let most = Generation { max_tokens: 99, stop: Some(vec![]), ..Generation::default() };
    let full = p.write(&prompt, &most, |_| false).unwrap_err();
    println!("full: {full}");
    if let TextError::FullText(text) = full {
        println!("written {}", told(&text));
    }
    if let Err(TextError::Full(tokens)) = p.generate(&tokens, &most, |_| false) {
        println!("made {}", tokens.len());
    }
    println!("broken {}", p.tokenize(b"a\xff", true)? == p.tokenize("a\u{fffd}", true)?);
    println!("long: {}", p.tokenize("a".repeat(40000), true).unwrap_err());
    println!("empty: {}", p.generate(&[], &most, |_| false).unwrap_err());
    println!("token: {}", p.generate(&[9999], &most, |_| false).unwrap_err());
    println!("sampler: {}", p.write(&prompt, &Generation { top_p: 2.0, ..drawn(1) }, |_| false).unwrap_err());
    std::panic::set_hook(Box::new(|_| ()));
    let panic = catch_unwind(AssertUnwindSafe(|| p.write(&prompt, &most, |_| panic!("of its own")))).unwrap_err();
    println!("callback: {}", panic.downcast_ref::<&str>().unwrap());
    Ok(())
}

//! Texts: what the predictor does with them.
//@ if decodes
use std::any::Any;
//@ if writes
use std::os::raw::c_char;
//@ end
use std::os::raw::c_void;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
//@ end

use super::*;

/// Why there is no text, or no more of it.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum TextError {
    /// The text is too long.
    TooLong(String),
//@ if decodes
    /// The prompt is empty, has a token that is none, or the numbers of the sampler make no sense.
    Refused,
    /// The text would get longer than a predictor keeps; these tokens were written before.
    Full(Vec<i64>),
//@ end
//@ if writes
    /// The text would get longer than a predictor keeps; this was written before.
    FullText(String),
//@ end
    /// Another error.
    Other(Error),
}

impl fmt::Display for TextError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TextError::TooLong(told) => f.write_str(told),
//@ if decodes
            TextError::Refused => f.write_str("@refused@"),
            TextError::Full(_) => f.write_str("@full@"),
//@ end
//@ if writes
            TextError::FullText(_) => f.write_str("@full@"),
//@ end
            TextError::Other(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TextError {}

//@ if decodes
/// How a text is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Generation {
    /// The most tokens to write.
    pub max_tokens: usize,
    /// 0: the likeliest token each time. Else a token's chance is softmax(scores / temperature).
    pub temperature: f32,
    /// Only the so many likeliest are chosen from; 0: all.
    pub top_k: i32,
    /// Of those only the likeliest that together have at least this share.
    pub top_p: f32,
    /// The same seed gives the same text.
    pub seed: u64,
    /// Tokens that end the text and are not given; `None`: none, or in `write` those that the model names.
    pub stop: Option<Vec<i64>>,
    /// Whether the prompt goes on from the text so far, that the predictor has read and written.
    pub keep: bool,
}

impl Default for Generation {
    fn default() -> Self {
        Generation { max_tokens: 128, temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0, stop: None, keep: false }
    }
}

/// What C calls with each token or piece of text. A panic ends the text, and goes on when C has returned.
struct Taker<F> {
    take: F,
    panic: Option<Box<dyn Any + Send>>,
}

impl<F> Taker<F> {
    fn ends(&mut self, call: impl FnOnce(&mut F) -> bool) -> i32 {
        catch_unwind(AssertUnwindSafe(|| call(&mut self.take))).unwrap_or_else(|panic| {
            self.panic = Some(panic);
            true
        }) as i32
    }

    /// Calls what writes.
    fn finish(mut self, write: impl FnOnce(*mut c_void) -> i32) -> i32 {
        let status = write(ptr::addr_of_mut!(self).cast());
        if let Some(panic) = self.panic {
            resume_unwind(panic);
        }
        status
    }
}

unsafe extern "C" fn on_token<F: FnMut(i64) -> bool>(user: *mut c_void, token: i64) -> i32 {
    (*user.cast::<Taker<F>>()).ends(|take| take(token))
}

//@ end
//@ if writes
unsafe extern "C" fn on_text<F: FnMut(&str) -> bool>(user: *mut c_void, text: *const c_char, bytes: usize) -> i32 {
    let piece = String::from_utf8_lossy(std::slice::from_raw_parts(text.cast(), bytes));
    (*user.cast::<Taker<F>>()).ends(|take| take(&piece))
}

//@ end
impl Predictor {
//@ if tokenizer
    /// The ids of a text, or of bytes of UTF-8; `special`: with the tokens around it. Fails for one that is too long.
    pub fn tokenize(&mut self, text: impl AsRef<[u8]>, special: bool) -> Result<Vec<i32>, TextError> {
        let text = text.as_ref();
        let (mut ids, mut count) = (Vec::<i32>::with_capacity(text.len() + 16), 0);
        loop {
            let (data, room) = (ids.as_mut_ptr(), ids.capacity());
            let status = unsafe {
                @name@_tokenize(self.0, text.as_ptr().cast(), text.len(), special as i32, data, room, &mut count)
            };
            if status != TOO_LONG || count <= room {
                check_text(status)?;
                unsafe { ids.set_len(count) };
                return Ok(ids);
            }
            ids.reserve_exact(count);
        }
    }

    /// The text of ids; `special`: with special tokens. Ids without a token are left out.
    pub fn detokenize(&self, ids: &[i32], special: bool) -> Result<String, TextError> {
        let (mut text, mut bytes) = (vec![0_u8; 16 * ids.len()], 0);
        loop {
            let data = text.as_mut_ptr().cast();
            let status = unsafe {
                @name@_detokenize(self.0, ids.as_ptr(), ids.len(), special as i32, data, text.len(), &mut bytes)
            };
            text.resize(bytes, 0);
            if status != TOO_LONG {
                check_text(status)?;
                return Ok(String::from_utf8_lossy(&text).into_owned());
            }
        }
    }

//@ end
//@ if embeds
    /// The embedding of a text, @embedding@ numbers; `cut`: of the beginning of one that is too long, which fails
    /// otherwise.
    pub fn embed(&mut self, text: impl AsRef<[u8]>, cut: bool) -> Result<Vec<f32>, TextError> {
        let (text, mut embedding) = (text.as_ref(), vec![0.0; @embedding@]);
        let data = embedding.as_mut_ptr();
        let status = unsafe { @name@_embed(self.0, text.as_ptr().cast(), text.len(), cut as i32, data) };
        if status == TOO_LONG && text.len() <= @text_bytes@ {
            return Err(TextError::TooLong("@too_many_tokens@".into()));
        }
        check_text(status)?;
        Ok(embedding)
    }

//@ end
//@ if decodes
    /// The tokens that the model writes after a prompt. `on_token` is called with each; `true` ends the text.
    pub fn generate(
        &mut self, prompt: &[i64], how: &Generation, mut on_token: impl FnMut(i64) -> bool,
    ) -> Result<Vec<i64>, TextError> {
        let mut tokens = Vec::new();
        let take = |token| {
            tokens.push(token);
            on_token(token)
        };
        let stop = how.stop.as_deref().unwrap_or_default();
        let (mut sampler, call) = (self.begin(how)?, self::on_token_of(&take));
        let status = Taker { take, panic: None }.finish(|user| unsafe {
            @name@_generate(
                self.0, prompt.as_ptr(), prompt.len(), how.max_tokens, &mut sampler, stop.as_ptr(), stop.len(), call,
                user, ptr::null_mut(), ptr::null_mut(),
            )
        });
        match status {
            FULL => Err(TextError::Full(tokens)),
            _ => check_text(status).map(|()| tokens),
        }
    }

//@ end
//@ if writes
    /// What the model writes after a prompt. `on_text` is called with each piece of it; `true` ends the text.
    pub fn write(
        &mut self, prompt: impl AsRef<[u8]>, how: &Generation, mut on_text: impl FnMut(&str) -> bool,
    ) -> Result<String, TextError> {
        let (prompt, mut text) = (prompt.as_ref(), String::new());
        let take = |piece: &str| {
            text.push_str(piece);
            on_text(piece)
        };
        let (stop, ends) = how.stop.as_ref().map_or((ptr::null(), 0), |stop| (stop.as_ptr(), stop.len()));
        let (mut sampler, call) = (self.begin(how)?, self::on_text_of(&take));
        let status = Taker { take, panic: None }.finish(|user| unsafe {
            @name@_write(
                self.0, prompt.as_ptr().cast(), prompt.len(), how.max_tokens, &mut sampler, stop, ends, call, user,
                ptr::null_mut(), 0, ptr::null_mut(),
            )
        });
        match status {
            FULL => Err(TextError::FullText(text)),
            _ => check_text(status).map(|()| text),
        }
    }

//@ end
//@ if decodes
    fn begin(&mut self, how: &Generation) -> Result<RawSampler, TextError> {
        if !how.keep {
            check_text(unsafe { @name@_rewind(self.0, 0) })?;
        }
        let Generation { temperature, top_k, top_p, seed, .. } = *how;
        Ok(RawSampler { temperature, top_k, top_p, seed })
    }
//@ end
}

//@ if decodes
fn on_token_of<F: FnMut(i64) -> bool>(_: &F) -> OnToken {
    on_token::<F>
}

const BAD_ARGUMENT: i32 = 1;
const FULL: i32 = 10;
//@ end
//@ if writes
fn on_text_of<F: FnMut(&str) -> bool>(_: &F) -> OnText {
    on_text::<F>
}

//@ end
const TOO_LONG: i32 = 9;

fn check_text(status: i32) -> Result<(), TextError> {
    match status {
        TOO_LONG => Err(TextError::TooLong("@too_long@".into())),
//@ if decodes
        BAD_ARGUMENT => Err(TextError::Refused),
//@ end
        _ => check(status).map_err(TextError::Other),
    }
}

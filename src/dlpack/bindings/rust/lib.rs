//! The neural network @name@. @about@
use std::os::raw::{c_char, c_void};
//@ if side
use std::{ffi::CString, path::Path};
//@ end
use std::{ffi::CStr, fmt, mem::size_of_val, ptr};

#[repr(C)]
struct Handle {
    _private: [u8; 0],
}

//@ if classes
#[repr(C)]
struct RawClass {
    index: i32,
    probability: f32,
    label: *const c_char,
}

//@ end
extern "C" {
    @declarations@
}

/// What went wrong, in words.
#[derive(Clone, Debug, PartialEq)]
pub struct Error(pub String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Error {}

fn check(status: i32) -> Result<(), Error> {
    match status {
        0 => Ok(()),
        _ => Err(Error(unsafe { CStr::from_ptr(@name@_error_text(status)) }.to_string_lossy().into_owned())),
    }
}

/// What a run gives, row-major.
#[derive(Clone, Debug, PartialEq)]
pub struct Outputs {
    @fields@
}

//@ if classes
/// A class: its place in the output, its name (the place in digits where it has none) and its probability.
#[derive(Clone, Debug, PartialEq)]
pub struct Class {
    pub index: usize,
    pub label: String,
    pub probability: f32,
}

//@ end
/// A compiled model. It can be sent to another thread; to compute at the same time make one for each thread.
#[derive(Debug)]
pub struct Predictor(*mut Handle);

unsafe impl Send for Predictor {}

impl Predictor {
//@ if side
    /// Maps the weights, the file @weights@ of the bundle. Fails where they are missing or damaged.
    pub fn open(weights: impl AsRef<Path>) -> Result<Self, Error> {
        let path = weights.as_ref().to_str().and_then(|path| CString::new(path).ok());
        let path = path.ok_or_else(|| Error("the path of the weights is no text, or holds a null byte".into()))?;
        let mut handle = ptr::null_mut();
        check(unsafe { @name@_create_from_file(&mut handle, path.as_ptr()) })?;
        Ok(Predictor(handle))
    }
//@ else
    /// Fails where there is no memory, or on a processor that lacks what the code was compiled for.
    pub fn new() -> Result<Self, Error> {
        let mut handle = ptr::null_mut();
        check(unsafe { @name@_create(&mut handle, ptr::null_mut(), 0, ptr::null(), 0) })?;
        Ok(Predictor(handle))
    }
//@ end

    /// Computes all outputs. Fails for an input of a wrong length.
    ///
    @input_docs@
    pub fn run(&mut self, @parameters@) -> Result<Outputs, Error> {
        @set_inputs@
        check(unsafe { @name@_run(self.0) })?;
        Ok(Outputs {
            @get_outputs@
        })
    }
//@ if pictures

    /// The `count` likeliest classes of a picture, the likeliest first: `height` rows of `width` pixels R, G, B.
    pub fn classify(&mut self, rgb: &[u8], width: usize, height: usize, count: usize) -> Result<Vec<Class>, Error> {
        if width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(rgb.len()) {
            return Err(Error(format!("the picture has {} bytes; 3 x {width} x {height} are needed", rgb.len())));
        }
        let (w, h) = (width.try_into().unwrap_or(0), height.try_into().unwrap_or(0));
        check(unsafe { @name@_preprocess_rgb(self.0, rgb.as_ptr(), w, h, 3 * width as isize) })?;
        check(unsafe { @name@_run(self.0) })?;
        self.top(count)
    }
//@ end
//@ if numbers

    /// The `count` likeliest classes of the inputs that `run` takes, the likeliest first.
    pub fn classify(&mut self, @parameters@, count: usize) -> Result<Vec<Class>, Error> {
        self.run(@arguments@)?;
        self.top(count)
    }
//@ end
//@ if classes

    fn top(&mut self, count: usize) -> Result<Vec<Class>, Error> {
        let count = count.min(@classes@);
        let mut found: Vec<_> =
            (0..count).map(|_| RawClass { index: -1, probability: 0.0, label: ptr::null() }).collect();
        check(unsafe { @name@_top_k(self.0, @scores@, count as i32, found.as_mut_ptr()) })?;
        let named = |c: &RawClass| match c.label.is_null() {
            true => c.index.to_string(),
            false => unsafe { CStr::from_ptr(c.label) }.to_string_lossy().into_owned(),
        };
        Ok(found.iter().map(|c| Class { index: c.index as usize, label: named(c), probability: c.probability }).collect())
    }
//@ end

//@ if inputs
    fn set<T>(&mut self, index: i32, data: &[T], size: usize, what: &str) -> Result<(), Error> {
        if data.len() != size {
            return Err(Error(format!("{what} has {} elements; {size} are needed", data.len())));
        }
        check(unsafe { @name@_set_input(self.0, index, data.as_ptr().cast(), size_of_val(data)) })
    }

//@ end
    fn get<T: Clone + Default>(&mut self, index: i32, size: usize) -> Result<Vec<T>, Error> {
        let mut data = vec![T::default(); size];
        check(unsafe { @name@_get_output(self.0, index, data.as_mut_ptr().cast(), size_of_val(&data[..])) })?;
        Ok(data)
    }
}

impl Drop for Predictor {
    fn drop(&mut self) {
        unsafe { @name@_destroy(self.0) }
    }
}

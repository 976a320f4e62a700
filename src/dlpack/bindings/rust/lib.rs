//! The model @name@. @about@
//@ if side
use std::{ffi::CString, path::Path};
//@ end
use std::{fmt, mem::size_of_val, ptr};

mod native;
use native::*;
//@ if texts
mod text;
//@ if decodes
pub use text::Generation;
//@ end
pub use text::TextError;
//@ end

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
        _ => Err(Error(text(unsafe { @name@_error_text(status) }))),
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
//@ if boxes
/// A box in a picture: its class and its name (the place in digits where it has none), its score, its upper left corner
/// and size in pixels.
#[derive(Clone, Debug, PartialEq)]
pub struct Detection {
    pub index: usize,
    pub label: String,
    pub score: f32,
    pub x: f32,
    pub y: f32,
    pub width: f32,
    pub height: f32,
}

//@ end
/// A compiled model. It can be sent to another thread; to compute at the same time make one for each.
#[derive(Debug)]
pub struct Predictor(*mut Handle);

unsafe impl Send for Predictor {}

impl Predictor {
//@ if side
    /// Maps the weights, the file @weights@ of the bundle. Fails where they are missing or damaged.
    pub fn open(weights: impl AsRef<Path>) -> Result<Self, Error> {
//@ if open
        Self::open_within(0, weights)
    }

    /// The same with less memory. @memory_docs@
    pub fn open_within(memory: usize, weights: impl AsRef<Path>) -> Result<Self, Error> {
//@ end
        let path = weights.as_ref().to_str().and_then(|path| CString::new(path).ok());
        let path = path.ok_or_else(|| Error("the path of the weights is no text, or holds a null byte".into()))?;
        let mut handle = ptr::null_mut();
//@ if open
        check(unsafe { @name@_create_from_file_within(&mut handle, path.as_ptr(), memory) })?;
//@ else
        check(unsafe { @name@_create_from_file(&mut handle, path.as_ptr()) })?;
//@ end
        Ok(Predictor(handle))
    }
//@ else
    /// Fails where there is no memory, or on a processor that lacks what the code was compiled for.
    pub fn new() -> Result<Self, Error> {
//@ if open
        Self::within(0)
    }

    /// The same with less memory. @memory_docs@
    pub fn within(memory: usize) -> Result<Self, Error> {
//@ end
        let mut handle = ptr::null_mut();
        check(unsafe { @name@_create(&mut handle, ptr::null_mut(), @memory@, ptr::null(), 0) })?;
        Ok(Predictor(handle))
    }
//@ end

//@ if shapes
    /// The number of the set of shapes that inputs and outputs have, at first 0.
    pub fn shape(&self) -> usize {
        unsafe { @name@_shape(self.0) as usize }
    }

    /// Chooses a set of shapes for what comes next. Fails for a number that none has.
    ///
    @shape_docs@
    pub fn set_shape(&mut self, number: usize) -> Result<(), Error> {
        if number >= @shape_count@ {
            return Err(Error(format!("set of shapes {number}: there are @shape_count@, from 0 on")));
        }
        check(unsafe { @name@_set_shape(self.0, number as i32) })
    }
//@ if open

    @reshapes@

    fn reshape(&mut self, input: i32, extents: &[i64], what: &str) -> Result<(), Error> {
        match unsafe { @name@_reshape(self.0, input, extents.as_ptr(), extents.len() as i32) } {
            1 => Err(Error(format!("{what}, not {extents:?}"))),
            status => check(status),
        }
    }

    fn memory(input: i32, extents: &[i64], what: &str) -> Result<usize, Error> {
        match unsafe { @name@_memory_size_for(input, extents.as_ptr(), extents.len() as i32) } {
            0 => Err(Error(format!("{what}, not {extents:?}"))),
            bytes => Ok(bytes),
        }
    }
//@ end

//@ end
//@ if threads
    /// Computes on this many threads from now on, at most @threads@; at first on as many as there are processors.
    pub fn set_threads(&mut self, count: usize) -> Result<(), Error> {
        if !(1..=@threads@).contains(&count) {
            return Err(Error(format!("{count} threads: from 1 to @threads@ can be chosen")));
        }
        check(unsafe { @name@_set_threads(self.0, count as i32) })
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

//@ if classes
    /// The `count` likeliest classes of a picture, the likeliest first: `height` rows of `width` pixels R, G, B.
    pub fn classify(&mut self, rgb: &[u8], width: usize, height: usize, count: usize) -> Result<Vec<Class>, Error> {
        self.run_picture(rgb, width, height)?;
        self.top(count)
    }

//@ end
//@ if boxes
    /// What is in a picture, the surest first: `height` rows of `width` pixels R, G, B. A score is at least `threshold`
    /// (`None`: @threshold@).
    pub fn detect(
        &mut self, rgb: &[u8], width: usize, height: usize, threshold: Option<f64>,
    ) -> Result<Vec<Detection>, Error> {
        let (w, h) = self.run_picture(rgb, width, height)?;
        let (mut found, mut count) = (Vec::<RawDetection>::with_capacity(@most@), 0);
        let least = threshold.unwrap_or(@threshold@);
        check(unsafe { @name@_detections(self.0, w, h, least, @most@, found.as_mut_ptr(), &mut count) })?;
        unsafe { found.set_len(count as usize) };
        let public = |d: &RawDetection| {
            let (index, [x, y, width, height]) = (d.index as usize, d.corner_and_size);
            Detection { index, label: label(d.label, d.index), score: d.score, x, y, width, height }
        };
        Ok(found.iter().map(public).collect())
    }

//@ end
    fn run_picture(&mut self, rgb: &[u8], width: usize, height: usize) -> Result<(i32, i32), Error> {
        if width.checked_mul(height).and_then(|n| n.checked_mul(3)) != Some(rgb.len()) {
            return Err(Error(format!("the picture has {} bytes; 3 x {width} x {height} are needed", rgb.len())));
        }
        let (w, h) = (width.try_into().unwrap_or(0), height.try_into().unwrap_or(0));
        check(unsafe { @name@_preprocess_rgb(self.0, rgb.as_ptr(), w, h, 3 * width as isize) })?;
        check(unsafe { @name@_run(self.0) })?;
        Ok((w, h))
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
        let count = count.min(@class_count@);
        let mut found = Vec::<RawClass>::with_capacity(count);
        check(unsafe { @name@_top_k(self.0, @scores@, count as i32, found.as_mut_ptr()) })?;
        unsafe { found.set_len(count) };
        let public = |c: &RawClass| {
            Class { index: c.index as usize, label: label(c.label, c.index), probability: c.probability }
        };
        Ok(found.iter().map(public).collect())
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

//! An output whose channels are computed by different threads: all pixels of some channels for each.

use std::marker::PhantomData;
use std::ops::Range;

use super::Threads;

/// Some channels of all pixels of an output `[pixels][channels]`, for one thread to write.
pub struct Columns<'a, T> {
    start: *mut T,
    pixels: usize,
    channels: usize,
    own: Range<usize>,
    borrowed: PhantomData<&'a mut [T]>,
}

impl<'a, T> Columns<'a, T> {
    /// All channels.
    ///
    /// # Panics
    /// When there are parts of pixels.
    pub fn all(out: &'a mut [T], channels: usize) -> Self {
        assert!(channels > 0 && out.len().is_multiple_of(channels), "an output has whole pixels");
        let pixels = out.len() / channels;
        Columns { start: out.as_mut_ptr(), pixels, channels, own: 0..channels, borrowed: PhantomData }
    }

    /// Pixels.
    pub fn pixels(&self) -> usize {
        self.pixels
    }

    /// Channels of a pixel, those of others among them.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// The channels that may be written.
    pub fn own(&self) -> Range<usize> {
        self.own.clone()
    }

    /// The first channel of the first pixel, which may be another thread's. Writable are the [own](Columns::own) channels of
    /// every pixel.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.start
    }
}

/// A pointer that threads share.
struct Shared<T>(*mut T);

// SAFETY: what threads write through it never overlaps.
unsafe impl<T: Send> Sync for Shared<T> {}

impl Threads {
    /// `f(columns)` for blocks of `width` channels of `out [pixels][channels]`; the last one may be narrower.
    pub fn columns<T: Send>(
        &self,
        work: usize,
        (out, channels): (&mut [T], usize),
        width: usize,
        f: impl Fn(Columns<T>) + Sync,
    ) {
        let Columns { start, pixels, .. } = Columns::all(out, channels);
        let shared = Shared(start);
        let shared = &shared;
        self.tasks(work, channels.div_ceil(width), move |i| {
            let own = i * width..channels.min((i + 1) * width);
            // Every block is given once, and `out` is borrowed until all are done.
            f(Columns { start: shared.0, pixels, channels, own, borrowed: PhantomData });
        });
    }
}

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

#[cfg(all(test, not(loom)))]
mod tests {
    use crate::parallel::{Pool, Threads, Wait};

    #[test]
    fn every_channel_of_every_pixel_is_given_once() {
        for count in [1, 2, 5] {
            let own = Pool::new(count).expect("a pool takes as many threads");
            let threads = Threads::new(&own, Wait::Yield, 0).expect("the system has as many threads");
            for (pixels, channels, width) in [(0, 3, 2), (4, 1, 1), (7, 10, 4), (3, 64, 16), (2, 5, 99)] {
                let mut out = vec![0u32; pixels * channels];
                threads.enter(usize::MAX, || {
                    threads.columns(usize::MAX, (&mut out, channels), width, |mut columns| {
                        assert_eq!((columns.pixels(), columns.channels()), (pixels, channels));
                        assert!(columns.own().len() <= width && columns.own().start.is_multiple_of(width));
                        for pixel in 0..pixels {
                            for channel in columns.own() {
                                // SAFETY: it is one of the own channels of a pixel.
                                unsafe { *columns.as_mut_ptr().add(pixel * channels + channel) += 1 }
                            }
                        }
                    });
                });
                assert!(out.iter().all(|&n| n == 1), "{pixels} x {channels} by {width} on {count}");
            }
        }
    }
}

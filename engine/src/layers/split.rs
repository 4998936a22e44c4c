//! How the work of a layer is cut: into pieces, chunks of images and bands of rows. What is summed over images is cut by
//! shapes alone, so that sums have one order on any number of threads.

use std::ops::Range;

use crate::arena::{Arena, Slot};
use crate::buffer::Element;
use crate::parallel::Threads;

/// Floats of a piece of elementwise work: 64 KiB, small enough to stay in a second-level cache.
pub(super) const PIECE: usize = 16 * 1024;

/// Pieces into which a batch is cut for sums over images. A constant, so that sums have one order on any number of
/// threads; 16 keep as many cores busy.
pub(super) const CHUNKS: usize = 16;

/// Floats of partial weight gradients (16 MiB) that a layer may take: large filters are summed in fewer, larger chunks.
const PARTIAL_FLOATS: usize = 4 << 20;

/// Chunks of images whose weight gradients are summed apart: as many as fit [`PARTIAL_FLOATS`].
pub(crate) fn weight_chunks(partial_len: usize) -> usize {
    (PARTIAL_FLOATS / partial_len.max(1)).clamp(2, CHUNKS)
}

/// Piece `i` of length `len` of a slice; the last one may be shorter.
pub(super) fn piece<T>(slice: &[T], i: usize, len: usize) -> &[T] {
    &slice[i * len..slice.len().min((i + 1) * len)]
}

/// Images of each of the [`CHUNKS`] pieces of a batch.
pub(super) fn chunk_images(images: usize) -> usize {
    images.div_ceil(CHUNKS).max(1)
}

/// How many of `total` pieces go to a thread at once, at most `limit`: as many rounds as it takes, all threads alike.
pub(super) fn even_share(total: usize, threads: usize, limit: usize) -> usize {
    let rounds = total.div_ceil(threads * limit.max(1));
    total.div_ceil(threads * rounds)
}

/// Whether images, one by one, keep all threads busy.
pub(super) fn are_spread(threads: &Threads, images: usize) -> bool {
    images.is_multiple_of(threads.count()) || images >= 4 * threads.count()
}

/// `f(image, rows of out, their range)` over a batch of images of `height` rows: whole images where they keep all
/// threads busy, else at most `share` bands of rows for each thread, of one image after the other.
pub(super) fn by_rows<T: Send>(
    threads: &Threads,
    work: usize,
    (out, images): (&mut [T], usize),
    (height, share): (usize, usize),
    f: impl Fn(usize, &mut [T], Range<usize>) + Sync,
) {
    let len = out.len() / images;
    let count = threads.count();
    if are_spread(threads, images) {
        return threads.pieces(work, out, len, |image, out| f(image, out, 0..height));
    }
    // A band reads the rows around it again and copies the filters: small ones are not worth an even spread.
    let bands = if height >= 16 * count { share * count } else { count };
    let band = height.div_ceil(bands);
    let row = len / height;
    for (image, out) in out.chunks_exact_mut(len).enumerate() {
        threads.pieces(work, out, band * row, |i, out| f(image, out, i * band..i * band + out.len() / row));
    }
}

/// Bands into which the rows of a convolution's images are cut: enough images keep every thread busy, a few are cut besides.
/// Each band reads all weights, so where these are `heavy`, most of what is read, there is one band a thread.
pub(super) fn band_count(threads: &Threads, images: usize, rows: usize, heavy: bool) -> usize {
    let share = if heavy { 1 } else { 2 };
    (share * threads.count()).div_ceil(images).min(rows)
}

/// Output channels of a thread where each computes some: whole panels.
pub(super) fn panel_share(channels: usize, panel: usize, threads: usize) -> usize {
    channels.div_ceil(panel).div_ceil(threads) * panel
}

/// `f(image, rows of out, their range)` over a batch of images of `height` rows in [`band_count`] bands; an image takes
/// `work`.
pub(super) fn even_bands<T: Send>(
    threads: &Threads,
    (work, heavy): (usize, bool),
    (out, images): (&mut [T], usize),
    height: usize,
    f: impl Fn(usize, &mut [T], Range<usize>) + Sync,
) {
    let len = out.len() / images;
    let bands = band_count(threads, images, height, heavy);
    if bands == 1 {
        return threads.pieces(work * images, out, len, |image, out| f(image, out, 0..height));
    }
    let (band, row) = (height.div_ceil(bands), len / height);
    for (image, out) in out.chunks_exact_mut(len).enumerate() {
        threads.pieces(work, out, band * row, |i, out| f(image, out, i * band..i * band + out.len() / row));
    }
}

/// What a call writes and reads, and the residual if there is one.
pub(super) fn split_residual<T: Element>(
    arena: &mut Arena,
    images: usize,
    (y, x): (Slot<T>, Slot<T>),
    residual: Option<Slot<T>>,
) -> (&mut [T], &[T], Option<&[T]>) {
    match residual {
        Some(residual) => {
            let ([y], [x, residual]) = arena.split(images, [y], [x, residual]);
            (y, x, Some(residual))
        }
        None => {
            let ([y], [x]) = arena.split(images, [y], [x]);
            (y, x, None)
        }
    }
}

//! How many images go through a network at a time where nothing is learnt.

/// Largest batch.
pub(crate) const MAX_BATCH: usize = 256;
/// Floats of input in a batch (4 MiB): larger batches are no faster and cost memory.
const BATCH_FLOATS: usize = 1 << 20;
/// Smallest largest batch, for the sake of large images on many cores.
const MIN_BATCH: usize = 8;

/// A batch for images of `input_len` floats that keeps all cores busy without taking gigabytes.
pub(crate) fn batch_for(input_len: usize) -> usize {
    (BATCH_FLOATS / input_len.max(1)).clamp(MIN_BATCH, MAX_BATCH)
}

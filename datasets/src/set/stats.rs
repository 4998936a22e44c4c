//! What the pixels of a set are like.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::pixels::Values;
use crate::error::DatasetError;
use crate::pool;
use crate::resample::Sample;

/// Images that one thread takes at a time.
const BLOCK: usize = 64;

/// Sum and sum of squares of each channel, on the scale of 16 bits, over the images `indices`, on all threads of the pool that
/// the caller is on.
pub(super) fn channel_sums<'a>(
    indices: &[usize],
    channels: usize,
    values: impl Fn(usize) -> Result<Values<'a>, DatasetError> + Sync,
) -> Result<Vec<(u128, u128)>, DatasetError> {
    let sum = |indices: &[usize]| {
        let mut sums = vec![(0, 0); channels];
        for &index in indices {
            match values(index)? {
                // 8-bit white is 255, 16-bit white 65,535 = 257 * 255: on the wider scale both are whole numbers.
                Values::Narrow(values) => add_moments(&values, 257, &mut sums),
                Values::Wide(values) => add_moments(&values, 1, &mut sums),
            }
        }
        Ok(sums)
    };
    let total = Mutex::new(Ok(vec![(0, 0); channels]));
    let next = AtomicUsize::new(0);
    pool::on_all_threads(|| {
        while let Some(indices) = indices.chunks(BLOCK).nth(next.fetch_add(1, Ordering::Relaxed)) {
            let sums = sum(indices);
            let mut total = total.lock().unwrap_or_else(PoisonError::into_inner);
            match (total.as_mut(), sums) {
                (Ok(total), Ok(sums)) => {
                    for (total, sum) in total.iter_mut().zip(sums) {
                        *total = (total.0 + sum.0, total.1 + sum.1);
                    }
                }
                (Ok(_), Err(error)) => *total = Err(error),
                (Err(_), _) => return,
            }
        }
    });
    total.into_inner().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the three values of every pixel differ by at most `levels`.
pub(super) fn all_gray<T: Sample>(values: &[T], levels: T) -> bool {
    let levels: u32 = levels.into();
    values.as_chunks::<3>().0.iter().all(|pixel| {
        let [r, g, b] = pixel.map(Into::<u32>::into);
        r.max(g).max(b) - r.min(g).min(b) <= levels
    })
}

/// Adds sum and sum of squares of each channel, values scaled by `unit`.
fn add_moments<T: Sample>(values: &[T], unit: u128, sums: &mut [(u128, u128)]) {
    let channels = sums.len();
    for (c, total) in sums.iter_mut().enumerate() {
        let (mut sum, mut squares) = (0u64, 0u64);
        // An image has at most 2^24 pixels of 2^16 levels: squares stay below 2^56.
        for &value in values.iter().skip(c).step_by(channels) {
            let value: u32 = value.into();
            sum += u64::from(value);
            squares += u64::from(value) * u64::from(value);
        }
        total.0 += u128::from(sum) * unit;
        total.1 += u128::from(squares) * unit * unit;
    }
}

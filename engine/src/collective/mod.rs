//! Training on several processes that share each batch: what the engine asks of whatever connects them.
//!
//! A process is a *rank*, with a number from 0. Each has the whole model and computes its share of a batch. What depends on
//! all images is made the same on all ranks: statistics and sums of batch normalisations, the denominator of the loss, and the
//! gradients. Only data moves between ranks in ways that the connection chooses; every sum is made in the order of the ranks, so
//! that a run repeats bit for bit on the same number of ranks, and all ranks get the same bits.

mod thread_ranks;

pub use thread_ranks::{ThreadRank, thread_ranks};

/// A rank's connection to the others. All ranks make the same calls in the same order.
///
/// A call that cannot be completed, because another rank is gone, does not return: the job has ended then.
pub trait Collective: Send + Sync {
    /// The number of this rank, from 0.
    fn rank(&self) -> usize;

    /// How many ranks there are.
    fn size(&self) -> usize;

    /// The numbers of all ranks, `[size][own.len()]`: within a step, in which all ranks work alike.
    fn gather(&self, own: &[f64]) -> Vec<f64>;

    /// The bytes of all ranks, of any length each: between steps, where one rank may work while others wait.
    fn exchange(&self, own: &[u8]) -> Vec<Vec<u8>>;

    /// Begins to sum `values` over the ranks, in the order of the ranks. Returns at once.
    fn start_sum(&self, values: &[f32]);

    /// Waits for the sum that was begun first of those that are not finished, and writes it to `values`.
    fn finish_sum(&self, values: &mut [f32]);

    /// The bytes that rank 0 has.
    fn of_first(&self, own: &[u8]) -> Vec<u8> {
        let own = if self.rank() == 0 { own } else { &[] };
        self.exchange(own).swap_remove(0)
    }
}

/// The share `rank` of `size` of a batch of `images` images, as a range of them: contiguous, in the order of the ranks, as equal
/// as can be. Empty where there are more ranks than images.
pub fn share(images: usize, (rank, size): (usize, usize)) -> std::ops::Range<usize> {
    rank * images / size..(rank + 1) * images / size
}

/// This rank's place in a step.
#[derive(Clone, Copy)]
pub(crate) struct Team<'a> {
    /// The connection to the other ranks; `None` where there are none.
    pub(crate) ranks: Option<&'a dyn Collective>,
    /// Images of the whole batch that ranks before this one have.
    pub(crate) first: usize,
}

impl Team<'_> {
    /// A process that trains alone, or does not train.
    pub(crate) const ALONE: Team<'static> = Team { ranks: None, first: 0 };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_a_partition_in_order_and_as_equal_as_can_be() {
        for images in 0..40 {
            for size in 1..9 {
                let shares: Vec<_> = (0..size).map(|rank| share(images, (rank, size))).collect();
                assert_eq!((shares[0].start, shares[size - 1].end), (0, images));
                assert!(shares.windows(2).all(|pair| pair[0].end == pair[1].start));
                let lengths = || shares.iter().map(ExactSizeIterator::len);
                assert!(lengths().max().unwrap() - lengths().min().unwrap() <= 1);
            }
        }
    }
}

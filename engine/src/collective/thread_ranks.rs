//! Ranks that are threads of one process: for tests, and as the plainest implementation of [`Collective`].

use std::collections::HashMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

use super::Collective;

/// One of the ranks that [`thread_ranks`] makes. Dropped by a thread that panics, it ends the waiting of the others.
#[derive(Debug)]
pub struct ThreadRank {
    rank: usize,
    shared: Arc<Shared>,
    /// Messages sent, sums begun and sums finished by this rank.
    counts: Mutex<[u64; 3]>,
}

#[derive(Debug)]
struct Shared {
    size: usize,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    messages: HashMap<u64, Round<u8>>,
    sums: HashMap<u64, Round<f32>>,
    failed: bool,
}

/// What each rank has put in, and how many have taken it out.
#[derive(Debug)]
struct Round<T> {
    parts: Vec<Option<Vec<T>>>,
    taken: usize,
}

/// `size` ranks that know each other.
pub fn thread_ranks(size: usize) -> Vec<ThreadRank> {
    let shared = Arc::new(Shared { size, state: Mutex::default(), changed: Condvar::new() });
    let rank = |rank| ThreadRank { rank, shared: Arc::clone(&shared), counts: Mutex::default() };
    (0..size).map(rank).collect()
}

impl ThreadRank {
    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number of this rank's next call of a kind.
    fn next(&self, kind: usize) -> u64 {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts[kind] += 1;
        counts[kind]
    }

    fn put<T: Clone>(&self, rounds: &mut HashMap<u64, Round<T>>, number: u64, own: &[T]) {
        let size = self.shared.size;
        let empty = || Round { parts: (0..size).map(|_| None).collect(), taken: 0 };
        rounds.entry(number).or_insert_with(empty).parts[self.rank] = Some(own.to_vec());
        self.shared.changed.notify_all();
    }

    /// Waits until all ranks have put their part in, and gives the parts in the order of the ranks.
    fn take<T: Clone>(
        &self,
        number: u64,
        rounds: fn(&mut State) -> &mut HashMap<u64, Round<T>>,
    ) -> Vec<Vec<T>> {
        let mut state = self.state();
        loop {
            assert!(!state.failed, "another rank has failed");
            let round = rounds(&mut state).get_mut(&number).expect("this rank has put its part in");
            let parts: Option<Vec<Vec<T>>> = round.parts.iter().cloned().collect();
            if let Some(parts) = parts {
                round.taken += 1;
                if round.taken == self.shared.size {
                    rounds(&mut state).remove(&number);
                }
                return parts;
            }
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for ThreadRank {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.state().failed = true;
            self.shared.changed.notify_all();
        }
    }
}

impl Collective for ThreadRank {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.shared.size
    }

    fn gather(&self, own: &[f64]) -> Vec<f64> {
        let bytes: Vec<u8> = own.iter().flat_map(|number| number.to_le_bytes()).collect();
        let all = self.exchange(&bytes).concat();
        let numbers = all.chunks_exact(size_of::<f64>());
        numbers.map(|bytes| f64::from_le_bytes(bytes.try_into().expect("eight bytes"))).collect()
    }

    fn exchange(&self, own: &[u8]) -> Vec<Vec<u8>> {
        let number = self.next(0);
        self.put(&mut self.state().messages, number, own);
        self.take(number, |state| &mut state.messages)
    }

    fn start_sum(&self, values: &[f32]) {
        let number = self.next(1);
        self.put(&mut self.state().sums, number, values);
    }

    fn finish_sum(&self, values: &mut [f32]) {
        let number = self.next(2);
        let parts = self.take(number, |state| &mut state.sums);
        values.copy_from_slice(&parts[0]);
        for part in &parts[1..] {
            values.iter_mut().zip(part).for_each(|(sum, value)| *sum += value);
        }
    }
}

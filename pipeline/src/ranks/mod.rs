//! Training by several processes, the *ranks* of a launcher such as `mpirun`: `launcher` knows whether one started this process,
//! `connection` joins the ranks by MPI, `agreement` holds them to one program, recipe and data set.
//!
//! Rank 0 writes the run folder and tells of progress; the others compute their share of each batch and write nothing.

mod agreement;
#[cfg(feature = "mpi")]
mod connection;
mod launcher;
mod settings;

use std::fmt;
use std::sync::Arc;

use ocelli_engine::{Collective, share};

pub(crate) use agreement::{RankCard, from_bytes, to_bytes};
pub use launcher::{Launched, launched};
pub(crate) use settings::Times;
pub use settings::{Failed, Settings};

/// The ranks that train a model together; this process alone where there are no others.
#[derive(Clone, Default)]
pub struct Ranks {
    others: Option<Others>,
}

#[derive(Clone)]
struct Others {
    collective: Arc<dyn Collective>,
    times: Arc<dyn Fn() -> Times + Send + Sync>,
    close: Arc<dyn Fn() + Send + Sync>,
    abort: Arc<dyn Fn() + Send + Sync>,
    /// The host of each rank.
    hosts: Arc<[String]>,
}

impl fmt::Debug for Ranks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ranks({} of {})", self.rank(), self.size())
    }
}

impl Ranks {
    /// Joins the ranks of which a launcher made this process one; a process that was started alone stays alone.
    ///
    /// # Errors
    /// What is wrong and what to do: where a launcher has started several processes and this program was built without MPI, or
    /// MPI does not know of the others.
    pub fn join(settings: Settings, failed: Failed) -> Result<Ranks, String> {
        match launched() {
            Some(launched) if launched.size > 1 => join(&launched, settings, failed),
            Some(_) | None => Ok(Ranks::default()),
        }
    }

    /// Ranks that are connected by something else than MPI.
    #[cfg(test)]
    pub(crate) fn of(collective: Arc<dyn Collective>) -> Ranks {
        let others = Others {
            times: Arc::new(Times::default),
            close: Arc::new(|| ()),
            abort: Arc::new(|| ()),
            hosts: vec!["here".to_owned(); collective.size()].into(),
            collective,
        };
        Ranks { others: Some(others) }
    }

    /// The number of this rank, from 0.
    pub fn rank(&self) -> usize {
        self.others.as_ref().map_or(0, |others| others.collective.rank())
    }

    /// How many there are.
    pub fn size(&self) -> usize {
        self.others.as_ref().map_or(1, |others| others.collective.size())
    }

    /// Whether this is the rank that writes and tells.
    pub fn is_first(&self) -> bool {
        self.rank() == 0
    }

    /// What people call this rank.
    pub fn name(&self) -> String {
        self.name_of(self.rank())
    }

    /// What people call a rank.
    pub(crate) fn name_of(&self, rank: usize) -> String {
        let host = self.others.as_ref().map_or("this host", |others| &others.hosts[rank]);
        format!("rank {rank} on host {host}")
    }

    /// How many ranks share the memory of this one's host, itself included.
    pub(crate) fn on_this_host(&self) -> usize {
        let count = |others: &Others| {
            let own = &others.hosts[self.rank()];
            others.hosts.iter().filter(|host| *host == own).count()
        };
        self.others.as_ref().map_or(1, count)
    }

    /// Takes leave of the other ranks once all have come to a common end; waits for them.
    pub fn close(&self) {
        if let Some(others) = &self.others {
            (others.close)();
        }
    }

    /// Ends the other ranks, and this process, where it has failed and they do not know; returns where it is alone.
    pub fn abort(&self) {
        if let Some(others) = &self.others {
            (others.abort)();
        }
    }

    /// What trainers share their batches by.
    pub(crate) fn collective(&self) -> Option<Arc<dyn Collective>> {
        self.others.as_ref().map(|others| Arc::clone(&others.collective))
    }

    /// Most images of this rank in a batch of `batch`.
    pub(crate) fn most_of(&self, batch: usize) -> usize {
        batch.div_ceil(self.size())
    }

    /// This rank's images of a batch of `images`.
    pub(crate) fn share(&self, images: usize) -> std::ops::Range<usize> {
        share(images, (self.rank(), self.size()))
    }

    /// Seconds of communication so far.
    pub(crate) fn times(&self) -> Times {
        self.others.as_ref().map_or_else(Times::default, |others| (others.times)())
    }

    /// The numbers of all ranks, rank by rank; within a step.
    pub(crate) fn gather(&self, own: &[f64]) -> Vec<f64> {
        self.others.as_ref().map_or_else(|| own.to_vec(), |others| others.collective.gather(own))
    }

    /// Whether any rank was stopped, and how far the run is by the clock of the first; before a step.
    pub(crate) fn decide(&self, stopped: bool, by_time: f64) -> (bool, f64) {
        let all = self.gather(&[f64::from(u8::from(stopped)), by_time]);
        (all.chunks_exact(2).any(|rank| rank[0] > 0.0), all[1])
    }

    /// The bytes of all ranks; between steps.
    pub(crate) fn exchange(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.others.as_ref().map_or_else(|| vec![own.to_vec()], |others| others.collective.exchange(own))
    }

    /// What rank 0 has.
    pub(crate) fn of_first(&self, own: &[u8]) -> Vec<u8> {
        self.others.as_ref().map_or_else(|| own.to_vec(), |others| others.collective.of_first(own))
    }
}

#[cfg(feature = "mpi")]
fn join(launched: &Launched, settings: Settings, failed: Failed) -> Result<Ranks, String> {
    let (connection, hosts) = connection::join(settings, failed)?;
    let connection = Arc::new(connection);
    let size = connection.size();
    if size != launched.size {
        return Err(format!(
            "{} says that it started {} processes, and MPI knows of {size}; {}",
            launched.by, launched.size, launched.advice
        ));
    }
    let [times, close, abort] = [(); 3].map(|()| Arc::clone(&connection));
    let others = Others {
        collective: connection,
        times: Arc::new(move || times.times()),
        close: Arc::new(move || close.close()),
        abort: Arc::new(move || abort.abort()),
        hosts: hosts.into(),
    };
    Ok(Ranks { others: Some(others) })
}

#[cfg(not(feature = "mpi"))]
fn join(launched: &Launched, _: Settings, _: Failed) -> Result<Ranks, String> {
    Err(format!(
        "{} has started {} processes, and this program was built without MPI: each would train a model of its own; build it with `cargo build --release --features mpi`, or start it once",
        launched.by, launched.size
    ))
}

//! Threads of the pool that help with a pass.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::thread;
use std::time::Duration;

use super::place::{move_from, processor};
use super::pool::{Pool, run_waiting_job};
use super::region::{Cuts, Pieces, Region};
use super::spin::{SPIN, Spin};
use super::sync::{AtomicBool, AtomicUsize};

/// How long a helper waits for a region before it looks for other work of the pool, and again between two looks: longer than
/// the small layers that most regions are apart.
const LOOK: Duration = Duration::from_micros(10);

/// Jobs that one thread hands to the pool for its helpers; more are handed over by the helpers themselves. Each costs up to
/// 2 us, and a helper that has to wake up takes 30 to 50 us before it can hand on others.
const FAN_OUT: usize = 8;

/// In place of a processor where the system does not say.
const NOWHERE: usize = usize::MAX;

/// What helpers do between two passes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wait {
    /// They go back to the pool.
    #[default]
    Yield,
    /// They wait for the next pass for as long as waking them would take. For single images that follow each other: the
    /// threads take processor time for nothing in between.
    Spin,
}

/// Threads that work on the regions of one plan: the caller, and helpers that are jobs in the pool.
pub(super) struct Team {
    pool: Pool,
    wait: Wait,
    region: Region,
    /// Helpers that a region of the pass in progress may have; 0 between passes.
    wanted: AtomicUsize,
    /// Helpers that were asked for and have not left.
    asked: AtomicUsize,
    /// Those of them that have come.
    present: AtomicUsize,
    /// Whether a thread of the pool is one of them.
    helping: Box<[AtomicBool]>,
    /// The processor on which the pass was when its last region was opened.
    processor: AtomicUsize,
    /// Whether the last helper that came was woken on that processor.
    woke_together: AtomicBool,
}

/// Ends a pass.
pub(super) struct Pass<'a>(&'a Team);

impl Team {
    pub(super) fn new(pool: Pool, wait: Wait) -> Self {
        let threads = pool.threads();
        Team {
            pool,
            wait,
            region: Region::new(threads),
            wanted: AtomicUsize::new(0),
            asked: AtomicUsize::new(0),
            present: AtomicUsize::new(0),
            helping: (0..threads).map(|_| AtomicBool::new(false)).collect(),
            processor: AtomicUsize::new(NOWHERE),
            woke_together: AtomicBool::new(false),
        }
    }

    /// Begins a pass whose regions may have up to `helpers` helpers; `None` in a pass of this team.
    pub(super) fn begin(self: &Arc<Self>, helpers: usize) -> Option<Pass<'_>> {
        self.wanted.compare_exchange(0, helpers, Relaxed, Relaxed).ok()?;
        self.processor.store(processor().unwrap_or(NOWHERE), Relaxed);
        // One may wake up while this thread is on its way to the first region.
        let asks = self.ask_up_to(helpers.min(1));
        if asks && self.woke_together.load(Relaxed) {
            // It waits for this very processor, for up to a time slice, and moves away as soon as it has it.
            thread::yield_now();
        }
        Some(Pass(self))
    }

    /// Helpers that a region of the pass in progress may have.
    pub(super) fn wanted(&self) -> usize {
        self.wanted.load(Relaxed)
    }

    /// As [`Region::share`], with as many helpers as come.
    pub(super) fn share<C: Cuts>(
        self: &Arc<Self>,
        helpers: usize,
        pieces: Pieces<C>,
        f: impl Fn(usize, C::Piece) + Sync,
    ) {
        self.region.share(helpers, pieces, f, || {
            self.processor.store(processor().unwrap_or(NOWHERE), Relaxed);
            self.ask_up_to(helpers);
        });
    }

    /// Number of regions that were opened to helpers.
    #[cfg(test)]
    pub(super) fn regions(&self) -> u64 {
        self.region.generation()
    }

    /// Asks for helpers until there are `helpers`, and says whether there were fewer.
    fn ask_up_to(self: &Arc<Self>, helpers: usize) -> bool {
        // Most regions find all of them: a load leaves the counter in the caches of all who look.
        if self.asked.load(SeqCst) >= helpers {
            return false;
        }
        let asked = self.asked.fetch_max(helpers, SeqCst);
        self.ask(helpers.saturating_sub(asked));
        asked < helpers
    }

    /// Counts `count` helpers as gone. A region that opened just before may have counted on them: either its caller saw
    /// that they are gone, or this thread sees the region open and asks for others.
    fn leave(self: &Arc<Self>, count: usize) {
        self.asked.fetch_sub(count, SeqCst);
        let open = self.region.open_places();
        if open > 0 {
            self.ask_up_to((self.present.load(SeqCst) + open).min(self.wanted()));
        }
    }

    /// Hands `count` helpers to the pool, which are counted already.
    fn ask(self: &Arc<Self>, count: usize) {
        let jobs = count.min(FAN_OUT);
        for job in 0..jobs {
            let team = Arc::clone(self);
            // As evenly as it goes.
            let more = (count - jobs + job) / jobs;
            self.pool.ask(move || team.help(more));
        }
    }

    /// What a helper does, on a thread of the pool, after it asked for `more` others.
    fn help(self: &Arc<Self>, more: usize) {
        let worker = self.pool.worker().expect("the pool runs its jobs on its threads");
        // A helper that looks for other work may find this.
        let helps_already = self.helping[worker].load(Relaxed);
        if helps_already || self.wanted() == 0 {
            return self.leave(1 + more);
        }
        self.ask(more);
        self.helping[worker].store(true, Relaxed);
        let index = 1 + self.present.fetch_add(1, SeqCst);
        self.serve(index);
        self.present.fetch_sub(1, SeqCst);
        self.helping[worker].store(false, Relaxed);
        self.leave(1);
    }

    /// Takes part in regions until there are none for a while.
    fn serve(&self, index: usize) {
        let mut has_moved = self.move_apart();
        self.woke_together.store(has_moved, Relaxed);
        let (mut seen, mut spin, mut next_look) = (0, Spin::new(), LOOK);
        while self.wait == Wait::Spin || self.wanted() > 0 {
            if self.region.help(&mut seen, index) {
                (spin, next_look) = (Spin::new(), LOOK);
                continue;
            }
            let Some(idle) = spin.round() else { continue };
            if idle >= SPIN {
                return;
            }
            if idle < next_look {
                continue;
            }
            next_look = idle + LOOK;
            if self.may_look() && run_waiting_job() {
                (spin, next_look) = (Spin::new(), LOOK);
            } else if !has_moved && self.move_apart() {
                has_moved = true;
            } else if self.region.is_busy() {
                // Nothing is left in the region: its caller still computes, or it waits for this very core. To lend the
                // core between regions as well gives it to other processes for whole time slices: training was up to 1.7
                // times slower on a busy machine.
                thread::yield_now();
            }
        }
    }

    /// Moves a helper that is on the processor of the pass to another one, where it can be of use, and says whether it did.
    ///
    /// Schedulers wake a thread where it last ran or where the one is that wakes it, and some, of virtual machines that
    /// give back processors, leave both there for 20 ms while another processor is idle: longer than most passes.
    fn move_apart(&self) -> bool {
        let of_pass = self.processor.load(Relaxed);
        of_pass != NOWHERE && processor() == Some(of_pass) && move_from(of_pass)
    }

    /// Whether what a helper finds in the pool is no helper of its own team that another thread is about to take.
    fn may_look(&self) -> bool {
        self.present.load(Relaxed) == self.asked.load(Relaxed)
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        self.0.wanted.store(0, Relaxed);
    }
}

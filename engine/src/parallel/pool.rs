//! The pool of threads of a process, and the only file of the engine that names rayon.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use super::region::MAX_THREADS;
use crate::error::EngineError;

/// Pools of this process by their number of threads, for [`Pool::shared`].
static SHARED: Mutex<Vec<Weak<Inner>>> = Mutex::new(Vec::new());

/// A rayon pool for all that computes: training, inference, decoding, augmentation. Clones are the same pool.
#[derive(Clone)]
pub struct Pool(Arc<Inner>);

struct Inner {
    threads: usize,
    started: OnceLock<Arc<rayon::ThreadPool>>,
    /// Held while the threads start.
    starting: Mutex<()>,
    /// Helpers that passes asked for so far.
    helpers: AtomicUsize,
}

impl Pool {
    /// A pool of `threads` threads, or of [`default_threads`] for 0. They start when they are first needed. In WebAssembly it
    /// is one thread, which gives the same results.
    ///
    /// # Errors
    /// [`EngineError::Config`] for more threads than rayon takes.
    pub fn new(threads: usize) -> Result<Pool, EngineError> {
        Ok(Pool::with(checked(threads)?, OnceLock::new()))
    }

    fn with(threads: usize, started: OnceLock<Arc<rayon::ThreadPool>>) -> Pool {
        let (starting, helpers) = (Mutex::new(()), AtomicUsize::new(0));
        Pool(Arc::new(Inner { threads, started, starting, helpers }))
    }

    /// As [`Pool::new`], but all callers in this process that ask for the same number of threads get the same pool, as long
    /// as one of them has it.
    ///
    /// # Errors
    /// As [`Pool::new`].
    pub fn shared(threads: usize) -> Result<Pool, EngineError> {
        let threads = checked(threads)?;
        let mut pools = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        pools.retain(|pool| pool.strong_count() > 0);
        if let Some(pool) = pools.iter().filter_map(Weak::upgrade).find(|pool| pool.threads == threads) {
            return Ok(Pool(pool));
        }
        let pool = Pool::new(threads)?;
        pools.push(Arc::downgrade(&pool.0));
        Ok(pool)
    }

    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.0.threads
    }

    /// The rayon pool, its threads started.
    ///
    /// # Errors
    /// [`EngineError::Config`] when the system has no more threads.
    pub fn thread_pool(&self) -> Result<&Arc<rayon::ThreadPool>, EngineError> {
        if let Some(pool) = self.0.started.get() {
            return Ok(pool);
        }
        let _turn = self.0.starting.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(pool) = self.0.started.get() {
            return Ok(pool);
        }
        let threads = self.0.threads;
        let builder = rayon::ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder
            .thread_name(|i| format!("ocelli-{i}"))
            .build()
            .map_err(|e| EngineError::Config(format!("cannot start {threads} threads: {e}")))?;
        // All of them run: what a system takes and allocates for a thread that starts is no part of the first pass.
        pool.broadcast(|_| ());
        Ok(self.0.started.get_or_init(|| Arc::new(pool)))
    }

    /// Runs `f` on a thread of the pool and waits for it. What computes for long and on many small pieces runs inside: from
    /// there, work reaches the other threads without a switch of threads.
    ///
    /// # Errors
    /// As [`Pool::thread_pool`].
    pub fn install<R: Send>(&self, f: impl FnOnce() -> R + Send) -> Result<R, EngineError> {
        Ok(self.thread_pool()?.install(f))
    }

    /// Hands a job to the pool and goes on. A panic ends the job alone.
    ///
    /// # Errors
    /// As [`Pool::thread_pool`]; the job is dropped then.
    pub fn spawn(&self, job: impl FnOnce() + Send + 'static) -> Result<(), EngineError> {
        // Without this it would end the process.
        let contained = move || drop(catch_unwind(AssertUnwindSafe(job)));
        self.thread_pool()?.spawn(contained);
        Ok(())
    }

    /// The number of this thread in the pool, below [`Pool::threads`]; `None` on a thread that is not of this pool.
    pub(super) fn worker(&self) -> Option<usize> {
        self.0.started.get()?.current_thread_index()
    }

    /// How often a pass has asked for the help of one of the threads: each time takes some bytes of the heap, and is all
    /// that a warm pass takes.
    pub fn helpers(&self) -> usize {
        self.0.helpers.load(Relaxed)
    }

    /// Hands the job of a helper to the pool, whose threads have started.
    pub(super) fn ask(&self, job: impl FnOnce() + Send + 'static) {
        self.0.helpers.fetch_add(1, Relaxed);
        self.0.started.get().expect("whoever shares work has started the threads").spawn(job);
    }
}

impl From<Arc<rayon::ThreadPool>> for Pool {
    /// The caller's own pool.
    ///
    /// ```
    /// use std::sync::Arc;
    ///
    /// use ocelli_engine::{Exec, Inference, Isa, Model, Pool, zoo};
    ///
    /// let own = Arc::new(rayon::ThreadPoolBuilder::new().num_threads(2).build().expect("two threads"));
    /// let exec = Exec::with_pool(Isa::best()?, Pool::from(Arc::clone(&own)));
    /// let (graph, _) = zoo::bench_net("keras-cnn-28")?;
    /// let mut inference = Inference::new(&Model::init(graph, 1)?, 8, &exec)?;
    /// // Other work of the pool runs on the same two threads.
    /// let logits = own.install(|| inference.predict(ndarray::Array4::zeros((8, 28, 28, 1)).view()))?;
    /// assert_eq!(logits.dim(), (8, 10));
    /// # Ok::<(), ocelli_engine::EngineError>(())
    /// ```
    fn from(pool: Arc<rayon::ThreadPool>) -> Pool {
        let threads = pool.current_num_threads();
        Pool::with(threads, OnceLock::from(pool))
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({} threads)", self.0.threads)
    }
}

/// On a thread of a pool: runs one waiting job of that pool, if there is one.
pub(super) fn run_waiting_job() -> bool {
    matches!(rayon::yield_now(), Some(rayon::Yield::Executed))
}

/// Threads of a pool for which no number is given: the environment variable `RAYON_NUM_THREADS` where it is a number above
/// 0, else the cores that this process may use.
pub fn default_threads() -> usize {
    let variable = std::env::var("RAYON_NUM_THREADS").ok();
    let asked = variable.and_then(|text| text.parse().ok()).filter(|&threads| threads > 0);
    let cores = || std::thread::available_parallelism().map_or(1, usize::from);
    asked.unwrap_or_else(cores).min(MOST_OF_SYSTEM)
}

/// Threads that a system may have at most: WebAssembly has the one that runs.
const MOST_OF_SYSTEM: usize = if cfg!(target_family = "wasm") { 1 } else { MAX_THREADS };

/// A number of threads, 0 replaced by the default, and no more than the system may have.
fn checked(threads: usize) -> Result<usize, EngineError> {
    if threads > MAX_THREADS {
        return Err(EngineError::Config(format!("{threads} threads are more than {MAX_THREADS}")));
    }
    Ok(if threads == 0 { default_threads() } else { threads.min(MOST_OF_SYSTEM) })
}

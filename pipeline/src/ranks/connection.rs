//! Ranks that are processes, connected by MPI; the only file that names its library.
//!
//! One thread makes all calls of MPI. It takes what training has for the other ranks, starts it without blocking and looks after
//! it, sleeping in between: a library of MPI moves data only while it is called, and one that waits spins, which would take the
//! core of the layers that compute meanwhile. Gradients are summed by an all-to-all, in which each rank receives its part of all
//! others, a sum in the order of the ranks, and an all-gather: the volume of a ring, and an order that no library chooses. What
//! a step waits for goes by a communicator of its own, between two looks at the gradients.
//!
//! Ranks tell rank 0, and rank 0 tells all, that they live. So a rank that is stopped or gone is found and named, and one that
//! reads images for an hour is not taken for dead.

use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mpi::Threading;
use mpi::datatype::PartitionMut;
use mpi::request::{Request, Scope, scope};
use mpi::topology::SimpleCommunicator;
use mpi::traits::{Communicator, CommunicatorCollectives, Destination, Source};
use ocelli_engine::Collective;

use super::settings::{Failed, Settings, Times};

/// Tag of the messages that say that a rank lives.
const ALIVE: i32 = 1;
/// Bytes that each rank gives in one round of an exchange: what 2,000 ranks give together can be counted by MPI.
const ROUND: usize = 1 << 20;
/// How long a wait that holds up a step looks again at once; longer ones sleep in between.
const EAGER: Duration = Duration::from_millis(1);
/// The pause between two looks: some packets at 10 Gbit/s.
const PAUSE: Duration = Duration::from_micros(50);
/// The pause of a rank that waits while another one works, as in a validation.
const LONG_PAUSE: Duration = Duration::from_millis(1);
/// How long the launcher has to end a job.
const ABORT: Duration = Duration::from_secs(20);
/// Bytes for messages of life that are on their way, for each rank.
const BUFFER: usize = 8 << 10;

/// What training asks of the thread.
enum Job {
    Gather(Vec<f64>),
    Exchange(Vec<u8>),
    Sum(Vec<f32>),
    /// A step waits for its sums.
    Hurry,
    /// All ranks are done.
    End,
    /// This rank has failed, and the others are to end.
    Abort,
}

/// A rank's end of the connection.
pub(super) struct Connection {
    rank: usize,
    size: usize,
    jobs: Mutex<Sender<Job>>,
    gathered: Mutex<Receiver<Vec<f64>>>,
    exchanged: Mutex<Receiver<Vec<Vec<u8>>>>,
    summed: Mutex<Receiver<Vec<f32>>>,
    /// Buffers that sums have left.
    spare: Mutex<Vec<Vec<f32>>>,
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What both threads know.
#[derive(Default)]
struct Shared {
    /// Whether a step waits for sums.
    hurry: AtomicBool,
    /// Nanoseconds in which the thread had something to do, and in which a step waited.
    busy: AtomicU64,
    waited: AtomicU64,
}

/// What the thread says once it is connected.
struct Begun {
    rank: usize,
    size: usize,
    hosts: Vec<String>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Joins the ranks that a launcher has started; gives the connection and the host of each rank.
pub(super) fn join(settings: Settings, failed: Failed) -> Result<(Connection, Vec<String>), String> {
    let (jobs, to_do) = channel();
    let (gathered, sums, exchanged) = (channel(), channel(), channel());
    let (begin, begun) = channel();
    let shared = Arc::new(Shared::default());
    let replies = Replies { gathered: gathered.0, exchanged: exchanged.0, summed: sums.0 };
    let own = Arc::clone(&shared);
    let run = move || serve((settings, failed), to_do, replies, &own, &begin);
    let thread = std::thread::Builder::new().name("ranks".to_owned()).spawn(run);
    let thread = thread.map_err(|error| format!("no thread for the other ranks: {error}"))?;
    let Begun { rank, size, hosts } = begun.recv().map_err(|_| "MPI does not start".to_owned())??;
    let connection = Connection {
        rank,
        size,
        jobs: Mutex::new(jobs),
        gathered: Mutex::new(gathered.1),
        exchanged: Mutex::new(exchanged.1),
        summed: Mutex::new(sums.1),
        spare: Mutex::default(),
        shared,
        thread: Mutex::new(Some(thread)),
    };
    Ok((connection, hosts))
}

impl Connection {
    fn ask(&self, job: Job) {
        // Fails when the thread is gone, and then the process is about to be, too.
        let _ = lock(&self.jobs).send(job);
    }

    /// Waits for a reply. The thread that gives it ends the process where there will be none.
    fn receive<T>(&self, replies: &Mutex<Receiver<T>>) -> T {
        match lock(replies).recv() {
            Ok(reply) => reply,
            Err(_) => loop {
                std::thread::park();
            },
        }
    }

    fn timed<T>(&self, wait: impl FnOnce() -> T) -> T {
        let start = Instant::now();
        let result = wait();
        self.shared.waited.fetch_add(nanos(start), Ordering::Relaxed);
        result
    }

    /// Seconds so far.
    pub(super) fn times(&self) -> Times {
        let seconds = |nanos: &AtomicU64| Duration::from_nanos(nanos.load(Ordering::Relaxed)).as_secs_f64();
        Times { total: seconds(&self.shared.busy), exposed: seconds(&self.shared.waited) }
    }

    /// Ends the job: all ranks, this one included.
    pub(super) fn abort(&self) -> ! {
        self.ask(Job::Abort);
        std::thread::sleep(ABORT);
        // Where the thread was not there to do it.
        std::process::exit(1)
    }

    /// Takes leave of the other ranks, which do so, too.
    pub(super) fn close(&self) {
        self.exchange(&[]);
        self.ask(Job::End);
        if let Some(thread) = lock(&self.thread).take() {
            // A thread that has failed has said so.
            let _ = thread.join();
        }
    }
}

fn nanos(start: Instant) -> u64 {
    start.elapsed().as_nanos().try_into().unwrap_or(u64::MAX)
}

impl Collective for Connection {
    fn rank(&self) -> usize {
        self.rank
    }

    fn size(&self) -> usize {
        self.size
    }

    fn gather(&self, own: &[f64]) -> Vec<f64> {
        self.timed(|| {
            self.ask(Job::Gather(own.to_vec()));
            self.receive(&self.gathered)
        })
    }

    fn exchange(&self, own: &[u8]) -> Vec<Vec<u8>> {
        self.ask(Job::Exchange(own.to_vec()));
        self.receive(&self.exchanged)
    }

    fn start_sum(&self, values: &[f32]) {
        self.shared.hurry.store(false, Ordering::Relaxed);
        let mut buffer = lock(&self.spare).pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(values);
        self.ask(Job::Sum(buffer));
    }

    fn finish_sum(&self, values: &mut [f32]) {
        let sum = self.timed(|| {
            if !self.shared.hurry.swap(true, Ordering::Relaxed) {
                self.ask(Job::Hurry);
            }
            self.receive(&self.summed)
        });
        values.copy_from_slice(&sum);
        lock(&self.spare).push(sum);
    }
}

struct Replies {
    gathered: Sender<Vec<f64>>,
    exchanged: Sender<Vec<Vec<u8>>>,
    summed: Sender<Vec<f32>>,
}

/// The thread's work, from the start of MPI to its end.
fn serve(
    (settings, failed): (Settings, Failed),
    jobs: Receiver<Job>,
    replies: Replies,
    shared: &Shared,
    begin: &Sender<Result<Begun, String>>,
) {
    let Some((mut universe, threading)) = mpi::initialize_with_threading(Threading::Funneled) else {
        let _ = begin.send(Err("MPI was started before".to_owned()));
        return;
    };
    if threading < Threading::Funneled {
        let _ = begin.send(Err("this MPI library allows no threads".to_owned()));
        return;
    }
    let world = universe.world();
    let number = |count: i32| usize::try_from(count).expect("MPI counts from 0");
    let (rank, size) = (number(world.rank()), number(world.size()));
    universe.set_buffer_size(BUFFER * size);
    let host = mpi::environment::processor_name().unwrap_or_else(|_| "an unnamed host".to_owned());
    let now = Instant::now();
    let mut wire = Wire {
        rank,
        size,
        urgent: Rc::new(world.duplicate()),
        bulk: Rc::new(world.duplicate()),
        world,
        jobs,
        replies,
        shared,
        sums: VecDeque::new(),
        held: VecDeque::new(),
        overlap: settings.overlap,
        parts: (Vec::new(), Vec::new(), Vec::new()),
        life: Life {
            timeout: settings.timeout,
            every: (settings.timeout / 10).clamp(Duration::from_millis(50), Duration::from_secs(5)),
            said: now,
            looked: now,
            heard: vec![(now, 0); size],
            count: 0,
        },
        hosts: vec![String::new(); size],
        failed,
    };
    let names = wire.exchange(host.as_bytes());
    let hosts: Vec<String> = names.iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect();
    wire.hosts = hosts.clone();
    if begin.send(Ok(Begun { rank, size, hosts })).is_ok() {
        wire.run();
    }
}

/// The ranks, as the thread sees them.
struct Wire<'a> {
    rank: usize,
    size: usize,
    world: SimpleCommunicator,
    /// For what a step waits for.
    urgent: Rc<SimpleCommunicator>,
    /// For gradients.
    bulk: Rc<SimpleCommunicator>,
    jobs: Receiver<Job>,
    replies: Replies,
    shared: &'a Shared,
    /// Gradients to be summed, and such that wait for the end of the backward pass.
    sums: VecDeque<Vec<f32>>,
    held: VecDeque<Vec<f32>>,
    overlap: bool,
    /// What is sent and received of gradients, and this rank's part of their sum.
    parts: (Vec<f32>, Vec<f32>, Vec<f32>),
    life: Life,
    /// The hosts of all ranks.
    hosts: Vec<String>,
    failed: Failed,
}

/// What is known of the life of other ranks.
struct Life {
    timeout: Duration,
    /// How often a rank says that it lives.
    every: Duration,
    said: Instant,
    looked: Instant,
    /// When each rank said so last, and how many jobs it had begun then.
    heard: Vec<(Instant, u64)>,
    /// Jobs that this rank has begun.
    count: u64,
}

/// What a wait is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum For {
    /// A step of training, which all ranks are to reach within the timeout.
    Step,
    /// Gradients, while a step goes on.
    Sum,
    /// Another rank's work, which may take long.
    Work,
}

impl Wire<'_> {
    /// Takes jobs until all ranks are done.
    fn run(&mut self) {
        loop {
            match self.jobs.recv_timeout(self.life.every) {
                Ok(Job::End) | Err(RecvTimeoutError::Disconnected) => return,
                Ok(job) => {
                    let start = Instant::now();
                    let counts = !matches!(job, Job::Exchange(_));
                    self.take(job);
                    while let Some(sum) = self.sums.pop_front() {
                        self.sum(sum);
                    }
                    if counts {
                        self.shared.busy.fetch_add(nanos(start), Ordering::Relaxed);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.live();
        }
    }

    /// Does what a step waits for, and notes what is to be summed.
    fn take(&mut self, job: Job) {
        self.life.count += u64::from(!matches!(job, Job::Hurry));
        match job {
            Job::Gather(own) => {
                let all = self.gather(&own, For::Step);
                // Fails when nobody waits any more: the process ends.
                let _ = self.replies.gathered.send(all);
            }
            Job::Exchange(own) => {
                let all = self.exchange(&own);
                let _ = self.replies.exchanged.send(all);
            }
            Job::Sum(values) if self.overlap => self.sums.push_back(values),
            Job::Sum(values) => self.held.push_back(values),
            Job::Hurry => self.sums.append(&mut self.held),
            Job::End => {}
            Job::Abort => self.world.abort(1),
        }
    }

    fn gather(&mut self, own: &[f64], wait: For) -> Vec<f64> {
        let mut all = vec![0.0; own.len() * self.size];
        let urgent = Rc::clone(&self.urgent);
        scope(|scope| {
            let request = urgent.immediate_all_gather_into(scope, own, &mut all[..]);
            self.complete(request, wait);
        });
        all
    }

    fn exchange(&mut self, own: &[u8]) -> Vec<Vec<u8>> {
        let lengths = self.gather(&[own.len() as f64], For::Work);
        let lengths: Vec<usize> = lengths.into_iter().map(|length| length as usize).collect();
        let mut all: Vec<Vec<u8>> = lengths.iter().map(|&length| Vec::with_capacity(length)).collect();
        let longest = lengths.iter().copied().max().unwrap_or(0);
        for start in (0..longest).step_by(ROUND) {
            let part = |length: usize| length.min(start + ROUND).saturating_sub(start);
            let counts: Vec<i32> = lengths.iter().map(|&length| part(length) as i32).collect();
            let places: Vec<i32> = counts
                .iter()
                .scan(0, |end, count| {
                    *end += count;
                    Some(*end - count)
                })
                .collect();
            let mut received = vec![0u8; counts.iter().map(|&count| count as usize).sum()];
            let sent = &own[start.min(own.len())..own.len().min(start + ROUND)];
            let urgent = Rc::clone(&self.urgent);
            let mut parts = PartitionMut::new(&mut received[..], &counts[..], &places[..]);
            scope(|scope| {
                let request = urgent.immediate_all_gather_varcount_into(scope, sent, &mut parts);
                self.complete(request, For::Work);
            });
            for ((to, &place), &count) in all.iter_mut().zip(&places).zip(&counts) {
                to.extend_from_slice(&received[place as usize..(place + count) as usize]);
            }
        }
        all
    }

    /// Sums gradients over the ranks: each sums its part, in the order of the ranks.
    fn sum(&mut self, mut values: Vec<f32>) {
        let part = values.len().div_ceil(self.size);
        let (mut sent, mut received, mut own) = std::mem::take(&mut self.parts);
        sent.clear();
        sent.extend_from_slice(&values);
        sent.resize(part * self.size, 0.0);
        received.resize(part * self.size, 0.0);
        let bulk = Rc::clone(&self.bulk);
        scope(|scope| {
            let request = bulk.immediate_all_to_all_into(scope, &sent[..], &mut received[..]);
            self.complete(request, For::Sum);
        });
        own.clear();
        own.extend_from_slice(&received[..part]);
        for rank in received.chunks_exact(part.max(1)).skip(1) {
            own.iter_mut().zip(rank).for_each(|(sum, value)| *sum += value);
        }
        scope(|scope| {
            let request = bulk.immediate_all_gather_into(scope, &own[..], &mut sent[..]);
            self.complete(request, For::Sum);
        });
        let len = values.len();
        values.copy_from_slice(&sent[..len]);
        self.parts = (sent, received, own);
        let _ = self.replies.summed.send(values);
    }

    /// Looks after a request until it is complete.
    fn complete<'s, D: ?Sized, S: Scope<'s>>(&mut self, mut request: Request<'s, D, S>, wait: For) {
        let start = Instant::now();
        loop {
            match request.test() {
                Ok(_) => return,
                Err(incomplete) => request = incomplete,
            }
            if wait == For::Sum {
                while let Ok(job) = self.jobs.try_recv() {
                    self.take(job);
                }
            }
            self.live();
            let waited = start.elapsed();
            if wait != For::Work && waited > self.life.timeout {
                self.name_the_last(waited);
            }
            let hurry = match wait {
                For::Step => true,
                For::Sum => self.shared.hurry.load(Ordering::Relaxed),
                For::Work => waited < EAGER,
            };
            match () {
                () if hurry && waited < EAGER => std::thread::yield_now(),
                () if wait == For::Work => std::thread::sleep(LONG_PAUSE),
                () => std::thread::sleep(PAUSE),
            }
        }
    }

    /// Says that this rank lives, and listens to the others.
    fn live(&mut self) {
        let now = Instant::now();
        if now - self.life.looked < self.life.every / 10 {
            return;
        }
        // A process that was stopped itself and goes on has not listened meanwhile.
        let absent = (now - self.life.looked).saturating_sub(self.life.every * 2);
        self.life.heard.iter_mut().for_each(|heard| heard.0 += absent);
        self.life.looked = now;
        let others = || (0..self.size).filter(|&rank| rank != self.rank);
        let told: Vec<usize> =
            others().filter(|_| self.rank == 0).chain((self.rank != 0).then_some(0)).collect();
        if now - self.life.said >= self.life.every {
            self.life.said = now;
            for &rank in &told {
                self.world.process_at_rank(rank as i32).buffered_send_with_tag(&self.life.count, ALIVE);
            }
        }
        while let Some((message, status)) = self.world.any_process().immediate_matched_probe_with_tag(ALIVE) {
            let (count, _) = message.matched_receive::<u64>();
            self.life.heard[status.source_rank() as usize] = (now, count);
        }
        for rank in told {
            let silent = now - self.life.heard[rank].0;
            if silent > self.life.timeout {
                let text = format!(
                    "{} has said nothing for {:.0} s: it is stopped, its host is gone or the network between is",
                    self.name(rank),
                    silent.as_secs_f64()
                );
                self.fail(&text);
            }
        }
    }

    /// Ends the job where a rank lives but is behind the others; rank 0 knows all, others know rank 0.
    fn name_the_last(&self, waited: Duration) {
        let known = self
            .life
            .heard
            .iter()
            .enumerate()
            .filter(|&(rank, _)| rank != self.rank && (self.rank == 0 || rank == 0));
        let Some((rank, &(_, count))) = known.min_by_key(|(_, heard)| heard.1) else { return };
        if count < self.life.count {
            let text = format!(
                "{} lives but has not come to this point of the step for {:.0} s",
                self.name(rank),
                waited.as_secs_f64()
            );
            self.fail(&text);
        }
    }

    fn name(&self, rank: usize) -> String {
        format!("rank {rank} on host {}", self.hosts[rank])
    }

    /// Ends the job.
    fn fail(&self, reason: &str) -> ! {
        (self.failed)(&format!("{reason}; noticed by {}", self.name(self.rank)));
        self.world.abort(1)
    }
}

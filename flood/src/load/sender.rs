//! Sending: threads, each with a runtime of its own and its share of the connections, in a closed or an open loop.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{sleep, timeout_at};

use super::arrivals::{self, Schedule};
use super::check::LabelCheck;
use crate::client::bodies::Requests;
use crate::client::connection::{Answer, Connection, Fault, Request};
use crate::client::target::Target;
use crate::error::FloodError;
use crate::settings::{Load, Settings};
use crate::statistics::tally::Tally;

/// A closed loop's connection that cannot be opened is tried again after this.
const BACK_OFF: Duration = Duration::from_millis(50);
/// How often progress is shown, and a signal looked for.
const TICK: Duration = Duration::from_millis(100);
/// What threads take to start, before the clock of a level does.
const START: Duration = Duration::from_millis(5);
/// Requests of an open loop that may wait for a connection, in each thread.
const MAX_WAITING: usize = 1_000_000;

/// One level's work, shared by its threads.
pub(crate) struct Work {
    pub(crate) load: Load,
    /// None: until the budget is spent.
    pub(crate) duration: Option<Duration>,
    /// Requests that are counted.
    pub(crate) budget: Option<u64>,
    pub(crate) warmup: Duration,
    pub(crate) live: Live,
    target: Arc<Target>,
    requests: Arc<Requests>,
    check: Option<Arc<LabelCheck>>,
    timeout: Duration,
    threads: usize,
    seed: u64,
}

/// What is known while a level runs; requests of the warm-up are not in it.
#[derive(Default)]
pub(crate) struct Live {
    /// Taken up by a connection of a closed loop.
    taken: AtomicU64,
    pub(crate) ok: AtomicU64,
    pub(crate) errors: AtomicU64,
}

impl Work {
    pub(crate) fn new(
        load: Load,
        settings: &Settings,
        target: Arc<Target>,
        requests: Arc<Requests>,
        check: Option<Arc<LabelCheck>>,
    ) -> Work {
        let connections = match load {
            Load::Closed { concurrency } => concurrency,
            Load::Open { connections, .. } => connections,
        };
        Work {
            load,
            duration: settings.duration,
            budget: settings.requests,
            warmup: settings.warmup,
            live: Live::default(),
            target,
            requests,
            check,
            timeout: settings.timeout,
            threads: settings.threads.min(connections),
            seed: settings.seed,
        }
    }

    /// Of `n`, what thread `part` gets.
    fn share(&self, n: u64, part: usize) -> u64 {
        let (threads, part) = (self.threads as u64, part as u64);
        n / threads + u64::from(part < n % threads)
    }
}

/// Runs one level to its end, or to the first signal: what is on its way then is not counted.
pub(crate) fn run(
    work: &Arc<Work>,
    stop: &AtomicBool,
    show: &mut dyn FnMut(&Work) -> Result<(), FloodError>,
) -> Result<Tally, FloodError> {
    let failed = FloodError::Threads;
    let begin = Instant::now() + START + work.warmup;
    let (end, ended) = watch::channel(false);
    let (results, counted) = channel();
    for part in 0..work.threads {
        let (work, results, ended) = (Arc::clone(work), results.clone(), ended.clone());
        let send = move || drop(results.send(send(&work, begin, part, ended)));
        thread::Builder::new().name(format!("flood-{part}")).spawn(send).map_err(failed)?;
    }
    drop(results);
    let mut sum = Tally::new(begin);
    loop {
        match counted.recv_timeout(TICK) {
            Ok(tally) => sum.merge(tally.map_err(failed)?),
            Err(RecvTimeoutError::Disconnected) => return Ok(sum),
            Err(RecvTimeoutError::Timeout) => {
                show(work)?;
                if stop.load(Ordering::Acquire) {
                    end.send_replace(true);
                }
            }
        }
    }
}

/// What one thread does.
fn send(
    work: &Arc<Work>,
    begin: Instant,
    part: usize,
    mut stopped: watch::Receiver<bool>,
) -> io::Result<Tally> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let end = work.duration.map(|duration| begin + duration);
    let sender = Rc::new(Sender {
        work: Arc::clone(work),
        begin,
        end,
        // Threads start at different images.
        next: Cell::new(part * 31),
        tally: RefCell::new(Tally::new(begin)),
    });
    let local = LocalSet::new();
    let sending = async {
        match work.load {
            Load::Closed { concurrency } => {
                let connections = work.share(concurrency as u64, part);
                let mut all = JoinSet::new();
                for _ in 0..connections {
                    all.spawn_local(Rc::clone(&sender).closed());
                }
                all.join_all().await;
            }
            Load::Open { rate, arrivals, connections } => {
                let schedule = Schedule::new(arrivals, rate, (part, work.threads), work.seed);
                let budget = work.budget.map(|budget| work.share(budget, part));
                let times = times(schedule, begin - work.warmup, begin, end, budget);
                let (announce, due) = unbounded_channel();
                let clock = move || arrivals::keep(times, &announce);
                thread::Builder::new().name(format!("arrivals-{part}")).spawn(clock)?;
                Rc::clone(&sender).open(due, work.share(connections as u64, part) as usize).await;
            }
        }
        io::Result::Ok(())
    };
    runtime.block_on(local.run_until(async {
        tokio::select! {
            done = sending => done,
            _ = stopped.wait_for(|stopped| *stopped) => Ok(()),
        }
    }))?;
    Ok(sender.tally.replace(Tally::new(begin)))
}

/// The moments at which an open loop sends: `budget` of them from `begin` on, all before `end`.
fn times(
    schedule: Schedule,
    start: Instant,
    begin: Instant,
    end: Option<Instant>,
    budget: Option<u64>,
) -> impl Iterator<Item = Instant> {
    let mut left = budget.unwrap_or(u64::MAX);
    schedule.map(move |time| start + time).take_while(move |&time| {
        let within = end.is_none_or(|end| time < end);
        if time < begin {
            return within;
        }
        let paid = left > 0;
        left = left.saturating_sub(1);
        within && paid
    })
}

/// One thread's state.
struct Sender {
    work: Arc<Work>,
    begin: Instant,
    end: Option<Instant>,
    /// Number of the next request.
    next: Cell<usize>,
    tally: RefCell<Tally>,
}

/// Connections of an open loop.
struct Pool {
    /// The one that was used last is used next: few stay busy, the rest was needed once.
    idle: RefCell<Vec<Connection>>,
    busy: Cell<usize>,
    /// Requests that are due while all connections are busy, oldest first.
    waiting: RefCell<VecDeque<Instant>>,
}

impl Sender {
    /// One connection of a closed loop.
    async fn closed(self: Rc<Self>) {
        let mut connection = None;
        loop {
            let now = Instant::now();
            let counted = now >= self.begin;
            if self.end.is_some_and(|end| now >= end) || counted && !self.take() {
                return;
            }
            let outcome = self.exchange(&mut connection, now).await;
            let refused = matches!(&outcome.result, Err(fault) if fault.kind == "connect");
            self.count(counted, outcome);
            if refused {
                sleep(BACK_OFF).await;
            }
        }
    }

    /// Whether the budget holds one more request.
    fn take(&self) -> bool {
        let Some(budget) = self.work.budget else { return true };
        self.work.live.taken.fetch_add(1, Ordering::Relaxed) < budget
    }

    /// The requests of an open loop as they come due.
    async fn open(self: Rc<Self>, mut due: UnboundedReceiver<Instant>, connections: usize) {
        let pool =
            Rc::new(Pool { idle: RefCell::default(), busy: Cell::new(0), waiting: RefCell::default() });
        let mut tasks = JoinSet::new();
        while let Some(due) = due.recv().await {
            if pool.busy.get() < connections {
                pool.busy.set(pool.busy.get() + 1);
                tasks.spawn_local(Rc::clone(&self).serve(Rc::clone(&pool), due));
            } else if pool.waiting.borrow().len() < MAX_WAITING {
                pool.waiting.borrow_mut().push_back(due);
            } else {
                self.unsent(due, format!("{MAX_WAITING} requests waited already"));
            }
            // Tasks that have ended would be kept until they are asked for.
            while tasks.try_join_next().is_some() {}
        }
        if self.end.is_some() {
            for due in pool.waiting.take() {
                self.unsent(due, "still waiting for a connection when the time was over".to_owned());
            }
        }
        tasks.join_all().await;
    }

    /// Sends what is due, then what is waiting, on one connection.
    async fn serve(self: Rc<Self>, pool: Rc<Pool>, due: Instant) {
        let mut connection = pool.idle.borrow_mut().pop();
        let mut next = Some(due);
        while let Some(due) = next {
            let outcome = Outcome { clock: due, ..self.exchange(&mut connection, due).await };
            self.count(due >= self.begin, outcome);
            next = pool.waiting.borrow_mut().pop_front();
        }
        pool.idle.borrow_mut().extend(connection);
        pool.busy.set(pool.busy.get() - 1);
    }

    fn unsent(&self, due: Instant, text: String) {
        if due >= self.begin {
            self.tally.borrow_mut().fault(Fault::new("unsent", text));
            self.work.live.errors.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// One request with its answer, on the connection that is there or on a new one.
    async fn exchange(&self, connection: &mut Option<Connection>, due: Instant) -> Outcome {
        let number = self.next.get();
        self.next.set(number.wrapping_add(1));
        let request = self.work.requests.get(number);
        let (mut clock, limit) = (due, self.work.timeout);
        let deadline = due + limit;
        if Instant::now() >= deadline {
            return Outcome { number, clock, result: Err(Fault::timeout(limit)) };
        }
        let exchange = async {
            let mut open = match connection.take().filter(Connection::is_open) {
                Some(open) => open,
                None => {
                    self.tally.borrow_mut().connections += 1;
                    let open = Connection::open(self.work.target.addr()).await?;
                    clock = Instant::now();
                    open
                }
            };
            let answer = open.send(request, self.work.check.is_some()).await?;
            *connection = Some(open);
            Ok(answer)
        };
        let result = timeout_at(deadline.into(), exchange).await;
        Outcome { number, clock, result: result.unwrap_or_else(|_| Err(Fault::timeout(limit))) }
    }

    fn count(&self, counted: bool, outcome: Outcome) {
        if !counted {
            return;
        }
        let latency = outcome.clock.elapsed();
        let request = self.work.requests.get(outcome.number);
        let (answer, fault) = match outcome.result {
            Ok(answer) => {
                let fault = self.judge(request, &answer).err();
                (Some(answer), fault)
            }
            Err(fault) => (None, Some(fault)),
        };
        let live = &self.work.live;
        if fault.is_none() { &live.ok } else { &live.errors }.fetch_add(1, Ordering::Relaxed);
        let size = (request.images.len(), request.body.len());
        self.tally.borrow_mut().request(size, latency, answer.as_ref(), fault);
    }

    /// Whether an answer is a good one.
    fn judge(&self, request: &Request, answer: &Answer) -> Result<(), Fault> {
        if !answer.status.is_success() {
            return Err(Fault::refused(answer));
        }
        self.work.check.as_ref().map_or(Ok(()), |check| check.compare(&request.images, &answer.body))
    }
}

/// What came of one request.
struct Outcome {
    /// Of the request.
    number: usize,
    /// When its latency started: in a closed loop, when there was a connection to send on.
    clock: Instant,
    result: Result<Answer, Fault>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Arrivals;

    #[test]
    fn an_open_loop_sends_within_its_time_and_budget() {
        let start = Instant::now();
        let second = |n: f64| start + Duration::from_secs_f64(n);
        let all = |end: Option<f64>, budget| {
            let schedule = Schedule::new(Arrivals::Fixed, 10.0, (0, 1), 1);
            let times: Vec<_> = times(schedule, start, second(0.95), end.map(second), budget).collect();
            let warm = times.iter().filter(|time| **time < second(0.95)).count();
            (warm, times.len() - warm)
        };
        assert_eq!(all(Some(2.95), None), (10, 20));
        assert_eq!(all(None, Some(7)), (10, 7));
        assert_eq!(all(Some(1.25), Some(7)), (10, 3));
        assert_eq!(all(Some(0.5), None), (5, 0));
    }
}

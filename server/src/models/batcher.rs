//! Who runs the network of a version: a thread that serves connections, if what has queued up is soon done (inline); else a
//! thread of the version's own.
//!
//! One of them at a time has the turn. Whoever has it takes what has queued up, and whoever gives it back sees that the
//! rest is taken. Nobody waits for a timer: an idle service answers a single image at once, without waking a thread, and a
//! busy one fills its batches. Images whose client has gone are dropped before they cost anything.
//!
//! The queue itself is unbounded; it stays short since every image carries one of a fixed number of slots.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ocelli_pipeline::Prepared;
use tokio::task::yield_now;

use crate::models::decode::Encoded;
use crate::models::pass::Pass;
use crate::models::pending::{Pending, Ready};

/// How long a thread that serves connections may be kept by one run of the network: others wait for it meanwhile.
const INLINE: Duration = Duration::from_micros(200);

/// How long such a thread goes on decoding images for a run before it begins.
const INLINE_DECODE: Duration = Duration::from_micros(100);

/// An image in the queue.
pub(crate) struct Entry {
    pub(crate) image: Image,
    pub(crate) pending: Pending,
}

/// How far it is.
pub(crate) enum Image {
    Prepared(Prepared),
    /// A small one, decoded when its turn comes.
    Encoded(Encoded),
}

impl Entry {
    /// The pixels of an image whose client still waits.
    fn prepare(self) -> Option<Ready> {
        let Entry { image, pending } = self;
        if pending.is_given_up() {
            return None;
        }
        match image {
            Image::Prepared(image) => Some((image, pending)),
            Image::Encoded(encoded) => encoded.decode(pending),
        }
    }
}

impl From<Ready> for Entry {
    fn from((image, pending): Ready) -> Entry {
        Entry { image: Image::Prepared(image), pending }
    }
}

/// Most images of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// On the version's own thread.
    pub(crate) batch: usize,
    /// On a thread that serves connections; 0 for a network that never runs there.
    pub(crate) inline: usize,
}

/// Images that a thread may run which serves connections, of a network that takes `image` for one.
pub(crate) fn inline_images(image: Duration) -> usize {
    (INLINE.as_nanos() / image.as_nanos().max(1)) as usize
}

/// The way to the network of a version. The version's thread ends when the last of these is dropped and all is answered.
#[derive(Clone)]
pub(crate) struct Queue(Arc<Open>);

struct Open(Arc<Shared>);

struct Shared {
    waiting: Mutex<Waiting>,
    /// Tells the thread that there is something for it.
    call: Condvar,
    /// Locked by whoever has the turn.
    pass: Mutex<Pass>,
    sizes: Sizes,
}

struct Waiting {
    entries: VecDeque<Entry>,
    /// Somebody has the turn.
    taken: bool,
    /// The thread waits for a call.
    asleep: bool,
    /// There is a way to the queue.
    open: bool,
}

/// The right to run the network, until it is dropped.
struct Turn<'a>(&'a Shared);

/// Images in the queue of which the thread does not know yet: it is told when this is dropped.
struct Untold<'a>(&'a Shared);

impl Queue {
    /// Starts the version's thread.
    pub(crate) fn start(pass: Pass, sizes: Sizes) -> io::Result<Queue> {
        let waiting = Waiting { entries: VecDeque::new(), taken: false, asleep: false, open: true };
        let shared = Arc::new(Shared {
            waiting: Mutex::new(waiting),
            call: Condvar::new(),
            pass: Mutex::new(pass),
            sizes,
        });
        let own = shared.clone();
        thread::Builder::new().name("ocelli-batcher".into()).spawn(move || own.serve())?;
        Ok(Queue(Arc::new(Open(shared))))
    }

    /// Queues an image for the version's thread.
    pub(crate) fn push(&self, entry: Entry) {
        let shared = self.shared();
        let mut waiting = shared.lock();
        waiting.entries.push_back(entry);
        shared.call(waiting);
    }

    /// Queues images, and runs the network on this thread, which serves connections, if that is soon done and nobody else
    /// does it already.
    pub(crate) async fn run(&self, entries: Vec<Entry>) {
        let Some(untold) = self.offer(entries) else { return };
        // Requests that have come meanwhile are read first: their images run together with these.
        yield_now().await;
        let shared = untold.0;
        if let Some(turn) = shared.turn_if_short() {
            turn.run(shared.sizes.inline, Some(INLINE_DECODE));
        }
    }

    /// Queues images; none if the thread, or whoever has the turn, sees to them.
    fn offer(&self, entries: Vec<Entry>) -> Option<Untold<'_>> {
        let shared = self.shared();
        let soon = (1..=shared.sizes.inline).contains(&entries.len());
        let mut waiting = shared.lock();
        waiting.entries.extend(entries);
        if soon && !waiting.taken {
            return Some(Untold(shared));
        }
        shared.call(waiting);
        None
    }

    fn shared(&self) -> &Shared {
        &self.0.0
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.open = false;
        self.0.call(waiting);
    }
}

impl Drop for Untold<'_> {
    fn drop(&mut self) {
        self.0.call(self.0.lock());
    }
}

impl Shared {
    /// The version's thread.
    fn serve(&self) {
        while let Some(turn) = self.wait() {
            turn.run(self.sizes.batch, None);
        }
    }

    /// The next turn of the thread; none when there is no way to the queue any more.
    fn wait(&self) -> Option<Turn<'_>> {
        let mut waiting = self.lock();
        loop {
            if waiting.has_work() {
                waiting.taken = true;
                return Some(Turn(self));
            }
            if waiting.is_over() {
                return None;
            }
            waiting.asleep = true;
            waiting = self.call.wait(waiting).unwrap_or_else(PoisonError::into_inner);
            waiting.asleep = false;
        }
    }

    /// The turn, if nobody has it and what has queued up is soon done.
    fn turn_if_short(&self) -> Option<Turn<'_>> {
        let mut waiting = self.lock();
        if !waiting.has_work() || waiting.entries.len() > self.sizes.inline {
            return None;
        }
        waiting.taken = true;
        Some(Turn(self))
    }

    /// Wakes the thread if it sleeps and should not.
    fn call(&self, mut waiting: MutexGuard<'_, Waiting>) {
        if waiting.asleep && (waiting.has_work() || waiting.is_over()) {
            // Once is enough.
            waiting.asleep = false;
            drop(waiting);
            self.call.notify_one();
        }
    }

    fn pop(&self) -> Option<Entry> {
        self.lock().entries.pop_front()
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    /// Whether there are images that nobody sees to. Whoever has the turn looks again before it ends.
    fn has_work(&self) -> bool {
        !self.taken && !self.entries.is_empty()
    }

    fn is_over(&self) -> bool {
        !self.open && self.entries.is_empty()
    }
}

impl Turn<'_> {
    /// Takes up to `most` images from the queue, also those that come while others are decoded, until that has taken
    /// `limit`; runs the network and answers them. After a panic here the requests concerned are told when what was taken goes,
    /// and whoever runs the network goes on.
    fn run(self, most: usize, limit: Option<Duration>) {
        let work = || {
            let started = Instant::now();
            let mut pass = self.0.pass.lock().unwrap_or_else(PoisonError::into_inner);
            pass.begin();
            while pass.len() < most
                && limit.is_none_or(|limit| started.elapsed() < limit)
                && let Some(entry) = self.0.pop()
            {
                if let Some(ready) = entry.prepare() {
                    pass.add(ready);
                }
            }
            if pass.len() > 0 {
                pass.run();
            }
        };
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            tracing::error!("a run of the network panicked; the service goes on");
        }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut waiting = self.0.lock();
        waiting.taken = false;
        self.0.call(waiting);
    }
}

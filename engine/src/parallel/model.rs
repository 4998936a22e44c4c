//! Models for `loom`, which runs them in every order in which their threads can take turns:
//! `RUSTFLAGS="--cfg loom" cargo test -p ocelli-engine --lib --release parallel::model`.

use std::sync::atomic::Ordering::SeqCst;

use loom::cell::Cell;
use loom::sync::Arc;
use loom::thread;

use super::event::Event;
use super::region::{Cut, Pieces, Region};
use super::sync::AtomicUsize;

/// Runs a model with at most three changes of thread that no thread asks for; more find nothing new and take hours.
fn check(model: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(3);
    builder.check(model);
}

/// Adds one to each of some cells, a cell a piece. The cells tell loom of accesses that are not ordered.
fn add_one(region: &Region, helpers: usize, cells: &mut [Cell<u32>]) {
    let pieces = Pieces::new([Cut::new((cells, 1))], usize::MAX);
    let add = |_, [cell]: [&mut [Cell<u32>]; 1]| cell[0].set(cell[0].get() + 1);
    region.share(helpers, pieces, add, || ());
}

fn values(cells: &[Cell<u32>]) -> Vec<u32> {
    cells.iter().map(Cell::get).collect()
}

#[test]
fn whoever_waits_for_an_event_is_woken() {
    check(|| {
        let shared = Arc::new((AtomicUsize::new(0), Event::new()));
        let waiter = Arc::clone(&shared);
        let waiting = thread::spawn(move || waiter.1.wait(|| waiter.0.load(SeqCst) == 2));
        for value in [1, 2] {
            shared.0.store(value, SeqCst);
            shared.1.notify();
        }
        waiting.join().unwrap();
    });
}

#[test]
fn every_piece_of_every_region_is_computed_once() {
    check(|| {
        let region = Arc::new(Region::new(2));
        let own = Arc::clone(&region);
        let helper = thread::spawn(move || {
            let mut seen = 0;
            (0..2).filter(|_| own.help(&mut seen, 1)).count()
        });
        let mut cells = [0, 1].map(Cell::new);
        // The second region may begin while the helper leaves the first.
        for _ in 0..2 {
            add_one(&region, 1, &mut cells);
        }
        assert_eq!(values(&cells), [2, 3]);
        assert!(helper.join().unwrap() <= 2);
    });
}

#[test]
fn no_more_helpers_enter_than_a_region_has_room_for() {
    check(|| {
        let region = Arc::new(Region::new(3));
        let helpers = [1, 2].map(|index| {
            let own = Arc::clone(&region);
            thread::spawn(move || own.help(&mut 0, index))
        });
        let mut cells = [0].map(Cell::new);
        add_one(&region, 1, &mut cells);
        assert_eq!(values(&cells), [1]);
        let came = helpers.map(|helper| helper.join().unwrap());
        assert!(came != [true, true]);
    });
}

#[test]
fn two_callers_share_a_region_or_work_alone() {
    check(|| {
        let region = Arc::new(Region::new(2));
        let other = Arc::clone(&region);
        let caller = thread::spawn(move || {
            let mut cells = [10].map(Cell::new);
            add_one(&other, 1, &mut cells);
            assert_eq!(values(&cells), [11]);
        });
        let mut cells = [0].map(Cell::new);
        add_one(&region, 1, &mut cells);
        assert_eq!(values(&cells), [1]);
        caller.join().unwrap();
    });
}

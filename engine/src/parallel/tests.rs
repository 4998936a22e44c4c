//! Tests on real threads. A region may be over before a helper comes; where a test needs one, a piece waits until another
//! has begun.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use super::*;

/// More than any threshold.
const MUCH: usize = usize::MAX;

/// A pool of its own, with some floats of scratch.
fn with_scratch(count: usize, scratch: usize) -> Threads {
    let pool = Pool::new(count).expect("a pool takes as many threads as the tests ask for");
    Threads::new(&pool, Wait::Yield, scratch).expect("the system has as many threads")
}

fn pool(count: usize) -> Threads {
    with_scratch(count, 0)
}

/// Runs `count` tasks that meet, so that as many threads take part; more than the pool has would wait for ever.
fn meet(threads: &Threads, count: usize, f: impl Fn(usize) + Sync) {
    let barrier = Barrier::new(count);
    threads.enter(MUCH, || {
        threads.tasks(MUCH, count, |i| {
            barrier.wait();
            f(i);
        });
    });
}

/// Long enough for every thread of a pool to be asleep.
fn let_sleep() {
    std::thread::sleep(Duration::from_millis(30));
}

#[test]
fn every_task_runs_exactly_once() {
    for count in [1, 2, 3, 7, 16, 64] {
        let threads = pool(count);
        threads.enter(MUCH, || {
            for tasks in [0, 1, 2, 3, 5, 16, 17, 100, 1000] {
                let runs: Vec<_> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                threads.tasks(MUCH, tasks, |i| {
                    runs[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(runs.iter().all(|runs| runs.load(Ordering::Relaxed) == 1), "{tasks} on {count}");
            }
        });
    }
}

#[test]
fn pieces_cover_their_slices_with_a_shorter_last_one() {
    for count in [1, 2, 5] {
        let threads = pool(count);
        for (total, len) in [(0, 3), (1, 3), (6, 3), (7, 3), (1000, 1), (5, 0), (10, 99)] {
            let expected: Vec<usize> = (0..total).map(|k| k / len.max(1) + 1).collect();
            let [mut a, mut b, mut c] = [(); 3].map(|()| vec![0; total]);
            threads.enter(MUCH, || {
                threads.pieces(MUCH, &mut a, len, |i, a| a.iter_mut().for_each(|a| *a += i + 1));
                assert_eq!(a, expected);
                threads.pieces2(MUCH, (&mut a, len), (&mut b, len), |i, a, b| {
                    assert_eq!(a.len(), b.len());
                    a.iter_mut().zip(b).for_each(|(a, b)| (*a, *b) = (*a + 1, i + 1));
                });
                assert_eq!(b, expected);
                threads.pieces_each(MUCH, [&mut a, &mut b, &mut c], len, |i, [a, b, c]| {
                    a.iter_mut().for_each(|a| *a -= 1);
                    assert_eq!((a.len(), b.len()), (c.len(), c.len()));
                    c.fill(i + 1);
                });
            });
            assert_eq!((&a, &c), (&expected, &expected), "{total} by {len} on {count}");
        }
    }
}

#[test]
fn pieces_of_two_lengths_belong_together() {
    let threads = pool(3);
    let (mut sums, mut floats) = (vec![0.0; 4], (0..10).map(|i| i as f32).collect::<Vec<_>>());
    threads.enter(MUCH, || {
        threads.pieces2(MUCH, (&mut sums, 1), (&mut floats, 3), |_, sum, floats| {
            sum[0] = floats.iter().sum::<f32>();
        });
    });
    assert_eq!(sums, [3.0, 12.0, 21.0, 9.0]);
}

#[test]
fn all_threads_work_and_each_has_its_own_scratch() {
    for count in [2, 5] {
        let threads = with_scratch(count, 1);
        let places = |_| {
            let places = Mutex::new(Vec::new());
            meet(&threads, count, |_| places.lock().unwrap().push(threads.scratch().as_ptr().addr()));
            let mut places = places.into_inner().unwrap();
            places.sort();
            places.dedup();
            assert_eq!(places.len(), count, "two threads found one buffer");
            places
        };
        // From inside of the pool, these are the same in every pass; a caller from outside has one more.
        let inside: Vec<_> = threads.pool.install(|| (0..20).map(places).collect()).unwrap();
        assert!(inside.iter().all(|places| *places == inside[0]));
        let outside: Vec<_> = (0..20).map(places).collect();
        assert!(outside.iter().all(|places| places.iter().any(|place| !inside[0].contains(place))));
    }
}

#[test]
fn a_region_that_opens_while_helpers_leave_has_all_its_threads() {
    for count in [2, 5] {
        let threads = pool(count);
        threads.enter(MUCH, || {
            for micros in (0..300).map(|i| i % 100) {
                meet(&threads, count, |_| ());
                // Helpers leave after 50 us.
                std::thread::sleep(Duration::from_micros(micros));
            }
        });
    }
}

#[test]
fn scratch_is_zeroed_for_its_first_use_and_kept_for_the_next() {
    let threads = with_scratch(2, 1000);
    threads.scratch().iter_mut().for_each(|x| {
        assert_eq!(*x, 0.0);
        *x = 7.0;
    });
    assert!(threads.scratch().iter().all(|&x| x == 7.0));
    assert_eq!(threads.scratch_len(), 3000);
    assert_eq!((with_scratch(1, 8).scratch_len(), with_scratch(1, 0).scratch().len()), (8, 0));
}

#[test]
fn little_work_stays_on_the_caller() {
    let threads = pool(2);
    let caller = std::thread::current().id();
    let here = |_| {
        assert_eq!(std::thread::current().id(), caller);
        std::thread::sleep(Duration::from_millis(1));
    };
    let_sleep();
    threads.enter(MUCH, || threads.tasks(SERIAL_WORK - 1, 10, here));
    threads.enter(SERIAL_PASS - 1, || threads.tasks(MUCH, 10, here));
    threads.tasks(MUCH, 10, here);
    assert_eq!(threads.team.regions(), 0);
}

#[test]
fn many_threads_are_asked_only_for_much_work() {
    let threads = pool(64);
    // Each pass by a pool of its own, as helpers of the one before may stay.
    for helpers in [1, 2, 5, 63] {
        let threads = pool(64);
        let asked = || threads.pool.helpers();
        threads.enter(SERIAL_PASS * helpers, || {
            assert!(asked() <= 1);
            let mut out = vec![0; 1000];
            // Few pieces, little work, little work of the whole pass.
            threads.pieces(MUCH, &mut out, 500, |_, out| out.fill(1));
            threads.pieces(SERIAL_WORK, &mut out, 1, |_, out| out[0] += 1);
            assert!(asked() <= 3, "{} for regions that are worth one", asked());
            threads.pieces(MUCH, &mut out, 1, |_, out| out[0] += 1);
            assert!(out.iter().all(|&x| x == 3));
        });
    }
    threads.enter(MUCH, || threads.tasks(SERIAL_WORK * 4, 1000, |_| ()));
    // One when the pass begins, and four for the region if that one has left.
    assert!((1..=5).contains(&threads.pool.helpers()));
}

#[test]
fn a_helper_in_a_long_job_is_not_waited_for() {
    let threads = pool(2);
    let (begin, end) = (Arc::new(Barrier::new(3)), Arc::new(Barrier::new(3)));
    for _ in 0..2 {
        let (begin, end) = (Arc::clone(&begin), Arc::clone(&end));
        let job = move || {
            begin.wait();
            end.wait();
        };
        threads.pool.spawn(job).unwrap();
    }
    // Both threads of the pool are in a job that ends after the pass.
    begin.wait();
    threads.enter(MUCH, || {
        for _ in 0..100 {
            let mut out = [0; 17];
            threads.pieces(MUCH, &mut out, 2, |i, out| out.fill(i));
            assert_eq!(out[16], 8);
        }
    });
    end.wait();
    meet(&threads, 2, |_| ());
}

#[test]
fn a_job_that_panics_leaves_the_pool_as_it_was() {
    let threads = pool(2);
    for _ in 0..5 {
        threads.pool.spawn(|| panic!("a job")).unwrap();
    }
    meet(&threads, 2, |_| ());
}

#[test]
fn waiting_jobs_run_between_the_regions_of_a_pass() {
    let threads = pool(2);
    let done = Arc::new(AtomicUsize::new(0));
    threads
        .pool
        .install(|| {
            threads.enter(MUCH, || {
                // The helper has come.
                let barrier = Barrier::new(2);
                threads.tasks(MUCH, 2, |_| {
                    barrier.wait();
                });
                let job = Arc::clone(&done);
                let add = move || {
                    job.fetch_add(1, Ordering::SeqCst);
                };
                threads.pool.spawn(add).unwrap();
                // This thread runs none: the pass has its only other one.
                while done.load(Ordering::SeqCst) == 0 {
                    std::thread::yield_now();
                }
            });
        })
        .unwrap();
}

#[test]
fn pools_of_one_size_are_shared_while_they_are_in_use() {
    let own = Pool::shared(5).unwrap();
    let names = |pool: &Pool| {
        let mut names =
            pool.thread_pool().unwrap().broadcast(|_| std::thread::current().name().unwrap().to_owned());
        names.sort();
        names
    };
    assert_eq!(names(&own), ["ocelli-0", "ocelli-1", "ocelli-2", "ocelli-3", "ocelli-4"]);
    let first = Arc::as_ptr(own.thread_pool().unwrap());
    let same = Pool::shared(5).unwrap();
    assert_eq!(first, Arc::as_ptr(same.thread_pool().unwrap()));
    assert_ne!(first, Arc::as_ptr(Pool::shared(4).unwrap().thread_pool().unwrap()));
    assert_ne!(first, Arc::as_ptr(Pool::new(5).unwrap().thread_pool().unwrap()));
    // The caller's own.
    let given = Pool::from(Arc::clone(own.thread_pool().unwrap()));
    assert_eq!((given.threads(), first), (5, Arc::as_ptr(given.thread_pool().unwrap())));
    assert!(Pool::new(usize::MAX).is_err());
}

#[test]
fn a_panic_reaches_the_caller_and_the_pool_works_on() {
    let threads = with_scratch(3, 1);
    for bad in 0..3 {
        let left = AtomicUsize::new(0);
        let result = catch_unwind(AssertUnwindSafe(|| {
            meet(&threads, 3, |i| {
                let _scratch = threads.scratch();
                if i == bad {
                    panic!("piece {i}");
                }
                std::thread::sleep(Duration::from_millis(5));
                left.fetch_add(1, Ordering::Relaxed);
            });
        }));
        assert_eq!(left.into_inner(), 2, "the caller waits for the others");
        let message = *result.unwrap_err().downcast::<String>().unwrap();
        assert_eq!(message, format!("piece {bad}"));
        assert_eq!(threads.team.wanted(), 0, "the pass is over");
        meet(&threads, 3, |_| drop(threads.scratch()));
    }
    let all = catch_unwind(AssertUnwindSafe(|| meet(&threads, 3, |_| panic!("all at once"))));
    assert_eq!(*all.unwrap_err().downcast::<&str>().unwrap(), "all at once");
    meet(&threads, 3, |_| ());
}

#[test]
fn a_region_in_a_region_runs_on_its_thread() {
    let (threads, runs) = (pool(3), AtomicUsize::new(0));
    meet(&threads, 3, |_| {
        let thread = std::thread::current().id();
        threads.enter(MUCH, || {
            threads.tasks(MUCH, 10, |_| {
                assert_eq!(std::thread::current().id(), thread);
                runs.fetch_add(1, Ordering::Relaxed);
            });
        });
    });
    assert_eq!(runs.into_inner(), 30);
}

#[test]
fn callers_may_come_at_once() {
    let threads = pool(3);
    std::thread::scope(|scope| {
        for caller in 1..=4 {
            let threads = &threads;
            scope.spawn(move || {
                threads.enter(MUCH, || {
                    for round in 0..2000 {
                        let mut out = [0; 17];
                        threads.pieces(MUCH, &mut out, 2, |i, out| out.fill(caller + i + round));
                        let expected: Vec<_> = (0..17).map(|k| caller + k / 2 + round).collect();
                        assert_eq!(out[..], expected);
                    }
                });
            });
        }
    });
    meet(&threads, 3, |_| ());
}

#[test]
fn two_pools_serve_one_pass() {
    let (a, b, runs) = (pool(2), pool(3), AtomicUsize::new(0));
    meet(&a, 2, |_| {
        b.enter(MUCH, || {
            b.tasks(MUCH, 10, |_| {
                runs.fetch_add(1, Ordering::Relaxed);
            });
        });
    });
    assert_eq!(runs.into_inner(), 20);
}

#[test]
fn a_pool_may_be_dropped_at_any_time() {
    for count in [1, 2, 7] {
        drop(pool(count));
        let asleep = pool(count);
        let_sleep();
        drop(asleep);
        let spinning = pool(count);
        meet(&spinning, count, |_| ());
        drop(spinning);
        let woken = pool(count);
        let_sleep();
        woken.enter(MUCH, || woken.tasks(MUCH, 2, |_| ()));
        drop(woken);
    }
}

#[test]
fn sleeping_threads_wake_up() {
    let threads = pool(3);
    for _ in 0..5 {
        let_sleep();
        meet(&threads, 3, |_| ());
    }
}

#[test]
fn regions_follow_each_other_at_any_distance() {
    // Gaps from nothing to longer than workers spin, so that regions open while workers park.
    let (threads, mut sum) = (pool(2), vec![0_u64; 8]);
    threads.enter(MUCH, || {
        for gap in 0..4000_u64 {
            for _ in 0..gap * gap % 10_007 {
                std::hint::spin_loop();
            }
            threads.pieces(MUCH, &mut sum, 1, |_, sum| sum[0] += 1);
        }
    });
    assert_eq!(sum, [4000; 8]);
}

#[test]
fn threads_are_shared_between_threads() {
    fn shared<T: Send + Sync>() {}
    shared::<Threads>();
}

#[test]
#[cfg(target_os = "linux")]
fn an_idle_pool_takes_no_processor_time() {
    use std::fs;
    let (threads, tasks) = (pool(3), Mutex::new(Vec::new()));
    meet(&threads, 3, |_| {
        let own = fs::read_link("/proc/thread-self").unwrap();
        tasks.lock().unwrap().push(std::path::Path::new("/proc").join(own));
    });
    if !std::path::Path::new("/proc/thread-self/schedstat").exists() {
        eprintln!("SKIPPED: this kernel does not say how long a thread had a processor");
        return;
    }
    // Time on a processor in ns: the scheduler's first number.
    let used = |task: &std::path::PathBuf| -> u64 {
        let text = fs::read_to_string(task.join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse().unwrap()
    };
    let caller = std::path::Path::new("/proc").join(fs::read_link("/proc/thread-self").unwrap());
    let workers: Vec<_> = tasks.into_inner().unwrap().into_iter().filter(|task| *task != caller).collect();
    assert_eq!(workers.len(), 2);
    let_sleep();
    let before: Vec<_> = workers.iter().map(used).collect();
    std::thread::sleep(Duration::from_millis(200));
    let after: Vec<_> = workers.iter().map(used).collect();
    // A parked thread has used nothing at all; a spinning one 200 ms.
    for (before, after) in before.iter().zip(&after) {
        assert!(after - before < 20_000_000, "{} ns", after - before);
    }
    meet(&threads, 3, |_| ());
}

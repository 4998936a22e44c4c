//! The pool of threads that the caller is on, and the only file of this crate that names rayon.

/// Calls `f` on every thread of the pool that the caller is on, and returns when all calls have.
pub(crate) fn on_all_threads(f: impl Fn() + Sync + Send) {
    on_threads(rayon::current_num_threads(), f);
}

/// Calls `f` on this thread and on up to `threads - 1` others of its pool, and returns when all calls have. On a thread that
/// is of no pool, on threads of rayon's global one.
pub(crate) fn on_threads(threads: usize, f: impl Fn() + Sync + Send) {
    let f = &f;
    rayon::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(move |_| f());
        }
        f();
    });
}

//! What all benchmarks share: criterion's settings, and whether this is a measurement at all.

use std::time::Duration;

use criterion::Criterion;

/// Criterion with settings for kernels; an argument of `--test` or none of `--bench` runs each case once.
pub(crate) fn criterion() -> Criterion {
    Criterion::default()
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1))
        .sample_size(20)
        .configure_from_args()
}

/// Whether `cargo bench` runs this, and not `cargo test`.
pub(crate) fn is_measuring() -> bool {
    std::env::args().any(|arg| arg == "--bench")
}

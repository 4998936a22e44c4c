//! The allocator of a build for musl, the static one: that of musl takes one lock for all threads, so that threads which
//! decode and answer wait for each other. mimalloc gives each thread a heap of its own.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

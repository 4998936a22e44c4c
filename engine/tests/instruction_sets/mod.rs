//! The instruction sets that a test runs on, where its result depends on them.

use ocelli_engine::Isa;

/// All that this machine has, fastest first; `OCELLI_ISA` leaves the one that it names, which must be there.
pub(crate) fn instruction_sets() -> Vec<Isa> {
    match std::env::var_os("OCELLI_ISA") {
        Some(_) => vec![Isa::best().expect("the instruction set that OCELLI_ISA names")],
        None => Isa::available(),
    }
}

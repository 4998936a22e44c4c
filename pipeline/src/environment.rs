//! `environment.json`: what computed a run, as far as results depend on it.

use ocelli_engine::Isa;
use serde::{Deserialize, Serialize};

/// The program and the instruction set that a run was computed with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    /// Version of the program.
    pub(crate) version: String,
    /// Instruction set: `avx512` and `avx2` give the same bits, `portable` others.
    pub(crate) isa: String,
}

impl Environment {
    /// Of this program with an instruction set.
    pub(crate) fn of(isa: Isa) -> Environment {
        Environment { version: env!("CARGO_PKG_VERSION").to_owned(), isa: isa.name().to_owned() }
    }

    pub(crate) fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("two texts") + "\n"
    }
}

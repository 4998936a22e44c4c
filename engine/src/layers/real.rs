//! The real numbers that layers compute on, and the arithmetic that goes with them.

use crate::arena::Slot;
use crate::bf16::Bf16;
use crate::kernels::{Halves, Number, OuterProducts};
use crate::simd::{Bf16Isa, Isa};

/// f32, or bf16 with sums in f32.
pub(crate) trait Real: Number {
    /// Whether they hold less than floats do.
    const NARROW: bool;
    /// Products whose sums are stored as the numbers themselves.
    type Products: OuterProducts<Input = Self, Output = Self>;
    /// Products whose sums are stored in f32.
    type Sums: OuterProducts<Input = Self, Output = f32>;

    /// The products of an instruction set.
    fn products(isa: Isa) -> Self::Products;
    /// See `products`.
    fn sums(isa: Isa) -> Self::Sums;
    /// Where a gradient in f32 is in these numbers: where it is, or `narrowed`.
    fn gradient(dy: Slot, narrowed: Option<Slot<Self>>) -> Slot<Self>;
}

impl Real for f32 {
    const NARROW: bool = false;
    type Products = Isa;
    type Sums = Isa;

    fn products(isa: Isa) -> Isa {
        isa
    }

    fn sums(isa: Isa) -> Isa {
        isa
    }

    fn gradient(dy: Slot, _: Option<Slot>) -> Slot {
        dy
    }
}

impl Real for Bf16 {
    const NARROW: bool = true;
    type Products = Halves<Bf16>;
    type Sums = Halves<f32>;

    fn products(isa: Isa) -> Halves<Bf16> {
        Halves::new(Bf16Isa::of(isa))
    }

    fn sums(isa: Isa) -> Halves<f32> {
        Halves::new(Bf16Isa::of(isa))
    }

    fn gradient(_: Slot, narrowed: Option<Slot<Self>>) -> Slot<Self> {
        narrowed.expect("a gradient in f32 is made one in bf16")
    }
}

//! The trampolines: the only functions compiled with an instruction set's features.

#[cfg(target_arch = "x86_64")]
use super::{Avx2, Avx2Bytes, Avx512, Avx512Bf16, Avx512Vnni, AvxVnni, DotKernel, PairKernel};
#[cfg(target_arch = "aarch64")]
use super::{DotKernel, Neon, NeonBytes, NeonDotprod, NeonI8mm};
use super::{Isa, Simd};

/// The arguments of a kernel together with its generic body.
pub trait Kernel {
    /// What the kernel returns.
    type Output;
    /// The body. Implementations are `#[inline(always)]`, all the way down to the intrinsics.
    fn run<S: Simd>(self, s: S) -> Self::Output;
}

/// Declares an instruction set's token and its trampoline, so that a feature string stands in one place.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! trampoline {
    ($name:ident, $token:ident, $features:literal, $detected:ident[$($feature:tt),+]) => {
        trampoline!($name<Kernel>, $token, $features, $detected[$($feature),+]);
    };
    ($name:ident<$kernel:ident>, $token:ident, $features:literal, $detected:ident[$($feature:tt),+]) => {
        #[target_feature(enable = $features)]
        pub(super) fn $name<K: $kernel>(token: $token, kernel: K) -> K::Output {
            kernel.run(token)
        }

        impl $token {
            /// The token, if the processor has the instructions.
            pub fn detect() -> Option<Self> {
                let found = $(std::arch::$detected!($feature))&&+;
                found.then($token::assume_detected)
            }
        }
    };
}

#[cfg(target_arch = "x86_64")]
trampoline!(run_avx2, Avx2, "avx2,fma", is_x86_feature_detected["avx2", "fma"]);
#[cfg(target_arch = "x86_64")]
trampoline!(
    run_avx512,
    Avx512,
    "avx512f,avx512bw,avx512vl,avx512dq,avx2,fma",
    is_x86_feature_detected["avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma"]
);
#[cfg(target_arch = "x86_64")]
trampoline!(
    run_avx512vnni<DotKernel>,
    Avx512Vnni,
    "avx512vnni,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma",
    is_x86_feature_detected["avx512vnni", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma"]
);
#[cfg(target_arch = "x86_64")]
trampoline!(
    run_avxvnni<DotKernel>,
    AvxVnni,
    "avxvnni,avx2,fma",
    is_x86_feature_detected["avxvnni", "avx2", "fma"]
);

#[cfg(target_arch = "x86_64")]
trampoline!(
    run_avx512bf16<PairKernel>,
    Avx512Bf16,
    "avx512bf16,avx512f,avx512bw,avx512vl,avx512dq,avx2,fma",
    is_x86_feature_detected["avx512bf16", "avx512f", "avx512bw", "avx512vl", "avx512dq", "avx2", "fma"]
);

/// Products of bytes by AVX2 alone.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
pub(super) fn run_avx2_bytes<K: DotKernel>(token: Avx2Bytes, kernel: K) -> K::Output {
    kernel.run(token)
}

#[cfg(target_arch = "aarch64")]
trampoline!(run_neon, Neon, "neon", is_aarch64_feature_detected["neon"]);
#[cfg(target_arch = "aarch64")]
trampoline!(run_neon_i8mm<DotKernel>, NeonI8mm, "i8mm,neon", is_aarch64_feature_detected["i8mm", "neon"]);
#[cfg(target_arch = "aarch64")]
trampoline!(
    run_neon_dotprod<DotKernel>,
    NeonDotprod,
    "dotprod,neon",
    is_aarch64_feature_detected["dotprod", "neon"]
);

/// Products of bytes by NEON alone.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
pub(super) fn run_neon_bytes<K: DotKernel>(token: NeonBytes, kernel: K) -> K::Output {
    kernel.run(token)
}

/// Runs a kernel with an instruction set.
pub fn dispatch<K: Kernel>(isa: Isa, kernel: K) -> K::Output {
    match isa {
        // SAFETY: a token exists only if `detect` found its instructions.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx512(token) => unsafe { run_avx512(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Isa::Avx2(token) => unsafe { run_avx2(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "aarch64")]
        Isa::Neon(token) => unsafe { run_neon(token, kernel) },
        // A build has these instructions everywhere or nowhere: no trampoline.
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        Isa::Simd128(token) => kernel.run(token),
        #[cfg(any(test, not(all(target_arch = "wasm32", target_feature = "simd128"))))]
        Isa::Portable(token) => kernel.run(token),
    }
}

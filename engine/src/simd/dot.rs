//! Sums of four products of bytes at a time, `u8` x `s8` in `i32`, with run-time dispatch.
//!
//! A lane of 32 bits takes four neighbouring bytes of either operand. Sums are exact on every instruction set: no
//! instruction is used that saturates in between.

#[cfg(target_arch = "x86_64")]
use super::{Avx2Bytes, Avx512Vnni, AvxVnni};
use super::{Isa, Portable, Simd};

/// Sums of products of bytes on one instruction set. Everything is `#[inline(always)]`.
pub trait DotProduct: Copy + Send + Sync + 'static {
    /// The floats that sums become: as many lanes.
    type Floats: Simd;
    /// A vector of sums.
    type Sums: Copy;
    /// Four bytes in all lanes.
    type Bytes: Copy;
    /// Four weights for each lane.
    type Weights: Copy;
    /// Sums in a vector.
    const LANES: usize = Self::Floats::LANES;
    /// Rows of the register tile.
    const MR: usize;
    /// Vectors in a row of the register tile.
    const NV: usize;

    /// The token of the floats.
    fn floats(self) -> Self::Floats;
    /// A vector of sums from memory.
    ///
    /// # Safety
    /// `p` is readable for `LANES` sums.
    unsafe fn load_sums(self, p: *const i32) -> Self::Sums;
    /// Four bytes, for all lanes.
    ///
    /// # Safety
    /// `p` is readable for four bytes.
    unsafe fn spread(self, p: *const u8) -> Self::Bytes;
    /// Four weights for each lane.
    ///
    /// # Safety
    /// `p` is readable for `4 * LANES` weights.
    unsafe fn load_weights(self, p: *const i8) -> Self::Weights;
    /// Adds the four products of each lane.
    fn dot(self, x: Self::Bytes, w: Self::Weights, sums: Self::Sums) -> Self::Sums;
    /// The nearest floats, halves to even.
    fn to_floats(self, sums: Self::Sums) -> <Self::Floats as Simd>::V;
}

/// An instruction set of this processor for products of bytes.
#[derive(Clone, Copy)]
pub enum DotIsa {
    /// Plain Rust, for any processor.
    Portable(PortableBytes),
    /// 16-bit products of AVX2: about as fast as its f32.
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2Bytes),
    /// The byte products of AVX-VNNI.
    #[cfg(target_arch = "x86_64")]
    AvxVnni(AvxVnni),
    /// The byte products of AVX-512.
    #[cfg(target_arch = "x86_64")]
    Avx512Vnni(Avx512Vnni),
}

impl DotIsa {
    /// The one that goes with an instruction set for floats.
    pub fn of(isa: Isa) -> DotIsa {
        DotIsa::all(isa)[0]
    }

    /// All of this processor with vectors as long as those of an instruction set for floats or, for AVX-512 without byte
    /// products, of AVX2; fastest first.
    pub fn all(isa: Isa) -> Vec<DotIsa> {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512(token) => {
                let own = Avx512Vnni::detect().map(DotIsa::Avx512Vnni);
                own.into_iter().chain(DotIsa::all(Isa::Avx2(token.avx2()))).collect()
            }
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2(token) => AvxVnni::detect()
                .map(DotIsa::AvxVnni)
                .into_iter()
                .chain([DotIsa::Avx2(Avx2Bytes::of(token))])
                .collect(),
            #[cfg(target_arch = "aarch64")]
            Isa::Neon(_) => vec![DotIsa::Portable(PortableBytes)],
            Isa::Portable(_) => vec![DotIsa::Portable(PortableBytes)],
        }
    }

    /// `avx512-vnni`, `avx-vnni`, `avx2-int8` or `portable-int8`.
    pub fn name(self) -> &'static str {
        match self {
            DotIsa::Portable(_) => "portable-int8",
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx2(_) => "avx2-int8",
            #[cfg(target_arch = "x86_64")]
            DotIsa::AvxVnni(_) => "avx-vnni",
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx512Vnni(_) => "avx512-vnni",
        }
    }

    /// Whether the processor has instructions for it, which make int8 faster than f32.
    pub fn is_native(self) -> bool {
        match self {
            DotIsa::Portable(_) => false,
            #[cfg(target_arch = "x86_64")]
            DotIsa::Avx2(_) => false,
            #[cfg(target_arch = "x86_64")]
            DotIsa::AvxVnni(_) | DotIsa::Avx512Vnni(_) => true,
        }
    }

    /// Rows of the register tile.
    pub fn mr(self) -> usize {
        dispatch_dot(self, TileSize).0
    }

    /// Columns of the register tile: the width of a packed weight panel.
    pub fn nr(self) -> usize {
        dispatch_dot(self, TileSize).1
    }
}

struct TileSize;

impl DotKernel for TileSize {
    type Output = (usize, usize);

    #[inline(always)]
    fn run<D: DotProduct>(self, _: D) -> (usize, usize) {
        (D::MR, D::NV * D::LANES)
    }
}

impl std::fmt::Debug for DotIsa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// The arguments of a kernel on bytes together with its generic body.
pub trait DotKernel {
    /// What the kernel returns.
    type Output;
    /// The body. Implementations are `#[inline(always)]`, all the way down to the intrinsics.
    fn run<D: DotProduct>(self, d: D) -> Self::Output;
}

/// The token of plain Rust.
#[derive(Clone, Copy)]
pub struct PortableBytes;

impl DotProduct for PortableBytes {
    type Floats = Portable;
    type Sums = [i32; 4];
    type Bytes = [u8; 4];
    type Weights = [[i8; 4]; 4];
    const MR: usize = 4;
    const NV: usize = 2;

    #[inline(always)]
    fn floats(self) -> Portable {
        Portable
    }
    #[inline(always)]
    unsafe fn load_sums(self, p: *const i32) -> [i32; 4] {
        // SAFETY: the caller vouches for four readable sums; no alignment is assumed.
        unsafe { p.cast::<[i32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn spread(self, p: *const u8) -> [u8; 4] {
        // SAFETY: the caller vouches for four readable bytes.
        unsafe { p.cast::<[u8; 4]>().read() }
    }
    #[inline(always)]
    unsafe fn load_weights(self, p: *const i8) -> [[i8; 4]; 4] {
        // SAFETY: the caller vouches for sixteen readable weights.
        unsafe { p.cast::<[[i8; 4]; 4]>().read() }
    }
    #[inline(always)]
    fn dot(self, x: [u8; 4], w: [[i8; 4]; 4], sums: [i32; 4]) -> [i32; 4] {
        let lane = |i: usize| {
            let product = |j: usize| i32::from(x[j]) * i32::from(w[i][j]);
            sums[i].wrapping_add(product(0) + product(1) + product(2) + product(3))
        };
        [lane(0), lane(1), lane(2), lane(3)]
    }
    #[inline(always)]
    fn to_floats(self, sums: [i32; 4]) -> [f32; 4] {
        [sums[0] as f32, sums[1] as f32, sums[2] as f32, sums[3] as f32]
    }
}

/// Runs a kernel on bytes with an instruction set.
pub fn dispatch_dot<K: DotKernel>(isa: DotIsa, kernel: K) -> K::Output {
    match isa {
        // SAFETY: a token exists only if `detect` found its instructions.
        #[cfg(target_arch = "x86_64")]
        DotIsa::Avx512Vnni(token) => unsafe { super::dispatch::run_avx512vnni(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        DotIsa::AvxVnni(token) => unsafe { super::dispatch::run_avxvnni(token, kernel) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        DotIsa::Avx2(token) => unsafe { super::dispatch::run_avx2_bytes(token, kernel) },
        DotIsa::Portable(token) => kernel.run(token),
    }
}

//! Convolutions of bytes.

use std::ops::Range;

use super::Sweep;
use crate::kernels::micro::ByteEpilogue;
use crate::parallel::Columns;
use crate::simd::DotIsa;

/// What a sweep over bytes reads, and what it does to its sums before they are stored.
///
/// ```text
/// y = saturate(round( (sum of x w + bias) * scale (+ residual * residual_scale) + offset ))
/// ```
#[derive(Clone, Copy)]
pub struct ByteArgs<'a> {
    /// The whole source image.
    pub x: &'a [u8],
    /// The byte that stands for zero, of which the border around the image is made.
    pub zero: u8,
    /// The weights as [`Sweep::pack_bytes`] left them.
    pub packed: &'a [i8],
    /// What the sums of each channel start with, as [`Sweep::pack_bytes`] left it, of [`Sweep::channels_len`] elements.
    pub bias: &'a [i32],
    /// Factors of the channels, as many.
    pub scale: &'a [f32],
    /// Added to the rows that are computed: of the length of the output, with its factor.
    pub residual: Option<(&'a [u8], f32)>,
    /// Added to all outputs.
    pub offset: f32,
}

impl Sweep<DotIsa> {
    /// Packs weights `[kh][kw][cin / groups][cout]` for this sweep, and gives the `bias` of each channel what its sums lack on
    /// this instruction set.
    ///
    /// # Panics
    /// When `packed` is not [`Sweep::packed_len`] long, or `w` or `bias` is too short.
    pub fn pack_bytes(&self, packed: &mut [i8], bias: &mut [i32], w: &[i8]) {
        self.pack_weights(packed, w);
        self.isa.complete(&mut bias[..self.out_channels()], w);
    }

    /// Elements of a bias and of factors: one for each channel, and a panel of no meaning behind them.
    pub fn channels_len(&self) -> usize {
        self.out_channels() + self.panel_width()
    }

    /// Computes output rows `rows` of one image: `y` are channels of these rows `[rows][ow][cout]`, those of
    /// whole panels.
    ///
    /// # Panics
    /// When a slice does not have the length that the geometry gives.
    pub fn run_bytes(&self, y: Columns<u8>, scratch: &mut [u8], args: ByteArgs, rows: Range<usize>) {
        let ByteArgs { x, zero, packed, bias, scale, residual, offset } = args;
        let channels = self.channels_len();
        assert!(bias.len() == channels && scale.len() == channels, "a bias and a factor for every channel");
        let outputs = y.pixels() * y.channels();
        assert!(residual.is_none_or(|(r, _)| r.len() == outputs), "a residual for every output");
        let (residual, residual_scale) = residual.map_or((std::ptr::null(), 0.0), |(r, s)| (r.as_ptr(), s));
        let (bias, scale) = (bias.as_ptr(), scale.as_ptr());
        let epilogue = ByteEpilogue { bias, scale, residual, residual_scale, offset };
        // SAFETY: all lengths were checked; both arrays end a panel behind the last channel.
        unsafe { self.compute((y, rows), scratch, (x, zero), packed, epilogue) }
    }
}

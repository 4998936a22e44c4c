//! Which taps contribute to an output, along one axis.

use crate::geometry::Conv2dGeometry;

/// The taps along one axis that contribute to one output: `len` of them; number `i` is tap `tap + i tap_step`
/// and reads position `at + i at_step`.
#[derive(Clone, Copy, Default)]
pub(super) struct Taps {
    pub(super) len: usize,
    pub(super) tap: usize,
    pub(super) tap_step: isize,
    pub(super) at: usize,
    pub(super) at_step: usize,
}

/// One axis of a convolution or of its transpose.
#[derive(Clone, Copy)]
pub(super) struct Axis {
    /// Size of the image that is read.
    pub(super) size: usize,
    pub(super) kernel: usize,
    pub(super) stride: usize,
    pub(super) dilation: usize,
    pub(super) padding: usize,
    /// Whether outputs are pixels of the convolution's input: backward-data.
    pub(super) transposed: bool,
}

impl Axis {
    pub(super) fn new(g: &Conv2dGeometry, axis: usize, transposed: bool) -> Self {
        Axis {
            size: if transposed { [g.oh, g.ow][axis] } else { [g.h, g.w][axis] },
            kernel: g.kernel[axis],
            stride: g.stride[axis],
            dilation: g.dilation[axis],
            padding: g.padding[2 * axis],
            transposed,
        }
    }

    /// The taps of output `out`, in the order of the positions that they read.
    pub(super) fn taps(self, out: usize) -> Taps {
        if self.transposed {
            return self.transposed_taps(out + self.padding);
        }
        let start = out * self.stride;
        let tap = self.padding.saturating_sub(start).div_ceil(self.dilation);
        let end = (self.size + self.padding).saturating_sub(start).div_ceil(self.dilation).min(self.kernel);
        if tap >= end {
            return Taps::default();
        }
        let at = start + tap * self.dilation - self.padding;
        Taps { len: end - tap, tap, tap_step: 1, at, at_step: self.dilation }
    }

    /// The position that tap `tap` of output `out` of a convolution reads, if it is not padding.
    #[inline(always)]
    pub(super) fn position(self, out: usize, tap: usize) -> Option<usize> {
        let at = (out * self.stride + tap * self.dilation).checked_sub(self.padding)?;
        (at < self.size).then_some(at)
    }

    /// Taps with `target - tap * dilation = at * stride` for a position `at`. The last of them reads the
    /// first position; the others follow in steps of `stride / gcd(stride, dilation)`.
    fn transposed_taps(self, target: usize) -> Taps {
        let position = |tap: usize| {
            let rest = target.checked_sub(tap * self.dilation)?;
            (rest % self.stride == 0 && rest / self.stride < self.size).then_some((tap, rest / self.stride))
        };
        let Some((tap, at)) = (0..self.kernel).rev().find_map(position) else {
            return Taps::default();
        };
        let common = gcd(self.stride, self.dilation);
        let (tap_step, at_step) = (self.stride / common, self.dilation / common);
        let len = 1 + (tap / tap_step).min((self.size - 1 - at) / at_step);
        Taps { len, tap, tap_step: -(tap_step as isize), at, at_step }
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

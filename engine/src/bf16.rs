//! The number format bf16: the upper half of an f32.

/// A number in bf16: one bit of sign, eight of exponent, seven of significand. Its range is that of f32, and its relative
/// rounding error is at most 2^-8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub struct Bf16(u16);

impl Bf16 {
    /// Zero.
    pub const ZERO: Bf16 = Bf16(0);

    /// The number with these bits.
    pub const fn from_bits(bits: u16) -> Self {
        Bf16(bits)
    }

    /// Its bits.
    pub const fn to_bits(self) -> u16 {
        self.0
    }
}

impl From<f32> for Bf16 {
    /// The nearest number, halves to even; a NaN becomes a quiet NaN.
    fn from(x: f32) -> Self {
        let bits = x.to_bits();
        if x.is_nan() {
            return Bf16((bits >> 16) as u16 | 0x40);
        }
        let even = (bits >> 16) & 1;
        Bf16(((bits + 0x7FFF + even) >> 16) as u16)
    }
}

impl From<Bf16> for f32 {
    fn from(x: Bf16) -> Self {
        f32::from_bits(u32::from(x.0) << 16)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_number_comes_back() {
        for bits in 0..=u16::MAX {
            let x = Bf16::from_bits(bits);
            let back = Bf16::from(f32::from(x));
            let quiet = f32::from(x).is_nan().then_some(bits | 0x40);
            assert_eq!(back.to_bits(), quiet.unwrap_or(bits));
        }
    }

    #[test]
    fn rounds_to_the_nearest_and_halves_to_even() {
        let rounded = |bits: u32| Bf16::from(f32::from_bits(bits)).to_bits();
        for (bits, expected) in [
            (0x3F80_0000, 0x3F80),
            (0x3F80_7FFF, 0x3F80),
            (0x3F80_8000, 0x3F80),
            (0x3F80_8001, 0x3F81),
            (0x3F81_8000, 0x3F82),
            (0xBF81_8000, 0xBF82),
            // The largest float is nearer to infinity; subnormal numbers are numbers.
            (0x7F7F_FFFF, 0x7F80),
            (0x0000_8001, 0x0001),
            (0x7F80_0000, 0x7F80),
            (0x7F80_0001, 0x7FC0),
            (0xFFFF_FFFF, 0xFFFF),
        ] {
            assert_eq!(rounded(bits), expected, "{bits:#x}");
        }
    }
}

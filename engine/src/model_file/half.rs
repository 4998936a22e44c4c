//! IEEE 754 binary16 ("f16"): one bit of sign, five of exponent, ten of fraction; the largest number is 65,504.

/// The nearest f16, of two equally near ones that with an even fraction. Numbers from 65,520 on become infinite, what is no
/// number stays none.
pub fn to_f16(value: f32) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 16 & 0x8000) as u16;
    let (exponent, fraction) = (bits >> 23 & 0xff, bits & 0x007f_ffff);
    if exponent == 0xff {
        let quiet = if fraction == 0 { 0 } else { 0x0200 | (fraction >> 13) as u16 };
        return sign | 0x7c00 | quiet;
    }
    // f32 counts its exponent from 127, f16 from 15.
    let Some(rebased) = exponent.checked_sub(127 - 15).filter(|&e| e > 0) else {
        // Below 2^-14: a multiple of 2^-24. At shifts past 25 nothing is left but less than half of one.
        let shift = 126 - exponent;
        return sign | if shift > 25 { 0 } else { rounded(fraction | 0x0080_0000, shift) };
    };
    if rebased >= 0x1f {
        return sign | 0x7c00;
    }
    // A carry out of the fraction goes into the exponent, as it should, up to infinity.
    sign | rounded(rebased << 23 | fraction, 13)
}

/// `bits / 2^shift`, rounded to the nearest number and to an even one between two.
fn rounded(bits: u32, shift: u32) -> u16 {
    let (kept, rest, half) = (bits >> shift, bits & ((1 << shift) - 1), 1 << (shift - 1));
    let up = rest > half || rest == half && kept & 1 == 1;
    (kept + u32::from(up)) as u16
}

/// The f32 of the same value.
pub fn from_f16(half: u16) -> f32 {
    let sign = u32::from(half & 0x8000) << 16;
    let (exponent, fraction) = (u32::from(half >> 10 & 0x1f), u32::from(half & 0x03ff));
    let magnitude = match (exponent, fraction) {
        (0, 0) => 0,
        (0, _) => {
            // A multiple of 2^-24: its first bit becomes the one that is not stored.
            let shift = fraction.leading_zeros() - 21;
            (127 - 14 - shift) << 23 | (fraction << shift & 0x03ff) << 13
        }
        (0x1f, _) => 0x7f80_0000 | fraction << 13,
        _ => (exponent + 127 - 15) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The value by definition, in f64.
    fn defined(half: u16) -> f64 {
        let sign = if half & 0x8000 == 0 { 1.0 } else { -1.0 };
        let (exponent, fraction) = (i32::from(half >> 10 & 0x1f), f64::from(half & 0x03ff));
        sign * match exponent {
            0 => fraction * (-24f64).exp2(),
            0x1f if fraction == 0.0 => f64::INFINITY,
            0x1f => f64::NAN,
            _ => (1.0 + fraction / 1024.0) * f64::from(exponent - 15).exp2(),
        }
    }

    #[test]
    fn every_f16_is_widened_by_definition_and_comes_back() {
        for half in 0..=u16::MAX {
            let (wide, expected) = (from_f16(half), defined(half));
            if expected.is_nan() {
                assert!(wide.is_nan() && from_f16(to_f16(wide)).is_nan(), "{half:#x}");
            } else {
                assert_eq!(f64::from(wide).to_bits(), expected.to_bits(), "{half:#x}");
                assert_eq!(to_f16(wide), half, "{half:#x}");
            }
        }
    }

    /// Around every pair of neighbours: their middle goes to the even one, the next f32 on either side to the nearer.
    #[test]
    fn what_lies_between_two_f16_goes_to_the_nearer_or_the_even_one() {
        for low in 0..0x7c00u16 {
            let high = low + 1;
            let top = if high == 0x7c00 { 65_536.0 } else { defined(high) };
            let middle = (defined(low) + top) / 2.0;
            let middle = middle as f32;
            let even = if low & 1 == 0 { low } else { high };
            for sign in [0, 0x8000] {
                let signed = |value: f32| if sign == 0 { value } else { -value };
                assert_eq!(to_f16(signed(middle)), even | sign, "{middle}");
                assert_eq!(to_f16(signed(middle.next_down())), low | sign, "below {middle}");
                assert_eq!(to_f16(signed(middle.next_up())), high | sign, "above {middle}");
            }
        }
    }

    #[test]
    fn the_ends_of_f32_become_zero_or_infinite() {
        for (value, half) in [
            (f32::MAX, 0x7c00),
            (f32::INFINITY, 0x7c00),
            (65_519.996, 0x7bff),
            (65_520.0, 0x7c00),
            (f32::MIN_POSITIVE, 0),
            (f32::from_bits(1), 0),
            (-0.0, 0x8000),
        ] {
            assert_eq!(to_f16(value), half, "{value}");
        }
        // Signalling, with a fraction that ten bits do not hold.
        assert!(from_f16(to_f16(f32::from_bits(0x7f80_0001))).is_nan());
    }
}

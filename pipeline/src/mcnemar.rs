//! McNemar's exact test, one-sided and two-sided, and Holm's correction for several tests.
//!
//! Two models answered the same images. Images that both got right, or both wrong, say nothing about which is better; of
//! the others `lost` were right before and are wrong now, `won` the other way round. If neither model were better, each
//! of the `n = lost + won` would fall to either side like a fair coin (McNemar, 1947), so the chance to lose at least as
//! many is a tail of the binomial distribution:
//!
//! ```text
//! p = sum over k = lost..=n of C(n, k) / 2^n
//! ```
//!
//! Of several tests at 5 % one would fail by chance soon. Holm's step-down correction (Holm, 1979) holds the chance that
//! any of them does below 5 %: the smallest of m p-values is multiplied by m, the next one by m - 1, and so on.

/// The chance to lose at least `lost` of `lost + won` when neither side is better.
pub(crate) fn p_value(lost: usize, won: usize) -> f64 {
    let n = lost + won;
    // Both ways the terms fall from the first one on, so the sum is as exact as its first term.
    if 2 * lost > n {
        tail(n, lost)
    } else if lost == 0 {
        1.0
    } else {
        // The terms are symmetric: the lower tail up to lost - 1 is the upper one from won + 1.
        1.0 - tail(n, won + 1)
    }
}

/// The chance of a difference at least as large, to either side, when neither side is better.
pub(crate) fn two_sided(lost: usize, won: usize) -> f64 {
    (2.0 * p_value(lost.max(won), lost.min(won))).min(1.0)
}

/// The sum of the terms from `k > n / 2` on.
fn tail(n: usize, k: usize) -> f64 {
    let ln_first = ln_choose(n, k) - n as f64 * std::f64::consts::LN_2;
    let (mut term, mut sum) = (1.0, 0.0);
    for k in k..=n {
        sum += term;
        term *= (n - k) as f64 / (k + 1) as f64;
        if term < sum * f64::EPSILON / 16.0 {
            break;
        }
    }
    (ln_first + f64::ln(sum)).exp().min(1.0)
}

/// Natural logarithm of the number of ways to choose `k` of `n`.
fn ln_choose(n: usize, k: usize) -> f64 {
    ln_factorial(n) - ln_factorial(k) - ln_factorial(n - k)
}

/// Natural logarithm of `n!`: summed where `n` is small, above that Stirling's series, whose next term is below 1e-16.
fn ln_factorial(n: usize) -> f64 {
    if n < 128 {
        return (2..=n).map(|i| (i as f64).ln()).sum();
    }
    let x = n as f64;
    let series = 1.0 / (12.0 * x) - 1.0 / (360.0 * x.powi(3)) + 1.0 / (1260.0 * x.powi(5));
    (x + 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series
}

/// Each p-value after Holm's correction, in the same order.
pub(crate) fn holm(p: &[f64]) -> Vec<f64> {
    let mut order: Vec<usize> = (0..p.len()).collect();
    order.sort_by(|&a, &b| p[a].total_cmp(&p[b]));
    let mut adjusted = vec![1.0; p.len()];
    let mut floor = 0.0f64;
    for (step, &index) in order.iter().enumerate() {
        // A larger p-value is never more significant than a smaller one.
        floor = floor.max(p[index] * (p.len() - step) as f64).min(1.0);
        adjusted[index] = floor;
    }
    adjusted
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In whole numbers: up to 120 coins fit 128 bits.
    fn exact(lost: usize, won: usize) -> f64 {
        let n = (lost + won) as u128;
        let (mut choose, mut sum) = (1u128, 0u128);
        for k in 0..=n {
            if k >= lost as u128 {
                sum += choose;
            }
            choose = choose * (n - k) / (k + 1);
        }
        sum as f64 / 2f64.powi(n as i32)
    }

    #[test]
    fn small_counts_are_as_in_whole_numbers() {
        assert_eq!(p_value(0, 0), 1.0);
        assert!((p_value(5, 0) - 1.0 / 32.0).abs() < 1e-15);
        // n 120 would pass 128 bits within choose * (n - k).
        for n in 0..=114 {
            for lost in 0..=n {
                let (found, expected) = (p_value(lost, n - lost), exact(lost, n - lost));
                assert!((found - expected).abs() <= 1e-12 * expected, "{lost} of {n}: {found} {expected}");
            }
        }
    }

    #[test]
    fn two_sided_is_twice_the_smaller_tail_and_at_most_one() {
        // 2 / 2^5; R: binom.test(3, 10) gives 0.34375, binom.test(5, 10) gives 1.
        assert!((two_sided(5, 0) - 0.0625).abs() < 1e-15 && two_sided(0, 5) == two_sided(5, 0));
        assert!((two_sided(3, 7) - 0.34375).abs() < 1e-12);
        assert_eq!((two_sided(5, 5), two_sided(0, 0)), (1.0, 1.0));
    }

    #[test]
    fn the_two_sides_add_up_for_every_size() {
        for n in [115, 127, 128, 129, 255, 1000, 9_999, 100_000, 1_000_000] {
            for part in [0.0, 0.01, 0.3, 0.49, 0.4999, 0.5, 0.5001, 0.51, 0.7, 1.0] {
                let lost = (f64::from(n) * part) as usize;
                let won = n as usize - lost;
                // At least `lost` are lost, or at least `won + 1` are won.
                let sum = p_value(lost, won) + p_value(won + 1, lost.wrapping_sub(1).min(n as usize));
                assert!(lost == 0 || (sum - 1.0).abs() < 1e-9, "{lost} of {n}: {sum}");
                assert!((0.0..=1.0).contains(&p_value(lost, won)));
            }
        }
    }

    /// The area under the normal curve above `z`, by Simpson's rule.
    fn normal_tail(z: f64) -> f64 {
        let (steps, end) = (20_000, 12.0);
        let h = (end - z) / f64::from(steps);
        let density = |x: f64| (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        let weight = |i: i32| if i == 0 || i == steps { 1.0 } else { f64::from(2 + 2 * (i % 2)) };
        (0..=steps).map(|i| weight(i) * density(z + h * f64::from(i))).sum::<f64>() * h / 3.0
    }

    #[test]
    fn large_counts_are_near_the_normal_curve() {
        for n in [10_000usize, 100_000, 1_000_000] {
            let deviation = (n as f64).sqrt() / 2.0;
            for z in [-3.0, -1.0, -0.1, 0.0, 0.1, 1.0, 2.0, 3.0, 4.0] {
                let lost = (n as f64 / 2.0 + z * deviation).round() as usize;
                let expected = normal_tail((lost as f64 - 0.5 - n as f64 / 2.0) / deviation);
                let found = p_value(lost, n - lost);
                // The curve of n coins is that of n = infinity up to z^4 / (12 n).
                let bound = (z.powi(4) + 3.0) / n as f64;
                assert!((found / expected - 1.0).abs() < bound, "{lost} of {n}: {found} {expected}");
            }
            assert_eq!(p_value(n, 0), if n > 2000 { 0.0 } else { 2f64.powi(-(n as i32)) });
        }
    }

    #[test]
    fn more_losses_are_never_less_significant() {
        for n in 1..200 {
            let p: Vec<f64> = (0..=n).map(|lost| p_value(lost, n - lost)).collect();
            assert!(p.is_sorted_by(|a, b| a >= b), "{n}: {p:?}");
        }
    }

    #[test]
    fn holm_multiplies_by_what_is_left() {
        let near = |found: Vec<f64>, expected: &[f64]| {
            assert_eq!(found.len(), expected.len());
            assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-12), "{found:?}");
        };
        near(holm(&[]), &[]);
        near(holm(&[0.03]), &[0.03]);
        near(holm(&[0.03, 0.01, 0.04]), &[0.06, 0.03, 0.06]);
        near(holm(&[0.9, 0.5]), &[1.0, 1.0]);
        near(holm(&[0.01, 0.01]), &[0.02, 0.02]);
    }
}

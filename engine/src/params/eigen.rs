//! Eigenvectors of small symmetric matrices by Jacobi's rotations, in f64: the same bits on every machine.

/// Sweeps over all pairs; a matrix of some hundred rows needs about ten.
const SWEEPS: usize = 64;

/// Eigenvalues of a symmetric matrix `a [n][n]`, largest first, each with its eigenvector of length 1. The largest element
/// of each vector, the first of several, is positive.
pub(super) fn symmetric(mut a: Vec<f64>, n: usize) -> Vec<(f64, Vec<f64>)> {
    assert_eq!(a.len(), n * n, "a square matrix");
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|i| v[i * n + i] = 1.0);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for p in 0..n {
            for q in p + 1..n {
                turned |= rotate(&mut a, &mut v, n, (p, q));
            }
        }
        if !turned {
            break;
        }
    }
    let mut found: Vec<(f64, Vec<f64>)> = (0..n)
        .map(|i| {
            let mut vector: Vec<f64> = (0..n).map(|row| v[row * n + i]).collect();
            let largest =
                vector.iter().fold(0.0, |most: f64, &x| if x.abs() > most.abs() { x } else { most });
            if largest < 0.0 {
                vector.iter_mut().for_each(|x| *x = -*x);
            }
            (a[i * n + i], vector)
        })
        .collect();
    found.sort_by(|a, b| b.0.total_cmp(&a.0));
    found
}

/// Turns rows and columns `p` and `q` so that `a[p][q]` becomes zero, if it does not count as zero already (Golub and Van
/// Loan, Matrix Computations, 8.5).
fn rotate(a: &mut [f64], v: &mut [f64], n: usize, (p, q): (usize, usize)) -> bool {
    let (app, aqq, apq) = (a[p * n + p], a[q * n + q], a[p * n + q]);
    // Below the rounding of both values on the diagonal a turn changes nothing.
    if apq.abs() <= f64::EPSILON * (app.abs() * aqq.abs()).sqrt() || apq.abs() < f64::MIN_POSITIVE {
        return false;
    }
    let tau = (aqq - app) / (2.0 * apq);
    let t = tau.signum() / (tau.abs() + (1.0 + tau * tau).sqrt());
    let c = 1.0 / (1.0 + t * t).sqrt();
    let s = t * c;
    let turn = |x: &mut [f64], i: usize, j: usize| {
        let (xi, xj) = (x[i], x[j]);
        (x[i], x[j]) = (c * xi - s * xj, s * xi + c * xj);
    };
    for k in 0..n {
        turn(a, k * n + p, k * n + q);
    }
    for k in 0..n {
        turn(a, p * n + k, q * n + k);
        turn(v, k * n + p, k * n + q);
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    fn random_symmetric(n: usize) -> Vec<f64> {
        let mut rng = Rng::new(n as u64, 0);
        let mut a = vec![0.0; n * n];
        for i in 0..n {
            for j in 0..=i {
                let x = f64::from(rng.normal());
                (a[i * n + j], a[j * n + i]) = (x, x);
            }
        }
        a
    }

    #[test]
    fn vectors_are_orthonormal_and_belong_to_their_values() {
        for n in [1, 2, 3, 12, 40] {
            let a = random_symmetric(n);
            let found = symmetric(a.clone(), n);
            assert!(found.is_sorted_by(|a, b| a.0 >= b.0));
            for (i, (value, x)) in found.iter().enumerate() {
                for row in 0..n {
                    let product: f64 = (0..n).map(|k| a[row * n + k] * x[k]).sum();
                    assert!((product - value * x[row]).abs() < 1e-11 * n as f64, "{n}: value {i}");
                }
                for (j, (_, y)) in found.iter().enumerate() {
                    let dot: f64 = x.iter().zip(y).map(|(a, b)| a * b).sum();
                    assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12 * n as f64, "{n}: {i}, {j}");
                }
            }
        }
    }

    #[test]
    fn known_values_and_signs() {
        let found = symmetric(vec![2.0, -1.0, -1.0, 2.0], 2);
        let half = 0.5f64.sqrt();
        for ((value, vector), (expected, direction)) in
            found.into_iter().zip([(3.0, [half, -half]), (1.0, [half, half])])
        {
            assert!((value - expected).abs() < 1e-15);
            assert!(vector.iter().zip(direction).all(|(x, y)| (x - y).abs() < 1e-15), "{vector:?}");
        }
        // Nothing to turn, and a matrix of zeros.
        assert_eq!(symmetric(vec![0.0; 4], 2), [(0.0, vec![1.0, 0.0]), (0.0, vec![0.0, 1.0])]);
    }
}

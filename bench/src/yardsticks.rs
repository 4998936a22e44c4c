//! Other people's matrix products: `y [rows, cols] = x [rows, depth] w [depth, cols]`, row-major, on one thread.

use crate::cases::Product;

fn check(y: &[f32], x: &[f32], w: &[f32], p: Product) {
    assert_eq!(x.len(), p.rows * p.depth, "x holds its matrix");
    assert_eq!(w.len(), p.depth * p.cols, "w holds its matrix");
    assert_eq!(y.len(), p.rows * p.cols, "y holds its matrix");
}

/// The product by the crate `matrixmultiply`.
///
/// # Panics
/// When a slice does not have the length that the shape gives.
pub(crate) fn matrixmultiply(y: &mut [f32], x: &[f32], w: &[f32], p: Product) {
    check(y, x, w, p);
    let (depth, cols) = (p.depth as isize, p.cols as isize);
    let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
    // SAFETY: the slices hold the matrices that sizes and strides describe, and `y` is borrowed mutably.
    unsafe {
        matrixmultiply::sgemm(p.rows, p.depth, p.cols, 1.0, x, depth, 1, w, cols, 1, 0.0, y, cols, 1);
    }
}

/// The product by the crate `gemm`.
///
/// # Panics
/// When a slice does not have the length that the shape gives.
pub(crate) fn gemm_crate(y: &mut [f32], x: &[f32], w: &[f32], p: Product) {
    check(y, x, w, p);
    let (depth, cols) = (p.depth as isize, p.cols as isize);
    let (x, w, y) = (x.as_ptr(), w.as_ptr(), y.as_mut_ptr());
    let plain = false;
    // SAFETY: the slices hold the matrices that sizes and strides describe, and `y` is borrowed mutably.
    unsafe {
        gemm::gemm(
            p.rows,
            p.cols,
            p.depth,
            y,
            1,
            cols,
            false,
            x,
            1,
            depth,
            w,
            1,
            cols,
            0.0,
            1.0,
            plain,
            plain,
            plain,
            gemm::Parallelism::None,
        );
    }
}

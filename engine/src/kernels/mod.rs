//! The kernels, one file or folder per family.

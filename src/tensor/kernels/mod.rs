//! One file per family of kernels: plain functions over slices, each with a slow reference and a test that they agree.
//!
//! Every kernel is compiled for AVX-512, for AVX2 and for the portable target, and picks at run time (`dispatch.rs`).
//! Sums and products are never contracted into fused multiply-adds and every sum has a fixed order, so all
//! versions give the same bits, and so does any cut of an elementwise kernel's slices.
//! Convolutions and matrix products are the exception: they fuse where the processor can.

pub mod concatenate;
pub mod convolution;
pub mod ctc;
mod dispatch;
pub mod elementwise;
pub mod gather;
pub mod math;
pub mod normalize;
pub mod pool;
pub mod random_mask;
pub mod recurrent;
pub mod reduce;
pub mod softmax;
pub mod view;
pub mod window;

pub(crate) use dispatch::multiversion;
#[cfg(test)]
pub(crate) use dispatch::with_portable_kernels;
#[cfg(target_arch = "x86_64")]
pub(crate) use dispatch::{Vectors, vectors};

//! Volary: an Apache Arrow Flight data-and-compute server.

pub mod autograd;
pub mod catalog;
pub mod cluster;
pub mod features;
pub mod flight;
pub mod frames;
pub mod nn;
pub mod optim;
pub mod serving;
pub mod storage;
pub mod support;
pub mod tensor;
pub mod training;

// Linked for its symbols: `tensor/blas.rs` calls OpenBLAS through cblas.
extern crate blas_src as _;

//! Volary: an Apache Arrow Flight data-and-compute server.

pub mod catalog;
pub mod cluster;
pub mod features;
pub mod flight;
pub mod serving;
pub mod support;
pub mod training;

// Linked for its symbols: `tensor/blas.rs` calls OpenBLAS through cblas.
extern crate blas_src as _;

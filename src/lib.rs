//! Volary: an Apache Arrow Flight data-and-compute server.
//!
//! Read bottom-up, in the order below; a module knows only the ones above it (`tests/tidy.rs` holds the table).
//! `docs/ARCHITECTURE.md` has the map, the invariants and the traces through the code.

pub mod support;
pub mod telemetry;

pub mod access;
pub mod cluster;
pub mod storage;
pub mod tensor;

pub mod autograd;
pub mod frames;

pub mod catalog;
pub mod nn;
pub mod optim;

pub mod features;

pub mod serving;
pub mod training;

pub mod flight;

pub mod config;

pub mod node;

pub mod cli;

// Linked for its symbols: `tensor/blas.rs` calls OpenBLAS through cblas.
extern crate blas_src as _;

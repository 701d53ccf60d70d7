//! What every layer may use and that knows nothing of ours.

pub mod admission;
#[cfg(test)]
pub mod allocations;
pub mod clock;
pub mod fault;
pub mod huge_pages;
pub mod machine;
pub mod random;
pub mod shutdown;

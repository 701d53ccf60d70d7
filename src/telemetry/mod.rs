//! What a server says about itself: logs and metrics.
//!
//! Every metric is declared in [`metrics`] and named nowhere else. Knows nothing of ours.

pub mod metrics;
pub mod tracing;

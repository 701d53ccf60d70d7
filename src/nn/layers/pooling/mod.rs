//! Pooling: windows, or all of an input's spatial axes, to their greatest number or their mean.
//!
//! The geometry of windows is that of `../windows.rs`. Knows no loops: those are the primitive operations'.

mod adaptive;
mod global;
mod sliding;

pub(super) use adaptive::AdaptivePooling;
pub(super) use global::GlobalPooling;
pub(super) use sliding::SlidingPooling;

/// What the numbers of a window become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Summary {
    Max,
    Mean,
}

//! What moves numbers without changing them: Reshape, Permute, RepeatVector, Cropping, ZeroPadding, UpSampling; and
//! Masking, which says which steps count.
//!
//! As in Keras, all but Masking take their input's mask away.

mod grid;
mod masking;
mod order;
mod up_sampling;

pub(super) use grid::{Cropping, Grid, ZeroPadding};
pub(super) use masking::Masking;
pub(super) use order::{Permute, RepeatVector, Reshape};
pub(super) use up_sampling::UpSampling;

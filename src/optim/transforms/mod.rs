//! A piece of an optimiser: takes a gradient (or what the pieces before made of it) and makes the next update.
//!
//! One file per family. To add one: a type that implements [`GradientTransform`], and a recipe that uses it.

mod adam;
mod adaptive;
mod elementary;
mod ftrl;
mod lion;
mod norm;

pub(super) use adam::{ScaleByAdam, ScaleByAdamax, ScaleByNadam};
pub(super) use adaptive::{ScaleByAdadelta, ScaleByAdagrad, ScaleByRms};
pub(super) use elementary::{ClipByValue, DecayWeights, Momentum, ScaleByLearningRate, add};
pub(super) use ftrl::FollowRegularizedLeader;
pub(super) use lion::SignOfMomentum;
pub(super) use norm::{ClipByNorm, NormOf, ScaleByLayerRate, ScaleByTrustRatio};

use std::fmt::Debug;

use super::blocks::ArrayNorms;

/// Most slots of one transform.
pub(super) const SLOTS_MAX: usize = 4;

/// What a transform needs to know of the numbers around the one it changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// Only the number itself: any cut of the vector gives the same bits.
    Elementwise,
    /// Norms of whole arrays too, which the owners of cuts find together by one more exchange.
    WholeModel,
}

/// When an update happens.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moment {
    /// Counted from 1 over the whole job.
    pub step: u64,
    pub learning_rate: f32,
}

/// Changes `update` in place, a tile at a time. Tiles are cut anywhere.
pub trait GradientTransform: Debug + Send + Sync {
    fn scope(&self) -> Scope {
        Scope::Elementwise
    }

    /// Names of the state vectors it keeps, each as long as the parameters; at most four.
    fn slot_names(&self) -> &'static [&'static str] {
        &[]
    }

    /// What every number of each slot is before the first update.
    fn slot_starts(&self) -> [f32; SLOTS_MAX] {
        [0.0; SLOTS_MAX]
    }

    /// Numbers that depend on the moment alone, computed once per update and handed to every tile.
    fn prepare(&self, _moment: &Moment) -> [f32; 4] {
        [0.0; 4]
    }

    /// Whether a whole-model transform needs the norms of the parameters beside those of the update.
    fn measures_parameters(&self) -> bool {
        false
    }

    /// What `prepare` is for a whole-model transform: once per update and array, with the norms of what the transforms
    /// before it made.
    fn prepare_array(&self, _moment: &Moment, _norms: &ArrayNorms) -> [f32; 4] {
        [0.0; 4]
    }

    fn apply(
        &self,
        prepared: [f32; 4],
        update: &mut [f32],
        parameters: &[f32],
        slots: &mut [&mut [f32]],
    );
}

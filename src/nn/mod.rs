//! Layers and models, as description and as computation.
//!
//! `spec.rs` says what a client may describe, `layer.rs` what a layer must answer, `expression/` what a client's own
//! functions may say, `model/` joins layers to features, `program/` runs a lane's training step or a prediction over plans made by `autograd`.
//! Does not know where rows come from, how lanes are dealt, or who applies the gradient.

mod error;
pub mod explain;
mod expression;
#[cfg(test)]
mod golden;
#[cfg(test)]
mod hostile;
mod initialize;
mod layer;
mod layers;
pub mod losses;
pub mod metrics;
pub mod model;
mod objective;
mod options;
pub mod program;
mod regularize;
mod settings;
pub mod spec;

pub use error::{ProgramError, SpecError};
pub use losses::{Loss, TargetKind};
pub use metrics::{Metric, MetricState};
pub use model::{
    FeatureColumn, FeatureKind, InputType, Model, ModelInput, ParameterInfo, SparseTable,
};
pub use objective::{Objectives, OutputObjective, OutputPlace, SideBySide};
pub use program::{InputData, LaneBatch, LaneTrainer, Predictor, StepKey, StepOutput};
pub use spec::{LayerSpec, ModelSpec};

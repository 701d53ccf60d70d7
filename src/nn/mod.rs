//! Layers and models, as description and as computation.
//!
//! Does not know where rows come from, how lanes are dealt, or who applies the gradient.

mod error;
pub mod loss;
pub mod metric;
pub mod model;
pub mod program;
pub mod spec;

pub use error::{ProgramError, SpecError};
pub use loss::{Loss, TargetKind};
pub use metric::{Metric, MetricState};
pub use model::{FeatureColumn, FeatureKind, InputType, Model, ModelInput, ParameterInfo};
pub use program::{InputData, LaneBatch, LaneTrainer, Predictor, StepKey, StepOutput};
pub use spec::ModelSpec;

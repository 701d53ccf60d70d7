//! The transforms of a pipeline: what a client may ask for, what each learns, and what it does to a column.
//!
//! `spec` reads what was asked; `learn` finds what must be learnt by aggregate SQL; `fitted` is what was learnt;
//! `columns` turns fitted steps into expressions over the raw columns. Knows no models.
//!
//! What each does with a null and with a value not met in training:
//!
//! | transform | learns | null | unseen value |
//! |---|---|---|---|
//! | `impute` | the value to put in | replaced (NaN too) | passes |
//! | `standardize`, `min_max` | shift and scale | stays null | same arithmetic, so `min_max` may leave 0 to 1 |
//! | `one_hot` | categories, sorted | a category of its own (the last) if met in training, else unseen | the last place (`bucket`) or all zeros (`ignore`) |
//! | `string_index` | categories, most frequent first, then by value; places from 1 | 0 | 0 |
//! | `hash`, `cross` | nothing | hashed as a value of its own | hashed |
//! | `bucketize` | boundaries, when `quantiles` are asked for | stays null | first or last bucket |
//! | `log1p`, `clip` | nothing | stays null | same arithmetic |
//! | `expression` | nothing | as SQL says | as SQL says |
//!
//! Categories that `max_categories` or `min_frequency` leave out count as unseen. Nulls that are left when the last
//! transform is done are refused, as NaN and infinity are.

mod columns;
mod fitted;
mod learn;
mod spec;

pub(super) use columns::{ColumnKind, ColumnSet};
pub(super) use fitted::FittedStep;
pub(super) use learn::{TrainingRows, learn};
pub(super) use spec::TransformSpec;

use super::FeatureError;

/// Where in a pipeline an error belongs; steps count from 1.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place<'a> {
    pub step: usize,
    pub transform: &'a str,
}

impl Place<'_> {
    pub(super) fn refuse(self, reason: impl Into<String>) -> FeatureError {
        FeatureError::BadPipeline {
            step: self.step,
            transform: self.transform.to_owned(),
            reason: reason.into(),
        }
    }
}

/// Most categories of a one-hot column; beyond, an embedding over `string_index` or `hash` is the better tool.
pub(super) const ONE_HOT_CATEGORIES_MAX: usize = 10_000;
/// Most distinct values that are counted for `string_index`; they are held in memory and saved with the model.
pub(super) const INDEX_CATEGORIES_MAX: usize = 2_000_000;
/// Most buckets of `hash`, `cross` and `bucketize`: what an Int32 can number.
pub(super) const BUCKETS_MAX: u32 = i32::MAX as u32;

//! Rows in, a new dataset of answers out.

use crate::catalog::WriteMode;
use crate::features::Source;

/// What to score and where to write it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    pub model: String,
    pub version: Option<u64>,
    pub source: Source,
    pub into: String,
    pub mode: WriteMode,
    pub keep: Vec<String>,
}

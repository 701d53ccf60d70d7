//! What a run is given and what it fails with, in the words of the caller: rows, inputs and targets instead of positions.

use super::super::error::ProgramError;
use super::super::model::{InputType, Model};
use super::super::objective::OutputPlace;
use super::{InputData, LaneBatch};
use crate::autograd::RunError;

/// A run's error in the words of the caller: rows, inputs and targets instead of positions.
pub(super) fn explain(
    error: RunError,
    model: &Model,
    places: &[OutputPlace],
    batch: &LaneBatch<'_>,
) -> ProgramError {
    match error {
        RunError::ClassOutOfRange {
            position,
            index,
            classes,
        } => {
            // The position is one of an output's own targets: of the output that has this number there.
            let row_width = places.last().map_or(0, |last| last.targets.end);
            let found = places.iter().find_map(|place| {
                let row = position / place.targets.len().max(1);
                let column = place.targets.start + position % place.targets.len().max(1);
                let value = batch.target.get(row * row_width + column)?;
                (*value as i64 == index).then_some((row, value))
            });
            let (row, value) = found.map_or((0, "missing".to_string()), |(row, value)| {
                (row, value.to_string())
            });
            ProgramError::BadTarget {
                row,
                value,
                last: classes - 1,
            }
        }
        RunError::LabelTooLong { .. } | RunError::BlankInLabel { .. } => {
            ProgramError::BadSequence(error.to_string())
        }
        other => explain_index(other, model, 0),
    }
}

pub(super) fn explain_index(error: RunError, model: &Model, first_row: usize) -> ProgramError {
    match error {
        RunError::IndexOutOfRange {
            input: Some(input),
            position,
            index,
            rows,
        } if input < model.inputs().len() => {
            let described = &model.inputs()[input];
            let column = position % described.width;
            let name = described.columns.get(column).unwrap_or(&described.name);
            ProgramError::IndexOutOfRange {
                layer: format!("input {:?}, column {name:?}", described.name),
                row: first_row + position / described.width,
                index,
                last: rows as i64 - 1,
            }
        }
        other => ProgramError::Graph(other.to_string()),
    }
}

pub(super) fn check_vectors(
    model: &Model,
    parameters: &[f32],
    statistics: &[f32],
) -> Result<(), ProgramError> {
    check_len(
        "the parameter vector",
        model.parameter_len(),
        parameters.len(),
    )?;
    check_len(
        "the statistics vector",
        model.statistics_len(),
        statistics.len(),
    )
}

pub(super) fn check_inputs(
    model: &Model,
    rows: usize,
    inputs: &[InputData<'_>],
) -> Result<(), ProgramError> {
    if inputs.len() != model.inputs().len() {
        return Err(ProgramError::WrongInputCount {
            expected: model.inputs().len(),
            found: inputs.len(),
        });
    }
    for (input, described) in inputs.iter().zip(model.inputs()) {
        let len = match (input, described.dtype) {
            (InputData::Float32(values), InputType::Float32) => values.len(),
            (InputData::Int32(values), InputType::Int32) => values.len(),
            (InputData::Int32(_), InputType::Float32) => {
                return Err(wrong_type(&described.name, "float32", "int32"));
            }
            (InputData::Float32(_), InputType::Int32) => {
                return Err(wrong_type(&described.name, "int32", "float32"));
            }
        };
        if rows.checked_mul(described.width) != Some(len) {
            check_len(
                &format!("input {:?}", described.name),
                rows.saturating_mul(described.width),
                len,
            )?;
        }
    }
    Ok(())
}

fn wrong_type(input: &str, expected: &'static str, found: &'static str) -> ProgramError {
    ProgramError::WrongType {
        input: input.to_string(),
        expected,
        found,
    }
}

pub(super) fn check_len(what: &str, expected: usize, found: usize) -> Result<(), ProgramError> {
    if expected == found {
        return Ok(());
    }
    Err(ProgramError::WrongLength {
        what: what.to_string(),
        expected,
        found,
        hint: "it must match the model and the rows",
    })
}

//! Joining an Input to the feature columns it names.

use std::collections::HashMap;

use super::super::error::SpecError;
use super::super::layer::bad_input;
use super::super::layers::input::Input;
use super::super::options::Options;
use super::super::spec::{LayerSpec, shortened};
use super::{FeatureColumn, FeatureKind, InputType, ModelInput};

/// Most columns that all inputs of a model take together.
const COLUMNS_MAX: usize = 1 << 20;

/// The features by name: the first where several have one.
pub(super) fn by_name(features: &[FeatureColumn]) -> HashMap<&str, &FeatureColumn> {
    let mut by_name = HashMap::with_capacity(features.len());
    for feature in features {
        by_name.entry(feature.name.as_str()).or_insert(feature);
    }
    by_name
}

/// The columns an Input takes, side by side. `before` is what the model takes otherwise.
pub(super) fn join_input(
    spec: &LayerSpec,
    features: &[FeatureColumn],
    by_name: &HashMap<&str, &FeatureColumn>,
    before: &[ModelInput],
) -> Result<(Input, ModelInput), SpecError> {
    let mut options = Options::new(&spec.name, &spec.layer, &spec.config);
    let layer = Input::read(&mut options)?;
    options.finish()?;
    if !spec.inputs.is_empty() {
        return Err(bad_input(
            &spec.name,
            "it takes from other layers".to_string(),
            "an Input has no inputs of its own",
        ));
    }
    let named = layer.columns.as_ref().map_or(features.len(), Vec::len);
    let taken: usize = before.iter().map(|input| input.columns.len()).sum();
    if taken.saturating_add(named) > COLUMNS_MAX {
        return Err(bad_input(
            &spec.name,
            format!("with it the inputs take more than {COLUMNS_MAX} columns"),
            "name the columns that it needs, or let layers share an Input",
        ));
    }
    let chosen: Vec<&FeatureColumn> = match &layer.columns {
        None => features.iter().collect(),
        Some(columns) => {
            let find = |column: &String| {
                by_name
                    .get(column.as_str())
                    .copied()
                    .ok_or_else(|| SpecError::UnknownColumn {
                        layer: spec.name.clone(),
                        column: column.chars().take(80).collect(),
                        known: shortened(features.iter().map(|feature| feature.name.as_str())),
                    })
            };
            columns.iter().map(find).collect::<Result<_, _>>()?
        }
    };
    if let (InputType::Int32, Some(float)) = (
        layer.dtype,
        chosen
            .iter()
            .find(|feature| feature.kind == FeatureKind::Float),
    ) {
        let problem = format!(
            "its dtype is int32 and column {:?} holds floats",
            float.name
        );
        return Err(bad_input(
            &spec.name,
            problem,
            "index the column in the pipeline or choose other columns",
        ));
    }
    let width = chosen
        .iter()
        .fold(0usize, |sum, feature| sum.saturating_add(feature.width));
    if width == 0 {
        return Err(bad_input(
            &spec.name,
            "its columns hold no numbers".to_string(),
            "give at least one feature column",
        ));
    }
    let columns = chosen.iter().map(|feature| feature.name.clone()).collect();
    let input = ModelInput {
        name: spec.name.clone(),
        columns,
        dtype: layer.dtype,
        width,
    };
    Ok((layer, input))
}

//! Joining an Input to the feature columns it names.

use super::super::error::SpecError;
use super::super::layer::bad_input;
use super::super::layers::input::Input;
use super::super::options::Options;
use super::super::spec::{LayerSpec, shortened};
use super::{FeatureColumn, FeatureKind, InputType, ModelInput};

/// The columns an Input takes, side by side.
pub(super) fn join_input(
    spec: &LayerSpec,
    features: &[FeatureColumn],
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
    let chosen: Vec<&FeatureColumn> = match &layer.columns {
        None => features.iter().collect(),
        Some(columns) => {
            let find = |column: &String| {
                features
                    .iter()
                    .find(|feature| feature.name == *column)
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

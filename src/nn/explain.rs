//! What a description comes to, before any data: its layers, and the plans of a step and of a prediction.

use std::fmt::Write;
use std::sync::Arc;

use super::error::{ProgramError, SpecError};
use super::losses::Loss;
use super::objective::{Objectives, OutputObjective};
use super::program::{LaneTrainer, describe_prediction};
use super::spec::ModelSpec;
use super::{FeatureColumn, FeatureKind, Model};

/// Layers, then every kernel of the plan for so many rows, with fused groups, FLOPs, bytes and memory: of a prediction, and
/// of a training step where a loss is given.
///
/// Columns that the description's inputs name stand for one number each; an input with a shape stands for as many as
/// that has.
pub fn explain(spec: &ModelSpec, rows: usize, loss: Option<Loss>) -> Result<String, ProgramError> {
    let model = Arc::new(Model::build(spec, &features(spec)?)?);
    let mut text = model.summary();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nPrediction of {rows} rows\n{}",
        describe_prediction(&model, rows)?
    );
    if let Some(loss) = loss {
        let outputs = (0..model.output_count()).map(|output| OutputObjective {
            name: model.output_name(output).to_string(),
            loss: loss.clone(),
            weight: 1.0,
            metrics: Vec::new(),
        });
        let objectives = Objectives::new(outputs.collect());
        let trainer = LaneTrainer::new(model, objectives)?;
        let _ = writeln!(
            text,
            "Training step of {rows} rows\n{}",
            trainer.describe(rows)?
        );
    }
    Ok(text)
}

/// Columns that the inputs of a description can be joined to.
fn features(spec: &ModelSpec) -> Result<Vec<FeatureColumn>, SpecError> {
    let mut features: Vec<FeatureColumn> = Vec::new();
    for layer in spec.layers.iter().filter(|layer| layer.layer == "Input") {
        let option = |name: &str| layer.config.get(name).filter(|value| !value.is_null());
        let shape = option("shape").and_then(|shape| shape.as_array());
        let width = shape.map(|shape| {
            let extents = shape.iter().filter_map(serde_json::Value::as_u64);
            extents.fold(1u64, u64::saturating_mul)
        });
        let kind = if option("dtype").is_some_and(|dtype| dtype == "int32") {
            FeatureKind::Integer
        } else {
            FeatureKind::Float
        };
        let columns: Vec<&str> = option("columns")
            .and_then(|columns| columns.as_array())
            .map(|columns| {
                columns
                    .iter()
                    .filter_map(|column| column.as_str())
                    .collect()
            })
            .unwrap_or_default();
        let names: Vec<String> = match (columns.as_slice(), width) {
            ([], None) => {
                return Err(SpecError::BadInput {
                    layer: layer.name.clone(),
                    problem: "it takes every column of a table that is not at hand".to_string(),
                    hint: "give it columns or a shape".to_string(),
                });
            }
            ([], Some(_)) => vec![layer.name.clone()],
            (columns, _) => columns.iter().map(|column| column.to_string()).collect(),
        };
        // The shape's numbers, dealt evenly over the columns; what is over goes to the first.
        let count = names.len();
        let total = width.map_or(count, |width| usize::try_from(width).unwrap_or(usize::MAX));
        for (position, name) in names.into_iter().enumerate() {
            let share = total / count + if position == 0 { total % count } else { 0 };
            if features.iter().all(|known| known.name != name) {
                features.push(FeatureColumn {
                    name,
                    width: share,
                    kind,
                });
            }
        }
    }
    Ok(features)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_description_is_explained_before_there_is_data() {
        let text = explain(
            &spec(json!({"columns": ["a", "b"]})),
            256,
            Some(Loss::parse("mse").unwrap()),
        )
        .unwrap();
        for words in [
            "dense (Dense)",
            "Prediction of 256 rows",
            "Training step of 256 rows",
            "matmul (256, 2) (2, 8)",
            "relu",
            "fused",
            "FLOPs",
            "arena",
        ] {
            assert!(text.contains(words), "{words} is not in\n{text}");
        }
        assert_eq!(
            text,
            explain(
                &spec(json!({"columns": ["a", "b"]})),
                256,
                Some(Loss::parse("mse").unwrap())
            )
            .unwrap()
        );
    }

    #[test]
    fn an_input_of_unknown_width_is_refused() {
        let error = explain(&spec(json!({})), 1, None).unwrap_err().to_string();
        assert!(
            error.contains("layer \"x\"") && error.contains("give it columns or a shape"),
            "{error}"
        );
        assert!(explain(&spec(json!({"shape": [4, 2]})), 1, None).is_ok());
    }

    fn spec(input: serde_json::Value) -> ModelSpec {
        ModelSpec::from_json(&json!({"format_version": 1, "name": "m", "outputs": ["dense"], "layers": [
            {"name": "x", "layer": "Input", "config": input},
            {"name": "dense", "layer": "Dense", "config": {"units": 8, "activation": "relu"}, "inputs": ["x"]},
        ]}))
        .unwrap()
    }
}

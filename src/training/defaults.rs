//! What a request leaves out, from the columns of its rows: a pipeline, a network and a loss that fit them.
//!
//! For doors where a network is seldom written, as SQL is. What is given is never touched.

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema};
use futures::StreamExt;
use serde_json::{Value, json};

use super::label::label_width;
use super::prepare::{bad_model, bad_option};
use super::{TrainRequest, Training, TrainingError};
use crate::features::{FeatureError, QueryEngine, Source};
use crate::nn::Loss;

/// Categories of a text column that get a place of their own, the most frequent ones.
const CATEGORIES_MAX: u32 = 100;

/// A network that is known by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NamedNetwork {
    /// Two hidden layers, of 64 and 32 units with `relu`.
    Dense,
    /// None: a linear or logistic regression.
    Linear,
}

impl NamedNetwork {
    /// Every name, for errors.
    pub const NAMES: &'static str = "dense, linear";

    pub fn parse(name: &str) -> Option<Self> {
        match name {
            "dense" => Some(Self::Dense),
            "linear" => Some(Self::Linear),
            _ => None,
        }
    }
}

/// What is to be filled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftOut {
    pub pipeline: bool,
    /// `None`: the request has a network.
    pub network: Option<NamedNetwork>,
}

/// What a network must answer.
#[derive(Debug, PartialEq)]
struct Head {
    units: u64,
    activation: Value,
}

impl Training {
    /// Fills in what a request of one output leaves out: the loss by the type of the label, the pipeline by the types of
    /// the features, the network with the head that the loss calls for. Counts the label's classes where it needs them.
    pub async fn complete(
        &self,
        request: &mut TrainRequest,
        left_out: LeftOut,
    ) -> Result<(), TrainingError> {
        let schema = self.queries.open(&request.source).await?.schema();
        if left_out.pipeline {
            request.pipeline = pipeline_for(request, &schema);
        }
        if !request.outputs.is_empty() {
            return match left_out.network {
                None => Ok(()),
                Some(_) => Err(bad_option(
                    "model",
                    "left out",
                    "a network of several outputs has no default; give it as JSON",
                )),
            };
        }
        let label = label_of(request, &schema)?;
        let mut classes = None;
        if request.loss.is_empty() {
            request.loss = if has_classes(label.data_type()) {
                let counted = count_classes(&self.queries, request).await?;
                classes = Some(counted);
                if counted > 2 {
                    "sparse_categorical_crossentropy"
                } else {
                    "binary_crossentropy"
                }
            } else {
                "mse"
            }
            .to_owned();
        }
        let Some(network) = left_out.network else {
            return Ok(());
        };
        let loss = Loss::parse(&request.loss).map_err(bad_model)?;
        let listed = matches!(label.data_type(), DataType::FixedSizeList(..));
        if loss.takes_classes() && !loss.is_binary() && !listed && classes.is_none() {
            classes = Some(count_classes(&self.queries, request).await?);
        }
        let head = head_for(&loss, label.data_type(), classes.unwrap_or(0));
        request.model = network_of(network, &request.name, &head);
        Ok(())
    }
}

fn label_of<'a>(request: &TrainRequest, schema: &'a Schema) -> Result<&'a Field, TrainingError> {
    let names = || {
        let names: Vec<String> = schema
            .fields()
            .iter()
            .take(20)
            .map(|field| format!("{:?}", field.name()))
            .collect();
        format!(
            "name the column to predict; columns are {}",
            names.join(", ")
        )
    };
    if request.label.is_empty() {
        return Err(bad_option("label", "left out", names()));
    }
    schema.field_with_name(&request.label).map_err(|_| {
        let received = format!("{:?}, which is no column of the rows", request.label);
        bad_option("label", received, names())
    })
}

/// Whether a label of this type names classes when nothing else is said; whole numbers are numbers.
fn has_classes(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, values) => has_classes(values),
        other => other.is_string() || *other == DataType::Boolean,
    }
}

/// Distinct values of the label that are not null.
async fn count_classes(
    queries: &QueryEngine,
    request: &TrainRequest,
) -> Result<u64, TrainingError> {
    let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    let rows = match &request.source {
        Source::Query(sql) => format!("({sql}\n)"),
        Source::Table(reference) => quoted(&match reference.version {
            Some(version) => format!("{}@{version}", reference.name),
            None => reference.name.clone(),
        }),
        Source::Path(_) | Source::Staged(_) => {
            let hint = "give the loss and the network for rows of a path";
            return Err(bad_option("model", "left out", hint));
        }
    };
    let sql = format!(
        "SELECT count(DISTINCT {}) FROM {rows}",
        quoted(&request.label)
    );
    let mut counted = queries.prepare(&sql).await?.execute().await?;
    match counted.next().await {
        Some(batch) => {
            let count = batch?.column(0).as_primitive::<Int64Type>().value(0);
            Ok(count.unsigned_abs())
        }
        None => Err(FeatureError::NoRows {
            what: "the query".into(),
        }
        .into()),
    }
}

/// Medians for missing numbers and mean 0, deviation 1 for all; a place of its own for each category of text.
fn pipeline_for(request: &TrainRequest, schema: &Schema) -> Vec<Value> {
    let is_feature = |name: &String| {
        let labels = request.outputs.iter().any(|output| output.label == *name);
        let taken = labels || *name == request.label;
        match request.features.as_slice() {
            [] => !taken && request.sample_weight.as_ref() != Some(name),
            features => features.contains(name),
        }
    };
    let columns = |kind: fn(&DataType) -> bool| -> Vec<&String> {
        let fields = schema.fields().iter();
        fields
            .filter(|field| is_feature(field.name()) && kind(field.data_type()))
            .map(|field| field.name())
            .collect()
    };
    let numbers = columns(DataType::is_numeric);
    let texts = columns(DataType::is_string);
    let flags = columns(|data_type| *data_type == DataType::Boolean);
    let mut steps = Vec::new();
    if !numbers.is_empty() {
        steps.push(json!({"transform": "impute", "columns": numbers, "strategy": "median"}));
        steps.push(json!({"transform": "standardize", "columns": numbers}));
    }
    let nullable = |column: &&String| schema.field_with_name(column).is_ok_and(Field::is_nullable);
    let flags: Vec<&String> = flags.into_iter().filter(nullable).collect();
    if !flags.is_empty() {
        steps.push(json!({"transform": "impute", "columns": flags, "strategy": "most_frequent"}));
    }
    if !texts.is_empty() {
        steps.push(
            json!({"transform": "one_hot", "columns": texts, "max_categories": CATEGORIES_MAX}),
        );
    }
    steps
}

fn head_for(loss: &Loss, label: &DataType, classes: u64) -> Head {
    let width = label_width(label) as u64;
    let listed = matches!(label, DataType::FixedSizeList(..));
    let logits = loss.of_probabilities().is_some();
    let (units, activation) = if loss.is_binary() {
        (width, "sigmoid")
    } else if loss.takes_classes() && listed {
        (width, "softmax")
    } else if loss.takes_classes() {
        (classes.max(2), "softmax")
    } else {
        (width, "linear")
    };
    Head {
        units: units.max(1),
        activation: match (activation, logits) {
            ("linear", _) | (_, true) => Value::Null,
            (activation, false) => activation.into(),
        },
    }
}

fn network_of(network: NamedNetwork, name: &str, head: &Head) -> Value {
    let hidden: &[u32] = match network {
        NamedNetwork::Dense => &[64, 32],
        NamedNetwork::Linear => &[],
    };
    let mut layers = vec![json!({"name": "features", "layer": "Input"})];
    let mut below = "features".to_owned();
    for (number, units) in hidden.iter().enumerate() {
        let name = format!("hidden_{}", number + 1);
        layers.push(json!({"name": name, "layer": "Dense", "inputs": [below],
                           "config": {"units": units, "activation": "relu"}}));
        below = name;
    }
    layers.push(
        json!({"name": "answer", "layer": "Dense", "inputs": [below],
                       "config": {"units": head.units, "activation": head.activation}}),
    );
    json!({"format_version": 1, "name": name, "layers": layers, "outputs": ["answer"]})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn units_of(loss: &str, label: &DataType, classes: u64) -> (u64, Value) {
        let head = head_for(&Loss::parse(loss).unwrap(), label, classes);
        (head.units, head.activation)
    }

    #[test]
    fn the_head_is_what_the_loss_calls_for() {
        let text = DataType::Utf8;
        let vector =
            DataType::FixedSizeList(Field::new_list_field(DataType::Float32, false).into(), 3);
        for (loss, label, classes, expected) in [
            ("binary_crossentropy", &text, 0, (1, json!("sigmoid"))),
            (
                "sparse_categorical_crossentropy",
                &text,
                7,
                (7, json!("softmax")),
            ),
            (
                "categorical_crossentropy",
                &vector,
                0,
                (3, json!("softmax")),
            ),
            ("mse", &DataType::Int64, 0, (1, Value::Null)),
            ("mae", &vector, 0, (3, Value::Null)),
            (
                r#"{"name": "sparse_categorical_crossentropy", "from_logits": true}"#,
                &text,
                4,
                (4, Value::Null),
            ),
        ] {
            assert_eq!(units_of(loss, label, classes), expected, "{loss}");
        }
    }
}

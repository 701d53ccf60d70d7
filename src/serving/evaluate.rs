//! Loss and metrics of a model over rows that have its label.

use std::collections::BTreeMap;
use std::pin::pin;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use futures::StreamExt;

use super::labels::LabelReader;
use super::loaded::names;
use super::network::Measured;
use super::ordered::in_order;
use super::{ScoringSession, ServingError};
use crate::catalog::ModelOutput;
use crate::features::{FeatureError, QueryEngine, Source};
use crate::nn::{
    Loss, Metric, MetricState, Model, Objectives, OutputObjective, OutputPlace, SideBySide,
    SpecError,
};

impl super::Serving {
    /// Loss and metrics over labelled rows, with the number of rows. No metrics named means the model's own;
    /// the loss is always among the answers, and it alone is weighted by the column `sample_weight`: the sum of weight times
    /// loss over the number of rows, as in training.
    pub async fn evaluate(
        &self,
        queries: &QueryEngine,
        name: &str,
        version: Option<u64>,
        source: &Source,
        metrics: &[String],
        sample_weight: Option<&str>,
    ) -> Result<(BTreeMap<String, f64>, u64), ServingError> {
        let model = self.model(name, version).await?;
        let manifest = model.manifest();
        let query = queries.open(source).await?;
        let schema = query.schema();
        let session = model.session(&schema, &[])?;
        let outputs = manifest.every_output();
        let objectives = objectives(&outputs, metrics, model.network())?;
        let places = objectives.places(model.network());
        let mut labels = Vec::with_capacity(outputs.len());
        for (output, place) in outputs.iter().zip(&places) {
            let label = &output.label;
            let (index, field) = schema.column_with_name(&label.name).ok_or_else(|| {
                FeatureError::UnknownColumn {
                    column: label.name.clone(),
                    context: format!(", the label of model {name:?}"),
                    available: names(&schema),
                }
            })?;
            let label_type = label.arrow_type()?;
            let width = place.targets.len();
            labels.push((
                index,
                LabelReader::new(label, &label_type, field.data_type(), width)?,
            ));
        }
        let mut empty = objectives
            .states(model.network(), true)
            .map_err(|error| bad(&metrics.join(", "), &error))?;
        for state in &mut empty {
            state.begin_at(0);
        }

        let weights = match sample_weight {
            None => None,
            Some(column) => match schema.column_with_name(column) {
                Some((index, field)) if field.data_type().is_numeric() => {
                    Some((column.to_owned(), index))
                }
                Some((_, field)) => {
                    return Err(ServingError::BadSampleWeight {
                        column: column.to_owned(),
                        problem: format!("has type {}", field.data_type()),
                    });
                }
                None => {
                    return Err(FeatureError::UnknownColumn {
                        column: column.to_owned(),
                        context: ", the sample weight".to_owned(),
                        available: names(&schema),
                    }
                    .into());
                }
            },
        };
        let work = Evaluation {
            session,
            labels,
            weights,
            objectives: objectives.clone(),
            places,
            empty: empty.clone(),
        };
        let rows = query.execute().await?;
        let mut pieces = pin!(in_order(
            rows,
            self.config().threads,
            move |batch, first| { work.states(batch, first) }
        ));
        let mut total = empty;
        let mut rows = 0;
        while let Some(piece) = pieces.next().await {
            let piece = piece?;
            rows += piece.rows;
            for (sum, state) in total.iter_mut().zip(&piece.answer) {
                sum.merge(state)
                    .map_err(|error| bad(&state.metric().name(), &error))?;
            }
        }
        if rows == 0 {
            return Err(FeatureError::NoRows {
                what: "the source to evaluate over".to_owned(),
            }
            .into());
        }
        let answers = objectives.values(&total, true);
        Ok((answers.into_iter().collect(), rows))
    }
}

/// What the threads share.
struct Evaluation {
    session: ScoringSession,
    /// Of each output, with the column's place.
    labels: Vec<(usize, LabelReader)>,
    objectives: Objectives,
    places: Vec<OutputPlace>,
    /// The column of the row weights: its name and place.
    weights: Option<(String, usize)>,
    empty: Vec<MetricState>,
}

impl Evaluation {
    /// Metric sums of one piece.
    fn states(
        &self,
        batch: &RecordBatch,
        first_row: u64,
    ) -> Result<Vec<MetricState>, ServingError> {
        let mut measured = Measured::default();
        let outputs = self
            .session
            .outputs(batch, first_row, Some(&mut measured))?;
        let targets = self.targets(batch, first_row)?;
        let weights = self.weights(batch, first_row)?;
        let mut states = self.empty.clone();
        for state in &mut states {
            state.begin_at(first_row);
        }
        let (answer_width, target_width, mask_width) = match self.places.last() {
            Some(last) => (last.answers.end, last.targets.end, last.masks.end),
            None => (0, 0, 0),
        };
        let answers = SideBySide {
            values: &outputs,
            width: answer_width,
        };
        self.objectives.update(
            &mut states,
            true,
            &self.places,
            |output| answers.columns(&self.places[output].answers),
            SideBySide {
                values: &targets,
                width: target_width,
            },
            SideBySide {
                values: &measured.masks,
                width: mask_width,
            },
            weights.as_deref(),
            &measured.penalties,
        );
        Ok(states)
    }

    /// The targets of all outputs side by side.
    fn targets(&self, batch: &RecordBatch, first_row: u64) -> Result<Vec<f32>, ServingError> {
        let mut each = Vec::with_capacity(self.labels.len());
        for (index, labels) in &self.labels {
            each.push(labels.targets(batch.column(*index), first_row)?);
        }
        if each.len() == 1 {
            return Ok(each.swap_remove(0));
        }
        let mut rows = Vec::with_capacity(each.iter().map(Vec::len).sum());
        for row in 0..batch.num_rows() {
            for (targets, place) in each.iter().zip(&self.places) {
                let width = place.targets.len();
                rows.extend_from_slice(&targets[row * width..(row + 1) * width]);
            }
        }
        Ok(rows)
    }

    /// The row weights of one piece, if there are any.
    fn weights(
        &self,
        batch: &RecordBatch,
        first_row: u64,
    ) -> Result<Option<Vec<f32>>, ServingError> {
        let Some((name, index)) = &self.weights else {
            return Ok(None);
        };
        let bad = |problem: String| ServingError::BadSampleWeight {
            column: name.clone(),
            problem,
        };
        let column = cast(batch.column(*index), &DataType::Float32);
        let column = column.map_err(|error| bad(error.to_string()))?;
        let column = column.as_primitive::<Float32Type>();
        let weights: Option<Vec<f32>> = column.iter().collect();
        let Some(weights) = weights else {
            let row = (0..column.len()).find(|row| column.is_null(*row));
            return Err(bad(format!(
                "is null in row {}",
                first_row + row.unwrap_or(0) as u64
            )));
        };
        match weights
            .iter()
            .position(|weight| !(0.0..f32::INFINITY).contains(weight))
        {
            Some(row) => Err(bad(format!(
                "holds {} in row {}",
                weights[row],
                first_row + row as u64
            ))),
            None => Ok(Some(weights)),
        }
    }
}

/// What is measured: of each output its loss, and the metrics asked for or else its own. Of several outputs a metric that
/// is asked for is measured wherever it can be; that it can be nowhere is an error.
fn objectives(
    outputs: &[ModelOutput],
    asked: &[String],
    model: &Model,
) -> Result<Objectives, ServingError> {
    let all = asked.join(", ");
    let asked = Metric::parse_all(asked).map_err(|error| bad(&all, &error))?;
    let mut measured = vec![false; asked.len()];
    let mut objectives = Vec::with_capacity(outputs.len());
    for (number, output) in outputs.iter().enumerate() {
        let loss = Loss::parse(&output.loss).map_err(|error| bad(&output.loss, &error))?;
        let mut metrics = Vec::new();
        for (metric, measured) in asked.iter().zip(&mut measured) {
            match MetricState::new(metric.clone(), loss.clone(), model.output_extents(number)) {
                Ok(_) => {
                    *measured = true;
                    metrics.push(metric.clone());
                }
                Err(error) if outputs.len() == 1 => return Err(bad(&metric.name(), &error)),
                Err(_) => {}
            }
        }
        if asked.is_empty() {
            let own = Metric::parse_all(&output.metric_names);
            metrics = own.map_err(|error| bad(&output.metric_names.join(", "), &error))?;
        }
        objectives.push(OutputObjective {
            name: output.name.clone(),
            loss,
            weight: output.loss_weight,
            metrics,
        });
    }
    match asked
        .iter()
        .zip(&measured)
        .find(|(_, measured)| !**measured)
    {
        None => Ok(Objectives::new(objectives)),
        Some((metric, _)) => Err(ServingError::BadMetric {
            metric: metric.name(),
            reason: "it can be measured of none of the model's outputs".to_owned(),
        }),
    }
}

fn bad(metric: &str, error: &SpecError) -> ServingError {
    ServingError::BadMetric {
        metric: metric.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::catalog::LabelColumn;
    use crate::nn::{FeatureColumn, FeatureKind, ModelSpec};

    #[test]
    fn a_metric_over_classes_is_refused_for_numbers() {
        for metric in ["auc", "accuracy"] {
            let error = measured(&["mse"], metric).unwrap_err();
            assert!(error.to_string().contains("label of classes"), "{error}");
            assert!(measured(&["binary_crossentropy"], metric).is_ok());
        }
    }

    #[test]
    fn of_several_outputs_a_metric_is_measured_where_it_can_be() {
        let both = ["mse", "binary_crossentropy"];
        let columns = measured(&both, "auc").unwrap().columns();
        let columns: Vec<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(columns, ["loss", "0_loss", "1_loss", "1_auc"]);
        let error = measured(&["mse", "mae"], "auc").unwrap_err();
        assert!(
            error.to_string().contains("none of the model's outputs"),
            "{error}"
        );
    }

    /// Outputs of one sigmoid unit each, one for each loss.
    fn measured(losses: &[&str], metric: &str) -> Result<Objectives, ServingError> {
        let mut layers = vec![json!({"name": "features", "layer": "Input"})];
        let names: Vec<String> = (0..losses.len()).map(|number| number.to_string()).collect();
        layers.extend(names.iter().map(|name| {
            json!({"name": name, "layer": "Dense", "config": {"units": 1, "activation": "sigmoid"}, "inputs": ["features"]})
        }));
        let spec = json!({"format_version": 1, "name": "m", "layers": layers, "outputs": names});
        let feature = FeatureColumn {
            name: "x".to_owned(),
            width: 1,
            kind: FeatureKind::Float,
        };
        let model = Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap();
        let outputs = losses.iter().zip(&names).map(|(loss, name)| ModelOutput {
            name: name.clone(),
            label: LabelColumn {
                name: "y".to_owned(),
                data_type: "Float32".to_owned(),
                classes: Vec::new(),
            },
            loss: (*loss).to_owned(),
            loss_weight: 1.0,
            metric_names: Vec::new(),
        });
        let outputs: Vec<ModelOutput> = outputs.collect();
        objectives(&outputs, &[metric.to_owned()], &model)
    }
}

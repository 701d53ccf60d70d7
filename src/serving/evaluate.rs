//! Loss and metrics of a model over rows that have its label.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Float32Type};
use futures::StreamExt;

use super::labels::LabelReader;
use super::loaded::names;
use super::ordered::in_order;
use super::{ScoringSession, ServingError};
use crate::features::{FeatureError, QueryEngine, Source};
use crate::nn::{Loss, Metric, MetricState, SpecError};

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
        let loss = Loss::parse(&manifest.loss).map_err(|error| ServingError::BadModel {
            model: manifest.name.clone(),
            version: manifest.version,
            reason: error.to_string(),
        })?;
        let (label_index, field) =
            schema
                .column_with_name(&manifest.label.name)
                .ok_or_else(|| FeatureError::UnknownColumn {
                    column: manifest.label.name.clone(),
                    context: format!(", the label of model {name:?}"),
                    available: names(&schema),
                })?;
        let labels = LabelReader::new(
            &manifest.label,
            &manifest.label.arrow_type()?,
            field.data_type(),
            loss.target_width(model.network()),
        )?;
        let asked = if metrics.is_empty() {
            &manifest.metric_names
        } else {
            metrics
        };
        let mut empty = empty_states(asked, &loss, model.network().output_extents())?;
        for (_, state) in &mut empty {
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
            label_index,
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
            for ((_, sum), (metric, state)) in total.iter_mut().zip(&piece.answer) {
                sum.merge(state)
                    .map_err(|error| bad(&metric.name(), &error))?;
            }
        }
        if rows == 0 {
            return Err(FeatureError::NoRows {
                what: "the source to evaluate over".to_owned(),
            }
            .into());
        }
        let answers = total
            .iter()
            .map(|(metric, state)| (metric.name(), state.result()));
        Ok((answers.collect(), rows))
    }
}

type States = Vec<(Metric, MetricState)>;

/// What the threads share.
struct Evaluation {
    session: ScoringSession,
    labels: LabelReader,
    label_index: usize,
    /// The column of the row weights: its name and place.
    weights: Option<(String, usize)>,
    empty: States,
}

impl Evaluation {
    /// Metric sums of one piece.
    fn states(&self, batch: &RecordBatch, first_row: u64) -> Result<States, ServingError> {
        let outputs = self.session.outputs(batch, first_row)?;
        let label = Arc::clone(batch.column(self.label_index));
        let targets = self.labels.targets(&label, first_row)?;
        let weights = self.weights(batch, first_row)?;
        let mut states = self.empty.clone();
        for (_, state) in &mut states {
            state.begin_at(first_row);
            let weights = weights.as_deref().filter(|_| state.metric().is_loss());
            state.update(&outputs, &targets, weights);
        }
        Ok(states)
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

/// The loss, then each metric once.
fn empty_states(asked: &[String], loss: &Loss, extents: &[usize]) -> Result<States, ServingError> {
    let all = asked.join(", ");
    let metrics = Metric::parse_all(asked).map_err(|error| bad(&all, &error))?;
    let metrics = std::iter::once(Metric::loss()).chain(metrics);
    metrics
        .map(|metric| {
            let state = MetricState::new(metric.clone(), loss.clone(), extents);
            let state = state.map_err(|error| bad(&metric.name(), &error))?;
            Ok((metric, state))
        })
        .collect()
}

fn bad(metric: &str, error: &SpecError) -> ServingError {
    ServingError::BadMetric {
        metric: metric.to_owned(),
        reason: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_over_classes_is_refused_for_numbers() {
        for metric in ["auc", "accuracy"] {
            let asked = [metric.to_owned()];
            let error = empty_states(&asked, &Loss::parse("mse").unwrap(), &[1]).unwrap_err();
            assert!(error.to_string().contains("label of classes"), "{error}");
            assert!(
                empty_states(&asked, &Loss::parse("binary_crossentropy").unwrap(), &[1]).is_ok()
            );
        }
    }
}

//! What training lowers and measures: for each output of a model its loss, how much that counts, and its metrics.
//!
//! The loss of the whole is the sum of weight times loss over the outputs, as in Keras; it is called `loss` in histories,
//! and where there are several outputs each one's own (without its weight) `<output>_loss`, its metrics `<output>_<metric>`.
//! Knows rows as row-major matrices in which the outputs' numbers stand side by side; not where they come from.

use std::borrow::Cow;
use std::ops::Range;

use super::error::SpecError;
use super::losses::Loss;
use super::metrics::{Metric, MetricState};
use super::model::Model;

/// How one output is trained.
#[derive(Debug, Clone, PartialEq)]
pub struct OutputObjective {
    /// What histories call it, where there are several.
    pub name: String,
    pub loss: Loss,
    /// What its loss is multiplied by in the loss of the whole.
    pub weight: f64,
    pub metrics: Vec<Metric>,
}

/// How every output is trained, in the order of the model's.
#[derive(Debug, Clone, PartialEq)]
pub struct Objectives {
    outputs: Vec<OutputObjective>,
}

/// Where an output's numbers stand in a row of answers, of targets and of masks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OutputPlace {
    pub answers: Range<usize>,
    pub targets: Range<usize>,
    /// Of the masks of `Predictor::masks`; empty where the output is not masked.
    pub masks: Range<usize>,
}

/// Rows of a matrix in which several outputs stand side by side.
#[derive(Debug, Clone, Copy, Default)]
pub struct SideBySide<'a> {
    pub values: &'a [f32],
    /// Numbers per row, of all outputs.
    pub width: usize,
}

/// A loss alone, for a model of one output.
impl From<Loss> for Objectives {
    fn from(loss: Loss) -> Self {
        Objectives::new(vec![OutputObjective {
            name: String::new(),
            loss,
            weight: 1.0,
            metrics: Vec::new(),
        }])
    }
}

impl Objectives {
    pub fn new(outputs: Vec<OutputObjective>) -> Self {
        Objectives { outputs }
    }

    pub fn outputs(&self) -> &[OutputObjective] {
        &self.outputs
    }

    /// Whether there are several, so that each has columns of its own in the history.
    pub fn several(&self) -> bool {
        self.outputs.len() > 1
    }

    /// Whether they go with the model's outputs, as far as that can be said without knowing the labels.
    pub(super) fn check_model(&self, model: &Model) -> Result<(), SpecError> {
        if self.outputs.len() != model.output_count() {
            return Err(SpecError::Malformed {
                problem: format!(
                    "it has {} outputs and {} of them are trained",
                    model.output_count(),
                    self.outputs.len()
                ),
                hint: "give each output a loss and a label".to_string(),
            });
        }
        let mut outputs = self.outputs.iter().enumerate();
        outputs.try_for_each(|(number, output)| output.loss.check_model(model, number))
    }

    /// Numbers per row of `LaneBatch::target`: those of all outputs side by side.
    pub fn target_width(&self, model: &Model) -> usize {
        let outputs = self.outputs.iter().enumerate();
        outputs
            .map(|(number, output)| output.loss.target_width(model, number))
            .sum()
    }

    /// Where each output stands in rows of answers, targets and masks.
    pub fn places(&self, model: &Model) -> Vec<OutputPlace> {
        let (mut answers, mut targets, mut masks) = (0, 0, 0);
        let next = |end: &mut usize, width: usize| {
            *end += width;
            *end - width..*end
        };
        let outputs = self.outputs.iter().enumerate();
        outputs
            .map(|(number, output)| OutputPlace {
                answers: next(&mut answers, model.width_of_output(number)),
                targets: next(&mut targets, output.loss.target_width(model, number)),
                masks: next(&mut masks, model.mask_width(number)),
            })
            .collect()
    }

    /// The loss of the whole from the outputs' own: the sum of weight times loss, in their order.
    pub fn total(&self, losses: impl IntoIterator<Item = f64>) -> f64 {
        let weighted = self.outputs.iter().zip(losses);
        weighted.map(|(output, loss)| output.weight * loss).sum()
    }

    /// The metrics of every output, each output's led by its loss when validating.
    fn metrics(&self, losses: bool) -> impl Iterator<Item = (usize, Metric)> + Clone {
        self.outputs
            .iter()
            .enumerate()
            .flat_map(move |(number, output)| {
                let loss = losses.then(Metric::loss);
                let metrics = loss.into_iter().chain(output.metrics.iter().cloned());
                metrics.map(move |metric| (number, metric))
            })
    }

    /// Empty states of [`Self::metrics`], in their order.
    pub fn states(&self, model: &Model, losses: bool) -> Result<Vec<MetricState>, SpecError> {
        self.metrics(losses)
            .map(|(number, metric)| {
                let loss = self.outputs[number].loss.clone();
                MetricState::new(metric, loss, model.output_extents(number))
            })
            .collect()
    }

    /// Adds rows to states that [`Self::states`] made. `answers` gives an output's own, `masks` which of its steps count;
    /// only losses are weighted and masked, as in Keras. `penalties` are those of `Predictor::penalties`.
    pub fn update<'a>(
        &self,
        states: &mut [MetricState],
        losses: bool,
        places: &[OutputPlace],
        answers: impl Fn(usize) -> Cow<'a, [f32]>,
        targets: SideBySide<'_>,
        masks: SideBySide<'_>,
        weights: Option<&[f32]>,
        penalties: &[f32],
    ) {
        if let (true, Some(first)) = (losses, states.first_mut()) {
            first.add_penalties(penalties);
        }
        let mut states = states.iter_mut();
        for (number, (output, place)) in self.outputs.iter().zip(places).enumerate() {
            let count = output.metrics.len() + usize::from(losses);
            if count == 0 {
                continue;
            }
            let answers = answers(number);
            let targets = targets.columns(&place.targets);
            let masked = losses && !place.masks.is_empty();
            let mask = masked.then(|| masks.columns(&place.masks));
            for state in states.by_ref().take(count) {
                let of_loss = state.metric().is_loss();
                let weights = weights.filter(|_| of_loss);
                let mask = mask.as_deref().filter(|_| of_loss);
                state.update_masked(&answers, &targets, weights, mask);
            }
        }
    }

    /// The history's values of merged states: the loss of the whole where they have losses, then each by its name.
    pub fn values(&self, states: &[MetricState], losses: bool) -> Vec<(String, f64)> {
        let of_outputs = self.metrics(losses).zip(states);
        let mut values = Vec::new();
        if losses {
            let of_losses = of_outputs
                .clone()
                .filter(|((_, metric), _)| metric.is_loss());
            let total = self.total(of_losses.map(|(_, state)| state.result()));
            let total = total + states.first().map_or(0.0, MetricState::penalty);
            values.push((Metric::loss().name(), total));
        }
        for ((number, metric), state) in of_outputs {
            if self.several() || !metric.is_loss() {
                values.push((self.column(number, &metric), state.result()));
            }
        }
        values
    }

    /// What the history calls a measure of an output.
    pub fn column(&self, number: usize, metric: &Metric) -> String {
        match self.several() {
            true => format!("{}_{}", self.outputs[number].name, metric.name()),
            false => metric.name(),
        }
    }

    /// The history's columns of loss and metrics, each with whether a larger value is better.
    pub fn columns(&self) -> Vec<(String, bool)> {
        let loss = Metric::loss();
        let mut columns = vec![(loss.name(), loss.rises())];
        for (number, metric) in self.metrics(self.several()) {
            columns.push((self.column(number, &metric), metric.rises()));
        }
        columns
    }
}

impl<'a> SideBySide<'a> {
    /// The columns of one output as a matrix of their own; not copied where they are all.
    pub fn columns(&self, columns: &Range<usize>) -> Cow<'a, [f32]> {
        if columns.len() == self.width {
            return Cow::Borrowed(self.values);
        }
        let rows = self.values.chunks_exact(self.width.max(1));
        let taken = rows.flat_map(|row| &row[columns.clone()]).copied();
        Cow::Owned(taken.collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::json;

    use super::*;
    use crate::nn::{
        FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, ModelSpec, ProgramError,
        StepKey,
    };

    #[test]
    fn a_class_that_is_none_is_told_with_its_row_whichever_output_it_is_of() {
        let found = step(&[0.5, 0.0, 0.25, 1.0, 7.0, 2.0]).unwrap();
        assert!(found.is_finite());
        let error = step(&[0.5, 0.0, 0.25, 3.0, 7.0, 2.0]).unwrap_err();
        let ProgramError::BadTarget { row, value, last } = error else {
            panic!("{error}");
        };
        assert_eq!((row, value.as_str(), last), (1, "3", 2));
    }

    #[test]
    fn a_weight_multiplies_an_outputs_share_of_the_sum_and_nothing_else() {
        let objectives = objectives();
        assert_eq!(objectives.total([2.0, 10.0]), 2.0 + 0.3 * 10.0);
        let columns: Vec<String> = objectives
            .columns()
            .into_iter()
            .map(|(name, _)| name)
            .collect();
        assert_eq!(
            columns,
            [
                "loss",
                "level_loss",
                "level_mae",
                "kind_loss",
                "kind_accuracy"
            ]
        );
        let alone = Objectives::from(Loss::parse("mse").unwrap());
        assert_eq!(alone.columns(), [("loss".to_string(), false)]);
    }

    #[test]
    fn losses_must_be_as_many_as_the_models_outputs() {
        let one = Loss::parse("mse").unwrap();
        let message = LaneTrainer::new(model(), one).unwrap_err().to_string();
        assert!(
            message.contains("it has 2 outputs and 1 of them are trained"),
            "{message}"
        );
    }

    /// The loss of three rows whose targets are a number and a class each.
    fn step(target: &[f32]) -> Result<f64, ProgramError> {
        let model = model();
        let parameters = model.initial_parameters(1);
        let mut gradient = vec![0.0; parameters.len()];
        let batch = LaneBatch {
            rows: 3,
            inputs: vec![InputData::Float32(&[0.1, 0.2, 0.3])],
            target,
            weights: None,
        };
        let key = StepKey {
            seed: 0,
            epoch: 0,
            step: 1,
            lane: 0,
        };
        let mut trainer = LaneTrainer::new(Arc::clone(&model), objectives())?;
        let found = trainer.step(&parameters, &[], &batch, &key, 3.0, &mut gradient, &mut [])?;
        Ok(found.loss_sum)
    }

    fn objectives() -> Objectives {
        let output = |name: &str, loss: &str, weight, metric: &str| OutputObjective {
            name: name.to_string(),
            loss: Loss::parse(loss).unwrap(),
            weight,
            metrics: Metric::parse_all(&[metric.to_string()]).unwrap(),
        };
        Objectives::new(vec![
            output("level", "mse", 1.0, "mae"),
            output("kind", "sparse_categorical_crossentropy", 0.3, "accuracy"),
        ])
    }

    fn model() -> Arc<Model> {
        let spec = json!({"format_version": 1, "name": "m", "outputs": ["level", "kind"], "layers": [
            {"name": "features", "layer": "Input"},
            {"name": "level", "layer": "Dense", "config": {"units": 1}, "inputs": ["features"]},
            {"name": "kind", "layer": "Dense", "config": {"units": 3, "activation": "softmax"}, "inputs": ["features"]},
        ]});
        let feature = FeatureColumn {
            name: "x".to_string(),
            width: 1,
            kind: FeatureKind::Float,
        };
        Arc::new(Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap())
    }
}

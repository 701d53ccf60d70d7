//! A loss or metric of a client's own: a program of (y_true, y_pred).
//!
//! Its description is `{"name": "custom", "title": "my_loss", "program": {...}}`. The program answers rows of any shape; a
//! row's value is the mean of its numbers. Both inputs have the shape of the model's answer.

use std::sync::Arc;

use serde_json::Value as Json;

use crate::autograd::{Bindings, Data, Destination, Graph, GraphError, NodeId, Op, Plan, RunError};
use crate::support::random::RandomKey;
use crate::tensor::Shape;

use super::super::error::SpecError;
use super::super::layer::{Signal, bad_input};
use super::super::losses::mean_by_row;
use super::Program;

/// Most bytes of a description: it goes with every state of a metric.
const DESCRIPTION_BYTES_MAX: usize = 1 << 16;
/// Longest title, which is a column of histories.
const TITLE_BYTES_MAX: usize = 64;
/// Rows evaluated at a time.
const ROWS_MAX: usize = 512;

/// A program of (y_true, y_pred).
#[derive(Debug)]
pub(in crate::nn) struct Objective {
    program: Program,
    title: String,
    description: Json,
}

impl PartialEq for Objective {
    fn eq(&self, other: &Self) -> bool {
        self.description == other.description
    }
}

impl Objective {
    /// Reads a description whose name is "custom"; `what` is "loss" or "metric".
    pub(in crate::nn) fn read(what: &str, description: &Json) -> Result<Arc<Self>, SpecError> {
        let owner = format!("custom {what}");
        let refuse = |problem: String, hint: &str| bad_input(&owner, problem, hint);
        let known = ["name", "title", "program"];
        let fields = description.as_object().into_iter().flatten();
        if let Some((unknown, _)) = fields
            .clone()
            .find(|(key, _)| !known.contains(&key.as_str()))
        {
            let shown: String = unknown.chars().take(80).collect();
            return Err(refuse(
                format!("it has the unknown option {shown:?}"),
                "known are title, program",
            ));
        }
        let title = description
            .get("title")
            .and_then(Json::as_str)
            .unwrap_or("custom");
        let plain = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
        if title.is_empty() || title.len() > TITLE_BYTES_MAX || !title.chars().all(plain) {
            let shown: String = title.chars().take(80).collect();
            return Err(refuse(
                format!("its title is {shown:?}"),
                "give 1 to 64 letters, digits and underscores",
            ));
        }
        let program = Program::read(&owner, description.get("program").unwrap_or(&Json::Null))?;
        if program.inputs() != 2 || program.outputs.len() != 1 || !program.losses.is_empty() {
            return Err(refuse(
                format!(
                    "its program has {} inputs and {} outputs",
                    program.inputs(),
                    program.outputs.len()
                ),
                "give a program of (y_true, y_pred) with one output and no losses",
            ));
        }
        if !program.parameters().is_empty() || program.streams() > 0 {
            return Err(refuse(
                "its program has parameters or random numbers".to_string(),
                "only layers train parameters and draw numbers",
            ));
        }
        let bytes = description.to_string().len();
        if bytes > DESCRIPTION_BYTES_MAX {
            return Err(refuse(
                format!("its description has {bytes} bytes"),
                "at most 65536 are allowed: use fewer constants",
            ));
        }
        Ok(Arc::new(Objective {
            program,
            title: title.to_string(),
            description: description.clone(),
        }))
    }

    /// What it is called in histories.
    pub(in crate::nn) fn title(&self) -> &str {
        &self.title
    }

    pub(in crate::nn) fn to_json(&self) -> Json {
        self.description.clone()
    }

    /// Whether it takes answers of this shape per row.
    pub(in crate::nn) fn check(&self, what: &str, extents: &[usize]) -> Result<(), SpecError> {
        let signals = [Signal::float(extents), Signal::float(extents)];
        self.program.check(&format!("custom {what}"), &signals)?;
        Ok(())
    }

    /// The value of each row: answers (R, ...) and as many targets to (R, 1). A mask (R, steps), 1 for a step that counts,
    /// leaves out steps where the program answers numbers for each.
    pub(in crate::nn) fn record(
        &self,
        graph: &mut Graph,
        output: NodeId,
        target: NodeId,
        mask: Option<NodeId>,
    ) -> Result<NodeId, GraphError> {
        let extents = graph.shape(output).extents().to_vec();
        let rows = extents.first().copied().unwrap_or(1);
        let target = graph.reshape(target, &extents)?;
        let answers = self
            .program
            .record(graph, rows, &[target, output], &[], &[])?;
        let value = answers.outputs[0];
        let steps = |mask: &NodeId| graph.shape(*mask).extents().get(1).copied();
        let answered = graph.shape(value).extents().get(1).copied();
        let mask = mask.filter(|mask| steps(mask) == answered);
        mean_by_row(graph, value, rows, mask)
    }

    /// The value of each row of answers, by the float32 kernels that training runs. Empty when the slices do not go
    /// together.
    pub(in crate::nn) fn of_rows(
        &self,
        predictions: &[f32],
        targets: &[f32],
        extents: &[usize],
        mask: Option<&[f32]>,
    ) -> Vec<f64> {
        let width: usize = extents.iter().product();
        if width == 0 || predictions.len() != targets.len() {
            return Vec::new();
        }
        let parts = predictions
            .chunks(ROWS_MAX * width)
            .zip(targets.chunks(ROWS_MAX * width));
        let mask = mask.unwrap_or(&[]);
        let steps = mask.len() / (predictions.len() / width).max(1);
        let mut masks = mask.chunks((ROWS_MAX * steps).max(1));
        let mut values = Vec::with_capacity(predictions.len() / width);
        let mut plan: Option<(usize, Plan)> = None;
        for (predictions, targets) in parts {
            let rows = predictions.len() / width;
            if plan.as_ref().is_none_or(|(planned, _)| *planned != rows) {
                let made = self.plan(rows, extents, steps).ok();
                plan = made.map(|plan| (rows, plan));
            }
            let mask = masks.next().unwrap_or(&[]);
            let inputs = [targets, predictions, mask].map(Data::Float32);
            let inputs = &inputs[..2 + usize::from(steps > 0)];
            let plan = plan.as_mut();
            let kept = plan.and_then(|(_, plan)| run(plan, inputs).ok().map(|()| plan.kept(0)));
            match kept {
                Some(kept) => values.extend(kept.iter().copied().map(f64::from)),
                None => values.extend(std::iter::repeat_n(f64::NAN, rows)),
            }
        }
        values
    }

    fn plan(&self, rows: usize, extents: &[usize], steps: usize) -> Result<Plan, GraphError> {
        let mut graph = Graph::new();
        let shape = Shape::new(&[&[rows], extents].concat());
        let target = graph.add(Op::Input(0, shape.clone()), &[])?;
        let output = graph.add(Op::Input(1, shape), &[])?;
        let mask = match steps {
            0 => None,
            steps => Some(graph.add(Op::Input(2, Shape::new(&[rows, steps])), &[])?),
        };
        let value = self.record(&mut graph, output, target, mask)?;
        Plan::new(&graph, &[(value, Destination::Keep)])
    }
}

fn run(plan: &mut Plan, inputs: &[Data<'_>]) -> Result<(), RunError> {
    plan.run(&mut Bindings {
        inputs,
        more_inputs: &[],
        parameters: &[],
        statistics: &[],
        gradient: &mut [],
        statistics_out: &mut [],
        key: RandomKey::of(0, 0),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nn::{
        FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Metric, MetricState,
        Model, ModelSpec, StepKey, TargetKind,
    };

    /// |y_true - y_pred| of each number.
    fn absolute(title: &str) -> Json {
        json!({"name": "custom", "title": title, "program": {"inputs": 2, "nodes": [
            {"op": "subtract", "inputs": [0, 1]}, {"op": "abs", "inputs": [2]}], "outputs": [3]}})
    }

    #[test]
    fn a_loss_of_ones_own_trains_as_the_same_loss_by_name() {
        let own = Loss::read(&absolute("distance")).unwrap();
        let known = Loss::parse("mae").unwrap();
        own.check(&model(), 0, &TargetKind::Numeric { width: 2 })
            .unwrap();
        let (x, target) = (
            [1.0, 2.0, 3.0, -1.0, 0.5, 0.0],
            [0.5, 0.0, 1.0, 1.0, -2.0, 3.0],
        );
        let weights = [1.0, 2.0, 0.5];
        let step = |loss: &Loss| {
            let model = Arc::new(model());
            let mut trainer = LaneTrainer::new(Arc::clone(&model), loss.clone()).unwrap();
            let batch = LaneBatch {
                rows: 3,
                inputs: vec![InputData::Float32(&x)],
                target: &target,
                weights: Some(&weights),
            };
            let key = StepKey {
                seed: 1,
                epoch: 0,
                step: 0,
                lane: 0,
            };
            let parameters = model.initial_parameters(3);
            let mut gradient = vec![f32::NAN; parameters.len()];
            let output = trainer.step(&parameters, &[], &batch, &key, 3.0, &mut gradient, &mut []);
            (output.unwrap().loss_sum, gradient)
        };
        let ((loss, gradient), (expected, slope)) = (step(&own), step(&known));
        assert!((loss - expected).abs() < 1e-6 * expected);
        for (found, expected) in gradient.iter().zip(&slope) {
            assert!((found - expected).abs() < 1e-6, "{gradient:?} {slope:?}");
        }
        let mask = [1.0, 0.0, 0.0, 0.0, 1.0, 1.0];
        for (extents, mask) in [(&[2][..], None), (&[2, 1], Some(&mask[..]))] {
            let of_rows = |loss: &Loss| loss.of_rows(&x, &target, extents, mask);
            let (found, expected) = (of_rows(&own), of_rows(&known));
            assert_eq!((found.len(), expected.len()), (3, 3));
            for (found, expected) in found.iter().zip(expected) {
                assert!((found - expected).abs() < 1e-6);
            }
        }
    }

    #[test]
    fn a_metric_of_ones_own_is_the_weighted_mean_over_rows_however_they_are_cut() {
        let metric = Metric::parse(&absolute("distance").to_string()).unwrap();
        assert_eq!(metric.name(), "distance");
        let state = || MetricState::new(metric.clone(), Loss::parse("mse").unwrap(), &[2]).unwrap();
        let rows = 1500;
        let answers: Vec<f32> = (0..rows * 2).map(|at| (at % 7) as f32).collect();
        let targets: Vec<f32> = (0..rows * 2).map(|at| (at % 5) as f32).collect();
        let weights: Vec<f32> = (0..rows).map(|row| (row % 3) as f32).collect();
        let mut whole = state();
        whole.update(&answers, &targets, Some(&weights));
        let mut parts = state();
        for start in [0, 700] {
            let end = if start == 0 { 700 } else { rows };
            let mut part = state();
            part.update(
                &answers[start * 2..end * 2],
                &targets[start * 2..end * 2],
                Some(&weights[start..end]),
            );
            parts
                .merge(&MetricState::from_bytes(&part.to_bytes()).unwrap())
                .unwrap();
        }
        assert_eq!(whole.to_bytes(), parts.to_bytes());
        let (mut sum, mut count) = (0.0, 0.0);
        let pairs = answers.chunks_exact(2).zip(targets.chunks_exact(2));
        for ((answer, target), &weight) in pairs.zip(&weights) {
            let distance = |at: usize| f64::from((answer[at] - target[at]).abs());
            sum += f64::from(weight) * (distance(0) + distance(1)) / 2.0;
            count += f64::from(weight);
        }
        assert!((whole.result() - sum / count).abs() < 1e-9);
    }

    #[test]
    fn descriptions_come_back_and_what_cannot_be_one_is_refused() {
        let own = absolute("distance");
        assert_eq!(Loss::read(&own).unwrap().to_json(), own);
        assert_eq!(
            Loss::parse(&Loss::read(&own).unwrap().text()).unwrap(),
            Loss::read(&own).unwrap()
        );
        assert_ne!(
            Loss::read(&own).unwrap(),
            Loss::read(&absolute("other")).unwrap()
        );
        let metrics = [
            absolute("distance").to_string(),
            absolute("distance").to_string(),
            absolute("far").to_string(),
        ];
        let names: Vec<String> = Metric::parse_all(&metrics)
            .unwrap()
            .iter()
            .map(Metric::name)
            .collect();
        assert_eq!(names, ["distance", "far"]);
        let refused = |change: fn(&mut Json), expected: &str| {
            let mut description = absolute("distance");
            change(&mut description);
            let message = Loss::read(&description).unwrap_err().to_string();
            assert_eq!(message, format!("layer \"custom loss\": {expected}"));
        };
        refused(
            |json| json["title"] = json!("a b"),
            "its title is \"a b\"; give 1 to 64 letters, digits and underscores",
        );
        refused(
            |json| json["delta"] = json!(1),
            "it has the unknown option \"delta\"; known are title, program",
        );
        refused(
            |json| json["program"]["inputs"] = json!(3),
            "its program has 3 inputs and 1 outputs; give a program of (y_true, y_pred) with one output and no losses",
        );
        refused(
            |json| {
                json["program"]["nodes"][1] = json!({"op": "parameter", "name": "w", "shape": []})
            },
            "its program has parameters or random numbers; only layers train parameters and draw numbers",
        );
        let message = Metric::read(&absolute("mae")).unwrap_err().to_string();
        assert!(
            message.ends_with(
                "its title \"mae\" is the name of another metric; give it a title of its own"
            ),
            "{message}"
        );
        // Its shapes are found once the model's are known.
        let mut wide = absolute("distance");
        wide["program"]["nodes"][1] = json!({"op": "getitem", "inputs": [2], "key": ["...", 5]});
        let message =
            Loss::read(&wide)
                .unwrap()
                .check(&model(), 0, &TargetKind::Numeric { width: 2 });
        assert_eq!(
            message.unwrap_err().to_string(),
            "layer \"custom loss, node 1 (getitem)\": index 5 is outside axis 1 of (None, 2); indices are -2 to 1"
        );
    }

    fn model() -> Model {
        let spec = json!({"format_version": 1, "name": "small", "outputs": ["answer"], "layers": [
            {"name": "x", "layer": "Input", "config": {"columns": ["x"]}},
            {"name": "answer", "layer": "Dense", "config": {"units": 2}, "inputs": ["x"]}]});
        let x = FeatureColumn {
            name: "x".to_string(),
            width: 2,
            kind: FeatureKind::Float,
        };
        Model::build(&ModelSpec::from_json(&spec).unwrap(), &[x]).unwrap()
    }
}

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

    /// The value of each row: answers (R, ...) and as many targets to (R, 1).
    pub(in crate::nn) fn record(
        &self,
        graph: &mut Graph,
        output: NodeId,
        target: NodeId,
    ) -> Result<NodeId, GraphError> {
        let extents = graph.shape(output).extents().to_vec();
        let rows = extents.first().copied().unwrap_or(1);
        let target = graph.reshape(target, &extents)?;
        let answers = self
            .program
            .record(graph, rows, &[target, output], &[], &[])?;
        let value = answers.outputs[0];
        let width = graph.shape(value).len() / rows.max(1);
        let by_row = graph.reshape(value, &[rows, width])?;
        let mean = graph.mean(by_row, 1, 1)?;
        graph.reshape(mean, &[rows, 1])
    }

    /// The value of each row of answers, by the float32 kernels that training runs. Empty when the slices do not go
    /// together.
    pub(in crate::nn) fn of_rows(
        &self,
        predictions: &[f32],
        targets: &[f32],
        extents: &[usize],
    ) -> Vec<f64> {
        let width: usize = extents.iter().product();
        if width == 0 || predictions.len() != targets.len() {
            return Vec::new();
        }
        let parts = predictions
            .chunks(ROWS_MAX * width)
            .zip(targets.chunks(ROWS_MAX * width));
        let mut values = Vec::with_capacity(predictions.len() / width);
        let mut plan: Option<(usize, Plan)> = None;
        for (predictions, targets) in parts {
            let rows = predictions.len() / width;
            if plan.as_ref().is_none_or(|(planned, _)| *planned != rows) {
                plan = self.plan(rows, extents).ok().map(|plan| (rows, plan));
            }
            let inputs = [Data::Float32(targets), Data::Float32(predictions)];
            let plan = plan.as_mut();
            let kept = plan.and_then(|(_, plan)| run(plan, &inputs).ok().map(|()| plan.kept(0)));
            match kept {
                Some(kept) => values.extend(kept.iter().copied().map(f64::from)),
                None => values.extend(std::iter::repeat_n(f64::NAN, rows)),
            }
        }
        values
    }

    fn plan(&self, rows: usize, extents: &[usize]) -> Result<Plan, GraphError> {
        let mut graph = Graph::new();
        let shape = Shape::new(&[&[rows], extents].concat());
        let target = graph.add(Op::Input(0, shape.clone()), &[])?;
        let output = graph.add(Op::Input(1, shape), &[])?;
        let value = self.record(&mut graph, output, target)?;
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

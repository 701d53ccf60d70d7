//! Lambda: a program of a client's own (`expression/`), recorded in Python by `Lambda(function)` or by a custom layer.
//!
//! Shapes: whatever the program makes of its inputs; several outputs become further outputs. Its "parameter" nodes are
//! the layer's arrays under their names; those with `"trainable": false` stay as they start. Values of "losses", one number
//! per row, are added to the loss. Random numbers are fresh in every step of training and 0 when predicting, so that the
//! answer to a row depends on nothing but the row. Masks end here, as in Keras.

use crate::autograd::{GraphError, NodeId};

use super::super::error::SpecError;
use super::super::expression::Program;
use super::super::layer::{ArraySpec, Context, Layer, Signal};
use super::super::options::Options;
use super::activation::Activation;

#[derive(Debug)]
pub(super) struct Lambda {
    program: Program,
}

impl Lambda {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let owner = options.layer();
        let program = options.value("program").unwrap_or(&serde_json::Value::Null);
        Ok(Lambda {
            program: Program::read(owner, program)?,
        })
    }

    fn arrays(&self, trainable: bool) -> Vec<ArraySpec> {
        let parameters = self.program.parameters().iter();
        parameters
            .filter(|parameter| parameter.trainable == trainable)
            .map(|parameter| parameter.array.clone())
            .collect()
    }
}

impl Layer for Lambda {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let mut outputs = self.program.check(name, inputs)?;
        Ok(outputs.swap_remove(0))
    }

    fn further_outputs(&self, inputs: &[Signal]) -> Vec<Signal> {
        let outputs = self.program.check("", inputs).unwrap_or_default();
        outputs.into_iter().skip(1).collect()
    }

    fn parameters(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        self.arrays(true)
    }

    fn statistics(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        self.arrays(false)
    }

    fn activation(&self) -> Option<Activation> {
        self.program.activation()
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let (mut trained, mut still) = (0, 0);
        let mut leaves = Vec::with_capacity(self.program.parameters().len());
        for parameter in self.program.parameters() {
            if parameter.trainable {
                leaves.push(context.parameter(trained)?);
                trained += 1;
            } else {
                leaves.push(context.statistic(still)?);
                still += 1;
            }
        }
        let draws = if context.training {
            self.program.streams()
        } else {
            0
        };
        let streams: Vec<u32> = (0..draws).map(|_| context.stream()).collect();
        let answers =
            self.program
                .record(context.graph, context.rows, inputs, &leaves, &streams)?;
        for loss in answers.losses {
            context.add_row_penalty(loss)?;
        }
        let mut outputs = answers.outputs.into_iter();
        let first = outputs.next();
        context.further = outputs.collect();
        // A program has at least one output: reading it said so.
        first.map_or_else(|| context.graph.constant(0.0), Ok)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::nn::{
        FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec,
        Predictor, SpecError, StepKey, TargetKind,
    };

    const KEY: StepKey = StepKey {
        seed: 5,
        epoch: 0,
        step: 1,
        lane: 0,
    };

    #[test]
    fn its_parameters_have_their_names_and_those_not_trained_stay() {
        let model = model(json!({"inputs": 1, "nodes": [
            {"op": "parameter", "name": "scale", "shape": [3], "initializer": "ones"},
            {"op": "parameter", "name": "shift", "shape": [3], "initializer": {"name": "constant", "value": 2}, "trainable": false},
            {"op": "multiply", "inputs": [0, 1]}, {"op": "add", "inputs": [3, 2]}], "outputs": [4]}))
        .unwrap();
        assert_eq!(model.parameters()[0].name, "mine/scale");
        assert_eq!(model.statistics()[0].name, "mine/shift");
        let (x, target) = ([1.0, 2.0, 3.0], [0.0; 3]);
        let (loss, predictions, gradient, after) = step(&model, &x, &target, &KEY);
        assert_eq!(predictions, [3.0, 4.0, 5.0]);
        assert!((loss - 50.0 / 3.0).abs() < 1e-5);
        // 2 (x s + 2) x / 3
        assert_eq!(gradient, [2.0, 16.0 / 3.0, 10.0]);
        assert_eq!(after, [2.0; 3]);
    }

    #[test]
    fn a_loss_of_its_own_is_added_for_each_row_while_training() {
        let with = |losses: Value| {
            model(json!({"inputs": 1, "nodes": [
                {"op": "parameter", "name": "scale", "shape": [], "initializer": "ones"},
                {"op": "multiply", "inputs": [0, 1]},
                {"op": "square", "inputs": [2]},
                {"op": "sum", "inputs": [3], "axis": [-1], "keepdims": true}], "outputs": [2], "losses": losses}))
            .unwrap()
        };
        let (x, target) = ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], [0.0; 6]);
        let (plain, _, slope, _) = step(&with(json!([])), &x, &target, &KEY);
        let (added, _, other, _) = step(&with(json!([4])), &x, &target, &KEY);
        // The mean squares are a third of the squares' sum, 91.
        assert!((plain - 91.0 / 3.0).abs() < 1e-4);
        assert!((added - plain - 91.0).abs() < 1e-4);
        assert!(
            (slope[0] - 182.0 / 3.0).abs() < 1e-3 && (other[0] - slope[0] - 182.0).abs() < 1e-3
        );
    }

    #[test]
    fn an_answer_of_one_number_per_row_needs_no_axis_for_it() {
        let of = |keepdims: bool| {
            let program = json!({"inputs": 1, "nodes": [
                {"op": "parameter", "name": "scale", "shape": [3], "initializer": "ones"},
                {"op": "multiply", "inputs": [0, 1]},
                {"op": "sum", "inputs": [2], "axis": [-1], "keepdims": keepdims}], "outputs": [3]});
            step(
                &model(program).unwrap(),
                &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
                &[1.0, 2.0],
                &KEY,
            )
        };
        let (loss, predictions, gradient, _) = of(false);
        assert_eq!(
            (loss, predictions.as_slice()),
            (25.0 + 169.0, [6.0, 15.0].as_slice())
        );
        // 2 (5 x + 13 x'), each row's error by its numbers
        assert_eq!(gradient, [114.0, 150.0, 186.0]);
        assert_eq!(of(true), of(false));
    }

    #[test]
    fn random_numbers_are_fresh_in_every_step_and_nothing_when_predicting() {
        let nodes = json!([{"op": "random_normal", "shape": [null, 3]}, {"op": "random_normal", "shape": [null, 3]},
            {"op": "concatenate", "inputs": [1, 2], "axis": 1}]);
        let program = json!({"inputs": 1, "nodes": nodes, "outputs": [3]});
        let model = model(program).unwrap();
        let rows = 2000;
        let (x, target) = (vec![0.0; rows * 3], vec![0.0; rows * 6]);
        let (_, first, ..) = step(&model, &x, &target, &KEY);
        let (_, again, ..) = step(&model, &x, &target, &KEY);
        let (_, next, ..) = step(&model, &x, &target, &StepKey { step: 2, ..KEY });
        assert_eq!(first, again);
        assert_ne!(first, next);
        let mean = |values: &[f32], power: i32| {
            values
                .iter()
                .map(|value| f64::from(*value).powi(power))
                .sum::<f64>()
                / values.len() as f64
        };
        assert!(mean(&first, 1).abs() < 0.05 && (mean(&first, 2) - 1.0).abs() < 0.05);
        let unlike = first.chunks_exact(6).all(|row| row[..3] != row[3..]);
        assert!(unlike, "two draws are two streams");
        let mut predictor = Predictor::new(model);
        let answers = predictor.predict(&[], &[], rows, &[InputData::Float32(&x)]);
        assert!(answers.unwrap().iter().all(|answer| *answer == 0.0));
    }

    #[test]
    fn several_outputs_are_taken_by_number() {
        let spec = json!({"format_version": 1, "name": "small", "outputs": ["joined"], "layers": [
            {"name": "x", "layer": "Input", "config": {"columns": ["x"]}},
            {"name": "mine", "layer": "Lambda", "inputs": ["x"], "config": {"program": {"inputs": 1, "nodes": [
                {"op": "exp", "inputs": [0]}, {"op": "sum", "inputs": [0], "axis": -1, "keepdims": true}], "outputs": [1, 2]}}},
            {"name": "joined", "layer": "Concatenate", "inputs": ["mine:1", "mine"]}]});
        let model =
            Arc::new(Model::build(&ModelSpec::from_json(&spec).unwrap(), &features()).unwrap());
        let mut predictor = Predictor::new(model);
        let answer = predictor
            .predict(&[], &[], 1, &[InputData::Float32(&[0.0, 0.0, 1.0])])
            .unwrap();
        assert_eq!(answer[..3], [1.0, 1.0, 1.0]);
        assert!((answer[3] - std::f32::consts::E).abs() < 1e-6);
    }

    #[test]
    fn a_model_may_end_in_a_program_that_answers_probabilities() {
        let ends_in = |node: Value| {
            let model = model(json!({"inputs": 1, "nodes": [node], "outputs": [1]})).unwrap();
            let loss = Loss::parse("sparse_categorical_crossentropy").unwrap();
            loss.check(&model, 0, &TargetKind::Classes { classes: 3 })
        };
        ends_in(json!({"op": "softmax", "inputs": [0]})).unwrap();
        ends_in(json!({"op": "exp", "inputs": [0]})).unwrap_err();
    }

    #[test]
    fn a_program_that_does_not_fit_is_refused_with_the_layer() {
        let refused = |program: Value| model(program).unwrap_err().to_string();
        assert_eq!(
            refused(json!({"inputs": 2, "nodes": [], "outputs": [0]})),
            "layer \"mine\": its program has 2 inputs and 1 are connected; connect as many layers as the program has inputs"
        );
        assert_eq!(
            refused(
                json!({"inputs": 1, "nodes": [{"op": "exp", "inputs": [0]}], "outputs": [0], "losses": [1]})
            ),
            "layer \"mine, loss 0\": its shape is (None, 3); give one number for each row: take the sum or mean over all axes \
             behind the rows"
        );
        assert!(refused(json!(null)).starts_with("layer \"mine\": its program is no object; give"));
    }

    fn features() -> Vec<FeatureColumn> {
        vec![FeatureColumn {
            name: "x".to_string(),
            width: 3,
            kind: FeatureKind::Float,
        }]
    }

    /// A model of an input of three numbers and a Lambda.
    fn model(program: Value) -> Result<Arc<Model>, SpecError> {
        let spec = json!({"format_version": 1, "name": "small", "outputs": ["mine"], "layers": [
            {"name": "x", "layer": "Input", "config": {"columns": ["x"]}},
            {"name": "mine", "layer": "Lambda", "config": {"program": program}, "inputs": ["x"]}]});
        Model::build(&ModelSpec::from_json(&spec)?, &features()).map(Arc::new)
    }

    /// One step from the initial arrays with a denominator of 1: loss, predictions, gradient, new statistics.
    fn step(
        model: &Arc<Model>,
        x: &[f32],
        target: &[f32],
        key: &StepKey,
    ) -> (f64, Vec<f32>, Vec<f32>, Vec<f32>) {
        let mut trainer = LaneTrainer::new(Arc::clone(model), Loss::parse("mse").unwrap()).unwrap();
        let (parameters, statistics) = (model.initial_parameters(1), model.initial_statistics());
        let (mut gradient, mut after) = (
            vec![f32::NAN; parameters.len()],
            vec![f32::NAN; statistics.len()],
        );
        let batch = LaneBatch {
            rows: x.len() / 3,
            inputs: vec![InputData::Float32(x)],
            target,
            weights: None,
        };
        let output = trainer
            .step(
                &parameters,
                &statistics,
                &batch,
                key,
                1.0,
                &mut gradient,
                &mut after,
            )
            .unwrap();
        (
            output.loss_sum,
            output.predictions(0).to_vec(),
            gradient,
            after,
        )
    }
}

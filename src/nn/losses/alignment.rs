//! Losses of a sequence of classes that is shorter than the answer, whose places among the steps are not known.

use crate::autograd::Op;

use super::words::{Given, Recorded};

/// -log of the probability that the steps read as the label, class 0 being blank (`tensor/kernels/ctc.rs`). The answer is logits.
pub(super) fn ctc(given: &mut Given<'_>) -> Recorded {
    let graph = &mut *given.graph;
    // A label has a place for each step, so that the steps of an answer are known from it.
    let (rows, steps) = (
        graph.shape(given.label).outer(),
        graph.shape(given.label).last(),
    );
    let classes = graph.shape(given.answer).last() / steps.max(1);
    let logits = graph.reshape(given.answer, &[rows, steps, classes])?;
    let log_p = graph.add(Op::LogSoftmax, &[logits])?;
    graph.add(Op::Ctc, &[log_p, given.label])
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use serde_json::{Value, json};

    use crate::nn::{
        FeatureColumn, FeatureKind, InputData, LaneBatch, LaneTrainer, Loss, Model, ModelSpec,
        StepKey, TargetKind,
    };

    #[test]
    fn ctc_takes_logits_of_steps_and_a_label_with_a_place_for_each() {
        let ctc = Loss::parse("ctc").unwrap();
        let steps = sequence(&[4, 3], "linear");
        ctc.check(&steps, 0, &TargetKind::Numeric { width: 4 })
            .unwrap();
        assert_eq!(ctc.target_width(&steps, 0), 4);
        let refused = |model: &Model, target: TargetKind| {
            let message = ctc.check(model, 0, &target).unwrap_err().to_string();
            let start = "loss \"ctc\" does not fit the model: ";
            message.strip_prefix(start).unwrap().to_string()
        };
        let numbers = TargetKind::Numeric { width: 4 };
        assert_eq!(
            refused(&steps, TargetKind::Numeric { width: 3 }),
            "its output has extents [4, 3] per row and the label is 3 numbers; give a list of as many numbers as the \
             model answers steps: classes from 1, then zeros"
        );
        assert!(
            refused(&steps, TargetKind::Classes { classes: 3 })
                .starts_with("its output has extents [4, 3] per row and the label is one of 3 classes; give a list")
        );
        assert!(
            refused(&sequence(&[4, 3], "softmax"), numbers)
                .contains("answers probabilities and \"ctc\" takes logits")
        );
        for extents in [&[12][..], &[4, 1], &[2, 2, 3]] {
            assert!(
                refused(&sequence(extents, "linear"), numbers)
                    .contains("per row; answer (steps, classes)")
            );
        }
    }

    #[test]
    fn a_label_that_the_steps_cannot_read_as_is_refused_with_its_row() {
        let dense = json!({"layer": "Dense", "config": {"units": 3}});
        let model = Arc::new(ending_in(&[3, 2], &dense));
        let mut trainer =
            LaneTrainer::new(Arc::clone(&model), Loss::parse("ctc").unwrap()).unwrap();
        let parameters = model.initial_parameters(1);
        let numbers: Vec<f32> = (0..12).map(|number| number as f32 * 0.1).collect();
        let mut step = |target: &[f32]| {
            let mut gradient = vec![0.0; model.parameter_len()];
            let batch = LaneBatch {
                rows: 2,
                inputs: vec![InputData::Float32(&numbers)],
                target,
                weights: None,
            };
            let key = StepKey {
                seed: 1,
                epoch: 0,
                step: 1,
                lane: 0,
            };
            let found = trainer.step(&parameters, &[], &batch, &key, 2.0, &mut gradient, &mut []);
            found
                .map(|output| output.loss_sum)
                .map_err(|error| error.to_string())
        };
        assert!(step(&[1.0, 2.0, 1.0, 2.0, 2.0, 0.0]).unwrap() > 0.0);
        assert_eq!(
            step(&[1.0, 2.0, 1.0, 2.0, 2.0, 1.0]).unwrap_err(),
            "the label of row 1 needs 4 steps, a blank between equal neighbours included, and there are 3; shorten it or \
             answer more steps"
        );
        assert_eq!(
            step(&[0.0, 2.0, 0.0, 2.0, 2.0, 0.0]).unwrap_err(),
            "the label of row 0 has a class behind a 0; 0 is blank and only fills up its end"
        );
        assert!(
            step(&[1.0, 0.0, 0.0, 2.0, 3.0, 0.0])
                .unwrap_err()
                .starts_with("target 3 in row 1 is no class index from 0 to 2")
        );
    }

    /// A model of rows of these extents, and one layer.
    fn ending_in(extents: &[usize], layer: &Value) -> Model {
        let spec = json!({"format_version": 1, "name": "small", "outputs": ["answer"], "layers": [
            {"name": "steps", "layer": "Input", "config": {"columns": ["x"], "shape": extents}},
            {"name": "answer", "layer": layer["layer"], "config": layer["config"], "inputs": ["steps"]},
        ]});
        let feature = FeatureColumn {
            name: "x".to_string(),
            width: extents.iter().product(),
            kind: FeatureKind::Float,
        };
        Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap()
    }

    /// A model whose answer has these extents.
    fn sequence(extents: &[usize], activation: &str) -> Model {
        let config = json!({"activation": activation});
        ending_in(extents, &json!({"layer": "Activation", "config": config}))
    }
}

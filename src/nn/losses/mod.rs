//! Losses, with Keras' names, options and meaning: probabilities come out of sigmoid or softmax.
//!
//! `recipes.rs` is the table of them; each is a function that records a graph (`regression.rs`, `crossentropy.rs`,
//! `margin.rs`, `overlap.rs`, `alignment.rs`). Every one is held to Keras' by golden values (`tests/golden/losses/`). A row's loss is of
//! its numbers alone: losses that Keras takes over a whole batch (the default of its dice) are taken over a row.
//! Does not know where labels come from.

mod alignment;
mod crossentropy;
mod float64;
mod margin;
mod overlap;
mod recipes;
mod regression;
mod words;

use std::sync::Arc;

use serde_json::Value;

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Unary;

use super::error::SpecError;
use super::expression::Objective;
use super::layers::activation::Activation;
use super::model::Model;
use super::settings::{Values, description_of, name_and_options, shortened, text_of};

pub(super) use recipes::Label;
use recipes::{Over, RECIPES, Recipe};
use words::Given;

pub(super) use words::mean_by_row;

/// What the label column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TargetKind {
    /// Numbers, `width` per row.
    Numeric { width: usize },
    /// One class index per row, 0 to `classes` - 1 (two classes are 0 and 1).
    Classes { classes: usize },
}

/// What training lowers: a loss with its options.
#[derive(Debug, Clone)]
pub struct Loss {
    recipe: &'static Recipe,
    values: Values,
    /// What a loss of the client's own is.
    own: Option<Arc<Objective>>,
}

impl PartialEq for Loss {
    fn eq(&self, other: &Self) -> bool {
        (self.name(), self.values, &self.own) == (other.name(), other.values, &other.own)
    }
}

impl Loss {
    /// By Keras name, with default options ("mse" and "mean_squared_error" are one), or by the JSON text of an object.
    pub fn parse(text: &str) -> Result<Loss, SpecError> {
        Loss::read(&description_of("loss", text)?)
    }

    /// A name, or an object of `name` and options.
    pub fn read(description: &Value) -> Result<Loss, SpecError> {
        let (name, options) = name_and_options("loss", description)?;
        if name == recipes::OWN.names[0] {
            return Ok(Loss {
                recipe: &recipes::OWN,
                values: Values::defaults(&[]),
                own: Some(Objective::read("loss", description)?),
            });
        }
        let recipe = RECIPES
            .iter()
            .find(|recipe| recipe.names.contains(&name.as_str()))
            .ok_or_else(|| SpecError::UnknownName {
                what: "loss",
                found: shortened(&name),
                known: RECIPES
                    .iter()
                    .chain([&recipes::OWN])
                    .flat_map(|recipe| recipe.names)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        Ok(Loss {
            recipe,
            values: Values::read("loss", &name, recipe.settings, &options)?,
            own: None,
        })
    }

    /// The shortest description that `read` takes.
    pub fn to_json(&self) -> Value {
        match &self.own {
            Some(own) => own.to_json(),
            None => self.values.describe(self.name(), self.recipe.settings),
        }
    }

    /// The shortest text that `parse` takes.
    pub fn text(&self) -> String {
        text_of(&self.to_json())
    }

    /// The long Keras name.
    pub fn name(&self) -> &'static str {
        self.recipe.names[0]
    }

    /// The long name of every loss.
    #[cfg(test)]
    pub(super) fn names() -> impl Iterator<Item = &'static str> {
        RECIPES.iter().map(|recipe| recipe.names[0])
    }

    /// Whether a label column of single values is read as classes; otherwise it is numbers.
    pub fn takes_classes(&self) -> bool {
        self.recipe.classes
    }

    /// Whether its classes are two at most.
    pub fn is_binary(&self) -> bool {
        self.recipe.label == Label::Binary
    }

    /// Whether a class is to be written as one number per class.
    pub fn one_hot(&self) -> bool {
        self.recipe.label == Label::Shares
    }

    /// Whether its answers are of classes, so that metrics of classes mean something.
    pub fn has_classes(&self) -> bool {
        self.recipe.label != Label::Numbers
    }

    pub(super) fn label(&self) -> Label {
        self.recipe.label
    }

    /// For a loss told `from_logits`: the same loss without, and the activation that a model needs for it at its end.
    /// Trained so the numbers are the same (they are computed from what the activation reads), and the model answers
    /// probabilities.
    pub fn of_probabilities(&self) -> Option<(Loss, &'static str)> {
        let place = self.place_of("from_logits")?;
        let activation = match self.recipe.label {
            Label::Binary => "sigmoid",
            _ => "softmax",
        };
        let without = Loss {
            values: self.values.with(place, 0.0),
            ..self.clone()
        };
        self.values.flag(place).then_some((without, activation))
    }

    fn place_of(&self, setting: &str) -> Option<usize> {
        let mut settings = self.recipe.settings.iter();
        settings.position(|known| known.name() == setting)
    }

    /// Numbers per row of `LaneBatch::target`: one per position for class indices, else as many as the output answers.
    pub fn target_width(&self, model: &Model, output: usize) -> usize {
        self.target_width_for(model.output_extents(output))
    }

    pub(super) fn target_width_for(&self, extents: &[usize]) -> usize {
        let numbers: usize = extents.iter().product();
        match self.recipe.label {
            Label::Index | Label::Sequence => numbers / extents.last().copied().unwrap_or(1).max(1),
            _ => numbers,
        }
    }

    /// Whether an output's answer fits this loss and this kind of label. Of classes, the answer must be probabilities.
    pub fn check(
        &self,
        model: &Model,
        output: usize,
        target: &TargetKind,
    ) -> Result<(), SpecError> {
        self.check_model(model, output)?;
        let extents = model.output_extents(output);
        let width = model.width_of_output(output);
        let one_position = extents.iter().rev().skip(1).all(|extent| *extent == 1);
        let last = extents.last().copied().unwrap_or(1);
        let (fits, hint) = match (self.recipe.label, target) {
            (Label::Index, TargetKind::Classes { classes }) => (
                *classes == last && one_position,
                "end the model with one unit per class",
            ),
            (Label::Index, TargetKind::Numeric { width: indices }) => (
                *indices == width / last.max(1),
                "give a list of one class index per position",
            ),
            (Label::Sequence, TargetKind::Numeric { width: places }) => (
                *places == width / last.max(1),
                "give a list of as many numbers as the model answers steps: classes from 1, then zeros",
            ),
            (Label::Shares, TargetKind::Classes { classes }) if self.recipe.classes => (
                *classes == last && one_position,
                "end the model with one unit per class",
            ),
            (Label::Binary, TargetKind::Classes { classes }) if self.recipe.classes => (
                *classes <= 2 && width == 1,
                "use \"sparse_categorical_crossentropy\", or one unit and two classes",
            ),
            (Label::Sequence, TargetKind::Classes { .. }) => (
                false,
                "give a list of as many numbers as the model answers steps: classes from 1, then zeros",
            ),
            (_, TargetKind::Classes { .. }) => {
                (false, "make the label numbers, or use a cross-entropy")
            }
            (_, TargetKind::Numeric { width: numbers }) => (
                *numbers == width,
                "end the model with one unit per number of the label",
            ),
        };
        if fits {
            return match target {
                TargetKind::Classes { .. } => self.check_probabilities(model, output),
                TargetKind::Numeric { .. } => Ok(()),
            };
        }
        let label = match target {
            TargetKind::Numeric { width } => format!("{width} numbers"),
            TargetKind::Classes { classes } => format!("one of {classes} classes"),
        };
        let has = match extents {
            [units] => format!("{units} units"),
            several => format!("extents {several:?} per row"),
        };
        Err(self.mismatch(
            format!("its output has {has} and the label is {label}"),
            hint,
        ))
    }

    /// What is served as a probability must be one: sigmoid for one unit, softmax for one unit per class.
    fn check_probabilities(&self, model: &Model, output: usize) -> Result<(), SpecError> {
        let (wanted, activation) = match self.recipe.label {
            Label::Binary => (Activation::Sigmoid, "sigmoid"),
            _ => (Activation::Softmax, "softmax"),
        };
        let (layer, found) = model.last_activation(output);
        if found == Some(wanted) {
            return Ok(());
        }
        Err(self.mismatch(
            format!("its last layer {layer:?} does not answer probabilities"),
            &format!("give that layer activation=\"{activation}\""),
        ))
    }

    /// What can be said without knowing the label.
    pub(super) fn check_model(&self, model: &Model, output: usize) -> Result<(), SpecError> {
        if let Some(own) = &self.own {
            return own.check("loss", model.output_extents(output));
        }
        if self.recipe.label == Label::Sequence {
            return self.check_alignment(model, output);
        }
        let width = model.width_of_output(output);
        let last = model.output_extents(output).last().copied().unwrap_or(1);
        if matches!(self.recipe.label, Label::Shares | Label::Index) && last < 2 {
            return Err(self.mismatch(
                "its output has 1 unit".to_string(),
                "use one unit per class, or \"binary_crossentropy\"",
            ));
        }
        if self.name() == "rank_hinge" && !width.is_multiple_of(2) {
            return Err(self.mismatch(
                format!("its output has {width} numbers per row"),
                "answer pairs: an even count of numbers",
            ));
        }
        let from_logits = self.of_probabilities().is_some();
        if let (layer, Some(Activation::Sigmoid | Activation::Softmax)) =
            model.last_activation(output)
            && from_logits
        {
            return Err(self.mismatch(
                format!(
                    "its last layer {layer:?} answers probabilities and \"from_logits\" is true"
                ),
                "leave out one of the two",
            ));
        }
        Ok(())
    }

    /// Logits of a blank and at least one class, for each of some steps.
    fn check_alignment(&self, model: &Model, output: usize) -> Result<(), SpecError> {
        let extents = model.output_extents(output);
        if !matches!(extents, [(1..), (2..)]) {
            return Err(self.mismatch(
                format!("its output has extents {extents:?} per row"),
                "answer (steps, classes): for each step the logits of a blank, class 0, and of every class",
            ));
        }
        match model.last_activation(output) {
            (layer, Some(Activation::Sigmoid | Activation::Softmax)) => Err(self.mismatch(
                format!("its last layer {layer:?} answers probabilities and \"ctc\" takes logits"),
                "leave out that layer's activation",
            )),
            _ => Ok(()),
        }
    }

    fn mismatch(&self, problem: String, hint: &str) -> SpecError {
        SpecError::LossMismatch {
            loss: self.name().to_string(),
            problem,
            hint: hint.to_string(),
        }
    }

    /// Records the loss of each row: output (R, ..., K) and target (R, `target_width`) to (R, 1). Over sequences it is
    /// the mean over a row's positions, as Keras' `sum_over_batch_size`; with a mask (R, steps), 1 for a step that counts,
    /// over those alone, and 0 for a row without any.
    pub(super) fn record(
        &self,
        graph: &mut Graph,
        output: NodeId,
        target: NodeId,
        mask: Option<NodeId>,
    ) -> Result<NodeId, GraphError> {
        if let Some(own) = &self.own {
            return own.record(graph, output, target, mask);
        }
        let shape = graph.shape(output).clone();
        let rows = shape.extents().first().copied().unwrap_or(1);
        let width = match self.recipe.over {
            // An answer of one number without an axis of its own, (R).
            Over::Innermost if shape.rank() < 2 => 1,
            Over::Innermost => shape.last(),
            Over::Row => shape.len() / rows.max(1),
        };
        let places = shape.len() / width.max(1);
        let labels = graph.shape(target).len() / places.max(1);
        let last = match graph.op(output) {
            op @ (Op::Softmax | Op::Unary(Unary::Sigmoid)) => {
                Some((op.clone(), graph.inputs(output)[0]))
            }
            _ => None,
        };
        let last = match last {
            Some((op, logits)) => Some((op, graph.reshape(logits, &[places, width])?)),
            None => None,
        };
        let mut given = Given {
            answer: graph.reshape(output, &[places, width])?,
            label: graph.reshape(target, &[places, labels])?,
            last,
            values: self.values,
            graph,
        };
        let each = (self.recipe.record)(&mut given)?;
        // A loss over a whole row has no steps to leave out.
        let mask = mask.filter(|_| self.recipe.over == Over::Innermost);
        words::mean_by_row(graph, each, rows, mask)
    }

    /// The loss of each row from the model's answers, in float64: what validation adds up. `extents` are those of one
    /// row of the answer, `mask` has 1 for each step of a row that counts. Empty when the slices do not go together.
    pub fn of_rows(
        &self,
        predictions: &[f32],
        targets: &[f32],
        extents: &[usize],
        mask: Option<&[f32]>,
    ) -> Vec<f64> {
        if let Some(own) = &self.own {
            return own.of_rows(predictions, targets, extents, mask);
        }
        let width: usize = extents.iter().product();
        let rows = predictions.len() / width.max(1);
        let mut graph = Graph::new();
        let mut recorded = || {
            let mut shape = vec![rows];
            shape.extend_from_slice(extents);
            let output = graph.add(Op::Input(0, Shape::new(&shape)), &[])?;
            let shape = Shape::new(&[rows, self.target_width_for(extents)]);
            if rows * width != predictions.len() || shape.len() != targets.len() {
                return Ok(None);
            }
            let target = graph.add(Op::Input(1, shape), &[])?;
            let steps = mask.map_or(0, |mask| mask.len() / rows.max(1));
            let mask = match steps {
                0 => None,
                steps => Some(graph.add(Op::Input(2, Shape::new(&[rows, steps])), &[])?),
            };
            self.record(&mut graph, output, target, mask).map(Some)
        };
        match recorded() {
            Ok(Some(loss)) if rows > 0 => {
                float64::run(&graph, loss, &[predictions, targets, mask.unwrap_or(&[])])
            }
            Ok(_) => Vec::new(),
            Err::<_, GraphError>(_) => vec![f64::NAN; rows],
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::nn::{FeatureColumn, FeatureKind, ModelSpec};

    #[test]
    fn an_answer_over_classes_must_be_probabilities() {
        let two = TargetKind::Classes { classes: 2 };
        let three = TargetKind::Classes { classes: 3 };
        let binary = Loss::parse("binary_crossentropy").unwrap();
        let sparse = Loss::parse("sparse_categorical_crossentropy").unwrap();
        let shares = Loss::parse("categorical_crossentropy").unwrap();
        for activation in ["linear", "tanh", "relu", "softmax"] {
            let message = binary.check(&model(1, activation), 0, &two).unwrap_err();
            assert_eq!(
                message.to_string(),
                "loss \"binary_crossentropy\" does not fit the model: its last layer \"answer\" does not answer \
                 probabilities; give that layer activation=\"sigmoid\""
            );
        }
        for activation in ["linear", "sigmoid"] {
            for loss in [&sparse, &shares] {
                let message = loss.check(&model(3, activation), 0, &three).unwrap_err();
                assert!(message.to_string().contains("activation=\"softmax\""));
            }
        }
        binary.check(&model(1, "sigmoid"), 0, &two).unwrap();
        sparse.check(&model(2, "softmax"), 0, &two).unwrap();
        sparse.check(&model(3, "softmax"), 0, &three).unwrap();
        shares.check(&model(3, "softmax"), 0, &three).unwrap();
        let numbers = TargetKind::Numeric { width: 3 };
        let squared = Loss::parse("mse").unwrap();
        squared.check(&model(3, "linear"), 0, &numbers).unwrap();
    }

    #[test]
    fn logits_are_told_from_probabilities() {
        let binary = Loss::read(
            &json!({"name": "binary_crossentropy", "from_logits": true, "label_smoothing": 0.1}),
        )
        .unwrap();
        let (without, activation) = binary.of_probabilities().unwrap();
        assert_eq!(
            without.to_json(),
            json!({"name": "binary_crossentropy", "label_smoothing": 0.1})
        );
        assert_eq!(activation, "sigmoid");
        assert_eq!(without.of_probabilities(), None);
        let message = binary.check_model(&model(1, "sigmoid"), 0).unwrap_err();
        assert!(
            message.to_string().contains("leave out one of the two"),
            "{message}"
        );
    }

    #[test]
    fn every_loss_is_read_by_each_of_its_names_and_comes_back() {
        for recipe in RECIPES {
            for name in recipe.names {
                let loss = Loss::parse(name).unwrap();
                assert_eq!(Loss::read(&loss.to_json()).unwrap(), loss);
            }
        }
        let message = Loss::parse("hinge2").unwrap_err().to_string();
        assert!(message.starts_with("unknown loss \"hinge2\"; known are mean_squared_error, mse"));
    }

    #[test]
    fn a_label_of_another_width_is_refused_with_both() {
        let numbers = TargetKind::Numeric { width: 2 };
        let message = Loss::parse("huber")
            .unwrap()
            .check(&model(3, "linear"), 0, &numbers)
            .unwrap_err();
        assert_eq!(
            message.to_string(),
            "loss \"huber\" does not fit the model: its output has 3 units and the label is 2 numbers; \
             end the model with one unit per number of the label"
        );
        let odd = Loss::parse("rank_hinge").unwrap();
        let message = odd.check_model(&model(3, "linear"), 0).unwrap_err();
        assert!(message.to_string().contains("an even count"), "{message}");
    }

    fn model(units: usize, activation: &str) -> Model {
        let spec = json!({"format_version": 1, "name": "small", "outputs": ["answer"], "layers": [
            {"name": "features", "layer": "Input"},
            {"name": "answer", "layer": "Dense", "config": {"units": units, "activation": activation}, "inputs": ["features"]},
        ]});
        let feature = FeatureColumn {
            name: "age".to_string(),
            width: 1,
            kind: FeatureKind::Float,
        };
        Model::build(&ModelSpec::from_json(&spec).unwrap(), &[feature]).unwrap()
    }
}

//! Bidirectional: one recurrent layer from the beginning and one from the end, their answers side by side or merged.
//!
//! Shapes: those of the layer inside; with `merge_mode` "concat" twice the units, "sum", "mul" and "ave" as many, null two outputs.
//! With `return_state` the states follow, those of the forward layer first; first states are given likewise. Arrays: those of the layer inside,
//! as forward/... and backward/.... The backward answers are put into the order of the steps. Masks: as the layer inside does,
//! but a sequence is 0 where it is masked. Source: Schuster and Paliwal (1997).

use std::ops::Range;

use crate::autograd::{GraphError, NodeId};

use super::super::super::error::SpecError;
use super::super::super::layer::{ArraySpec, Context, Layer, Signal, bad_input};
use super::super::super::options::Options;
use super::super::super::regularize::Regularizer;
use super::super::recurrent::{KINDS, Recurrent};
use super::Described;

#[derive(Debug)]
pub(in super::super) struct Bidirectional {
    forward: Direction,
    backward: Direction,
    merge: Merge,
}

#[derive(Debug)]
struct Direction {
    layer: Recurrent,
    activity_regularizer: Option<Regularizer>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Merge {
    Concatenate,
    Sum,
    Multiply,
    Average,
    /// Two outputs.
    Apart,
}

impl Bidirectional {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let first = Described::required(options, "layer")?;
        let forward = direction(options, "layer", &first)?;
        let backward = match Described::read(options, "backward_layer")? {
            Some(described) => direction(options, "backward_layer", &described)?,
            None => {
                let mut described = first;
                described
                    .config
                    .insert("go_backwards".to_string(), true.into());
                direction(options, "layer", &described)?
            }
        };
        let merge = if options.is_null("merge_mode") {
            let _ = options.value("merge_mode");
            Merge::Apart
        } else {
            options.choice(
                "merge_mode",
                &[
                    ("concat", Merge::Concatenate),
                    ("sum", Merge::Sum),
                    ("mul", Merge::Multiply),
                    ("ave", Merge::Average),
                ],
            )?
        };
        let alike = [
            ("return_sequences", |layer: &Recurrent| {
                layer.return_sequences
            }),
            ("return_state", |layer: &Recurrent| layer.return_state),
            ("go_backwards", |layer: &Recurrent| layer.go_backwards),
        ] as [(&str, fn(&Recurrent) -> bool); 3];
        for (option, of) in alike {
            let mirrored = option == "go_backwards";
            if (of(&forward.layer) == of(&backward.layer)) == mirrored {
                let hint = format!(
                    "{option} of the two layers must be {}",
                    if mirrored { "opposite" } else { "equal" }
                );
                return Err(options.bad("backward_layer", &of(&backward.layer).into(), hint));
            }
        }
        Ok(Bidirectional {
            forward,
            backward,
            merge,
        })
    }

    /// Each direction's inputs: the sequence and its half of the first states.
    fn halves<T: Clone>(&self, inputs: &[T]) -> [Vec<T>; 2] {
        let Some((sequence, states)) = inputs.split_first() else {
            return [Vec::new(), Vec::new()];
        };
        let (forward, backward) = states.split_at(self.forward.layer.states().min(states.len()));
        [forward, backward].map(|states| [std::slice::from_ref(sequence), states].concat())
    }

    fn directions(&self) -> [&Direction; 2] {
        [&self.forward, &self.backward]
    }

    /// One direction's answer in the order of the steps, its mask and its last states.
    fn record(
        &self,
        context: &mut Context<'_>,
        direction: &Direction,
        arrays: Range<usize>,
        inputs: &[NodeId],
        reversed: bool,
    ) -> Result<(NodeId, Option<NodeId>, Vec<NodeId>), GraphError> {
        let masks = vec![context.input_mask()];
        let inner = context.inner(&direction.layer, arrays, 0..0, &masks, inputs)?;
        context.penalize(direction.activity_regularizer, inner.output, &inner.further)?;
        let output = if reversed && direction.layer.return_sequences {
            context.graph.reverse(inner.output, 1)?
        } else {
            inner.output
        };
        Ok((output, inner.mask, inner.further))
    }
}

/// A recurrent layer as one direction. Its sequences are 0 where they are masked, as Keras has it.
fn direction(
    options: &Options<'_>,
    option: &'static str,
    described: &Described,
) -> Result<Direction, SpecError> {
    let known = KINDS.iter().find(|(kind, _)| *kind == described.kind);
    let Some((kind, cell)) = known else {
        let names = KINDS.map(|(kind, _)| kind).join(", ");
        let found = described.kind.as_str().into();
        return Err(options.bad(
            option,
            &found,
            format!("the layer inside is one of {names}"),
        ));
    };
    let mut config = described.config.clone();
    let in_sequence = config
        .get("return_sequences")
        .cloned()
        .unwrap_or(false.into());
    config.insert("zero_output_for_mask".to_string(), in_sequence);
    let name = described.name(options.layer());
    let mut inner = Options::new(&name, kind, &config);
    let layer = Recurrent::read(&mut inner, *cell)?;
    inner.flag("trainable", true)?;
    let activity_regularizer = Regularizer::read(&mut inner, "activity_regularizer")?;
    inner.finish()?;
    Ok(Direction {
        layer,
        activity_regularizer,
    })
}

impl Layer for Bidirectional {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let states: usize = self
            .directions()
            .iter()
            .map(|direction| direction.layer.states())
            .sum();
        if inputs.is_empty() || (inputs.len() > 1 && inputs.len() != 1 + states) {
            return Err(bad_input(
                name,
                format!("it has {} inputs", inputs.len()),
                &format!("connect the sequence alone, or with {states} first states"),
            ));
        }
        let halves = self.halves(inputs);
        let forward = self.forward.layer.output(name, &halves[0])?;
        let backward = self.backward.layer.output(name, &halves[1])?;
        let mut extents = forward.extents.clone();
        match self.merge {
            Merge::Concatenate => {
                if let Some(last) = extents.last_mut() {
                    *last = last.saturating_add(backward.last());
                }
            }
            Merge::Sum | Merge::Multiply | Merge::Average if forward != backward => {
                return Err(bad_input(
                    name,
                    format!(
                        "its layers answer {:?} and {:?} per row",
                        forward.extents, backward.extents
                    ),
                    "give both as many units, or merge_mode concat",
                ));
            }
            _ => {}
        }
        Ok(Signal::float(&extents))
    }

    fn further_outputs(&self, inputs: &[Signal]) -> Vec<Signal> {
        let halves = self.halves(inputs);
        let mut further = Vec::new();
        if self.merge == Merge::Apart
            && let Ok(backward) = self.backward.layer.output("", &halves[1])
        {
            further.push(backward);
        }
        for (direction, half) in self.directions().iter().zip(&halves) {
            further.extend(direction.layer.further_outputs(half));
        }
        further
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let halves = self.halves(inputs);
        let mut arrays = Vec::new();
        for ((direction, half), prefix) in self
            .directions()
            .iter()
            .zip(&halves)
            .zip(["forward", "backward"])
        {
            let own = direction.layer.parameters(half);
            arrays.extend(own.into_iter().map(|array| array.inside(prefix)));
        }
        arrays
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let [first, second] = self.halves(inputs);
        let (count, all) = (self.forward.layer.arrays(), context.parameters.len());
        let (a, mask, states) = self.record(context, &self.forward, 0..count, &first, false)?;
        let (b, _, more) = self.record(context, &self.backward, count..all, &second, true)?;
        context.mask = mask;
        if self.merge == Merge::Apart {
            context.further.push(b);
            context.further_masks.push(mask);
        }
        context.further.extend(states);
        context.further.extend(more);
        let graph = &mut *context.graph;
        match self.merge {
            Merge::Concatenate => {
                let axis = graph.shape(a).rank() - 1;
                graph.concatenate(&[a, b], axis)
            }
            Merge::Sum => graph.plus(a, b),
            Merge::Multiply => graph.times(a, b),
            Merge::Average => {
                let sum = graph.plus(a, b)?;
                graph.scaled(sum, 0.5)
            }
            Merge::Apart => Ok(a),
        }
    }
}

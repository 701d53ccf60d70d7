//! Several inputs to one: Add, Subtract, Multiply, Average, Maximum, Minimum, and beside them `Dot` and `Concatenate`.
//!
//! The six work number by number: y = x0 + x1 + ..., x0 - x1, x0 x1 ..., (x0 + x1 + ...) / n, max(x0, x1, ...),
//! min(x0, x1, ...). Shapes per row go together by NumPy's rule; a row with fewer extents gets extents of 1 in front, as
//! Keras does. The output has a mask where every input has one: a step counts if it counts in any. Multiply, Maximum and
//! Minimum leave masked steps out of the answer (a step masked everywhere is 0 after Multiply).

mod concatenate;
mod dot;

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Binary;

use super::super::error::SpecError;
use super::super::layer::{Context, Layer, Signal, bad_input, require_float};
use super::masks;

pub(super) use concatenate::Concatenate;
pub(super) use dot::Dot;

/// What two numbers become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rule {
    Add,
    Subtract,
    Multiply,
    Average,
    Maximum,
    Minimum,
}

/// The table: a rule's function, and whether masked steps stay out of it.
const RULES: &[(Rule, Binary, bool)] = &[
    (Rule::Add, Binary::Add, false),
    (Rule::Subtract, Binary::Subtract, false),
    (Rule::Multiply, Binary::Multiply, true),
    (Rule::Average, Binary::Add, false),
    (Rule::Maximum, Binary::Maximum, true),
    (Rule::Minimum, Binary::Minimum, true),
];

#[derive(Debug)]
pub(super) struct Merge {
    rule: Rule,
    function: Binary,
    heeds_masks: bool,
}

impl Merge {
    pub(super) fn new(rule: Rule) -> Self {
        let (_, function, heeds_masks) = RULES[rule as usize];
        Merge {
            rule,
            function,
            heeds_masks,
        }
    }

    /// `Maximum` and `Minimum` as Keras words them: a masked step takes what the other side has.
    fn greatest(
        &self,
        graph: &mut Graph,
        inputs: &[(NodeId, Option<NodeId>)],
    ) -> Result<NodeId, GraphError> {
        let (mut output, mut output_mask) = inputs[0];
        for &(x, mask) in &inputs[1..] {
            let x = match mask {
                Some(mask) => graph.select(mask, x, output)?,
                None => x,
            };
            if let Some(mask) = output_mask {
                output = graph.select(mask, output, x)?;
            }
            output_mask = match (output_mask, mask) {
                (Some(a), Some(b)) => Some(graph.binary(Binary::Maximum, a, b)?),
                _ => None,
            };
            output = graph.binary(self.function, output, x)?;
        }
        Ok(output)
    }

    /// `Multiply`: a masked step counts as 1, and one that is masked everywhere as 0.
    fn product(
        graph: &mut Graph,
        inputs: &[(NodeId, Option<NodeId>)],
    ) -> Result<NodeId, GraphError> {
        let one = graph.constant(1.0)?;
        let (mut output, mut any) = (one, Vec::new());
        for &(x, mask) in inputs {
            let x = match mask {
                Some(mask) => graph.select(mask, x, one)?,
                None => x,
            };
            any.extend(mask);
            output = graph.times(output, x)?;
        }
        if any.len() < inputs.len() {
            return Ok(output);
        }
        let any = masks::either(graph, &any)?;
        graph.binary(Binary::Keep, any, output)
    }
}

impl Layer for Merge {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let fits = match self.rule {
            Rule::Subtract => inputs.len() == 2,
            _ => inputs.len() >= 2,
        };
        if !fits {
            let hint = match self.rule {
                Rule::Subtract => "connect exactly two layers",
                _ => "connect at least two layers",
            };
            return Err(bad_input(
                name,
                format!("it has {} inputs", inputs.len()),
                hint,
            ));
        }
        let mut whole = Shape::new(&inputs[0].extents);
        for input in inputs {
            require_float(name, input)?;
            let Some(together) = whole.broadcast(&Shape::new(&input.extents)) else {
                return Err(bad_input(
                    name,
                    format!(
                        "its inputs have shapes {:?} and {:?} per row",
                        whole.extents(),
                        input.extents
                    ),
                    "extents must be equal or 1, counted from the innermost; put a Dense or a Reshape between",
                ));
            };
            whole = together;
        }
        Ok(Signal::float(whole.extents()))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let given = context.masks;
        let graph = &mut *context.graph;
        let rank_of = |graph: &Graph, x: NodeId| graph.shape(x).rank();
        let rank = inputs.iter().map(|&x| rank_of(graph, x)).max().unwrap_or(0);
        let equal = inputs.iter().all(|&x| rank_of(graph, x) == rank);
        let mut aligned = Vec::with_capacity(inputs.len());
        for (number, &x) in inputs.iter().enumerate() {
            let x = graph.with_ones(x, 1, rank - rank_of(graph, x))?;
            // Keras forgets masks inside when it has to align ranks.
            let heeded = given[number].filter(|_| self.heeds_masks && equal);
            let mask = heeded.map(|mask| masks::over(graph, mask, x)).transpose()?;
            aligned.push((x, mask));
        }
        let output = match self.rule {
            Rule::Maximum | Rule::Minimum => self.greatest(graph, &aligned)?,
            Rule::Multiply => Self::product(graph, &aligned)?,
            Rule::Add | Rule::Subtract | Rule::Average => {
                let mut output = aligned[0].0;
                for &(x, _) in &aligned[1..] {
                    output = graph.binary(self.function, output, x)?;
                }
                if self.rule == Rule::Average {
                    output = graph.scaled(output, 1.0 / inputs.len() as f32)?;
                }
                output
            }
        };
        let present: Vec<NodeId> = given.iter().copied().flatten().collect();
        if present.len() == inputs.len() {
            context.mask = Some(masks::either(graph, &present)?);
        }
        Ok(output)
    }
}

//! Attention: softmax(score(query, key)) value over one head, without projections.
//!
//! score = scale q k^T ("dot", Luong et al., 2015), or weight sum(tanh(scale (q + k))) over the columns ("concat", after
//! Bahdanau et al., 2014); scale and weight are single numbers that are trained, scale only with `use_scale`.
//! Shapes: query (T, D), value (S, E), key (S, D) to (T, E). Masks: a step sees what the value's mask and causality allow; where the query's mask
//! is 0 the output is 0, and that mask goes with the output.

use crate::autograd::{GraphError, NodeId, Op, Reduction};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::super::error::SpecError;
use super::super::super::initialize::Initializer;
use super::super::super::layer::{ArraySpec, Context, Layer, Signal, bad_input};
use super::super::super::options::Options;
use super::{Pattern, both, checked_roles, dropped, hide, placed, roles};

#[derive(Debug)]
pub(in super::super) struct Attention {
    use_scale: bool,
    score: Score,
    dropout: f32,
    causal: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Score {
    Dot,
    Concat,
}

impl Attention {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Attention {
            use_scale: options.flag("use_scale", false)?,
            score: options.choice(
                "score_mode",
                &[("dot", Score::Dot), ("concat", Score::Concat)],
            )?,
            dropout: options.number("dropout", 0.0, 0.0, 0.999)? as f32,
            causal: options.flag("use_causal_mask", false)?,
        })
    }

    fn scores(
        &self,
        context: &mut Context<'_>,
        query: NodeId,
        key: NodeId,
    ) -> Result<NodeId, GraphError> {
        let scale = match self.use_scale {
            true => Some(context.parameter(0)?),
            false => None,
        };
        let scaled = |context: &mut Context<'_>, x| match scale {
            Some(scale) => context.graph.times(x, scale),
            None => Ok(x),
        };
        if self.score == Score::Dot {
            let scores = context.graph.matmul(query, key, false, true)?;
            return scaled(context, scores);
        }
        let query = context.graph.with_ones(query, 2, 1)?;
        let key = context.graph.with_ones(key, 1, 1)?;
        let sums = context.graph.plus(query, key)?;
        let sums = scaled(context, sums)?;
        let bent = context.graph.unary(Unary::Tanh, sums)?;
        let scores = context.graph.reduce(Reduction::Sum, bent, 3, 1)?;
        let weight = context.parameter(usize::from(self.use_scale))?;
        context.graph.times(scores, weight)
    }
}

impl Layer for Attention {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let roles = checked_roles(name, inputs, false, self.causal)?;
        if roles.query.last() != roles.key.last() {
            return Err(bad_input(
                name,
                format!(
                    "its query has {} columns and its key {}",
                    roles.query.last(),
                    roles.key.last()
                ),
                "they must be equal; put a Dense before one of them",
            ));
        }
        Ok(Signal::float(&[roles.query.extents[0], roles.value.last()]))
    }

    fn parameters(&self, _inputs: &[Signal]) -> Vec<ArraySpec> {
        let mut arrays = Vec::new();
        if self.use_scale {
            arrays.push(ArraySpec::new("scale", &[], &Initializer::ONES));
        }
        if self.score == Score::Concat {
            let weight = ArraySpec::new("concat_score_weight", &[], &Initializer::ONES);
            arrays.push(weight);
        }
        arrays
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let (Some(given), Some(masks)) = (roles(inputs, false), roles(context.masks, false)) else {
            // `output` refused this count.
            return Ok(inputs[0]);
        };
        let steps = [given.query, given.value].map(|role| context.graph.shape(role).extents()[1]);
        let scores = self.scores(context, given.query, given.key)?;
        let pattern = Pattern {
            causal: self.causal,
            window: None,
        };
        let pattern = pattern.record(context.graph, steps[0], steps[1])?;
        let values = placed(context.graph, masks.value, 2, 3)?;
        let seen = both(context.graph, values, pattern)?;
        let scores = hide(context.graph, scores, seen)?;
        let weights = context.graph.add(Op::Softmax, &[scores])?;
        let weights = dropped(context, weights, self.dropout)?;
        let y = context.graph.matmul(weights, given.value, false, false)?;
        match placed(context.graph, masks.query, 1, 3)? {
            Some(mask) => context.graph.binary(Binary::Keep, mask, y),
            None => Ok(y),
        }
    }
}

//! MultiHeadAttention: several attentions side by side, each over its own projection of the inputs.
//!
//! Per head h: q = (query Wq + bq) / sqrt(key_dim), k = key Wk + bk, v = value Wv + bv, y_h = softmax(q k^T) v, and the
//! answer is [y_1 .. y_H] Wo + bo; with `use_gate`, y_h is first multiplied by sigmoid(query Wg + bg) (Qiu et al., 2025).
//! Shapes: query (T, D), value (S, E), key (S, F) to (T, output_shape or D). Arrays: query/kernel (D, H, key_dim),
//! key/kernel (F, H, key_dim), value/kernel (E, H, value_dim), attention_output/kernel (H, value_dim, output).
//! Masks: a step of the query sees a step of the value where causality, the window, the masks of all inputs and the attention mask
//! allow it; the query's mask goes with the output. Source: Vaswani et al. (2017).

use crate::autograd::{GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::Unary;

use super::super::super::error::SpecError;
use super::super::super::layer::{ArrayOptions, ArraySpec, Context, Layer, Signal};
use super::super::super::options::Options;
use super::{Pattern, both, checked_roles, dropped, given, hide, placed, roles};

/// Most heads, and most columns of one.
const EXTENT_MAX: usize = 1 << 20;

#[derive(Debug)]
pub(in super::super) struct MultiHeadAttention {
    heads: usize,
    key_dim: usize,
    value_dim: usize,
    output_dim: Option<usize>,
    dropout: f32,
    use_bias: bool,
    use_gate: bool,
    pattern: Pattern,
    masked: bool,
    kernel: ArrayOptions,
    bias: ArrayOptions,
}

/// The arrays' first halves of names, in the order of the flat vector.
const PROJECTIONS: [&str; 5] = ["query", "key", "value", "attention_output", "gate"];

impl MultiHeadAttention {
    pub(in super::super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let key_dim = options.required_count("key_dim", 1, EXTENT_MAX)?;
        Ok(MultiHeadAttention {
            heads: options.required_count("num_heads", 1, EXTENT_MAX)?,
            key_dim,
            value_dim: options
                .count("value_dim", 1, EXTENT_MAX)?
                .unwrap_or(key_dim),
            output_dim: options.count("output_shape", 1, EXTENT_MAX)?,
            dropout: options.number("dropout", 0.0, 0.0, 0.999)? as f32,
            use_bias: options.flag("use_bias", true)?,
            use_gate: options.flag("use_gate", false)?,
            pattern: Pattern {
                causal: options.flag("use_causal_mask", false)?,
                window: options.count("sliding_window", 1, EXTENT_MAX)?,
            },
            masked: options.flag("attention_mask", false)?,
            kernel: ArrayOptions::kernel(options)?,
            bias: ArrayOptions::bias(options)?,
        })
    }

    /// x (rows, steps, features) times the kernel of a projection, plus its bias, times a factor: (rows, heads, steps, width).
    /// The heads are taken apart last, so that the product that reads them does it on the way.
    fn project(
        &self,
        context: &mut Context<'_>,
        projection: usize,
        x: NodeId,
        width: usize,
        factor: f32,
    ) -> Result<NodeId, GraphError> {
        let shape = context.graph.shape(x).clone();
        let (features, steps) = (shape.last(), shape.extents()[1]);
        let all = self.heads.saturating_mul(width);
        let y = self.times_kernel(context, projection, x, &[features, all])?;
        let y = context.graph.scaled(y, factor)?;
        let y = context
            .graph
            .reshape(y, &[context.rows, steps, self.heads, width])?;
        context.graph.permute(y, &[0, 2, 1, 3])
    }

    fn times_kernel(
        &self,
        context: &mut Context<'_>,
        projection: usize,
        x: NodeId,
        extents: &[usize; 2],
    ) -> Result<NodeId, GraphError> {
        let arrays = if self.use_bias { 2 } else { 1 };
        let kernel = context.parameter(projection * arrays)?;
        let kernel = context.graph.reshape(kernel, extents)?;
        let y = context.graph.dense(x, kernel)?;
        if !self.use_bias {
            return Ok(y);
        }
        let bias = context.parameter(projection * arrays + 1)?;
        let bias = context.graph.reshape(bias, &extents[1..])?;
        context.graph.plus(y, bias)
    }

    /// Which steps see which, spread over (rows, heads, T, S).
    fn seen(
        &self,
        context: &mut Context<'_>,
        inputs: &[NodeId],
        steps: [usize; 2],
    ) -> Result<Option<NodeId>, GraphError> {
        let Some(masks) = roles(context.masks, self.masked) else {
            return Ok(None);
        };
        let graph = &mut *context.graph;
        let mut seen = self.pattern.record(graph, steps[0], steps[1])?;
        let queries = placed(graph, masks.query, 2, 4)?;
        let values = placed(graph, masks.value, 3, 4)?;
        let keys = placed(graph, masks.key.filter(|_| masks.own_key), 3, 4)?;
        for mask in [values, keys, queries] {
            seen = both(graph, mask, seen)?;
        }
        if let (true, Some(&mask)) = (self.masked, inputs.last()) {
            let mask = given(graph, mask, &[context.rows, 1, steps[0], steps[1]])?;
            seen = both(graph, Some(mask), seen)?;
        }
        Ok(seen)
    }
}

impl Layer for MultiHeadAttention {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let roles = checked_roles(name, inputs, self.masked, self.pattern.is_some())?;
        let features = self.output_dim.unwrap_or(roles.query.last());
        Ok(Signal::float(&[roles.query.extents[0], features]))
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let all: Vec<&Signal> = inputs.iter().collect();
        let Some(roles) = roles(&all, self.masked) else {
            return Vec::new();
        };
        let query = roles.query.last();
        let output = self.output_dim.unwrap_or(query);
        let (heads, key_dim, value_dim) = (self.heads, self.key_dim, self.value_dim);
        let shapes: [(&[usize], &[usize]); 5] = [
            (&[query, heads, key_dim], &[heads, key_dim]),
            (&[roles.key.last(), heads, key_dim], &[heads, key_dim]),
            (&[roles.value.last(), heads, value_dim], &[heads, value_dim]),
            (&[heads, value_dim, output], &[output]),
            (&[query, heads, value_dim], &[heads, value_dim]),
        ];
        let mut arrays = Vec::new();
        let count = if self.use_gate { 5 } else { 4 };
        for (projection, (kernel, bias)) in PROJECTIONS.iter().zip(shapes).take(count) {
            arrays.push(self.kernel.array(kernel).inside(projection));
            if self.use_bias {
                arrays.push(self.bias.array(bias).inside(projection));
            }
        }
        arrays
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let Some(roles) = roles(inputs, self.masked) else {
            // `output` refused this count.
            return Ok(inputs[0]);
        };
        let steps = [roles.query, roles.value].map(|role| context.graph.shape(role).extents()[1]);
        let factor = 1.0 / (self.key_dim as f32).sqrt();
        let query = self.project(context, 0, roles.query, self.key_dim, factor)?;
        let key = self.project(context, 1, roles.key, self.key_dim, 1.0)?;
        let value = self.project(context, 2, roles.value, self.value_dim, 1.0)?;
        let scores = context.graph.matmul(query, key, false, true)?;
        let seen = self.seen(context, inputs, steps)?;
        let scores = hide(context.graph, scores, seen)?;
        let mut weights = context.graph.add(Op::Softmax, &[scores])?;
        if let (true, Some(seen)) = (self.dropout > 0.0, seen) {
            // Keras' way with dropout: a step that sees nothing takes nothing; without, the mean of all values.
            weights = context.graph.times(weights, seen)?;
        }
        let weights = dropped(context, weights, self.dropout)?;
        let mut heads = context.graph.matmul(weights, value, false, false)?;
        if self.use_gate {
            let gate = self.project(context, 4, roles.query, self.value_dim, 1.0)?;
            let gate = context.graph.unary(Unary::Sigmoid, gate)?;
            heads = context.graph.times(heads, gate)?;
        }
        let together = context.graph.permute(heads, &[0, 2, 1, 3])?;
        let width = self.heads.saturating_mul(self.value_dim);
        let together = context
            .graph
            .reshape(together, &[context.rows, steps[0], width])?;
        let output = self
            .output_dim
            .unwrap_or(context.graph.shape(roles.query).last());
        self.times_kernel(context, 3, together, &[width, output])
    }
}

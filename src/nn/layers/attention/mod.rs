//! Attention: each step of a query takes a mean of the values, weighted by how well it goes with their keys.
//!
//! What the layers here have in common: which steps may see which, as one array that joins causality, a window, the masks of
//! the inputs and a mask given as an input of its own; and the refusals. A layer's equation stands in its own file.
//! Source: Vaswani et al., Attention is all you need (2017), after Luong et al. (2015).

mod dot_product;
mod multi_head;

pub(super) use dot_product::Attention;
pub(super) use multi_head::MultiHeadAttention;

use crate::autograd::{Graph, GraphError, NodeId, Number, Op};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Unary;

use super::super::error::SpecError;
use super::super::layer::{Context, Signal, bad_input, require_float};

/// What a score that must not count is lowered by: exp(-1e9) is 0 beside any score that counts.
const HIDDEN: f32 = -1e9;
/// Most numbers of a causal or windowed mask, which is part of the program: 64 MiB.
const LITERAL_MAX: usize = 1 << 24;

/// Inputs by what they are for.
#[derive(Debug, Clone, Copy)]
struct Roles<T> {
    query: T,
    value: T,
    key: T,
    /// Whether the key is an input of its own.
    own_key: bool,
    mask: Option<T>,
}

/// Query, value, perhaps a key, and last a mask where the layer takes one.
fn roles<T: Copy>(inputs: &[T], masked: bool) -> Option<Roles<T>> {
    let (inputs, mask) = match (inputs, masked) {
        ([inputs @ .., mask], true) => (inputs, Some(*mask)),
        (inputs, false) => (inputs, None),
        _ => return None,
    };
    match inputs {
        [query, value] => Some(Roles {
            query: *query,
            value: *value,
            key: *value,
            own_key: false,
            mask,
        }),
        [query, value, key] => Some(Roles {
            query: *query,
            value: *value,
            key: *key,
            own_key: true,
            mask,
        }),
        _ => None,
    }
}

/// The inputs' roles, once their shapes are known to go together: query (T, D), value (S, E), key (S, F), mask (T, S).
fn checked_roles<'a>(
    name: &str,
    inputs: &'a [Signal],
    masked: bool,
    patterned: bool,
) -> Result<Roles<&'a Signal>, SpecError> {
    let all: Vec<&Signal> = inputs.iter().collect();
    let roles = roles(&all, masked).ok_or_else(|| {
        let hint = if masked {
            "connect query and value, or query, value and key, and the attention mask last"
        } else {
            "connect query and value, or query, value and key"
        };
        bad_input(name, format!("it has {} inputs", inputs.len()), hint)
    })?;
    for (role, signal) in [
        ("query", roles.query),
        ("value", roles.value),
        ("key", roles.key),
    ] {
        require_float(name, signal)?;
        if signal.extents.len() != 2 {
            return Err(bad_input(
                name,
                format!("its {role} has shape {:?} per row", signal.extents),
                "give a sequence (steps, features) per row; a Reshape makes one",
            ));
        }
    }
    let (queries, values) = (roles.query.extents[0], roles.value.extents[0]);
    if roles.key.extents[0] != values {
        return Err(bad_input(
            name,
            format!(
                "its key has {} steps and its value {values}",
                roles.key.extents[0]
            ),
            "key and value must have the same steps",
        ));
    }
    if let Some(mask) = roles.mask
        && mask.extents != [queries, values]
    {
        return Err(bad_input(
            name,
            format!("its attention mask has shape {:?} per row", mask.extents),
            &format!("it must be (query steps, value steps), ({queries}, {values}) here"),
        ));
    }
    if patterned && queries.saturating_mul(values) > LITERAL_MAX {
        return Err(bad_input(
            name,
            format!("a causal or windowed mask of ({queries}, {values}) is too large"),
            &format!("at most {LITERAL_MAX} pairs of steps are allowed, take shorter sequences"),
        ));
    }
    Ok(roles)
}

/// Which pairs of steps may see each other by their positions alone.
#[derive(Debug, Clone, Copy)]
struct Pattern {
    causal: bool,
    /// Steps less than so many apart.
    window: Option<usize>,
}

impl Pattern {
    fn is_some(self) -> bool {
        self.causal || self.window.is_some()
    }

    /// (T, S) of 0 and 1; `None` where all may see all.
    fn record(
        self,
        graph: &mut Graph,
        queries: usize,
        values: usize,
    ) -> Result<Option<NodeId>, GraphError> {
        if !self.is_some() {
            return Ok(None);
        }
        let mut seen = Vec::with_capacity(queries.saturating_mul(values));
        for query in 0..queries {
            seen.extend((0..values).map(|value| {
                let sees = (!self.causal || value <= query)
                    && self
                        .window
                        .is_none_or(|window| query.abs_diff(value) < window);
                Number(f32::from(u8::from(sees)))
            }));
        }
        let shape = Shape::new(&[queries, values]);
        graph.add(Op::Literal(seen.into(), shape), &[]).map(Some)
    }
}

/// The product of masks, each of which may be missing; extents of 1 spread.
fn both(
    graph: &mut Graph,
    a: Option<NodeId>,
    b: Option<NodeId>,
) -> Result<Option<NodeId>, GraphError> {
    match (a, b) {
        (Some(a), Some(b)) => graph.times(a, b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}

/// A mask (rows, steps) with extents of 1 put in so that its steps stand on `axis` of `rank`.
fn placed(
    graph: &mut Graph,
    mask: Option<NodeId>,
    axis: usize,
    rank: usize,
) -> Result<Option<NodeId>, GraphError> {
    let Some(mask) = mask else { return Ok(None) };
    let shape = graph.shape(mask).clone();
    let mut extents = vec![1; rank];
    extents[0] = shape.outer();
    extents[axis] = shape.last();
    graph.reshape(mask, &extents).map(Some)
}

/// An attention mask's numbers, float32 or int32, as 0 and 1 in this shape: all but 0 lets see.
fn given(graph: &mut Graph, mask: NodeId, extents: &[usize]) -> Result<NodeId, GraphError> {
    let numbers = match graph.op(mask) {
        Op::Indices(..) => graph.add(Op::ToFloat, &[mask])?,
        _ => mask,
    };
    let sizes = graph.unary(Unary::Absolute, numbers)?;
    let seen = graph.unary(Unary::Step, sizes)?;
    graph.reshape(seen, extents)
}

/// Scores lowered where they must not count.
fn hide(graph: &mut Graph, scores: NodeId, seen: Option<NodeId>) -> Result<NodeId, GraphError> {
    let Some(seen) = seen else { return Ok(scores) };
    let hidden = graph.complement(seen)?;
    let lowered = graph.scaled(hidden, HIDDEN)?;
    graph.plus(scores, lowered)
}

/// Weights with a share of them dropped, in training.
fn dropped(context: &mut Context<'_>, weights: NodeId, rate: f32) -> Result<NodeId, GraphError> {
    if !context.training || rate == 0.0 {
        return Ok(weights);
    }
    let shape = context.graph.shape(weights).clone();
    let stream = context.stream();
    let rate = Number(rate);
    let mask = context.graph.add(
        Op::DropoutMask {
            stream,
            rate,
            shape,
        },
        &[],
    )?;
    context.graph.times(weights, mask)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::super::layer::Collected;
    use super::super::super::model::InputType;
    use super::super::read;
    use super::*;
    use crate::autograd::{Bindings, Destination, Plan};
    use crate::support::random::RandomKey;

    #[test]
    fn dropout_takes_weights_in_training_and_scales_the_rest() {
        // One step to see, of ones: each answer is its only weight, dropped or doubled.
        let answers = answers_of_ones(true);
        let kept = answers.iter().filter(|&&answer| answer == 2.0).count();
        assert!(answers.iter().all(|&answer| answer == 0.0 || answer == 2.0));
        // 1000 fair coins: four deviations are 63.
        assert!((437..=563).contains(&kept), "seed 5: {kept}");
        assert_eq!(answers, answers_of_ones(true));
        assert_eq!(answers_of_ones(false), [1.0; 1000]);
    }

    /// Attention with dropout 0.5 of 10 rows with 100 queries over one value.
    fn answers_of_ones(training: bool) -> Vec<f32> {
        let config = json!({"dropout": 0.5});
        let described = read("attention", "Attention", config.as_object().unwrap()).unwrap();
        let mut graph = Graph::new();
        let mut ones = |extents: &[usize]| {
            let one = graph.constant(1.0).unwrap();
            graph.broadcast_to(one, &Shape::new(extents)).unwrap()
        };
        let inputs = [ones(&[10, 100, 1]), ones(&[10, 1, 1])];
        let mut collected = Collected::default();
        let mut context = Context::new(
            &mut graph,
            10,
            training,
            0,
            &[],
            &[],
            &[None, None],
            &mut collected,
        );
        let answer = described.layer.forward(&mut context, &inputs).unwrap();
        let mut plan = Plan::new(&graph, &[(answer, Destination::Keep)]).unwrap();
        plan.run(&mut Bindings {
            inputs: &[],
            more_inputs: &[],
            parameters: &[],
            statistics: &[],
            gradient: &mut [],
            statistics_out: &mut [],
            key: RandomKey::of(5, 0),
        })
        .unwrap();
        plan.kept(0).to_vec()
    }

    #[test]
    fn shapes_that_do_not_go_together_are_refused_with_the_remedy() {
        check(
            json!({}),
            &[&[3, 5]],
            "layer \"heads\": it has 1 inputs; connect query and value",
        );
        check(
            json!({}),
            &[&[3, 5], &[6]],
            "layer \"heads\": its value has shape [6] per row; give a sequence",
        );
        check(
            json!({}),
            &[&[3, 5], &[4, 6], &[5, 6]],
            "layer \"heads\": its key has 5 steps and its value 4; key and value must",
        );
        check(
            json!({"attention_mask": true}),
            &[&[3, 5], &[4, 6], &[4, 3]],
            "layer \"heads\": its attention mask has shape [4, 3] per row; it must be (query steps, value steps), (3, 4) here",
        );
        check(
            json!({"attention_mask": true}),
            &[],
            "layer \"heads\": it has 0 inputs; connect query and value, or query, value and key, and the attention mask last",
        );
        check(
            json!({"use_causal_mask": true}),
            &[&[1 << 20, 5], &[1 << 20, 6]],
            "layer \"heads\": a causal or windowed mask of (1048576, 1048576) is too large",
        );
    }

    #[test]
    fn options_that_cannot_be_are_refused() {
        for (option, value) in [
            ("num_heads", json!(0)),
            ("dropout", json!(1)),
            ("attention_axes", json!([1])),
            ("sliding_window", json!(0)),
        ] {
            let mut config = json!({"num_heads": 2, "key_dim": 3});
            config[option] = value;
            let message = read("heads", "MultiHeadAttention", config.as_object().unwrap())
                .unwrap_err()
                .to_string();
            assert!(message.contains(option), "{option}: {message}");
        }
    }

    /// Expects the refusal of a layer of two heads over inputs of these shapes to start so.
    fn check(options: serde_json::Value, inputs: &[&[usize]], expected: &str) {
        let mut config = options.as_object().unwrap().clone();
        config.insert("num_heads".to_string(), json!(2));
        config.insert("key_dim".to_string(), json!(3));
        let described = read("heads", "MultiHeadAttention", &config).unwrap();
        let signals: Vec<Signal> = inputs
            .iter()
            .map(|extents| Signal {
                extents: extents.to_vec(),
                dtype: InputType::Float32,
            })
            .collect();
        let message = described
            .layer
            .output("heads", &signals)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

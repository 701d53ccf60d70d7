//! check_gradient: a program's gradient against central differences along random directions.
//!
//! Open to the layers above, which check themselves with it in their tests.

use crate::tensor::Shape;
use crate::tensor::kernels::random_mask::RandomKey;

use super::execute::{Bindings, Data};
use super::graph::{Graph, NodeId};
use super::op::Op;
use super::plan::{Destination, Plan};
use super::{GraphError, gradients};

/// How far analytic and numeric slopes may be apart, relative to the larger of them and 1.
pub const TOLERANCE: f64 = 2e-2;

/// Checks the gradient of a random weighting of `program`'s output with respect to a flat vector of parameters,
/// along several random directions. The error text says what disagreed.
///
/// `program` records operations over `Op::Parameter` leaves and returns its output.
pub fn check_gradient(
    parameters: &[f32],
    inputs: &[Data<'_>],
    program: impl Fn(&mut Graph) -> Result<NodeId, GraphError>,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let mut graph = Graph::new();
    let output = program(&mut graph).map_err(|error| text(&error))?;
    // A fixed weighting stands for any loss above; its numbers differ so that no two outputs can stand for each other.
    let shape = graph.shape(output).clone();
    let weighting: Vec<f32> = (0..shape.len())
        .map(|index| scatter(index as u64, 1))
        .collect();
    let mut all_inputs = inputs.to_vec();
    all_inputs.push(Data::Float32(&weighting));
    let seed = graph
        .add(Op::Input(inputs.len(), shape.clone()), &[])
        .map_err(|error| text(&error))?;
    let sources: Vec<(NodeId, usize)> = (0..graph.len())
        .map(NodeId)
        .filter_map(|id| match graph.op(id) {
            Op::Parameter(offset, _) => Some((id, *offset)),
            _ => None,
        })
        .collect();
    let ids: Vec<NodeId> = sources.iter().map(|source| source.0).collect();
    let slopes = gradients(&mut graph, &[(output, seed)], &ids).map_err(|error| text(&error))?;
    let mut outputs = vec![(output, Destination::Keep)];
    for (slope, (_, offset)) in slopes.iter().zip(&sources) {
        if let Some(slope) = slope {
            outputs.push((*slope, Destination::Gradient(*offset)));
        }
    }
    let mut plan = Plan::new(&graph, &outputs).map_err(|error| text(&error))?;
    let mut value_at = |parameters: &[f32]| -> Result<(f64, Vec<f32>), String> {
        let mut gradient = vec![0.0; parameters.len()];
        let mut bindings = Bindings {
            inputs: &all_inputs,
            more_inputs: &[],
            parameters,
            statistics: &[],
            gradient: &mut gradient,
            statistics_out: &mut [],
            key: RandomKey::of(1, 0),
        };
        plan.run(&mut bindings).map_err(|error| text(&error))?;
        let value = plan
            .kept(0)
            .iter()
            .zip(&weighting)
            .map(|(&y, &w)| f64::from(y) * f64::from(w))
            .sum();
        Ok((value, gradient))
    };
    let (_, gradient) = value_at(parameters)?;
    for direction_seed in 2..8 {
        let direction: Vec<f32> = (0..parameters.len())
            .map(|index| scatter(index as u64, direction_seed))
            .collect();
        // Best of three step sizes: a large one suffers from curvature and kinks, a small one from float32's rounding.
        let analytic: f64 = gradient
            .iter()
            .zip(&direction)
            .map(|(&g, &d)| f64::from(g) * f64::from(d))
            .sum();
        let mut best = (f64::INFINITY, 0.0);
        for step in [1e-2f32, 3e-3, 1e-3] {
            let moved = |sign: f32| -> Vec<f32> {
                parameters
                    .iter()
                    .zip(&direction)
                    .map(|(&p, &d)| p + sign * step * d)
                    .collect()
            };
            let numeric =
                (value_at(&moved(1.0))?.0 - value_at(&moved(-1.0))?.0) / (2.0 * f64::from(step));
            let error = (numeric - analytic).abs() / analytic.abs().max(numeric.abs()).max(1.0);
            if error < best.0 {
                best = (error, numeric);
            }
        }
        if best.0 > TOLERANCE {
            return Err(format!(
                "direction {direction_seed}: analytic slope {analytic}, numeric {}, apart by {}",
                best.1, best.0
            ));
        }
    }
    Ok(())
}

/// Numbers in -1 to 1 that depend on index and seed alone (the finalizer of SplitMix64).
fn scatter(index: u64, seed: u64) -> f32 {
    let mut z = index
        .wrapping_add(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
        .wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((z ^ (z >> 31)) >> 40) as f32 / (1u64 << 23) as f32 - 1.0
}

/// A shape in few letters, for tests.
pub fn shape(extents: &[usize]) -> Shape {
    Shape::new(extents)
}

#[cfg(test)]
mod tests;

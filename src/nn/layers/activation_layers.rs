//! Activations as layers: Activation, ReLU, LeakyReLU, ELU, PReLU, Softmax.
//!
//! All keep the shape (Activation with `glu` halves one extent) and pass the mask on.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::error::SpecError;
use super::super::initialize::Initializer;
use super::super::layer::{
    ArrayOptions, ArraySpec, Context, Layer, Signal, bad_input, one_float_input,
};
use super::super::options::Options;
use super::activation::Activation;
use super::axes::{Axis, at_several, find_several};
use super::masks;

/// A function without arrays: Activation (any function, along any axis), ReLU, LeakyReLU and ELU.
#[derive(Debug)]
pub(super) struct Fixed {
    function: Activation,
    axis: Axis,
}

impl Fixed {
    /// Activation.
    pub(super) fn named(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let read = Activation::read_as(options, "activation", true)?;
        let (function, axis) = read.ok_or_else(|| {
            options.bad(
                "activation",
                &serde_json::Value::Null,
                "name a function, such as \"relu\"".to_string(),
            )
        })?;
        Ok(Fixed { function, axis })
    }

    /// ReLU.
    pub(super) fn rectifier(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Self::of(Activation::rectifier(options, 0.0)?))
    }

    /// LeakyReLU: x, or `negative_slope` x below 0.
    pub(super) fn leaky(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let negative_slope = options.number("negative_slope", 0.3, 0.0, 1e6)? as f32;
        Ok(Self::of(Activation::LeakyRelu { negative_slope }))
    }

    /// ELU: x, or `alpha` (exp(x) - 1) below 0.
    pub(super) fn exponential(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let alpha = options.number("alpha", 1.0, 0.0, 1e6)? as f32;
        Ok(Self::of(Activation::Elu { alpha }))
    }

    fn of(function: Activation) -> Self {
        Fixed {
            function,
            axis: Axis::INNERMOST,
        }
    }
}

impl Layer for Fixed {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let mut output = one_float_input(name, inputs)?.clone();
        if self.function.has_axis() {
            let axis = self.axis.find(name, output.extents.len() + 1)? - 1;
            if self.function == Activation::Glu {
                let extent = output.extents[axis];
                if extent == 0 || !extent.is_multiple_of(2) {
                    return Err(bad_input(
                        name,
                        format!(
                            "its input has shape {:?} per row and glu halves an extent of {extent}",
                            output.extents
                        ),
                        "give it an even extent along its axis",
                    ));
                }
                output.extents[axis] = extent / 2;
            }
        }
        Ok(output)
    }

    fn activation(&self) -> Option<Activation> {
        (self.axis == Axis::INNERMOST).then_some(self.function)
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let axis = self.axis.at(context.graph.shape(inputs[0]).rank());
        context
            .graph
            .along_innermost(inputs[0], axis, |graph, x| self.function.record(graph, x))
    }
}

/// PReLU: x, or alpha x below 0, with an alpha of its own for each number of a row but along `shared_axes` (He et al., 2015).
#[derive(Debug)]
pub(super) struct PReLU {
    alpha: ArrayOptions,
    shared_axes: Vec<Axis>,
}

impl PReLU {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let names = ["alpha", "alpha_initializer", "alpha_regularizer"];
        Ok(PReLU {
            alpha: ArrayOptions::read(options, names, Initializer::ZEROS)?,
            shared_axes: Axis::read_several(options, "shared_axes", &[])?,
        })
    }
}

impl Layer for PReLU {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        find_several(name, &self.shared_axes, input.extents.len() + 1)?;
        Ok(input.clone())
    }

    fn parameters(&self, inputs: &[Signal]) -> Vec<ArraySpec> {
        let mut shape = inputs[0].extents.clone();
        for axis in at_several(&self.shared_axes, shape.len() + 1) {
            shape[axis - 1] = 1;
        }
        vec![self.alpha.array(&shape)]
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let alpha = context.parameter(0)?;
        let graph = &mut *context.graph;
        let above = graph.unary(Unary::Relu, inputs[0])?;
        let zero = graph.constant(0.0)?;
        let below = graph.binary(Binary::Minimum, inputs[0], zero)?;
        let below = graph.times(alpha, below)?;
        graph.plus(above, below)
    }
}

/// Softmax: exp(x) divided by its sum along one axis or several. Steps that the mask leaves out get 0 and the others share
/// the whole, by Keras' rule: they count as -1e9.
#[derive(Debug)]
pub(super) struct Softmax {
    axes: Vec<Axis>,
}

impl Softmax {
    pub(super) fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        Ok(Softmax {
            axes: Axis::read_several(options, "axis", &[Axis::INNERMOST])?,
        })
    }
}

impl Layer for Softmax {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = one_float_input(name, inputs)?;
        find_several(name, &self.axes, input.extents.len() + 1)?;
        Ok(input.clone())
    }

    fn activation(&self) -> Option<Activation> {
        (self.axes == [Axis::INNERMOST]).then_some(Activation::Softmax)
    }

    fn passes_mask(&self) -> bool {
        true
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let mask = context.input_mask();
        let graph = &mut *context.graph;
        let x = inputs[0];
        let axes = at_several(&self.axes, graph.shape(x).rank());
        let Some(mask) = mask else {
            return over_axes(graph, x, &axes);
        };
        let mask = masks::over(graph, mask, x)?;
        let least = graph.constant(-1e9)?;
        let x = graph.select(mask, x, least)?;
        let y = over_axes(graph, x, &axes)?;
        graph.binary(Binary::Keep, mask, y)
    }
}

fn over_axes(graph: &mut Graph, x: NodeId, axes: &[usize]) -> Result<NodeId, GraphError> {
    if let &[axis] = axes {
        return graph.softmax(x, axis);
    }
    // The axes go innermost and become one.
    let extents = graph.shape(x).extents().to_vec();
    let mut order: Vec<usize> = (0..extents.len())
        .filter(|axis| !axes.contains(axis))
        .collect();
    let others = order.len();
    order.extend(axes);
    let moved = graph.permute(x, &order)?;
    let shape = graph.shape(moved).extents().to_vec();
    let joined = shape[others..].iter().product();
    let flat = graph.reshape(moved, &[&shape[..others], &[joined]].concat())?;
    let y = graph.add(Op::Softmax, &[flat])?;
    let y = graph.reshape(y, &shape)?;
    let mut back = vec![0; order.len()];
    for (place, &axis) in order.iter().enumerate() {
        back[axis] = place;
    }
    graph.permute(y, &back)
}

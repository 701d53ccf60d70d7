//! Convolutions: kernels that slide over the spatial axes of an input.
//!
//! One file per kind; the geometry is that of `../windows.rs`. Knows no loops: those are the primitive operation's.

mod conv;
mod depthwise;
mod locally_connected;
mod separable;
mod transpose;

pub(super) use conv::Conv;
pub(super) use depthwise::DepthwiseConv;
pub(super) use locally_connected::LocallyConnected;
pub(super) use separable::SeparableConv;
pub(super) use transpose::ConvTranspose;

use crate::autograd::{Face, Graph, GraphError, NodeId, Op};
use crate::tensor::kernels::convolution::Convolution;

use super::super::error::SpecError;
use super::super::layer::{ArrayOptions, ArraySpec, Context, Signal};
use super::super::options::Options;
use super::activation::Activation;
use super::windows::{ChannelOrder, Slide};

/// Most filters of a layer: the flat vector's own bound is met long before.
pub(super) const FILTERS_MAX: usize = 1 << 30;

/// What every convolution ends with: a bias, the channels' place, an activation.
#[derive(Debug)]
struct Ending {
    activation: Activation,
    bias: Option<ArrayOptions>,
}

impl Ending {
    /// The options `activation`, `use_bias`, `bias_initializer` and `bias_regularizer`.
    fn read(options: &mut Options<'_>) -> Result<Self, SpecError> {
        let bias = ArrayOptions::bias(options)?;
        Ok(Ending {
            activation: Activation::read(options)?,
            bias: options.flag("use_bias", true)?.then_some(bias),
        })
    }

    /// The kernels, and behind them a bias of this shape where there is one.
    fn arrays(&self, mut kernels: Vec<ArraySpec>, shape: &[usize]) -> Vec<ArraySpec> {
        kernels.extend(self.bias.iter().map(|bias| bias.array(shape)));
        kernels
    }

    /// `y` (rows, spatial.., channels) with bias, in the layer's order, activated. The bias is the array of this number.
    fn record(
        &self,
        context: &mut Context<'_>,
        order: ChannelOrder,
        number: usize,
        mut y: NodeId,
    ) -> Result<NodeId, GraphError> {
        if self.bias.is_some() {
            let bias = context.parameter(number)?;
            y = context.graph.plus(y, bias)?;
        }
        let y = order.channels_in_place(context.graph, y)?;
        // Last, as Keras has it: a softmax goes along the innermost extent, whichever that is.
        self.activation.record(context.graph, y)
    }
}

/// `x` (rows, spatial.., channels) with a kernel of `filters` output channels: (rows, out.., filters).
pub(super) fn convolve(
    graph: &mut Graph,
    slide: &Slide,
    filters: usize,
    groups: usize,
    x: NodeId,
    kernel: NodeId,
) -> Result<NodeId, GraphError> {
    let rows = graph.shape(x).extents()[0];
    let convolution = Convolution {
        rows,
        windows: slide.windows(),
        input_channels: slide.channels,
        output_channels: filters,
        groups,
    };
    let y = graph.add(Op::Convolve(convolution, Face::Output), &[x, kernel])?;
    graph.reshape(y, &[&[rows][..], &slide.outputs(), &[filters]].concat())
}

/// The extents of one row of a node.
fn row_extents(graph: &Graph, x: NodeId) -> Vec<usize> {
    graph.shape(x).extents()[1..].to_vec()
}

/// One row of `filters` channels at the places of a slide.
pub(super) fn signal(order: ChannelOrder, slide: &Slide, filters: usize) -> Signal {
    Signal::float(&order.join(&slide.outputs(), filters))
}

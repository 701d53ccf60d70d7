//! GlobalMaxPooling1D to 3D and GlobalAveragePooling1D to 3D: all places of a row to one.
//!
//! Shapes per row: (spatial.., channels), or (channels, spatial..) with `channels_first`, to (channels); with `keepdims` the
//! spatial extents stay as 1. Equal greatest numbers share the gradient. GlobalAveragePooling1D takes the mean over the steps that
//! a mask keeps (0 where it keeps none, where Keras answers NaN); the others take no notice of masks. A mask ends here, as in Keras.

use crate::autograd::{GraphError, NodeId, Reduction};
use crate::tensor::kernels::elementwise::Binary;

use super::super::super::error::SpecError;
use super::super::super::layer::{Context, Layer, Signal};
use super::super::super::options::Options;
use super::super::windows::ChannelOrder;
use super::Summary;

#[derive(Debug)]
pub(in super::super) struct GlobalPooling {
    summary: Summary,
    rank: usize,
    order: ChannelOrder,
    keepdims: bool,
}

impl GlobalPooling {
    /// `rank` is the count of spatial axes.
    pub(in super::super) fn read(
        options: &mut Options<'_>,
        rank: usize,
        summary: Summary,
    ) -> Result<Self, SpecError> {
        Ok(GlobalPooling {
            summary,
            rank,
            order: ChannelOrder::read(options)?,
            keepdims: options.flag("keepdims", false)?,
        })
    }
}

impl Layer for GlobalPooling {
    fn output(&self, name: &str, inputs: &[Signal]) -> Result<Signal, SpecError> {
        let input = self.order.input(name, self.rank, inputs)?;
        let (_, channels) = self.order.split(&input.extents);
        Ok(Signal::float(&if self.keepdims {
            self.order.join(&vec![1; self.rank], channels)
        } else {
            vec![channels]
        }))
    }

    fn forward(&self, context: &mut Context<'_>, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let mask = context.input_mask().filter(|_| self.rank == 1);
        let graph = &mut *context.graph;
        let axis = self.order.first_axis();
        let y = match (self.summary, mask) {
            (Summary::Max, _) => graph.reduce(Reduction::Max, inputs[0], axis, self.rank)?,
            (Summary::Mean, None) => graph.mean(inputs[0], axis, self.rank)?,
            (Summary::Mean, Some(mask)) => {
                let steps = graph.with_ones(mask, if axis == 1 { 2 } else { 1 }, 1)?;
                let kept = graph.binary(Binary::Keep, steps, inputs[0])?;
                let sum = graph.reduce(Reduction::Sum, kept, axis, 1)?;
                let count = graph.sum_columns(mask)?;
                let one = graph.constant(1.0)?;
                let count = graph.binary(Binary::Maximum, count, one)?;
                graph.over(sum, count)?
            }
        };
        if self.keepdims {
            graph.with_ones(y, axis, self.rank)
        } else {
            Ok(y)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Map;

    use super::super::super::read;
    use super::*;
    use crate::autograd::{Bindings, Data, Destination, Graph, Op, Plan};
    use crate::nn::layer::Collected;
    use crate::support::random::RandomKey;
    use crate::tensor::Shape;

    #[test]
    fn a_row_whose_steps_are_all_masked_has_the_mean_0_and_masked_nans_do_no_harm() {
        let described = read("layer", "GlobalAveragePooling1D", &Map::new()).unwrap();
        let mut graph = Graph::new();
        let x = graph
            .add(Op::Input(0, Shape::new(&[2, 3, 1])), &[])
            .unwrap();
        let mask = graph.add(Op::Input(1, Shape::new(&[2, 3])), &[]).unwrap();
        let masks = [Some(mask)];
        let mut collected = Collected::default();
        let mut context = Context::new(&mut graph, 2, false, 0, &[], &[], &masks, &mut collected);
        let y = described.layer.forward(&mut context, &[x]).unwrap();
        assert!(context.mask.is_none());
        let mut plan = Plan::new(&graph, &[(y, Destination::Keep)]).unwrap();
        plan.run(&mut Bindings {
            inputs: &[
                Data::Float32(&[1.0, f32::NAN, 4.0, 5.0, 6.0, 7.0]),
                Data::Float32(&[1.0, 0.0, 1.0, 0.0, 0.0, 0.0]),
            ],
            more_inputs: &[],
            parameters: &[],
            statistics: &[],
            gradient: &mut [],
            statistics_out: &mut [],
            key: RandomKey::of(0, 0),
        })
        .unwrap();
        assert_eq!(plan.kept(0), [2.5, 0.0]);
    }
}

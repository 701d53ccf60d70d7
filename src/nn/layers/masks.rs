//! Masks that layers spread over what they mask, and combine.
//!
//! A mask holds 1 for a step that counts and 0 for padding; its extents are the leading ones of the signal it belongs to.

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::kernels::elementwise::Binary;

/// The mask with extents of 1 behind it, so that it spreads over `x`.
pub(super) fn over(graph: &mut Graph, mask: NodeId, x: NodeId) -> Result<NodeId, GraphError> {
    let mut extents = graph.shape(x).extents().to_vec();
    let numbers = graph.shape(mask).len();
    let mut covered = 1;
    let leading = extents.iter().position(|&extent| {
        covered *= extent;
        covered == numbers && extent != 1
    });
    let leading = leading.map_or(1, |axis| axis + 1);
    extents[leading..].fill(1);
    graph.reshape(mask, &extents)
}

/// 1 where at least one mask has 1; a mask of fewer extents holds for all that lies behind them.
pub(super) fn either(graph: &mut Graph, masks: &[NodeId]) -> Result<NodeId, GraphError> {
    let rank = masks
        .iter()
        .map(|&mask| graph.shape(mask).rank())
        .max()
        .unwrap_or(0);
    let mut any = None;
    for &mask in masks {
        let mut extents = graph.shape(mask).extents().to_vec();
        extents.resize(rank, 1);
        let mask = graph.reshape(mask, &extents)?;
        any = Some(match any {
            Some(any) => graph.binary(Binary::Maximum, any, mask)?,
            None => mask,
        });
    }
    match any {
        Some(any) => Ok(any),
        None => graph.constant(1.0),
    }
}

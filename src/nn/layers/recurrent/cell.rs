//! The equations of one step of the recurrent cells.
//!
//! `x` is the input's part of the step, x W + b, already computed for all steps at once; `h` the output of the step before, R the
//! recurrent kernel. Gates stand side by side along the innermost extent, in Keras' order.
//!
//! - Simple (Elman, 1990): h' = f(x + h R).
//! - Long (LSTM; Hochreiter and Schmidhuber, 1997, with the forget gate of Gers et al., 2000), gates i, f, c, o:
//!   c' = s(f) c + s(i) f(c), h' = s(o) f(c').
//! - Gated (GRU; Cho et al., 2014), gates z, r, h: h' = s(z) h + (1 - s(z)) f(candidate), where the candidate is x_h + s(r) (h R_h + b_h)
//!   with the reset after the product, and x_h + (s(r) h) R_h with the reset before.

use crate::autograd::{Graph, GraphError, NodeId};

use super::super::activation::Activation;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) enum Cell {
    Simple,
    Long,
    Gated { reset_after: bool },
}

impl Cell {
    pub(super) fn gates(self) -> usize {
        match self {
            Cell::Simple => 1,
            Cell::Long => 4,
            Cell::Gated { .. } => 3,
        }
    }

    pub(super) fn states(self) -> usize {
        match self {
            Cell::Long => 2,
            Cell::Simple | Cell::Gated { .. } => 1,
        }
    }
}

/// What a step takes beside the input's part and the states.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) cell: Cell,
    pub(super) units: usize,
    pub(super) activation: Activation,
    pub(super) recurrent_activation: Activation,
    /// (units, gates * units).
    pub(super) recurrent_kernel: NodeId,
    /// (gates * units), where the recurrent product has a bias of its own.
    pub(super) recurrent_bias: Option<NodeId>,
    /// Masks of the recurrent dropout, (rows, units): none, one for all gates, or one per gate.
    pub(super) dropout: Vec<NodeId>,
}

impl Step {
    /// The next states, of which the first is the output too. `states` is `None` where they are zero.
    pub(super) fn record(
        &self,
        graph: &mut Graph,
        x: NodeId,
        states: Option<&[NodeId]>,
    ) -> Result<Vec<NodeId>, GraphError> {
        let (f, s) = (self.activation, self.recurrent_activation);
        match self.cell {
            Cell::Simple => {
                let sum = self.with_product(graph, x, states, 0, 1)?;
                Ok(vec![f.record(graph, sum)?])
            }
            Cell::Long => {
                let sums = self.with_product(graph, x, states, 0, 4)?;
                let input = self.gate(graph, sums, 0, s)?;
                let candidate = self.gate(graph, sums, 2, f)?;
                let output = self.gate(graph, sums, 3, s)?;
                let mut carried = graph.times(input, candidate)?;
                if let Some(&[_, before]) = states {
                    let forget = self.gate(graph, sums, 1, s)?;
                    let kept = graph.times(forget, before)?;
                    carried = graph.plus(kept, carried)?;
                }
                let bent = f.record(graph, carried)?;
                Ok(vec![graph.times(output, bent)?, carried])
            }
            Cell::Gated { reset_after: true } => {
                let products = self.product(graph, states, 0, 3)?;
                let mut gates = Vec::with_capacity(2);
                for gate in 0..2 {
                    let sum = self.part(graph, x, gate, 1)?;
                    let sum = self.plus_part(graph, sum, products, gate)?;
                    gates.push(s.record(graph, sum)?);
                }
                let mut candidate = self.part(graph, x, 2, 1)?;
                if let Some(products) = products {
                    let product = self.part(graph, products, 2, 1)?;
                    let reset = graph.times(gates[1], product)?;
                    candidate = graph.plus(candidate, reset)?;
                }
                let candidate = f.record(graph, candidate)?;
                self.mixed(graph, gates[0], candidate, states)
            }
            Cell::Gated { reset_after: false } => {
                let both = self.part(graph, x, 0, 2)?;
                let sums = self.with_product(graph, both, states, 0, 2)?;
                let update = self.gate(graph, sums, 0, s)?;
                let mut candidate = self.part(graph, x, 2, 1)?;
                if let Some(&[before]) = states {
                    let reset = self.gate(graph, sums, 1, s)?;
                    let before = self.thinned(graph, before, 2)?;
                    let reset = graph.times(reset, before)?;
                    let kernel = self.part(graph, self.recurrent_kernel, 2, 1)?;
                    let product = graph.matmul(reset, kernel, false, false)?;
                    candidate = graph.plus(candidate, product)?;
                }
                let candidate = f.record(graph, candidate)?;
                self.mixed(graph, update, candidate, states)
            }
        }
    }

    /// z h + (1 - z) candidate.
    fn mixed(
        &self,
        graph: &mut Graph,
        update: NodeId,
        candidate: NodeId,
        states: Option<&[NodeId]>,
    ) -> Result<Vec<NodeId>, GraphError> {
        let other = graph.complement(update)?;
        let mut mixed = graph.times(other, candidate)?;
        if let Some(&[before]) = states {
            let kept = graph.times(update, before)?;
            mixed = graph.plus(kept, mixed)?;
        }
        Ok(vec![mixed])
    }

    /// h R, and its bias, over `count` gates from `first`; `None` where it is zero.
    fn product(
        &self,
        graph: &mut Graph,
        states: Option<&[NodeId]>,
        first: usize,
        count: usize,
    ) -> Result<Option<NodeId>, GraphError> {
        let mut product = None;
        if let Some(&[before, ..]) = states {
            product = Some(if self.dropout.len() > 1 {
                let mut parts = Vec::with_capacity(count);
                for gate in first..first + count {
                    let thinned = self.thinned(graph, before, gate)?;
                    let kernel = self.part(graph, self.recurrent_kernel, gate, 1)?;
                    parts.push(graph.matmul(thinned, kernel, false, false)?);
                }
                graph.concatenate(&parts, 1)?
            } else {
                let thinned = self.thinned(graph, before, 0)?;
                let kernel = self.part(graph, self.recurrent_kernel, first, count)?;
                graph.matmul(thinned, kernel, false, false)?
            });
        }
        match (product, self.recurrent_bias) {
            (Some(product), Some(bias)) => graph.plus(product, bias).map(Some),
            (product, bias) => Ok(product.or(bias)),
        }
    }

    fn with_product(
        &self,
        graph: &mut Graph,
        x: NodeId,
        states: Option<&[NodeId]>,
        first: usize,
        count: usize,
    ) -> Result<NodeId, GraphError> {
        match self.product(graph, states, first, count)? {
            Some(product) => graph.plus(x, product),
            None => Ok(x),
        }
    }

    /// h with the recurrent dropout of a gate.
    fn thinned(&self, graph: &mut Graph, h: NodeId, gate: usize) -> Result<NodeId, GraphError> {
        match self.dropout.get(gate).or(self.dropout.first()) {
            Some(&mask) => graph.times(h, mask),
            None => Ok(h),
        }
    }

    /// `count` gates from `first` along the innermost extent.
    fn part(
        &self,
        graph: &mut Graph,
        x: NodeId,
        first: usize,
        count: usize,
    ) -> Result<NodeId, GraphError> {
        let axis = graph.shape(x).rank() - 1;
        graph.slice(x, axis, first * self.units, count * self.units, 1)
    }

    fn plus_part(
        &self,
        graph: &mut Graph,
        sum: NodeId,
        products: Option<NodeId>,
        gate: usize,
    ) -> Result<NodeId, GraphError> {
        match products {
            Some(products) => {
                let product = self.part(graph, products, gate, 1)?;
                graph.plus(sum, product)
            }
            None => Ok(sum),
        }
    }

    fn gate(
        &self,
        graph: &mut Graph,
        sums: NodeId,
        gate: usize,
        function: Activation,
    ) -> Result<NodeId, GraphError> {
        let part = self.part(graph, sums, gate, 1)?;
        function.record(graph, part)
    }
}

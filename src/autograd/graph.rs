//! Nodes in an arena; recording. Equal operations on equal inputs are one node, so nothing is computed twice.

use std::collections::HashMap;

use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::error::GraphError;
use super::op::{Number, Op};
use super::shape_rules::shape_of;

/// A node by its position; inputs always come before the nodes that take them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) usize);

#[derive(Debug, Clone)]
pub(super) struct Node {
    pub(super) op: Op,
    pub(super) inputs: Vec<NodeId>,
    pub(super) shape: Shape,
}

/// A tensor program.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    known: HashMap<(Op, Vec<NodeId>), NodeId>,
}

impl Graph {
    pub fn new() -> Self {
        Self::default()
    }

    /// Records an operation, or finds the equal one recorded before.
    pub fn add(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        let key = (op, inputs.to_vec());
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let shapes: Vec<&Shape> = inputs
            .iter()
            .map(|input| &self.nodes[input.0].shape)
            .collect();
        let shape = shape_of(&key.0, &shapes)?;
        let id = NodeId(self.nodes.len());
        self.nodes.push(Node {
            op: key.0.clone(),
            inputs: key.1.clone(),
            shape,
        });
        self.known.insert(key, id);
        Ok(id)
    }

    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    pub fn op(&self, id: NodeId) -> &Op {
        &self.nodes[id.0].op
    }

    pub fn inputs(&self, id: NodeId) -> &[NodeId] {
        &self.nodes[id.0].inputs
    }

    pub fn shape(&self, id: NodeId) -> &Shape {
        &self.nodes[id.0].shape
    }

    pub(super) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    // -- the words in which layers, losses and gradient rules are written -----------------

    pub fn constant(&mut self, value: f32) -> Result<NodeId, GraphError> {
        self.add(Op::Constant(Number(value)), &[])
    }

    pub fn unary(&mut self, function: Unary, x: NodeId) -> Result<NodeId, GraphError> {
        self.add(Op::Unary(function), &[x])
    }

    pub fn binary(&mut self, function: Binary, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        let (a, b) = (self.unspread(a, b), self.unspread(b, a));
        self.add(Op::Binary(function), &[a, b])
    }

    /// `x` before it was broadcast, where spreading it over `other` comes to the same.
    fn unspread(&self, x: NodeId, other: NodeId) -> NodeId {
        match self.op(x) {
            Op::BroadcastTo(shape)
                if shape == self.shape(other) && !matches!(self.op(other), Op::BroadcastTo(_)) =>
            {
                self.inputs(x)[0]
            }
            _ => x,
        }
    }

    pub fn plus(&mut self, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        self.binary(Binary::Add, a, b)
    }

    pub fn minus(&mut self, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        self.binary(Binary::Subtract, a, b)
    }

    pub fn times(&mut self, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        self.binary(Binary::Multiply, a, b)
    }

    pub fn over(&mut self, a: NodeId, b: NodeId) -> Result<NodeId, GraphError> {
        self.binary(Binary::Divide, a, b)
    }

    pub fn scaled(&mut self, x: NodeId, factor: f32) -> Result<NodeId, GraphError> {
        if factor == 1.0 {
            return Ok(x);
        }
        let factor = self.constant(factor)?;
        self.times(x, factor)
    }

    /// Sum to a shape; the node itself when it has that shape already.
    pub fn sum_to(&mut self, x: NodeId, shape: &Shape) -> Result<NodeId, GraphError> {
        if self.shape(x) == shape {
            Ok(x)
        } else {
            self.add(Op::SumTo(shape.clone()), &[x])
        }
    }

    /// Sum over the innermost extent, kept as extent 1.
    pub fn sum_columns(&mut self, x: NodeId) -> Result<NodeId, GraphError> {
        let shape = self.shape(x).column();
        self.sum_to(x, &shape)
    }

    pub fn broadcast_to(&mut self, x: NodeId, shape: &Shape) -> Result<NodeId, GraphError> {
        if self.shape(x) == shape {
            Ok(x)
        } else {
            self.add(Op::BroadcastTo(shape.clone()), &[x])
        }
    }

    pub fn reshape(&mut self, x: NodeId, extents: &[usize]) -> Result<NodeId, GraphError> {
        let shape = Shape::new(extents);
        if *self.shape(x) == shape {
            Ok(x)
        } else {
            self.add(Op::Reshape(shape), &[x])
        }
    }

    pub fn matmul(
        &mut self,
        a: NodeId,
        b: NodeId,
        transpose_a: bool,
        transpose_b: bool,
    ) -> Result<NodeId, GraphError> {
        self.add(
            Op::MatMul {
                transpose_a,
                transpose_b,
            },
            &[a, b],
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_operations_are_recorded_once() {
        let mut graph = Graph::new();
        let x = graph.add(Op::Input(0, Shape::new(&[2, 3])), &[]).unwrap();
        let first = graph.unary(Unary::Tanh, x).unwrap();
        assert_eq!(graph.unary(Unary::Tanh, x).unwrap(), first);
        assert_ne!(graph.unary(Unary::Exp, x).unwrap(), first);
        assert_eq!(graph.len(), 3);
    }
}

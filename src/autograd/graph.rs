//! Nodes in an arena; recording. Equal operations on equal inputs are one node, so nothing is computed twice.

use std::collections::HashMap;

use crate::tensor::Shape;

use super::error::GraphError;
use super::op::Op;
use super::shape_rules::shape_of;
use super::simplify::{Simpler, simpler};

/// Most nodes of a graph: planning more would take seconds and gigabytes.
pub const NODES_MAX: usize = 1 << 21;

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

    /// Records an operation, or finds a node that has its value.
    pub fn add(&mut self, op: Op, inputs: &[NodeId]) -> Result<NodeId, GraphError> {
        match simpler(self, &op, inputs) {
            Some(Simpler::Node(node)) => return Ok(node),
            Some(Simpler::Operation(op, inputs)) => return self.add(op, &inputs),
            None => {}
        }
        let key = (op, inputs.to_vec());
        if let Some(&known) = self.known.get(&key) {
            return Ok(known);
        }
        let shapes: Vec<&Shape> = inputs
            .iter()
            .map(|input| &self.nodes[input.0].shape)
            .collect();
        let shape = shape_of(&key.0, &shapes)?;
        if self.nodes.len() >= NODES_MAX {
            return Err(GraphError::TooManyOperations { limit: NODES_MAX });
        }
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

    /// All nodes, in the order in which they were recorded.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + use<> {
        (0..self.nodes.len()).map(NodeId)
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
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::kernels::elementwise::Unary;

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

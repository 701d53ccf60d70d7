//! Which elementwise nodes run together as one chain.

use std::collections::{BTreeSet, HashMap};

use crate::tensor::kernels::elementwise::{
    Binary, Chain, Function, Instruction, OPERANDS_MAX, REGISTERS_MAX, Source, Unary,
};

use super::graph::{Graph, Node, NodeId};
use super::op::Op;

/// Longest chain. Bounds the time a plan takes to make; a longer run of functions becomes several chains.
const INSTRUCTIONS_MAX: usize = 32;

/// For each node the node whose chain computes it: itself when its value is stored.
///
/// A node joins the chain of its consumers when all of them belong to one chain of the same shape and nothing else
/// reads it. Walked from the last node back, so consumers are settled before producers.
/// `inputs` are the nodes whose values each node's kernel reads.
pub(super) fn chain_roots(
    graph: &Graph,
    live: &[bool],
    inputs: &[Vec<NodeId>],
    stored: &BTreeSet<NodeId>,
) -> Vec<usize> {
    let nodes = graph.nodes();
    let mut consumers: Vec<Vec<usize>> = vec![Vec::new(); nodes.len()];
    for id in (0..nodes.len()).filter(|&id| live[id]) {
        for input in &inputs[id] {
            consumers[input.0].push(id);
        }
    }
    let mut roots: Vec<usize> = (0..nodes.len()).collect();
    let mut members: HashMap<usize, Vec<usize>> = HashMap::new();
    for id in (0..nodes.len()).rev() {
        if !live[id] || !nodes[id].op.is_elementwise() {
            continue;
        }
        let root = consumers[id].first().map(|&consumer| roots[consumer]);
        let joins = root.filter(|&root| {
            !stored.contains(&NodeId(id))
                && nodes[root].op.is_elementwise()
                && nodes[id].shape == nodes[root].shape
                && consumers[id]
                    .iter()
                    .all(|&consumer| roots[consumer] == root)
                && {
                    let mut extended = members.get(&root).cloned().unwrap_or_else(|| vec![root]);
                    extended.push(id);
                    compile(nodes, &extended).is_some()
                }
        });
        match joins {
            Some(root) => {
                roots[id] = root;
                members.entry(root).or_insert_with(|| vec![root]).push(id);
            }
            None => {
                members.entry(id).or_insert_with(|| vec![id]);
            }
        }
    }
    roots
}

/// The chain of these nodes and the nodes its operands come from; `None` when it would break a chain's bounds.
pub(super) fn compile(nodes: &[Node], members: &[usize]) -> Option<(Chain, Vec<NodeId>)> {
    if members.len() > INSTRUCTIONS_MAX {
        return None;
    }
    let mut order = members.to_vec();
    order.sort_unstable();
    let position: HashMap<usize, usize> = order
        .iter()
        .enumerate()
        .map(|(position, &id)| (id, position))
        .collect();
    let mut last_use = vec![order.len(); order.len()];
    for (reader, &id) in order.iter().enumerate() {
        for input in &nodes[id].inputs {
            if let Some(&producer) = position.get(&input.0) {
                last_use[producer] = reader;
            }
        }
    }
    let whole = &nodes[*order.last()?].shape;
    let mut operands: Vec<NodeId> = Vec::new();
    let mut registers: Vec<Option<usize>> = vec![None; REGISTERS_MAX];
    let mut instructions = Vec::with_capacity(order.len());
    for (reader, &id) in order.iter().enumerate() {
        let mut find = |input: NodeId| -> Option<Source> {
            if let Some(&producer) = position.get(&input.0) {
                let register = registers.iter().position(|held| *held == Some(producer))?;
                return u8::try_from(register).ok().map(Source::Register);
            }
            let place = operands
                .iter()
                .position(|&operand| operand == input)
                .unwrap_or_else(|| {
                    operands.push(input);
                    operands.len() - 1
                });
            u8::try_from(place)
                .ok()
                .filter(|_| place < OPERANDS_MAX)
                .map(Source::Operand)
        };
        let inputs = &nodes[id].inputs;
        let (function, left, right) = match &nodes[id].op {
            Op::Unary(function) => (Function::Unary(*function), find(inputs[0])?, None),
            Op::BroadcastTo(_) => (Function::Unary(Unary::Copy), find(inputs[0])?, None),
            Op::Binary(function) => (
                Function::Binary(*function),
                find(inputs[0])?,
                Some(find(inputs[1])?),
            ),
            _ => return None,
        };
        // The target is taken before dying operands are released: an instruction never writes where it reads.
        let target = registers.iter().position(Option::is_none)?;
        registers[target] = Some(reader);
        for held in &mut registers {
            if held.is_some_and(|producer| producer != reader && last_use[producer] <= reader) {
                *held = None;
            }
        }
        instructions.push(Instruction {
            function,
            left,
            right: right.unwrap_or(left),
            target: u8::try_from(target).ok()?,
        });
    }
    let spreads = operands
        .iter()
        .map(|operand| nodes[operand.0].shape.spread_over(whole))
        .collect::<Option<Vec<_>>>()?;
    Some((
        Chain::new(instructions, spreads, whole.last().max(1)),
        operands,
    ))
}

/// A chain's functions as text, for `describe`.
pub(super) fn describe(chain: &Chain) -> String {
    let words = chain
        .instructions()
        .iter()
        .map(|instruction| match instruction.function {
            Function::Unary(function) => format!("{function:?}").to_lowercase(),
            Function::Binary(Binary::SigmoidCrossEntropy) => "sigmoid_cross_entropy".to_string(),
            Function::Binary(function) => format!("{function:?}").to_lowercase(),
        });
    words.collect::<Vec<_>>().join("+")
}

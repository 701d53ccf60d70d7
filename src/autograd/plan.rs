//! A graph with everything settled: order, chains, places in memory.
//!
//! Made once per row count. What a step reads and writes is known here, so that running it needs no decisions and no
//! allocation. Equal graphs give equal plans.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;

use crate::tensor::kernels::elementwise::Scratch;
use crate::tensor::shape::Spread;

use super::absorb::Absorbed;
use super::arena::{Arena, ArenaPlanner};
use super::error::GraphError;
use super::fuse::{chain_roots, compile};
use super::graph::{Graph, NodeId};
use super::joined;
use super::lower::{Kernel, kernel_of};
use super::op::Op;

/// Most numbers a plan's arena may hold: 4 GiB. More rows than that belong in several batches.
pub const ARENA_MAX: u64 = 1 << 30;

/// Where an output's value is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// From this position of the gradient vector bound at run time.
    Gradient(usize),
    /// From this position of the statistics vector bound for writing.
    Statistics(usize),
    /// Kept inside the plan, read with `Plan::kept`.
    Keep,
}

/// A stretch of numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) offset: usize,
    pub(super) len: usize,
}

/// Where a value stands while the plan runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Location {
    /// Part of the float32 input of this number.
    Input(usize, Span),
    /// The whole int32 input of this number.
    Indices(usize),
    Parameters(Span),
    Statistics(Span),
    Constant(Span),
    Arena(Span),
    Gradient(Span),
    StatisticsOut(Span),
}

#[derive(Debug)]
pub(super) struct Step {
    pub(super) kernel: Kernel,
    pub(super) inputs: Vec<Location>,
    pub(super) output: Location,
    /// Scratch of the kernel's own, inside the arena.
    pub(super) workspace: Span,
    /// A product that runs together with the chain after it: the rows of a strip.
    pub(super) strip: Option<usize>,
}

impl Location {
    /// How many numbers stand here; indices are counted where they are read.
    pub(super) fn len(self) -> usize {
        match self {
            Location::Indices(_) => 0,
            Location::Input(_, span)
            | Location::Parameters(span)
            | Location::Statistics(span)
            | Location::Constant(span)
            | Location::Arena(span)
            | Location::Gradient(span)
            | Location::StatisticsOut(span) => span.len,
        }
    }

    /// A stretch of what stands here.
    fn part(self, offset: usize, len: usize) -> Location {
        let within = |span: Span| Span {
            offset: span.offset + offset,
            len,
        };
        match self {
            Location::Input(input, span) => Location::Input(input, within(span)),
            Location::Indices(input) => Location::Indices(input),
            Location::Parameters(span) => Location::Parameters(within(span)),
            Location::Statistics(span) => Location::Statistics(within(span)),
            Location::Constant(span) => Location::Constant(within(span)),
            Location::Arena(span) => Location::Arena(within(span)),
            Location::Gradient(span) => Location::Gradient(within(span)),
            Location::StatisticsOut(span) => Location::StatisticsOut(within(span)),
        }
    }
}

/// What must be bound for a run: input numbers with their lengths, and how far into each vector the plan reaches.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub(super) inputs: BTreeMap<usize, usize>,
    pub(super) indices: BTreeMap<usize, usize>,
    pub(super) parameters: usize,
    pub(super) statistics: usize,
    pub(super) gradient: usize,
    pub(super) statistics_out: usize,
}

/// A program ready to run over and over.
#[derive(Debug)]
pub struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) needs: Needs,
    pub(super) constants: Vec<f32>,
    pub(super) arena: Arena,
    pub(super) scratch: Scratch,
    kept: Vec<Location>,
    arena_len: usize,
}

impl Plan {
    /// Plans a graph for these outputs. Outputs with `Keep` are read back in their order here.
    pub fn new(graph: &Graph, outputs: &[(NodeId, Destination)]) -> Result<Plan, GraphError> {
        Planner::new(graph, outputs).finish()
    }

    /// The values of the `position`-th output with `Keep`, after a run.
    pub fn kept(&self, position: usize) -> &[f32] {
        match self.kept.get(position) {
            Some(Location::Arena(span)) => {
                &self.arena.as_slice()[span.offset..span.offset + span.len]
            }
            Some(Location::Constant(span)) => &self.constants[span.offset..span.offset + span.len],
            _ => &[],
        }
    }

    /// Bytes of scratch that a run works in.
    pub fn arena_bytes(&self) -> usize {
        self.arena_len * size_of::<f32>()
    }

    /// Multiplications and additions in matrix products of one run.
    pub fn flops(&self) -> u64 {
        self.steps.iter().map(|step| step.kernel.flops()).sum()
    }

    /// Bytes that the kernels of one run read and write, each operand and result once.
    pub fn bytes(&self) -> u64 {
        let len = |location: &Location| location.len() as u64 * size_of::<f32>() as u64;
        let steps = self.steps.iter();
        steps
            .map(|step| step.inputs.iter().map(len).sum::<u64>() + len(&step.output))
            .sum()
    }

    /// The plan as text: one line per kernel, then the totals.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (position, step) in self.steps.iter().enumerate() {
            let inputs = step
                .inputs
                .iter()
                .map(describe_location)
                .collect::<Vec<_>>()
                .join(", ");
            let in_place = if step.inputs.contains(&step.output) {
                " in place"
            } else {
                ""
            };
            let joined = match step.strip {
                Some(rows) => format!(", with the next in strips of {rows} rows"),
                None => String::new(),
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                text,
                "{position:4}  {:<48} {inputs} -> {}{in_place}{joined}",
                step.kernel.describe(),
                describe_location(&step.output)
            );
        }
        let chains = self.steps.iter().filter(|step| matches!(&step.kernel, Kernel::Chain(chain) if chain.instructions().len() > 1)).count();
        let _ = writeln!(
            text,
            "{} kernels, {chains} fused groups, {} FLOPs in products, {} bytes read and written, arena {} bytes",
            self.steps.len(),
            self.flops(),
            self.bytes(),
            self.arena_bytes()
        );
        text
    }
}

fn describe_location(location: &Location) -> String {
    let span = |name: &str, span: &Span| {
        format!(
            "{name}[{}..{}]",
            span.offset,
            span.offset.saturating_add(span.len)
        )
    };
    match location {
        Location::Input(input, at) => span(&format!("input {input}"), at),
        Location::Indices(input) => format!("indices {input}"),
        Location::Parameters(at) => span("parameters", at),
        Location::Statistics(at) => span("statistics", at),
        Location::Constant(at) => span("constants", at),
        Location::Arena(at) => span("arena", at),
        Location::Gradient(at) => span("gradient", at),
        Location::StatisticsOut(at) => span("statistics out", at),
    }
}

struct Planner<'a> {
    graph: &'a Graph,
    outputs: &'a [(NodeId, Destination)],
    live: Vec<bool>,
    /// Who reads a value last, by position of the reading step; views count for what they look at.
    last_read: Vec<usize>,
    pinned: BTreeSet<usize>,
    places: Vec<Option<Location>>,
    constants: Vec<f32>,
    needs: Needs,
    absorbed: Absorbed,
}

/// One step before its memory is settled.
struct Draft {
    node: usize,
    kernel: Kernel,
    reads: Vec<Stretch>,
}

/// Where a node's value stands: in its own storage, or in a stretch of another node's.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    base: usize,
    offset: usize,
    len: usize,
}

impl<'a> Planner<'a> {
    fn new(graph: &'a Graph, outputs: &'a [(NodeId, Destination)]) -> Self {
        let nodes = graph.nodes();
        let stored = outputs.iter().map(|(output, _)| output.0).collect();
        let absorbed = Absorbed::new(nodes, &stored);
        let mut live = vec![false; nodes.len()];
        for (output, _) in outputs {
            live[output.0] = true;
        }
        for id in (0..nodes.len()).rev() {
            if live[id] {
                for input in &absorbed.inputs[id] {
                    live[input.0] = true;
                }
            }
        }
        Planner {
            graph,
            outputs,
            last_read: vec![0; nodes.len()],
            pinned: BTreeSet::new(),
            places: vec![None; nodes.len()],
            constants: Vec::new(),
            needs: Needs::default(),
            live,
            absorbed,
        }
    }

    /// Where a node's value stands: reshapes and contiguous views copy nothing.
    fn stretch(&self, id: usize) -> Stretch {
        let nodes = self.graph.nodes();
        let (mut base, mut offset) = (id, 0);
        loop {
            match &nodes[base].op {
                Op::Reshape(_) => {}
                Op::View(view)
                    if view.is_contiguous() && self.absorbed.products[base].is_none() =>
                {
                    offset += view.offset;
                }
                _ => break,
            }
            base = nodes[base].inputs[0].0;
        }
        Stretch {
            base,
            offset,
            len: nodes[id].shape.len(),
        }
    }

    /// Whether a node's value is all that its storage holds.
    fn is_whole(&self, stretch: Stretch) -> bool {
        stretch.len == self.graph.nodes()[stretch.base].shape.len()
    }

    fn drafts(&self) -> Vec<Draft> {
        let nodes = self.graph.nodes();
        let stored = self.outputs.iter().map(|(output, _)| *output).collect();
        let roots = chain_roots(self.graph, &self.live, &self.absorbed.inputs, &stored);
        let mut chains: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for id in (0..nodes.len()).filter(|&id| self.live[id] && nodes[id].op.is_elementwise()) {
            chains.entry(roots[id]).or_default().push(id);
        }
        let mut drafts = Vec::new();
        for (id, node) in nodes.iter().enumerate().filter(|(id, _)| self.live[*id]) {
            let (kernel, reads) = if let Some(members) = chains.get(&id) {
                match compile(nodes, members) {
                    Some((chain, operands)) => (Kernel::Chain(chain), operands),
                    None => continue,
                }
            } else if let Some(product) = &self.absorbed.products[id] {
                let kernel = Kernel::Multiply(Box::new(product.clone()));
                (kernel, self.absorbed.inputs[id].clone())
            } else if self.absorbed.sums_of_products[id] {
                (Kernel::SumProductRows, self.absorbed.inputs[id].clone())
            } else {
                match kernel_of(node, nodes) {
                    Some(kernel) => {
                        let reads = kernel.reads(&node.inputs).into_iter().copied().collect();
                        (kernel, reads)
                    }
                    None => continue,
                }
            };
            drafts.push(Draft {
                node: id,
                kernel,
                reads: reads.iter().map(|read| self.stretch(read.0)).collect(),
            });
        }
        drafts
    }

    fn finish(mut self) -> Result<Plan, GraphError> {
        let drafts = self.drafts();
        for (position, draft) in drafts.iter().enumerate() {
            for read in &draft.reads {
                self.last_read[read.base] = position;
            }
        }
        self.place_leaves();
        let late = self.place_outputs();

        let mut memory = ArenaPlanner::default();
        let mut expiring: BTreeMap<usize, Vec<Span>> = BTreeMap::new();
        let mut steps = Vec::with_capacity(drafts.len() + late.len());
        for (position, draft) in drafts.into_iter().enumerate() {
            if self.places[draft.node].is_none() {
                let len = self.graph.nodes()[draft.node].shape.len();
                let span = match self.place_of_dying_operand(&draft, position, len) {
                    Some(span) => {
                        if let Some(spans) = expiring.get_mut(&position) {
                            spans.retain(|other| other.offset != span.offset);
                        }
                        span
                    }
                    None => Span {
                        offset: memory.take(len),
                        len,
                    },
                };
                self.places[draft.node] = Some(Location::Arena(span));
                if !self.pinned.contains(&draft.node) {
                    expiring
                        .entry(self.last_read[draft.node].max(position))
                        .or_default()
                        .push(span);
                }
            }
            let inputs = draft
                .reads
                .iter()
                .filter_map(|read| Some(self.places[read.base]?.part(read.offset, read.len)))
                .collect();
            let workspace_len = draft.kernel.workspace_len();
            let workspace = Span {
                offset: if workspace_len > 0 {
                    memory.take(workspace_len)
                } else {
                    0
                },
                len: workspace_len,
            };
            if let Some(output) = self.places[draft.node] {
                steps.push(Step {
                    kernel: draft.kernel,
                    inputs,
                    output,
                    workspace,
                    strip: None,
                });
            }
            if workspace_len > 0 {
                memory.give_back(workspace.offset, workspace.len);
            }
            for span in expiring.remove(&position).unwrap_or_default() {
                memory.give_back(span.offset, span.len);
            }
            if memory.peak() as u64 > ARENA_MAX {
                return Err(GraphError::TooLarge {
                    floats: memory.peak() as u64,
                    limit: ARENA_MAX,
                });
            }
        }
        let mut copies: Vec<(Location, Location)> = late
            .iter()
            .filter_map(|(from, to)| {
                Some((self.places[from.base]?.part(from.offset, from.len), *to))
            })
            .collect();
        let mut kept = Vec::new();
        for &(output, destination) in self.outputs {
            if destination == Destination::Keep {
                let stretch = self.stretch(output.0);
                let place = match self.places[stretch.base] {
                    Some(place @ (Location::Arena(_) | Location::Constant(_))) => {
                        place.part(stretch.offset, stretch.len)
                    }
                    Some(place) => {
                        let copy = Location::Arena(Span {
                            offset: memory.take(stretch.len),
                            len: stretch.len,
                        });
                        copies.push((place.part(stretch.offset, stretch.len), copy));
                        copy
                    }
                    None => continue,
                };
                kept.push(place);
            }
        }
        steps.extend(copies.into_iter().map(|(from, to)| Step {
            kernel: Kernel::Copy,
            inputs: vec![from],
            output: to,
            workspace: Span { offset: 0, len: 0 },
            strip: None,
        }));
        joined::mark(&mut steps);
        Ok(Plan {
            steps,
            needs: self.needs,
            constants: self.constants,
            arena: Arena::new(memory.peak()),
            scratch: Scratch::new(),
            kept,
            arena_len: memory.peak(),
        })
    }

    fn place_leaves(&mut self) {
        for id in (0..self.graph.nodes().len()).filter(|&id| self.live[id]) {
            let node = &self.graph.nodes()[id];
            let len = node.shape.len();
            let place = match &node.op {
                Op::Input(input, _) => {
                    self.needs.inputs.insert(*input, len);
                    Location::Input(*input, Span { offset: 0, len })
                }
                Op::Indices(input, _) => {
                    self.needs.indices.insert(*input, len);
                    Location::Indices(*input)
                }
                Op::Parameter(offset, _) => {
                    self.needs.parameters = self.needs.parameters.max(offset.saturating_add(len));
                    Location::Parameters(Span {
                        offset: *offset,
                        len,
                    })
                }
                Op::Statistic(offset, _) => {
                    self.needs.statistics = self.needs.statistics.max(offset.saturating_add(len));
                    Location::Statistics(Span {
                        offset: *offset,
                        len,
                    })
                }
                Op::Constant(number) => {
                    self.constants.push(number.0);
                    Location::Constant(Span {
                        offset: self.constants.len() - 1,
                        len: 1,
                    })
                }
                Op::Literal(numbers, _) => {
                    let offset = self.constants.len();
                    self.constants.extend(numbers.iter().map(|number| number.0));
                    Location::Constant(Span { offset, len })
                }
                _ => continue,
            };
            self.places[id] = Some(place);
        }
    }

    /// Computes outputs straight into their destination where they are computed at all; the rest is copied there last.
    fn place_outputs(&mut self) -> Vec<(Stretch, Location)> {
        let mut late = Vec::new();
        for &(output, destination) in self.outputs {
            let stretch = self.stretch(output.0);
            let len = stretch.len;
            let target = match destination {
                Destination::Gradient(offset) => {
                    self.needs.gradient = self.needs.gradient.max(offset.saturating_add(len));
                    Location::Gradient(Span { offset, len })
                }
                Destination::Statistics(offset) => {
                    self.needs.statistics_out =
                        self.needs.statistics_out.max(offset.saturating_add(len));
                    Location::StatisticsOut(Span { offset, len })
                }
                Destination::Keep => {
                    self.pinned.insert(stretch.base);
                    continue;
                }
            };
            if self.places[stretch.base].is_none() && self.is_whole(stretch) {
                self.places[stretch.base] = Some(target);
            } else {
                self.pinned.insert(stretch.base);
                late.push((stretch, target));
            }
        }
        late
    }

    /// The place of a chain's operand that has the result's size and is read here for the last time.
    fn place_of_dying_operand(&self, draft: &Draft, position: usize, len: usize) -> Option<Span> {
        let Kernel::Chain(chain) = &draft.kernel else {
            return None;
        };
        draft
            .reads
            .iter()
            .zip(chain.operands())
            .find_map(|(&read, &spread)| match self.places[read.base] {
                Some(Location::Arena(span))
                    if spread == Spread::Full
                        && span.len == len
                        && read.len == len
                        && self.last_read[read.base] == position
                        && !self.pinned.contains(&read.base) =>
                {
                    Some(span)
                }
                _ => None,
            })
    }
}

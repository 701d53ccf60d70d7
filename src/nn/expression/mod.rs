//! Programs: what `volary.ops` records in Python, as data.
//!
//! A program is `{"inputs": 2, "nodes": [{"op": "multiply", "inputs": [0, 1]}, ...], "outputs": [2]}`: positions count the
//! inputs first and then the nodes, and a node takes earlier positions only, so there are no circles. It becomes part of
//! the model's graph; no code of a client runs here. Functions are in `functions/`, a line each.
//! Knows no layers, losses or metrics; those that hold a program are `layers/lambda.rs` and what training is told.

mod arguments;
mod functions;
mod objective;
mod value;

use serde_json::{Map, Value as Json};

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::{Shape, ShapeError};

use super::error::SpecError;
use super::initialize::Initializer;
use super::layer::{ArraySpec, Signal, bad_input};
use super::layers::activation::Activation;
use super::model::InputType;
use super::options::Options;
use super::regularize::Regularizer;
pub(super) use objective::Objective;

use arguments::Arguments;
use functions::Record;
use value::{Recording, Refusal, Value};

/// Most nodes of a program.
const NODES_MAX: usize = 10_000;
/// Most numbers of all constants of a program.
const CONSTANTS_MAX: usize = 1 << 24;
/// Most operations of a graph that a program may become.
const OPERATIONS_MAX: usize = 100_000;
/// Most inputs and outputs of a program.
const ENDS_MAX: usize = 1000;
/// Rows while shapes are found; any count would do, and no answer holds it.
const SOME_ROWS: usize = 2;

/// A program with its arguments read.
#[derive(Debug)]
pub(super) struct Program {
    inputs: usize,
    nodes: Vec<Node>,
    outputs: Vec<usize>,
    /// Values added to the loss, one number per row.
    losses: Vec<usize>,
    parameters: Vec<Parameter>,
    /// How many nodes draw random numbers.
    streams: usize,
}

/// One node: what it is called in messages, what it takes, what it does.
struct Node {
    name: String,
    inputs: Vec<usize>,
    kind: Kind,
    /// Whether its answer is of probabilities: sigmoid, or softmax over the innermost extent.
    activation: Option<Activation>,
}

enum Kind {
    Function(Record),
    Constant {
        values: Vec<f32>,
        extents: Vec<usize>,
    },
    /// The parameter of this number.
    Parameter(usize),
    /// Standard normal numbers of this shape, null for the rows, from the stream of this number.
    Random {
        extents: Vec<Option<i64>>,
        stream: usize,
    },
}

impl std::fmt::Debug for Node {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{} of {:?}", self.name, self.inputs)
    }
}

/// An array that a program trains, or holds still.
#[derive(Debug)]
pub(super) struct Parameter {
    pub(super) array: ArraySpec,
    pub(super) trainable: bool,
}

/// What a program records: its outputs, and the sum of its losses for each row.
#[derive(Debug)]
pub(super) struct Answers {
    pub(super) outputs: Vec<NodeId>,
    pub(super) losses: Vec<NodeId>,
}

impl Program {
    /// Reads the option `program` of a layer, or of what is called `owner` in messages.
    pub(super) fn read(owner: &str, json: &Json) -> Result<Program, SpecError> {
        let refuse = |problem: &str, hint: &str| bad_input(owner, problem.to_string(), hint);
        const FORM: &str = "give {\"inputs\": count, \"nodes\": [...], \"outputs\": [positions]}";
        let map = json
            .as_object()
            .ok_or_else(|| refuse("its program is no object", FORM))?;
        if let Some(unknown) = map
            .keys()
            .find(|key| !["inputs", "nodes", "outputs", "losses"].contains(&key.as_str()))
        {
            let problem = format!("its program has the unknown field {:?}", shown(unknown));
            return Err(refuse(&problem, "known are inputs, nodes, outputs, losses"));
        }
        let inputs = map.get("inputs").and_then(Json::as_u64);
        let inputs = inputs
            .and_then(|inputs| usize::try_from(inputs).ok())
            .filter(|inputs| (1..=ENDS_MAX).contains(inputs))
            .ok_or_else(|| refuse("its program has no count of inputs from 1 to 1000", FORM))?;
        let nodes = map.get("nodes").and_then(Json::as_array);
        let nodes = nodes.ok_or_else(|| refuse("its program has no list of nodes", FORM))?;
        if nodes.len() > NODES_MAX {
            let problem = format!("its program has {} nodes", nodes.len());
            return Err(refuse(&problem, "at most 10000 are allowed"));
        }
        let mut program = Program {
            inputs,
            nodes: Vec::with_capacity(nodes.len()),
            outputs: Vec::new(),
            losses: Vec::new(),
            parameters: Vec::new(),
            streams: 0,
        };
        let mut constants = CONSTANTS_MAX;
        for (number, json) in nodes.iter().enumerate() {
            let node = program.read_node(owner, number, json, &mut constants)?;
            program.nodes.push(node);
        }
        let known = inputs + nodes.len();
        let ends = |field: &str, low: usize| {
            let none = Vec::new();
            let list = match map.get(field) {
                None if low == 0 => &none,
                found => found
                    .and_then(Json::as_array)
                    .ok_or_else(|| refuse(&format!("its program has no list of {field}"), FORM))?,
            };
            let found =
                positions(list, known).filter(|list| (low..=ENDS_MAX).contains(&list.len()));
            found.ok_or_else(|| {
                let problem = format!(
                    "the {field} of its program are no positions from 0 to {}",
                    known - 1
                );
                refuse(
                    &problem,
                    "positions count the inputs first and then the nodes",
                )
            })
        };
        program.outputs = ends("outputs", 1)?;
        program.losses = ends("losses", 0)?;
        Ok(program)
    }

    fn read_node(
        &mut self,
        owner: &str,
        number: usize,
        json: &Json,
        constants: &mut usize,
    ) -> Result<Node, SpecError> {
        let whole = |problem: String, hint: &str| {
            bad_input(&format!("{owner}, node {number}"), problem, hint)
        };
        let map = json.as_object();
        let op = map.and_then(|map| map.get("op")).and_then(Json::as_str);
        let (Some(map), Some(op)) = (map, op) else {
            let problem = format!("{} names no function", arguments::shorten(json));
            return Err(whole(
                problem,
                "give {\"op\": name, \"inputs\": [positions], ...}",
            ));
        };
        let name = format!("{owner}, node {number} ({})", shown(op));
        let known = self.inputs + number;
        let inputs = match map.get("inputs") {
            None => Some(Vec::new()),
            Some(list) => list.as_array().and_then(|list| positions(list, known)),
        };
        let inputs = inputs.ok_or_else(|| {
            let problem = "its inputs are no earlier positions".to_string();
            bad_input(
                &name,
                problem,
                &format!("positions here are 0 to {}", known - 1),
            )
        })?;
        let own: Map<String, Json> = arguments::of_node(map);
        let mut options = Options::new(&name, op, &own);
        let mut arguments = Arguments {
            options: &mut options,
            inputs: inputs.len(),
            constants,
        };
        let (fewest, most, kind) = match op {
            "constant" => {
                let numbers = arguments.numbers("values")?;
                let kind = Kind::Constant {
                    values: numbers.values,
                    extents: numbers.extents,
                };
                (0, 0, kind)
            }
            "parameter" => (
                0,
                0,
                Kind::Parameter(self.read_parameter(&name, &mut arguments)?),
            ),
            "random_normal" => {
                self.streams += 1;
                let extents = arguments.extents("shape")?;
                (
                    0,
                    0,
                    Kind::Random {
                        extents,
                        stream: self.streams - 1,
                    },
                )
            }
            _ => {
                let (_, fewest, most, read) = functions::find(op).ok_or_else(|| {
                    let leaves = ["constant", "parameter", "random_normal"];
                    let known = [functions::names(), leaves.to_vec()].concat().join(", ");
                    whole(
                        format!("there is no function {:?}", shown(op)),
                        &format!("known are {known}"),
                    )
                })?;
                (fewest, most, Kind::Function(read(&mut arguments)?))
            }
        };
        options.finish()?;
        if !(fewest..=most).contains(&inputs.len()) {
            let problem = format!("it has {} inputs", inputs.len());
            let hint = if fewest == most {
                format!("give {fewest}")
            } else {
                format!("give {fewest} to {most}")
            };
            return Err(bad_input(&name, problem, &hint));
        }
        let activation = match (op, own.get("axis").and_then(Json::as_i64).unwrap_or(-1)) {
            ("sigmoid", _) => Some(Activation::Sigmoid),
            ("softmax", -1) => Some(Activation::Softmax),
            _ => None,
        };
        Ok(Node {
            name,
            inputs,
            kind,
            activation,
        })
    }

    fn read_parameter(
        &mut self,
        node: &str,
        arguments: &mut Arguments<'_, '_>,
    ) -> Result<usize, SpecError> {
        let name = arguments.options.word("name")?.unwrap_or("");
        let taken = self.parameters.iter().any(|known| known.array.name == name);
        if name.is_empty() || name.len() > 256 || name.contains('/') || taken {
            return Err(bad_input(
                node,
                format!(
                    "the name {:?} of the parameter is missing, taken or too long",
                    shown(name)
                ),
                "give each parameter its own name of 1 to 256 bytes without a slash",
            ));
        }
        let shape = arguments.extents("shape")?;
        let shape: Option<Vec<usize>> = shape
            .iter()
            .map(|extent| extent.and_then(|extent| usize::try_from(extent).ok()))
            .collect();
        let shape = shape
            .filter(|shape| value::within_bounds(shape, false).is_ok())
            .ok_or_else(|| {
                let problem = "the shape of the parameter is no list of extents".to_string();
                bad_input(
                    node,
                    problem,
                    "give at most 7 extents from 1 with at most 2^30 numbers in all",
                )
            })?;
        let initializer = Initializer::read(
            arguments.options,
            "initializer",
            Initializer::GLOROT_UNIFORM,
        )?;
        initializer.check(node, name, &shape)?;
        self.parameters.push(Parameter {
            array: ArraySpec {
                regularizer: Regularizer::read(arguments.options, "regularizer")?,
                ..ArraySpec::new(name, &shape, &initializer)
            },
            trainable: arguments.options.flag("trainable", true)?,
        });
        Ok(self.parameters.len() - 1)
    }

    /// The function that its first output comes out of, where that makes probabilities.
    pub(super) fn activation(&self) -> Option<Activation> {
        let node = self.outputs.first()?.checked_sub(self.inputs)?;
        self.nodes.get(node)?.activation
    }

    /// How many inputs it takes.
    pub(super) fn inputs(&self) -> usize {
        self.inputs
    }

    pub(super) fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// How many streams of random numbers it draws from while training.
    pub(super) fn streams(&self) -> usize {
        self.streams
    }

    /// The outputs for inputs of these shapes per row, or why there are none. Allocates no number.
    pub(super) fn check(&self, owner: &str, inputs: &[Signal]) -> Result<Vec<Signal>, SpecError> {
        if inputs.len() != self.inputs {
            return Err(bad_input(
                owner,
                format!(
                    "its program has {} inputs and {} are connected",
                    self.inputs,
                    inputs.len()
                ),
                "connect as many layers as the program has inputs",
            ));
        }
        let mut graph = Graph::new();
        let refuse =
            |(name, refusal): (String, Refusal)| bad_input(&name, refusal.problem, &refusal.hint);
        let mut leaves = Vec::with_capacity(inputs.len());
        for (number, input) in inputs.iter().enumerate() {
            let extents = [&[SOME_ROWS], input.extents.as_slice()].concat();
            value::within_bounds(&extents, true)
                .map_err(|refusal| refuse((format!("{owner}, input {number}"), refusal)))?;
            let shape = Shape::new(&extents);
            let op = match input.dtype {
                InputType::Float32 => Op::Input(number, shape),
                InputType::Int32 => Op::Indices(number, shape),
            };
            let leaf = graph.add(op, &[]);
            leaves.push(leaf.map_err(|error| refuse((owner.to_string(), error.into())))?);
        }
        let mut parameters = Vec::with_capacity(self.parameters.len());
        for (number, parameter) in self.parameters.iter().enumerate() {
            let op = Op::Parameter(number, Shape::new(&parameter.array.shape));
            let leaf = graph.add(op, &[]);
            parameters.push(leaf.map_err(|error| refuse((owner.to_string(), error.into())))?);
        }
        let streams: Vec<u32> = (0..).take(self.streams).collect();
        let answers = self
            .walk(owner, &mut graph, SOME_ROWS, &leaves, &parameters, &streams)
            .map_err(refuse)?;
        let signal = |&output: &NodeId| Signal::float(&graph.shape(output).extents()[1..]);
        Ok(answers.outputs.iter().map(signal).collect())
    }

    /// Records the program over inputs that `check` has taken; `streams` is empty while predicting.
    pub(super) fn record(
        &self,
        graph: &mut Graph,
        rows: usize,
        inputs: &[NodeId],
        parameters: &[NodeId],
        streams: &[u32],
    ) -> Result<Answers, GraphError> {
        self.walk("", graph, rows, inputs, parameters, streams)
            .map_err(|(name, refusal)| {
                GraphError::Shape(ShapeError {
                    operation: "program",
                    shapes: format!("{name}: {}", refusal.problem),
                    hint: "it was not refused when it was read",
                })
            })
    }

    fn walk(
        &self,
        owner: &str,
        graph: &mut Graph,
        rows: usize,
        inputs: &[NodeId],
        parameters: &[NodeId],
        streams: &[u32],
    ) -> Result<Answers, (String, Refusal)> {
        let mut values: Vec<Value> = Vec::with_capacity(self.inputs + self.nodes.len());
        values.extend(inputs.iter().map(|&node| Value {
            node,
            rows: true,
            integer: matches!(graph.op(node), Op::Indices(..)),
        }));
        let mut recording = Recording {
            graph,
            rows,
            parameters,
            streams,
        };
        let before = recording.graph.len();
        for node in &self.nodes {
            if recording.graph.len().saturating_sub(before) > OPERATIONS_MAX {
                let problem = format!("the program comes to more than {OPERATIONS_MAX} operations");
                let hint = "use fewer nodes, and fewer indices of take";
                return Err((node.name.clone(), Refusal::new(problem, hint)));
            }
            let taken: Vec<Value> = node.inputs.iter().map(|&input| values[input]).collect();
            let value = recording
                .node(&node.kind, &taken)
                .map_err(|refusal| (node.name.clone(), refusal))?;
            values.push(value);
        }
        let mut ends = |list: &[usize], what: &str, single: bool| {
            let mut nodes = Vec::with_capacity(list.len());
            for (number, &position) in list.iter().enumerate() {
                let named = |refusal| (format!("{owner}, {what} {number}"), refusal);
                let value = recording.float(values[position]).map_err(named)?;
                let shape = recording.shape(value);
                if !value.rows || (single && shape[1..].iter().any(|&extent| extent != 1)) {
                    let hint = if single {
                        "give one number for each row: take the sum or mean over all axes behind the rows"
                    } else {
                        "it does not depend on the inputs; broadcast_to gives it rows"
                    };
                    let problem = format!("its shape is {}", recording.show(&[value]));
                    return Err(named(Refusal::new(problem, hint)));
                }
                nodes.push(value.node);
            }
            Ok(nodes)
        };
        Ok(Answers {
            outputs: ends(&self.outputs, "output", false)?,
            losses: ends(&self.losses, "loss", true)?,
        })
    }
}

impl Recording<'_> {
    fn node(&mut self, kind: &Kind, inputs: &[Value]) -> Result<Value, Refusal> {
        match kind {
            Kind::Function(record) => record(self, inputs),
            Kind::Constant { values, extents } => {
                let node = match (values.as_slice(), extents.as_slice()) {
                    (&[value], []) => self.graph.constant(value)?,
                    _ => self.graph.literal(values, extents)?,
                };
                self.keep(node, false)
            }
            Kind::Parameter(number) => self.keep(self.parameters[*number], false),
            Kind::Random { extents, stream } => {
                let rows = matches!(extents.first(), Some(None));
                let shape: Option<Vec<usize>> = extents
                    .iter()
                    .enumerate()
                    .map(|(axis, extent)| match extent {
                        None => (axis == 0).then_some(self.rows),
                        Some(extent) => usize::try_from(*extent).ok(),
                    })
                    .collect();
                let (true, Some(shape)) = (rows, shape) else {
                    return Err(Refusal::new(
                        "random numbers without rows would be the same for every lane",
                        "give the shape of a value with rows, such as [null, 4]",
                    ));
                };
                value::within_bounds(&shape, rows)?;
                match self.streams.get(*stream) {
                    Some(&stream) => {
                        let shape = Shape::new(&shape);
                        let node = self.graph.add(Op::NormalNoise { stream, shape }, &[])?;
                        self.keep(node, rows)
                    }
                    None => {
                        let zero = self.constant(0.0)?;
                        self.broadcast_to(zero, &shape, rows)
                    }
                }
            }
        }
    }
}

/// Positions below `known`.
fn positions(list: &[Json], known: usize) -> Option<Vec<usize>> {
    if list.len() > ENDS_MAX {
        return None;
    }
    list.iter()
        .map(|each| {
            let position = each
                .as_u64()
                .and_then(|position| usize::try_from(position).ok());
            position.filter(|&position| position < known)
        })
        .collect()
}

/// A client's name, cut to what a message can hold.
fn shown(name: &str) -> String {
    name.chars().take(80).collect()
}

#[cfg(test)]
mod tests;

//! Regularisers: a penalty on the size of numbers, added to the loss. Keras' names, arguments and meaning.

use serde_json::{Map, Value};

use crate::autograd::{Graph, GraphError, NodeId};
use crate::tensor::Shape;
use crate::tensor::kernels::elementwise::Unary;

use super::error::SpecError;
use super::options::Options;

/// `l1 * sum(|x|) + l2 * sum(x^2)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Regularizer {
    l1: f32,
    l2: f32,
}

impl Regularizer {
    /// Reads an option that is a name or an object with a name and factors; `None` when absent.
    pub(super) fn read(
        options: &mut Options<'_>,
        option: &'static str,
    ) -> Result<Option<Self>, SpecError> {
        const DEFAULT: f64 = 0.01;
        let Some(value) = options.value(option) else {
            return Ok(None);
        };
        let bad = || options.bad(option, value, "known are l1, l2, l1_l2".to_string());
        let (name, arguments) = match value {
            Value::String(name) => (name.as_str(), Map::new()),
            Value::Object(map) => {
                let name = map.get("name").and_then(Value::as_str).ok_or_else(bad)?;
                let mut arguments = map.clone();
                arguments.remove("name");
                (name, arguments)
            }
            _ => return Err(bad()),
        };
        let mut inner = Options::new(options.layer(), name, &arguments);
        let mut factor =
            |option| Ok::<f32, SpecError>(inner.number(option, DEFAULT, 0.0, 1e6)? as f32);
        let regularizer = match name {
            "l1" => Regularizer {
                l1: factor("l1")?,
                l2: 0.0,
            },
            "l2" => Regularizer {
                l1: 0.0,
                l2: factor("l2")?,
            },
            "l1_l2" => Regularizer {
                l1: factor("l1")?,
                l2: factor("l2")?,
            },
            _ => return Err(bad()),
        };
        inner.finish()?;
        Ok(Some(regularizer))
    }

    /// The penalty on `x` as one number.
    pub(super) fn record(&self, graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
        let mut penalty = graph.constant(0.0)?;
        for (factor, function) in self.terms() {
            let sizes = graph.unary(function, x)?;
            let sum = graph.sum_to(sizes, &Shape::scalar())?;
            let scaled = graph.scaled(sum, factor)?;
            penalty = graph.plus(penalty, scaled)?;
        }
        Ok(penalty)
    }

    /// The penalty on every number of `x`.
    pub(super) fn record_each(&self, graph: &mut Graph, x: NodeId) -> Result<NodeId, GraphError> {
        let mut penalty = None;
        for (factor, function) in self.terms() {
            let sizes = graph.unary(function, x)?;
            let scaled = graph.scaled(sizes, factor)?;
            penalty = Some(match penalty {
                Some(before) => graph.plus(before, scaled)?,
                None => scaled,
            });
        }
        // Both factors are 0.
        penalty.map_or_else(|| graph.scaled(x, 0.0), Ok)
    }

    fn terms(&self) -> impl Iterator<Item = (f32, Unary)> + use<> {
        let terms = [(self.l1, Unary::Absolute), (self.l2, Unary::Square)];
        terms.into_iter().filter(|(factor, _)| *factor != 0.0)
    }
}

//! What flows through a program, and the few words in which its functions are recorded.
//!
//! A value either has rows (its axis 0 counts the rows of a minibatch) or has none (a parameter, a constant, and what is
//! made of these alone). No word here lets one row see another: a lane holds only its own part of a minibatch, so such
//! an answer would depend on how many lanes there are.

use crate::autograd::{Graph, GraphError, NodeId, Op};
use crate::tensor::Shape;

/// Most axes of a value, rows included; one below what a view can have, which some words need for a moment.
pub(super) const RANK_MAX: usize = 7;
/// Most numbers of a value for each row.
pub(super) const NUMBERS_MAX: usize = 1 << 30;

const ROWS_STAY: &str =
    "axis 0 is the rows, and a lane sees only its own part of a minibatch; use another axis";

/// Why a function cannot take its inputs.
#[derive(Debug)]
pub(in crate::nn) struct Refusal {
    pub(super) problem: String,
    pub(super) hint: String,
}

impl Refusal {
    pub(super) fn new(problem: impl Into<String>, hint: impl Into<String>) -> Self {
        Refusal {
            problem: problem.into(),
            hint: hint.into(),
        }
    }
}

impl From<GraphError> for Refusal {
    fn from(error: GraphError) -> Self {
        Refusal::new(error.to_string(), "give the function inputs that it takes")
    }
}

pub(super) type Recorded<T = Value> = Result<T, Refusal>;

/// A value while it is recorded.
#[derive(Debug, Clone, Copy)]
pub(in crate::nn) struct Value {
    pub(in crate::nn) node: NodeId,
    /// Whether axis 0 is the rows.
    pub(in crate::nn) rows: bool,
    /// Whether it is an int32 input, which only `take`, `one_hot` and `cast` read as such.
    pub(in crate::nn) integer: bool,
}

/// Where a program is recorded.
#[derive(Debug)]
pub(super) struct Recording<'a> {
    pub(super) graph: &'a mut Graph,
    pub(super) rows: usize,
    /// Leaves of the program's parameters, in its order.
    pub(super) parameters: &'a [NodeId],
    /// A stream for each `random_normal`; none while predicting, where it answers its mean.
    pub(super) streams: &'a [u32],
}

impl Recording<'_> {
    pub(super) fn shape(&self, x: Value) -> Vec<usize> {
        self.graph.shape(x.node).extents().to_vec()
    }

    pub(super) fn rank(&self, x: Value) -> usize {
        self.graph.shape(x.node).rank()
    }

    /// Shapes as messages show them: `None` for the rows.
    pub(super) fn show(&self, values: &[Value]) -> String {
        let shapes = values.iter().map(|&x| show(&self.shape(x), x.rows));
        shapes.collect::<Vec<_>>().join(" and ")
    }

    /// A result, once it is known to be within bounds.
    pub(super) fn keep(&self, node: NodeId, rows: bool) -> Recorded {
        within_bounds(self.graph.shape(node).extents(), rows)?;
        Ok(Value {
            node,
            rows,
            integer: false,
        })
    }

    /// The numbers of an int32 input as float32; others as they are.
    pub(super) fn float(&mut self, x: Value) -> Recorded {
        if !x.integer {
            return Ok(x);
        }
        let node = self.graph.add(Op::ToFloat, &[x.node])?;
        self.keep(node, x.rows)
    }

    pub(super) fn floats(&mut self, x: &[Value]) -> Recorded<Vec<Value>> {
        x.iter().map(|&x| self.float(x)).collect()
    }

    pub(super) fn constant(&mut self, value: f32) -> Recorded {
        let node = self.graph.constant(value)?;
        self.keep(node, false)
    }

    /// A possibly negative axis of `x` that is not the rows.
    pub(super) fn axis(&self, x: Value, axis: i64) -> Recorded<usize> {
        let rank = self.rank(x);
        let found = place(axis, rank).ok_or_else(|| {
            Refusal::new(
                format!("its input {} has no axis {axis}", self.show(&[x])),
                format!("axes are {} to {}", -(rank as i64), rank as i64 - 1),
            )
        })?;
        if x.rows && found == 0 {
            return Err(rows_stay(axis, &self.show(&[x])));
        }
        Ok(found)
    }

    /// Distinct axes in rising order; all of them where `None`.
    pub(super) fn axes(&self, x: Value, axes: Option<&[i64]>) -> Recorded<Vec<usize>> {
        let Some(axes) = axes else {
            if x.rows {
                return Err(Refusal::new(
                    format!(
                        "without an axis it would join the rows of {}",
                        self.show(&[x])
                    ),
                    "name the axes, such as axis=-1: rows stay apart, and training takes the mean over them",
                ));
            }
            return Ok((0..self.rank(x)).collect());
        };
        let mut found = Vec::with_capacity(axes.len());
        for &axis in axes {
            let axis = self.axis(x, axis)?;
            if found.contains(&axis) {
                return Err(Refusal::new(
                    format!("axis {axis} is named twice"),
                    "name each axis once",
                ));
            }
            found.push(axis);
        }
        found.sort_unstable();
        Ok(found)
    }

    /// Refuses values that NumPy's rule does not bring together, or only by mixing rows; says whether the whole has rows.
    pub(super) fn together(&self, values: &[Value]) -> Recorded<bool> {
        let rows = values.iter().any(|x| x.rows);
        let rank = values.iter().map(|&x| self.rank(x)).max().unwrap_or(0);
        let mut whole = Shape::scalar();
        for &x in values {
            let extents = self.shape(x);
            let meets_rows = rows && !x.rows && extents.len() == rank && extents[0] != 1;
            let rows_meet = x.rows && extents.len() != rank;
            if meets_rows || rows_meet {
                return Err(Refusal::new(
                    format!(
                        "shapes {} would set rows against another axis",
                        self.show(values)
                    ),
                    "give all inputs with rows as many axes, and others at most one less; expand_dims and reshape help",
                ));
            }
            whole = whole.broadcast(&Shape::new(&extents)).ok_or_else(|| {
                Refusal::new(
                    format!("shapes {} do not go together", self.show(values)),
                    "extents must be equal or 1, counted from the last axis",
                )
            })?;
        }
        within_bounds(whole.extents(), rows)?;
        Ok(rows)
    }

    pub(super) fn reshape(&mut self, x: Value, extents: &[usize]) -> Recorded {
        within_bounds(extents, x.rows)?;
        let node = self.graph.reshape(x.node, extents)?;
        self.keep(node, x.rows)
    }

    pub(super) fn permute(&mut self, x: Value, axes: &[usize]) -> Recorded {
        let node = self.graph.permute(x.node, axes)?;
        self.keep(node, x.rows)
    }

    /// `count` indices of an axis; the caller has seen to it that they exist.
    pub(super) fn slice(
        &mut self,
        x: Value,
        axis: usize,
        start: usize,
        count: usize,
        step: isize,
    ) -> Recorded {
        let node = self.graph.slice(x.node, axis, start, count, step)?;
        self.keep(node, x.rows)
    }

    /// Spread over a shape whose axis 0 is the rows where `rows`.
    pub(super) fn broadcast_to(&mut self, x: Value, extents: &[usize], rows: bool) -> Recorded {
        within_bounds(extents, rows)?;
        let node = self.graph.broadcast_to(x.node, &Shape::new(extents))?;
        self.keep(node, rows)
    }
}

/// The position of a possibly negative axis.
pub(super) fn place(axis: i64, rank: usize) -> Option<usize> {
    let found = if axis < 0 {
        axis.checked_add(i64::try_from(rank).ok()?)?
    } else {
        axis
    };
    usize::try_from(found).ok().filter(|&found| found < rank)
}

pub(super) fn rows_stay(axis: i64, shape: &str) -> Refusal {
    Refusal::new(format!("axis {axis} of {shape} cannot be used"), ROWS_STAY)
}

/// Refuses a shape before anything of its size exists.
pub(super) fn within_bounds(extents: &[usize], rows: bool) -> Recorded<()> {
    let own = &extents[usize::from(rows).min(extents.len())..];
    let numbers = Shape::new(own).len();
    if extents.len() > RANK_MAX || numbers > NUMBERS_MAX || numbers == 0 {
        return Err(Refusal::new(
            format!("it would make {}", show(extents, rows)),
            format!(
                "at most {RANK_MAX} axes, at least 1 and at most 2^30 numbers per row are allowed"
            ),
        ));
    }
    Ok(())
}

pub(super) fn show(extents: &[usize], rows: bool) -> String {
    let shown: Vec<String> = extents
        .iter()
        .enumerate()
        .map(|(axis, extent)| {
            if rows && axis == 0 {
                "None".to_string()
            } else {
                extent.to_string()
            }
        })
        .collect();
    match shown.as_slice() {
        [only] => format!("({only},)"),
        _ => format!("({})", shown.join(", ")),
    }
}

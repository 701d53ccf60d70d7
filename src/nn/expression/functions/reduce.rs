//! Sums, means, greatest and smallest numbers, norms, softmax and running sums along axes.

use crate::autograd::{Op, Reduction};
use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::super::error::SpecError;
use super::super::arguments::Arguments;
use super::super::value::{Recorded, Recording, Value};
use super::elementwise::{both, each};
use super::{Line, Record, boxed};

pub(super) const FUNCTIONS: &[Line] = &[
    ("sum", 1, 1, |a| {
        reduction(a, |r, x, axes| fold(r, Reduction::Sum, x, axes))
    }),
    ("mean", 1, 1, |a| reduction(a, mean)),
    ("max", 1, 1, |a| {
        reduction(a, |r, x, axes| fold(r, Reduction::Max, x, axes))
    }),
    ("min", 1, 1, |a| {
        reduction(a, |r, x, axes| {
            let negative = each(r, Unary::Negate, x)?;
            let greatest = fold(r, Reduction::Max, negative, axes)?;
            each(r, Unary::Negate, greatest)
        })
    }),
    ("prod", 1, 1, |a| reduction(a, product)),
    ("var", 1, 1, |a| reduction(a, variance)),
    ("std", 1, 1, |a| {
        reduction(a, |r, x, axes| {
            let variance = variance(r, x, axes)?;
            each(r, Unary::Sqrt, variance)
        })
    }),
    ("logsumexp", 1, 1, |a| reduction(a, log_sum_exp)),
    ("norm", 1, 1, norm),
    ("normalize", 1, 1, normalize),
    ("l2_normalize", 1, 1, |a| {
        // x / sqrt(max(sum(x^2), epsilon)).
        let (axis, epsilon) = (a.axis(-1)?, a.number("epsilon")?.unwrap_or(1e-12));
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let axes = [r.axis(x, axis)?];
            let squares = each(r, Unary::Square, x)?;
            let sum = fold(r, Reduction::Sum, squares, &axes)?;
            let sum = kept(r, x, sum, &axes)?;
            let low = r.constant(epsilon)?;
            let bounded = both(r, Binary::Maximum, sum, low)?;
            let length = each(r, Unary::Sqrt, bounded)?;
            both(r, Binary::Divide, x, length)
        })
    }),
    ("softmax", 1, 1, |a| along(a, Op::Softmax)),
    ("log_softmax", 1, 1, |a| along(a, Op::LogSoftmax)),
    ("cumsum", 1, 1, |a| {
        let (axis, reverse) = (a.axis(-1)?, a.flag("reverse")?);
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let axis = r.axis(x, axis)?;
            let node = r
                .graph
                .add(Op::CumulativeSum { axis, reverse }, &[x.node])?;
            r.keep(node, x.rows)
        })
    }),
];

/// A function of an axis' numbers, with `axis` and `keepdims`; `record` answers without the axes.
fn reduction(
    arguments: &mut Arguments<'_, '_>,
    record: fn(&mut Recording<'_>, Value, &[usize]) -> Recorded,
) -> Result<Record, SpecError> {
    let (axes, keepdims) = (arguments.wholes("axis")?, arguments.flag("keepdims")?);
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let axes = r.axes(x, axes.as_deref())?;
        let reduced = record(r, x, &axes)?;
        if keepdims {
            kept(r, x, reduced, &axes)
        } else {
            Ok(reduced)
        }
    })
}

/// `reduced` with extents of 1 where the axes of `x` were.
fn kept(r: &mut Recording<'_>, x: Value, reduced: Value, axes: &[usize]) -> Recorded {
    let mut extents = r.shape(x);
    axes.iter().for_each(|&axis| extents[axis] = 1);
    r.reshape(reduced, &extents)
}

fn fold(r: &mut Recording<'_>, reduction: Reduction, x: Value, axes: &[usize]) -> Recorded {
    let mut node = x.node;
    // From the innermost, so that the other axes' numbers stay true.
    for &axis in axes.iter().rev() {
        node = r.graph.reduce(reduction, node, axis, 1)?;
    }
    r.keep(node, x.rows)
}

fn mean(r: &mut Recording<'_>, x: Value, axes: &[usize]) -> Recorded {
    let shape = r.shape(x);
    let count: usize = axes.iter().map(|&axis| shape[axis]).product();
    let sum = fold(r, Reduction::Sum, x, axes)?;
    let node = r.graph.scaled(sum.node, 1.0 / count as f32)?;
    r.keep(node, x.rows)
}

fn variance(r: &mut Recording<'_>, x: Value, axes: &[usize]) -> Recorded {
    let center = mean(r, x, axes)?;
    let center = kept(r, x, center, axes)?;
    let difference = both(r, Binary::Subtract, x, center)?;
    let squares = each(r, Unary::Square, difference)?;
    mean(r, squares, axes)
}

/// In halves, so that its gradient needs no division and zeros do no harm.
fn product(r: &mut Recording<'_>, x: Value, axes: &[usize]) -> Recorded {
    let mut x = x;
    for &axis in axes.iter().rev() {
        let mut extent = r.shape(x)[axis];
        while extent > 1 {
            let half = extent / 2;
            let (low, high) = (
                r.slice(x, axis, 0, half, 1)?,
                r.slice(x, axis, half, half, 1)?,
            );
            let mut halves = both(r, Binary::Multiply, low, high)?;
            if extent % 2 == 1 {
                let last = r.slice(x, axis, extent - 1, 1, 1)?;
                let node = r.graph.concatenate(&[halves.node, last.node], axis)?;
                halves = r.keep(node, x.rows)?;
            }
            x = halves;
            extent = r.shape(x)[axis];
        }
        let mut extents = r.shape(x);
        extents.remove(axis);
        x = r.reshape(x, &extents)?;
    }
    Ok(x)
}

/// The greatest number is taken out before, so that nothing overflows.
fn log_sum_exp(r: &mut Recording<'_>, x: Value, axes: &[usize]) -> Recorded {
    let greatest = fold(r, Reduction::Max, x, axes)?;
    let greatest = each(r, Unary::Detach, greatest)?;
    let spread = kept(r, x, greatest, axes)?;
    let below = both(r, Binary::Subtract, x, spread)?;
    let shares = each(r, Unary::Exp, below)?;
    let sum = fold(r, Reduction::Sum, shares, axes)?;
    let logarithm = each(r, Unary::Log, sum)?;
    both(r, Binary::Add, logarithm, greatest)
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Norm {
    One,
    Two,
    Greatest,
    Power(f32),
}

/// `ord`: a number from 1, or "inf"; 2 when absent.
fn order(arguments: &mut Arguments<'_, '_>, name: &'static str) -> Result<Norm, SpecError> {
    const HINT: &str = "give a number from 1 to 64, or \"inf\"";
    let Some(value) = arguments.value(name) else {
        return Ok(Norm::Two);
    };
    match (value.as_f64(), value.as_str()) {
        (Some(1.0), _) => Ok(Norm::One),
        (Some(2.0), _) => Ok(Norm::Two),
        (Some(order), _) if (1.0..=64.0).contains(&order) => Ok(Norm::Power(order as f32)),
        (_, Some("inf")) => Ok(Norm::Greatest),
        _ => Err(arguments.bad(name, value, HINT)),
    }
}

/// (sum |x|^p)^(1/p) over one or more axes as one vector.
fn length(r: &mut Recording<'_>, norm: Norm, x: Value, axes: &[usize]) -> Recorded {
    match norm {
        Norm::One => {
            let sizes = each(r, Unary::Absolute, x)?;
            fold(r, Reduction::Sum, sizes, axes)
        }
        Norm::Two => {
            let squares = each(r, Unary::Square, x)?;
            let sum = fold(r, Reduction::Sum, squares, axes)?;
            each(r, Unary::Sqrt, sum)
        }
        Norm::Greatest => {
            let sizes = each(r, Unary::Absolute, x)?;
            fold(r, Reduction::Max, sizes, axes)
        }
        Norm::Power(order) => {
            let sizes = each(r, Unary::Absolute, x)?;
            let powered = scaled_power(r, sizes, order)?;
            let sum = fold(r, Reduction::Sum, powered, axes)?;
            scaled_power(r, sum, 1.0 / order)
        }
    }
}

/// x^b = exp(b log x) of numbers from 0.
fn scaled_power(r: &mut Recording<'_>, x: Value, exponent: f32) -> Recorded {
    let logarithm = each(r, Unary::Log, x)?;
    let node = r.graph.scaled(logarithm.node, exponent)?;
    let product = r.keep(node, x.rows)?;
    each(r, Unary::Exp, product)
}

fn norm(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    let norm = order(arguments, "ord")?;
    let (axes, keepdims) = (arguments.wholes("axis")?, arguments.flag("keepdims")?);
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let axes = r.axes(x, axes.as_deref())?;
        let found = length(r, norm, x, &axes)?;
        if keepdims {
            kept(r, x, found, &axes)
        } else {
            Ok(found)
        }
    })
}

/// x / max(norm, epsilon).
fn normalize(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    let norm = order(arguments, "order")?;
    let (axis, epsilon) = (
        arguments.axis(-1)?,
        arguments.number("epsilon")?.unwrap_or(1e-12),
    );
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let axes = [r.axis(x, axis)?];
        let found = length(r, norm, x, &axes)?;
        let found = kept(r, x, found, &axes)?;
        let low = r.constant(epsilon)?;
        let bounded = both(r, Binary::Maximum, found, low)?;
        both(r, Binary::Divide, x, bounded)
    })
}

/// A function of the innermost extent, along any axis.
fn along(arguments: &mut Arguments<'_, '_>, op: Op) -> Result<Record, SpecError> {
    let axis = arguments.axis(-1)?;
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let axis = r.axis(x, axis)?;
        let op = op.clone();
        let node = r
            .graph
            .along_innermost(x.node, axis, move |graph, x| graph.add(op, &[x]))?;
        r.keep(node, x.rows)
    })
}

//! Products of matrices and everything like them: all go through one contraction over named axes.

use crate::autograd::Reduction;
use crate::tensor::kernels::elementwise::Binary;

use super::super::super::error::SpecError;
use super::super::arguments::Arguments;
use super::super::value::{Recorded, Recording, Refusal, Value, place, within_bounds};
use super::elementwise::both;
use super::{Line, Record, boxed};

pub(super) const FUNCTIONS: &[Line] = &[
    ("matmul", 2, 2, |_| boxed(|r, x| matmul(r, x[0], x[1]))),
    ("dot", 2, 2, |_| boxed(|r, x| dot(r, x[0], x[1]))),
    ("batch_dot", 2, 2, |a| {
        let axes = a.wholes("axes")?;
        boxed(move |r, x| batch_dot(r, x[0], x[1], axes.as_deref()))
    }),
    ("einsum", 1, 2, einsum),
];

/// An axis by name: equal names are one axis.
type Label = usize;

/// The sum over all axes that `out` leaves out of the product of two operands.
///
/// Axes of both that stay are side by side, axes of both that go are summed over in one matrix product, and rows may be
/// none of the latter.
fn contract(
    r: &mut Recording<'_>,
    a: (Value, &[Label]),
    b: (Value, &[Label]),
    out: &[Label],
) -> Recorded {
    let pair = r.floats(&[a.0, b.0])?;
    let shapes = r.show(&pair);
    let refuse =
        |problem: String, hint: &str| Refusal::new(format!("shapes {shapes}: {problem}"), hint);
    let sides = [(pair[0], a.1), (pair[1], b.1)];
    let mut extents: Vec<(Label, usize, bool)> = Vec::new();
    let mut rows = None;
    for (x, labels) in sides {
        let shape = r.shape(x);
        for (axis, (&label, &extent)) in labels.iter().zip(&shape).enumerate() {
            let is_rows = x.rows && axis == 0;
            if labels[..axis].contains(&label) {
                return Err(refuse(
                    "an axis is named twice in one operand".to_string(),
                    "diagonals are not supported",
                ));
            }
            match extents.iter().find(|(known, ..)| *known == label) {
                Some(&(_, other, others_rows)) if other != extent || is_rows != others_rows => {
                    return Err(refuse(
                        "axes that go together have different extents".to_string(),
                        "they must be equal, and rows go with rows only",
                    ));
                }
                Some(_) => {}
                None => extents.push((label, extent, is_rows)),
            }
            if is_rows {
                if rows.is_some_and(|rows| rows != label) {
                    return Err(refuse(
                        "rows of one would meet all rows of the other".to_string(),
                        "a lane sees only its own part of a minibatch; use batch_dot, or einsum with one letter for both",
                    ));
                }
                rows = Some(label);
            }
        }
    }
    if let Some(rows) = rows
        && out.first() != Some(&rows)
    {
        return Err(refuse(
            "rows would be summed over or moved".to_string(),
            "axis 0 is the rows: it must stay the first axis of the answer",
        ));
    }
    let has_rows = rows.is_some();
    let extent_of = |label: Label| {
        let found = extents.iter().find(|(known, ..)| *known == label);
        found.map_or(1, |&(_, extent, _)| extent)
    };
    let shape_of = |labels: &[Label]| {
        labels
            .iter()
            .map(|&label| extent_of(label))
            .collect::<Vec<_>>()
    };
    within_bounds(&shape_of(out), has_rows)?;

    // What only one operand has and the answer has not is summed before.
    let mut left = alone(r, sides[0], sides[1].1, out)?;
    let mut right = alone(r, sides[1], sides[0].1, out)?;
    let shared: Vec<Label> = out
        .iter()
        .copied()
        .filter(|l| left.1.contains(l) && right.1.contains(l))
        .collect();
    let summed: Vec<Label> = left
        .1
        .iter()
        .copied()
        .filter(|l| !out.contains(l))
        .collect();
    let m: Vec<Label> = left
        .1
        .iter()
        .copied()
        .filter(|l| !right.1.contains(l))
        .collect();
    let n: Vec<Label> = right
        .1
        .iter()
        .copied()
        .filter(|l| !left.1.contains(l))
        .collect();
    left = arranged(r, left, &[&shared[..], &m, &summed].concat())?;
    right = arranged(r, right, &[&shared[..], &summed, &n].concat())?;
    let count = |labels: &[Label]| shape_of(labels).iter().product::<usize>();
    let (node, labels) = if m.is_empty() && n.is_empty() {
        let product = r.graph.times(left.0.node, right.0.node)?;
        let node = r
            .graph
            .reduce(Reduction::Sum, product, shared.len(), summed.len())?;
        (node, shared)
    } else {
        let mut sizes = (
            [count(&m), count(&summed)].to_vec(),
            [count(&summed), count(&n)].to_vec(),
        );
        if !shared.is_empty() {
            sizes.0.insert(0, count(&shared));
            sizes.1.insert(0, count(&shared));
        }
        let (a, b) = (
            r.graph.reshape(left.0.node, &sizes.0)?,
            r.graph.reshape(right.0.node, &sizes.1)?,
        );
        let product = r.graph.matmul(a, b, false, false)?;
        let labels = [&shared[..], &m, &n].concat();
        (r.graph.reshape(product, &shape_of(&labels))?, labels)
    };
    let (answer, _) = arranged(
        r,
        (
            Value {
                node,
                rows: has_rows,
                integer: false,
            },
            labels,
        ),
        out,
    )?;
    r.keep(answer.node, has_rows)
}

/// An operand summed over axes that neither the other nor the answer has.
fn alone(
    r: &mut Recording<'_>,
    (x, labels): (Value, &[Label]),
    other: &[Label],
    out: &[Label],
) -> Recorded<(Value, Vec<Label>)> {
    let (mut node, mut left) = (x.node, labels.to_vec());
    for axis in (0..labels.len()).rev() {
        if !other.contains(&labels[axis]) && !out.contains(&labels[axis]) {
            node = r.graph.reduce(Reduction::Sum, node, axis, 1)?;
            left.remove(axis);
        }
    }
    Ok((Value { node, ..x }, left))
}

/// An operand with its axes in another order.
fn arranged(
    r: &mut Recording<'_>,
    (x, labels): (Value, Vec<Label>),
    order: &[Label],
) -> Recorded<(Value, Vec<Label>)> {
    let axes: Vec<usize> = order
        .iter()
        .filter_map(|label| labels.iter().position(|known| known == label))
        .collect();
    let node = r.graph.permute(x.node, &axes)?;
    Ok((Value { node, ..x }, order.to_vec()))
}

const K: Label = 0;
const M: Label = 1;
const N: Label = 2;
const OTHERS: Label = 10;

/// NumPy's matmul: the last axis of `a` with the last but one of `b`, leading axes side by side by the broadcasting rule.
fn matmul(r: &mut Recording<'_>, a: Value, b: Value) -> Recorded {
    let pair = r.floats(&[a, b])?;
    let (mut a, mut b) = (pair[0], pair[1]);
    let (p, q) = (r.rank(a), r.rank(b));
    if p == 0 || q == 0 {
        return Err(Refusal::new(
            format!("shapes {} hold a single number", r.show(&pair)),
            "use multiply",
        ));
    }
    // Leading axes by their distance from the matrix.
    let leading = |rank: usize| (0..rank.saturating_sub(2)).rev().map(|from| OTHERS + from);
    let mut left: Vec<Label> = leading(p).collect();
    let mut right: Vec<Label> = leading(q).collect();
    let together: Vec<Label> = leading(p.max(q)).collect();
    left.extend((p > 1).then_some(M));
    left.push(K);
    right.push(K);
    right.extend((q > 1).then_some(N));
    for &label in &together {
        let at = |labels: &[Label]| labels.iter().position(|known| *known == label);
        let (Some(i), Some(j)) = (at(&left), at(&right)) else {
            continue;
        };
        let (one, other) = (r.shape(a)[i], r.shape(b)[j]);
        if one == 1 && !(a.rows && i == 0) && (other != 1 || (b.rows && j == 0)) {
            a = without(r, a, i)?;
            left.remove(i);
        } else if other == 1 && !(b.rows && j == 0) && (one != 1 || (a.rows && i == 0)) {
            b = without(r, b, j)?;
            right.remove(j);
        }
    }
    let mut out = together;
    out.extend((p > 1).then_some(M));
    out.extend((q > 1).then_some(N));
    contract(r, (a, &left), (b, &right), &out)
}

/// An axis of extent 1 less.
fn without(r: &mut Recording<'_>, x: Value, axis: usize) -> Recorded {
    let mut extents = r.shape(x);
    extents.remove(axis);
    r.reshape(x, &extents)
}

/// NumPy's dot: the last axis of `a` with the last but one of `b`; all other axes stay apart.
fn dot(r: &mut Recording<'_>, a: Value, b: Value) -> Recorded {
    let (p, q) = (r.rank(a), r.rank(b));
    if p == 0 || q == 0 {
        return both(r, Binary::Multiply, a, b);
    }
    let mut left: Vec<Label> = (0..p).map(|axis| OTHERS + axis).collect();
    let mut right: Vec<Label> = (0..q).map(|axis| 2 * OTHERS + axis).collect();
    left[p - 1] = K;
    right[q.saturating_sub(2)] = K;
    let out: Vec<Label> = left
        .iter()
        .chain(&right)
        .copied()
        .filter(|label| *label != K)
        .collect();
    contract(r, (a, &left), (b, &right), &out)
}

/// One axis of each, for each row; `axes` is one number for both or two, by default the last of `a` and the last but one
/// of `b` (the last where it has two axes). The answer has at least two axes.
fn batch_dot(r: &mut Recording<'_>, a: Value, b: Value, axes: Option<&[i64]>) -> Recorded {
    let (p, q) = (r.rank(a), r.rank(b));
    if !(a.rows && b.rows && p >= 2 && q >= 2) {
        return Err(Refusal::new(
            format!(
                "shapes {} are not both rows of one axis or more",
                r.show(&[a, b])
            ),
            "use matmul where one has no rows",
        ));
    }
    let (i, j) = match axes {
        None => (p as i64 - 1, if q == 2 { 1 } else { q as i64 - 2 }),
        Some(&[both]) => (both, both),
        Some(&[i, j]) => (i, j),
        Some(_) => {
            return Err(Refusal::new(
                "axes has more than two numbers",
                "give one or two",
            ));
        }
    };
    let (Some(i), Some(j)) = (
        place(i, p).filter(|&i| i > 0),
        place(j, q).filter(|&j| j > 0),
    ) else {
        return Err(Refusal::new(
            format!(
                "axes {i} and {j} of {} cannot be summed over",
                r.show(&[a, b])
            ),
            "name an axis of each behind the rows",
        ));
    };
    let rows = 5;
    let mut left: Vec<Label> = (0..p).map(|axis| OTHERS + axis).collect();
    let mut right: Vec<Label> = (0..q).map(|axis| 2 * OTHERS + axis).collect();
    (left[0], right[0]) = (rows, rows);
    (left[i], right[j]) = (K, K);
    let mut out = vec![rows];
    out.extend(
        left[1..]
            .iter()
            .chain(&right[1..])
            .copied()
            .filter(|label| *label != K),
    );
    let answer = contract(r, (a, &left), (b, &right), &out)?;
    if out.len() > 1 {
        return Ok(answer);
    }
    let rows = r.rows;
    r.reshape(answer, &[rows, 1])
}

/// Einstein's summation of one or two operands, such as "bij,bjk->bik".
fn einsum(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    const HINT: &str =
        "give letters for each axis of each input, such as \"bij,bjk->bik\"; no dots";
    let value = arguments
        .value("equation")
        .unwrap_or(&serde_json::Value::Null);
    let parsed = value
        .as_str()
        .and_then(|text| parse(text, arguments.inputs));
    let Some((operands, out)) = parsed else {
        return Err(arguments.bad("equation", value, HINT));
    };
    boxed(move |r, x| {
        for (x, labels) in x.iter().zip(&operands) {
            if r.rank(*x) != labels.len() {
                return Err(Refusal::new(
                    format!("{} letters stand for {}", labels.len(), r.show(&[*x])),
                    "give a letter for each axis",
                ));
            }
        }
        match (x, operands.as_slice()) {
            (&[a, b], [left, right]) => contract(r, (a, left), (b, right), &out),
            (&[a], [left]) => {
                let a = r.float(a)?;
                let twice = (1..left.len()).any(|axis| left[..axis].contains(&left[axis]));
                if twice || (a.rows && out.first() != left.first()) {
                    return Err(Refusal::new(
                        format!("{} cannot be summed so", r.show(&[a])),
                        "name each axis once, and keep the rows, axis 0, first in the answer",
                    ));
                }
                let summed = alone(r, (a, left), &[], &out)?;
                let (answer, _) = arranged(r, summed, &out)?;
                r.keep(answer.node, a.rows)
            }
            _ => Err(Refusal::new("it has another count of operands", HINT)),
        }
    })
}

/// Labels of the operands and of the answer, which by default are those that stand once, in the order of the alphabet.
fn parse(equation: &str, inputs: usize) -> Option<(Vec<Vec<Label>>, Vec<Label>)> {
    if equation.len() > 64 {
        return None;
    }
    let text: String = equation.chars().filter(|letter| *letter != ' ').collect();
    let labels = |part: &str| -> Option<Vec<Label>> {
        part.chars()
            .map(|letter| letter.is_ascii_alphabetic().then_some(letter as usize))
            .collect()
    };
    let (left, right) = match text.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (text.as_str(), None),
    };
    let operands: Vec<Vec<Label>> = left.split(',').map(labels).collect::<Option<_>>()?;
    let all: Vec<Label> = operands.concat();
    let times = |label: &Label| all.iter().filter(|known| *known == label).count();
    let out = match right {
        Some(right) => labels(right)?,
        None => {
            let mut once: Vec<Label> = all
                .iter()
                .copied()
                .filter(|label| times(label) == 1)
                .collect();
            once.sort_unstable();
            once
        }
    };
    let distinct = out
        .iter()
        .enumerate()
        .all(|(i, label)| !out[..i].contains(label) && times(label) > 0);
    (operands.len() == inputs && distinct).then_some((operands, out))
}

//! The same numbers in another shape or order: joined, turned, repeated, padded.

use serde_json::Value as Json;

use super::super::super::error::SpecError;
use super::super::arguments::Arguments;
use super::super::value::{
    NUMBERS_MAX, RANK_MAX, Recorded, Recording, Refusal, Value, place, rows_stay, within_bounds,
};
use super::{Line, MANY, Record, boxed};

pub(super) const FUNCTIONS: &[Line] = &[
    ("concatenate", 1, MANY, |a| {
        let axis = a.axis(-1)?;
        boxed(move |r, x| {
            let x = r.floats(x)?;
            let axis = r.axis(x[0], axis)?;
            let mut extents = r.shape(x[0]);
            extents[axis] = 0;
            for &each in &x {
                let mut shape = r.shape(each);
                if shape.len() != extents.len() || each.rows != x[0].rows {
                    return Err(unequal(r, &x));
                }
                let own = std::mem::replace(&mut shape[axis], extents[axis]);
                if shape != extents {
                    return Err(unequal(r, &x));
                }
                extents[axis] += own;
            }
            within_bounds(&extents, x[0].rows)?;
            let nodes: Vec<_> = x.iter().map(|x| x.node).collect();
            let node = r.graph.concatenate(&nodes, axis)?;
            r.keep(node, x[0].rows)
        })
    }),
    ("stack", 1, MANY, |a| {
        let axis = a.axis(0)?;
        boxed(move |r, x| {
            let x = r.floats(x)?;
            let shape = r.shape(x[0]);
            let alike = x
                .iter()
                .all(|&each| each.rows == x[0].rows && r.shape(each) == shape);
            if !alike {
                return Err(unequal(r, &x));
            }
            let axis = new_axis(r, x[0], axis, 1)?;
            let mut extents = shape;
            extents.insert(axis, x.len());
            within_bounds(&extents, x[0].rows)?;
            let nodes: Vec<_> = x.iter().map(|x| x.node).collect();
            let node = r.graph.stack(&nodes, axis)?;
            r.keep(node, x[0].rows)
        })
    }),
    ("reshape", 1, 1, |a| {
        let shape = a.extents("shape")?;
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let extents = resolved(r, x, &shape)?;
            r.reshape(x, &extents)
        })
    }),
    ("broadcast_to", 1, 1, |a| {
        let shape = a.extents("shape")?;
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let rows = matches!(shape.first(), Some(None));
            let extents = given(r.rows, &shape)?;
            spread(r, x, &extents, rows)
        })
    }),
    ("full_like", 1, 1, |a| {
        let value = a.number("value")?.unwrap_or(0.0);
        boxed(move |r, x| {
            let (extents, rows) = (r.shape(x[0]), x[0].rows);
            let value = r.constant(value)?;
            r.broadcast_to(value, &extents, rows)
        })
    }),
    ("transpose", 1, 1, |a| {
        let axes = a.wholes("axes")?;
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let rank = r.rank(x);
            let axes: Vec<usize> = match &axes {
                None => (0..rank).rev().collect(),
                Some(axes) => axes
                    .iter()
                    .map(|&axis| place(axis, rank))
                    .collect::<Option<_>>()
                    .unwrap_or_default(),
            };
            turned(r, x, &axes)
        })
    }),
    ("swapaxes", 1, 1, |a| {
        let (one, other) = (a.required_whole("axis1")?, a.required_whole("axis2")?);
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let (one, other) = (r.axis(x, one)?, r.axis(x, other)?);
            let mut axes: Vec<usize> = (0..r.rank(x)).collect();
            axes.swap(one, other);
            turned(r, x, &axes)
        })
    }),
    ("squeeze", 1, 1, |a| {
        let axes = a.wholes("axis")?;
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let shape = r.shape(x);
            let axes = match &axes {
                Some(axes) => r.axes(x, Some(axes))?,
                None => (usize::from(x.rows)..shape.len())
                    .filter(|&axis| shape[axis] == 1)
                    .collect(),
            };
            if let Some(axis) = axes.iter().find(|&&axis| shape[axis] != 1) {
                return Err(Refusal::new(
                    format!("axis {axis} of {} is not 1", r.show(&[x])),
                    "squeeze axes of extent 1, or reshape",
                ));
            }
            let extents: Vec<usize> = (0..shape.len())
                .filter(|axis| !axes.contains(axis))
                .map(|axis| shape[axis])
                .collect();
            r.reshape(x, &extents)
        })
    }),
    ("expand_dims", 1, 1, |a| {
        let axes = a.wholes("axis")?.unwrap_or_else(|| vec![-1]);
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let mut places = Vec::with_capacity(axes.len());
            for &axis in &axes {
                places.push(new_axis(r, x, axis, axes.len())?);
            }
            places.sort_unstable();
            places.dedup();
            let mut extents = r.shape(x);
            if extents.len() + axes.len() > RANK_MAX || places.len() != axes.len() {
                return Err(Refusal::new(
                    format!("{} cannot get the axes {axes:?}", r.show(&[x])),
                    "name distinct axes, at most 7 in all",
                ));
            }
            places.iter().for_each(|&axis| extents.insert(axis, 1));
            r.reshape(x, &extents)
        })
    }),
    ("repeat", 1, 1, |a| {
        let (repeats, axis) = (a.count("repeats")?, a.axis(-1)?);
        boxed(move |r, x| {
            let x = r.float(x[0])?;
            let axis = r.axis(x, axis)?;
            // Each index `repeats` times: a new axis behind it.
            let mut extents = r.shape(x);
            repeated(
                r,
                x,
                axis + 1,
                repeats,
                |extents| {
                    extents[axis] = extents[axis].saturating_mul(repeats);
                },
                &mut extents,
            )
        })
    }),
    ("tile", 1, 1, |a| {
        let repeats = a.wholes("repeats")?.unwrap_or_default();
        boxed(move |r, x| tile(r, x[0], &repeats))
    }),
    ("pad", 1, 1, pad),
    ("flip", 1, 1, |a| {
        let axes = a.wholes("axis")?;
        boxed(move |r, x| {
            let mut x = r.float(x[0])?;
            for axis in r.axes(x, axes.as_deref())? {
                let node = r.graph.reverse(x.node, axis)?;
                x = r.keep(node, x.rows)?;
            }
            Ok(x)
        })
    }),
];

fn unequal(r: &Recording<'_>, x: &[Value]) -> Refusal {
    Refusal::new(
        format!("shapes {} do not go together", r.show(&x[..x.len().min(8)])),
        "all extents but the one joined along must be equal, and all have rows or none; broadcast_to gives rows",
    )
}

/// The place of `count` new axes by one's number in the result; never before the rows.
fn new_axis(r: &Recording<'_>, x: Value, axis: i64, count: usize) -> Recorded<usize> {
    let rank = r.rank(x) + count;
    match place(axis, rank) {
        Some(0) if x.rows => Err(rows_stay(axis, &r.show(&[x]))),
        Some(found) => Ok(found),
        None => Err(Refusal::new(
            format!("{} cannot get an axis {axis}", r.show(&[x])),
            format!("give {} to {}", -(rank as i64), rank - 1),
        )),
    }
}

/// Extents as given, rows for null.
fn given(rows: usize, shape: &[Option<i64>]) -> Recorded<Vec<usize>> {
    let extents: Option<Vec<usize>> = shape
        .iter()
        .enumerate()
        .map(|(axis, extent)| match extent {
            None => (axis == 0).then_some(rows),
            Some(extent) => usize::try_from(*extent).ok().filter(|&extent| extent > 0),
        })
        .collect();
    let extents = extents.filter(|extents| extents.len() <= RANK_MAX);
    extents.ok_or_else(|| {
        Refusal::new(
            "its shape is no shape",
            "give extents from 1, at most 7, and null (None) for the rows at the first place only",
        )
    })
}

/// The shape of a reshape: one -1 is what is left over, the first of a value with rows is the rows.
fn resolved(r: &Recording<'_>, x: Value, shape: &[Option<i64>]) -> Recorded<Vec<usize>> {
    let mut shape = shape.to_vec();
    if x.rows {
        match shape.first_mut() {
            Some(first) if first.is_none_or(|extent| extent == -1) => *first = None,
            _ => return Err(rows_stay(0, &r.show(&[x]))),
        }
    } else if shape.first() == Some(&None) {
        return Err(Refusal::new(
            format!("{} has no rows", r.show(&[x])),
            "broadcast_to gives it rows",
        ));
    }
    let unknown: Vec<usize> = (0..shape.len())
        .filter(|&axis| shape[axis] == Some(-1))
        .collect();
    let numbers: usize = r.shape(x)[usize::from(x.rows)..].iter().product();
    if let &[axis] = unknown.as_slice() {
        let others = shape.iter().flatten().filter(|extent| **extent != -1);
        let product = others.fold(1i64, |product, &extent| product.saturating_mul(extent));
        let product = usize::try_from(product).unwrap_or(0);
        if product > 0 && numbers.is_multiple_of(product) {
            shape[axis] = i64::try_from(numbers / product).ok();
        }
    }
    let extents = given(r.rows, &shape)?;
    let own = &extents[usize::from(x.rows)..];
    let product = own
        .iter()
        .fold(1usize, |product, &extent| product.saturating_mul(extent));
    if product != numbers {
        return Err(Refusal::new(
            format!(
                "{} has {numbers} numbers per row and the shape asked for {product}",
                r.show(&[x])
            ),
            "the count of numbers must stay the same",
        ));
    }
    Ok(extents)
}

fn spread(r: &mut Recording<'_>, x: Value, extents: &[usize], rows: bool) -> Recorded {
    let shape = r.shape(x);
    let missing = extents.len().checked_sub(shape.len());
    let fits = missing.is_some_and(|missing| {
        let meets_rows = rows && missing == 0 && !x.rows && shape.first() != Some(&1);
        let rows_kept = !x.rows || (rows && missing == 0);
        let equal = |(axis, &extent): (usize, &usize)| {
            extent == 1 && !(x.rows && axis == 0) || extent == extents[missing + axis]
        };
        rows_kept && !meets_rows && shape.iter().enumerate().all(equal)
    });
    if !fits {
        return Err(Refusal::new(
            format!(
                "{} does not spread over {}",
                r.show(&[x]),
                super::super::value::show(extents, rows)
            ),
            "extents must be equal or 1, counted from the last axis, and rows stay rows",
        ));
    }
    r.broadcast_to(x, extents, rows)
}

fn turned(r: &mut Recording<'_>, x: Value, axes: &[usize]) -> Recorded {
    let rank = r.rank(x);
    let complete = axes.len() == rank && (0..rank).all(|axis| axes.contains(&axis));
    if !complete {
        return Err(Refusal::new(
            format!("its axes do not name each axis of {} once", r.show(&[x])),
            "name all axes in their new order",
        ));
    }
    if x.rows && axes.first() != Some(&0) {
        return Err(rows_stay(0, &r.show(&[x])));
    }
    r.permute(x, axes)
}

/// A new axis before `axis` that repeats, folded into the extents that `fold` makes.
fn repeated(
    r: &mut Recording<'_>,
    x: Value,
    axis: usize,
    count: usize,
    fold: impl Fn(&mut [usize]),
    extents: &mut [usize],
) -> Recorded {
    fold(extents);
    within_bounds(extents, x.rows)?;
    let node = r.graph.repeat(x.node, axis, count)?;
    r.reshape(Value { node, ..x }, extents)
}

/// NumPy's tile: the whole, `repeats` times along each axis.
fn tile(r: &mut Recording<'_>, x: Value, repeats: &[i64]) -> Recorded {
    let mut x = r.float(x)?;
    let rank = r.rank(x);
    if repeats
        .iter()
        .any(|&repeats| !(1..=NUMBERS_MAX as i64).contains(&repeats))
        || repeats.len() > RANK_MAX
    {
        return Err(Refusal::new(
            format!("repeats are {:?}", &repeats[..repeats.len().min(8)]),
            "give a count from 1 for each axis",
        ));
    }
    let missing = repeats.len().saturating_sub(rank);
    if x.rows && (missing > 0 || (repeats.len() == rank && repeats[0] != 1)) {
        return Err(rows_stay(0, &r.show(&[x])));
    }
    let extents = [&vec![1; missing][..], &r.shape(x)].concat();
    x = r.reshape(x, &extents)?;
    let first = extents.len() - repeats.len();
    for (offset, &count) in repeats.iter().enumerate() {
        let (axis, count) = (first + offset, count as usize);
        if count > 1 {
            let mut extents = r.shape(x);
            x = repeated(
                r,
                x,
                axis,
                count,
                |extents| {
                    extents[axis] = extents[axis].saturating_mul(count);
                },
                &mut extents,
            )?;
        }
    }
    Ok(x)
}

/// NumPy's pad with a constant: `pad_width` is [before, after] for each axis, `constant_values` what is put there.
fn pad(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    let value = arguments.value("pad_width").unwrap_or(&Json::Null);
    let pair = |each: &Json| -> Option<[usize; 2]> {
        let list = each.as_array().filter(|list| list.len() == 2)?;
        let count = |each: &Json| {
            let count = each.as_u64().and_then(|count| usize::try_from(count).ok());
            count.filter(|&count| count <= NUMBERS_MAX)
        };
        Some([count(&list[0])?, count(&list[1])?])
    };
    let widths: Option<Vec<[usize; 2]>> = value
        .as_array()
        .filter(|list| list.len() <= RANK_MAX)
        .and_then(|list| list.iter().map(pair).collect());
    let Some(widths) = widths else {
        return Err(arguments.bad("pad_width", value, "give [before, after] for each axis"));
    };
    let filling = arguments.number("constant_values")?.unwrap_or(0.0);
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let mut extents = r.shape(x);
        if widths.len() != extents.len() {
            return Err(Refusal::new(
                format!(
                    "{} pairs of widths are given for {}",
                    widths.len(),
                    r.show(&[x])
                ),
                "give one pair for each axis",
            ));
        }
        if x.rows && widths[0] != [0, 0] {
            return Err(rows_stay(0, &r.show(&[x])));
        }
        for (extent, [before, after]) in extents.iter_mut().zip(&widths) {
            *extent = extent.saturating_add(*before).saturating_add(*after);
        }
        within_bounds(&extents, x.rows)?;
        let padded = |r: &mut Recording<'_>, x: Value| -> Recorded {
            let mut node = x.node;
            for (axis, [before, after]) in widths.iter().enumerate() {
                node = r.graph.pad(node, axis, *before, *after)?;
            }
            r.keep(node, x.rows)
        };
        let zeros = padded(r, x)?;
        if filling == 0.0 {
            return Ok(zeros);
        }
        // The filling where a padded array of ones has zeros.
        let (one, shape) = (r.constant(1.0)?, r.shape(x));
        let ones = r.broadcast_to(one, &shape, x.rows)?;
        let inside = padded(r, ones)?;
        let outside = r.graph.complement(inside.node)?;
        let around = r.graph.scaled(outside, filling)?;
        let node = r.graph.plus(zeros.node, around)?;
        r.keep(node, x.rows)
    })
}

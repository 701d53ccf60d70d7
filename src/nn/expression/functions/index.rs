//! Parts of a value by index: slices, splits, rows of a table, and 1 at an index.

use serde_json::Value as Json;

use crate::autograd::Op;
use crate::tensor::kernels::elementwise::Binary;

use super::super::super::error::SpecError;
use super::super::arguments::{Arguments, whole};
use super::super::value::{Recorded, Recording, Refusal, Value, place, rows_stay, within_bounds};
use super::{Line, Record, boxed};

pub(super) const FUNCTIONS: &[Line] = &[
    ("getitem", 1, 1, getitem),
    ("split", 1, 1, split),
    ("take", 1, 2, take),
    ("one_hot", 1, 1, |a| {
        let classes = a.count("num_classes")?;
        a.spend("num_classes", classes)?;
        boxed(move |r, x| one_hot(r, x[0], classes))
    }),
];

/// One item of a key, as Python writes it between brackets.
#[derive(Debug, Clone, Copy)]
enum Item {
    Index(i64),
    Slice {
        start: Option<i64>,
        stop: Option<i64>,
        step: i64,
    },
    NewAxis,
    Ellipsis,
}

const ALL: Item = Item::Slice {
    start: None,
    stop: None,
    step: 1,
};

/// x[key]: NumPy's basic indexing. `key` is a list of whole numbers, `[start, stop, step]` with null where left out,
/// null for a new axis and "..." for the axes between.
fn getitem(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    let value = arguments.value("key").unwrap_or(&Json::Null);
    let items = value
        .as_array()
        .filter(|list| list.len() <= 16)
        .and_then(|list| list.iter().map(item).collect::<Option<Vec<Item>>>());
    let ellipses = |items: &[Item]| {
        items
            .iter()
            .filter(|item| matches!(item, Item::Ellipsis))
            .count()
    };
    let Some(items) = items.filter(|items| ellipses(items) <= 1) else {
        return Err(arguments.bad(
            "key",
            value,
            "give a list of indices, of [start, stop, step] with null where left out, of null for a new axis, and at most one \"...\"",
        ));
    };
    boxed(move |r, x| at(r, x[0], &items))
}

fn item(value: &Json) -> Option<Item> {
    let bound = |value: &Json| match value {
        Json::Null => Some(None),
        value => whole(value).map(Some),
    };
    match value {
        Json::Null => Some(Item::NewAxis),
        Json::String(dots) if dots == "..." => Some(Item::Ellipsis),
        Json::Number(_) => whole(value).map(Item::Index),
        Json::Array(list) => match list.as_slice() {
            [start, stop, step] => Some(Item::Slice {
                start: bound(start)?,
                stop: bound(stop)?,
                step: bound(step)?.unwrap_or(1),
            }),
            _ => None,
        },
        _ => None,
    }
}

fn at(r: &mut Recording<'_>, x: Value, items: &[Item]) -> Recorded {
    let x = r.float(x)?;
    let (shape, shown) = (r.shape(x), r.show(&[x]));
    let taken = items
        .iter()
        .filter(|item| matches!(item, Item::Index(_) | Item::Slice { .. }))
        .count();
    let Some(rest) = shape.len().checked_sub(taken) else {
        return Err(Refusal::new(
            format!("{taken} indices are more than {shown} has axes"),
            "leave some out",
        ));
    };
    // An ellipsis stands for the axes that nothing else names; without one they follow at the end.
    let mut key = Vec::new();
    for &item in items {
        match item {
            Item::Ellipsis => key.extend(std::iter::repeat_n(ALL, rest)),
            item => key.push(item),
        }
    }
    if !items.iter().any(|item| matches!(item, Item::Ellipsis)) {
        key.extend(std::iter::repeat_n(ALL, rest));
    }
    let (mut found, mut axis, mut extents) = (x, 0, Vec::new());
    for item in key {
        let extent = shape.get(axis).copied().unwrap_or(1);
        let is_rows = x.rows && axis == 0;
        match item {
            Item::NewAxis if is_rows => {
                return Err(rows_stay(0, &shown));
            }
            Item::NewAxis => {
                extents.push(1);
                continue;
            }
            Item::Slice {
                start: None,
                stop: None,
                step: 1,
            } => extents.push(extent),
            _ if is_rows => return Err(rows_stay(0, &shown)),
            Item::Index(index) => {
                let start = place(index, extent).ok_or_else(|| {
                    Refusal::new(
                        format!("index {index} is outside axis {axis} of {shown}"),
                        format!("indices are {} to {}", -(extent as i64), extent as i64 - 1),
                    )
                })?;
                found = r.slice(found, axis, start, 1, 1)?;
            }
            Item::Slice { start, stop, step } => {
                let (start, count) = walk(start, stop, step, extent).ok_or_else(|| {
                    Refusal::new(
                        format!("a slice of axis {axis} of {shown} is empty or has the step 0"),
                        "slice at least one index",
                    )
                })?;
                // A single index has no step.
                let step = if count == 1 {
                    1
                } else {
                    isize::try_from(step).unwrap_or(1)
                };
                found = r.slice(found, axis, start, count, step)?;
                extents.push(count);
            }
            Item::Ellipsis => {}
        }
        axis += 1;
    }
    r.reshape(found, &extents)
}

/// First index and count of Python's slice; `None` when it is empty.
fn walk(start: Option<i64>, stop: Option<i64>, step: i64, extent: usize) -> Option<(usize, usize)> {
    let extent = i64::try_from(extent).ok()?;
    let (low, high) = if step > 0 {
        (0, extent)
    } else {
        (-1, extent - 1)
    };
    let bound = |given: Option<i64>, default: i64| match given {
        None => default,
        Some(given) if given < 0 => given.saturating_add(extent).clamp(low, high),
        Some(given) => given.clamp(low, high),
    };
    let (first, end) = if step > 0 {
        (bound(start, low), bound(stop, high))
    } else {
        (bound(start, high), bound(stop, low))
    };
    let count = match step {
        0 => return None,
        1.. => (end - first)
            .max(0)
            .unsigned_abs()
            .div_ceil(step.unsigned_abs()),
        _ => (first - end)
            .max(0)
            .unsigned_abs()
            .div_ceil(step.unsigned_abs()),
    };
    let count = usize::try_from(count).ok().filter(|&count| count > 0)?;
    Some((usize::try_from(first).ok()?, count))
}

/// One part of NumPy's split: `sections` equal parts, or parts between `indices`; `part` counts from 0.
fn split(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    let indices = arguments.wholes("indices")?;
    let sections = match indices {
        None => arguments.count("sections")?,
        Some(_) => 1,
    };
    let (axis, part) = (arguments.axis(-1)?, arguments.required_whole("part")?);
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let axis = r.axis(x, axis)?;
        let extent = r.shape(x)[axis];
        let mut ends: Vec<usize> = match &indices {
            Some(indices) => indices
                .iter()
                .map(|&index| {
                    let from_end = if index < 0 {
                        index + extent as i64
                    } else {
                        index
                    };
                    usize::try_from(from_end.max(0)).unwrap_or(0).min(extent)
                })
                .collect(),
            None if extent % sections == 0 => (1..sections)
                .map(|part| part * (extent / sections))
                .collect(),
            None => {
                return Err(Refusal::new(
                    format!(
                        "axis {axis} of {} does not divide into {sections}",
                        r.show(&[x])
                    ),
                    "give a count that divides it, or indices",
                ));
            }
        };
        ends.push(extent);
        let (part, count) = (usize::try_from(part).unwrap_or(usize::MAX), ends.len());
        let Some(&end) = ends.get(part) else {
            return Err(Refusal::new(
                format!("there is no part {part} of {count}"),
                "parts count from 0",
            ));
        };
        let start = if part == 0 { 0 } else { ends[part - 1] };
        if end <= start {
            return Err(Refusal::new(
                format!("part {part} of axis {axis} of {} is empty", r.show(&[x])),
                "give rising indices",
            ));
        }
        r.slice(x, axis, start, end - start, 1)
    })
}

/// Most stretches of equal step that constant indices may fall into.
const STRETCHES_MAX: usize = 4096;

/// Rows of a table by an int32 input, or constant `indices` along an axis.
fn take(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    if arguments.inputs == 2 {
        let axis = arguments.axis(0)?;
        return boxed(move |r, x| rows_of_table(r, x[0], x[1], axis));
    }
    let indices = arguments.numbers("indices")?;
    if indices
        .values
        .iter()
        .any(|index| index.fract() != 0.0 || index.abs() > 1e6)
    {
        let found = arguments.value("indices").unwrap_or(&Json::Null);
        return Err(arguments.bad("indices", found, "give whole numbers up to a million"));
    }
    let axis = arguments.axis(-1)?;
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let axis = r.axis(x, axis)?;
        let shape = r.shape(x);
        let mut places = Vec::with_capacity(indices.values.len());
        for &index in &indices.values {
            places.push(place(index as i64, shape[axis]).ok_or_else(|| {
                Refusal::new(
                    format!("index {index} is outside axis {axis} of {}", r.show(&[x])),
                    "give indices of the axis",
                )
            })?);
        }
        let extents = [&shape[..axis], &indices.extents, &shape[axis + 1..]].concat();
        within_bounds(&extents, x.rows)?;
        let stretches = stretches(&places);
        if stretches.len() > STRETCHES_MAX {
            return Err(Refusal::new(
                format!(
                    "indices fall into {} stretches of equal steps",
                    stretches.len()
                ),
                "give at most 4096",
            ));
        }
        let mut parts = Vec::with_capacity(stretches.len());
        for (start, count, step) in stretches {
            parts.push(r.slice(x, axis, start, count, step)?.node);
        }
        let node = r.graph.concatenate(&parts, axis)?;
        let joined = Value { node, ..x };
        r.reshape(joined, &extents)
    })
}

/// Indices as runs of (first, count, step).
fn stretches(places: &[usize]) -> Vec<(usize, usize, isize)> {
    let mut runs: Vec<(usize, usize, isize)> = Vec::new();
    let mut last = 0isize;
    for &place in places {
        let here = place.cast_signed();
        match runs.last_mut() {
            Some(run) if run.1 == 1 && here != last => *run = (run.0, 2, here - last),
            Some(run) if run.1 > 1 && here - last == run.2 => run.1 += 1,
            _ => runs.push((place, 1, 1)),
        }
        last = here;
    }
    runs
}

/// table (V, ...) by int32 indices (None, ...) to (None, ..., ...).
fn rows_of_table(r: &mut Recording<'_>, table: Value, indices: Value, axis: i64) -> Recorded {
    if !indices.integer
        || table.rows
        || table.integer
        || r.rank(table) == 0
        || place(axis, r.rank(table)) != Some(0)
    {
        return Err(Refusal::new(
            format!(
                "it takes from {} along axis {axis}",
                r.show(&[table, indices])
            ),
            "take the first axis of a parameter by an int32 input as it comes (an Input of dtype int32)",
        ));
    }
    let (shape, places) = (r.shape(table), r.shape(indices));
    let extents = [&places[..], &shape[1..]].concat();
    within_bounds(&extents, indices.rows)?;
    let flat = [shape[0], shape[1..].iter().product()];
    let matrix = r.reshape(table, &flat)?;
    let node = r.graph.add(Op::Gather, &[matrix.node, indices.node])?;
    r.reshape(
        Value {
            node,
            rows: indices.rows,
            integer: false,
        },
        &extents,
    )
}

/// 1 at the index of each number, 0 elsewhere; of an index outside 0 to `classes` - 1 all are 0.
fn one_hot(r: &mut Recording<'_>, x: Value, classes: usize) -> Recorded {
    let x = r.float(x)?;
    let mut extents = r.shape(x);
    extents.push(classes);
    within_bounds(&extents, x.rows)?;
    let last = extents.len() - 1;
    extents[last] = 1;
    let column = r.reshape(x, &extents)?;
    let numbers: Vec<f32> = (0..classes).map(|class| class as f32).collect();
    let range = r.graph.literal(&numbers, &[classes])?;
    let node = r.graph.binary(Binary::Equal, column.node, range)?;
    r.keep(node, x.rows)
}

//! The table of functions: a line for each name. What a line records is at once its shape rule and its arithmetic;
//! gradients are autograd's.

mod elementwise;
mod index;
mod product;
mod reduce;
mod shape;

use super::super::error::SpecError;
use super::super::layers::activation;
use super::arguments::Arguments;
use super::value::{Recorded, Recording, Value};

/// A function with its arguments read.
pub(super) type Record = Box<dyn Fn(&mut Recording<'_>, &[Value]) -> Recorded + Send + Sync>;

/// Reads a function's arguments.
pub(super) type Read = fn(&mut Arguments<'_, '_>) -> Result<Record, SpecError>;

/// Name, fewest and most inputs, reader.
pub(super) type Line = (&'static str, usize, usize, Read);

const MANY: usize = 1000;

const FAMILIES: &[&[Line]] = &[
    elementwise::FUNCTIONS,
    reduce::FUNCTIONS,
    product::FUNCTIONS,
    index::FUNCTIONS,
    shape::FUNCTIONS,
];

/// A function by name. Activations that are no function of their own here go by their names too.
pub(super) fn find(name: &str) -> Option<Line> {
    let lines = FAMILIES.iter().flat_map(|family| family.iter());
    let found = lines.copied().find(|(known, ..)| *known == name);
    found.or_else(|| {
        let (name, _) = activation::NAMES.iter().find(|(known, _)| *known == name)?;
        Some((*name, 1, 1, elementwise::ACTIVATION))
    })
}

/// Every name, for messages and tests.
pub(super) fn names() -> Vec<&'static str> {
    let own = FAMILIES.iter().flat_map(|family| family.iter());
    let own: Vec<&str> = own.map(|(name, ..)| *name).collect();
    let activations = activation::NAMES.iter().map(|(name, _)| *name);
    let others: Vec<&str> = activations.filter(|name| !own.contains(name)).collect();
    [own, others].concat()
}

fn boxed(
    record: impl Fn(&mut Recording<'_>, &[Value]) -> Recorded + Send + Sync + 'static,
) -> Result<Record, SpecError> {
    Ok(Box::new(record))
}

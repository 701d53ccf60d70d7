//! Functions of numbers, one or two or three at a time by NumPy's broadcasting rule. Truth is 1 and 0.

use crate::tensor::kernels::elementwise::{Binary, Unary};

use super::super::super::error::SpecError;
use super::super::super::layers::activation::{Activation, NAMES};
use super::super::arguments::Arguments;
use super::super::value::{Recorded, Recording, Value};
use super::{Line, Record, boxed};

pub(super) const FUNCTIONS: &[Line] = &[
    ("negative", 1, 1, |_| unary(Unary::Negate)),
    ("abs", 1, 1, |_| unary(Unary::Absolute)),
    ("sign", 1, 1, |_| unary(Unary::Sign)),
    ("square", 1, 1, |_| unary(Unary::Square)),
    ("sqrt", 1, 1, |_| unary(Unary::Sqrt)),
    ("rsqrt", 1, 1, |_| {
        boxed(|r, x| {
            let root = each(r, Unary::Sqrt, x[0])?;
            each(r, Unary::Reciprocal, root)
        })
    }),
    ("reciprocal", 1, 1, |_| unary(Unary::Reciprocal)),
    ("exp", 1, 1, |_| unary(Unary::Exp)),
    ("expm1", 1, 1, |_| unary(Unary::Expm1)),
    ("log", 1, 1, |_| unary(Unary::Log)),
    ("log1p", 1, 1, |_| unary(Unary::Log1p)),
    ("erf", 1, 1, |_| unary(Unary::Erf)),
    ("sin", 1, 1, |_| unary(Unary::Sin)),
    ("cos", 1, 1, |_| unary(Unary::Cos)),
    ("floor", 1, 1, |_| unary(Unary::Floor)),
    ("round", 1, 1, |_| unary(Unary::Round)),
    ("cast", 1, 1, |_| boxed(|r, x| r.float(x[0]))),
    ("stop_gradient", 1, 1, |_| unary(Unary::Detach)),
    ("add", 2, 2, |_| binary(Binary::Add)),
    ("subtract", 2, 2, |_| binary(Binary::Subtract)),
    ("multiply", 2, 2, |_| binary(Binary::Multiply)),
    ("divide", 2, 2, |_| binary(Binary::Divide)),
    ("maximum", 2, 2, |_| binary(Binary::Maximum)),
    ("minimum", 2, 2, |_| binary(Binary::Minimum)),
    ("power", 1, 2, power),
    ("clip", 1, 1, |a| {
        let (low, high) = (a.number("min")?, a.number("max")?);
        boxed(move |r, x| {
            let mut x = x[0];
            for (function, bound) in [(Binary::Maximum, low), (Binary::Minimum, high)] {
                if let Some(bound) = bound {
                    let bound = r.constant(bound)?;
                    x = both(r, function, x, bound)?;
                }
            }
            r.float(x)
        })
    }),
    ("greater", 2, 2, |_| binary(Binary::Greater)),
    ("equal", 2, 2, |_| binary(Binary::Equal)),
    ("less", 2, 2, |_| {
        boxed(|r, x| both(r, Binary::Greater, x[1], x[0]))
    }),
    ("greater_equal", 2, 2, |_| {
        boxed(|r, x| or_equal(r, x[0], x[1]))
    }),
    ("less_equal", 2, 2, |_| {
        boxed(|r, x| or_equal(r, x[1], x[0]))
    }),
    ("not_equal", 2, 2, |_| {
        boxed(|r, x| {
            let equal = both(r, Binary::Equal, x[0], x[1])?;
            not(r, equal)
        })
    }),
    ("logical_not", 1, 1, |_| {
        boxed(|r, x| {
            let true_here = truth(r, x[0])?;
            not(r, true_here)
        })
    }),
    ("logical_and", 2, 2, |_| logical(Binary::Multiply)),
    ("logical_or", 2, 2, |_| logical(Binary::Maximum)),
    ("logical_xor", 2, 2, |_| {
        boxed(|r, x| {
            let (a, b) = (truth(r, x[0])?, truth(r, x[1])?);
            let equal = both(r, Binary::Equal, a, b)?;
            not(r, equal)
        })
    }),
    ("where", 3, 3, |_| {
        boxed(|r, x| {
            let x = r.floats(x)?;
            let rows = r.together(&x)?;
            let mask = truth(r, x[0])?;
            let node = r.graph.select(mask.node, x[1].node, x[2].node)?;
            r.keep(node, rows)
        })
    }),
];

/// An activation by its own name.
pub(super) const ACTIVATION: super::Read = |arguments| {
    let name = arguments.options.kind();
    let activation = match NAMES.iter().find(|(known, _)| *known == name) {
        Some((_, Activation::Gelu { .. })) => Activation::Gelu {
            approximate: arguments.flag("approximate")?,
        },
        Some((_, activation)) => *activation,
        None => Activation::Linear,
    };
    boxed(move |r, x| {
        let x = r.float(x[0])?;
        let node = activation.record(r.graph, x.node)?;
        r.keep(node, x.rows)
    })
};

fn unary(function: Unary) -> Result<Record, SpecError> {
    boxed(move |r, x| each(r, function, x[0]))
}

fn binary(function: Binary) -> Result<Record, SpecError> {
    boxed(move |r, x| both(r, function, x[0], x[1]))
}

fn logical(function: Binary) -> Result<Record, SpecError> {
    boxed(move |r, x| {
        let (a, b) = (truth(r, x[0])?, truth(r, x[1])?);
        both(r, function, a, b)
    })
}

pub(super) fn each(r: &mut Recording<'_>, function: Unary, x: Value) -> Recorded {
    let x = r.float(x)?;
    let node = r.graph.unary(function, x.node)?;
    r.keep(node, x.rows)
}

pub(super) fn both(r: &mut Recording<'_>, function: Binary, a: Value, b: Value) -> Recorded {
    let x = r.floats(&[a, b])?;
    let rows = r.together(&x)?;
    let node = r.graph.binary(function, x[0].node, x[1].node)?;
    r.keep(node, rows)
}

/// 1 where a number is not 0.
fn truth(r: &mut Recording<'_>, x: Value) -> Recorded {
    let zero = r.constant(0.0)?;
    let false_here = both(r, Binary::Equal, x, zero)?;
    not(r, false_here)
}

fn not(r: &mut Recording<'_>, x: Value) -> Recorded {
    let node = r.graph.complement(x.node)?;
    r.keep(node, x.rows)
}

/// The two are never both true, and both are false of a NaN.
fn or_equal(r: &mut Recording<'_>, a: Value, b: Value) -> Recorded {
    let (greater, equal) = (
        both(r, Binary::Greater, a, b)?,
        both(r, Binary::Equal, a, b)?,
    );
    both(r, Binary::Add, greater, equal)
}

/// Whole exponents up to this are products; beyond it the logarithm is as exact.
const PRODUCT_MAX: u32 = 64;

/// x to a number: whole exponents as products, so that negative bases have powers too; others as exp(b log x), which is
/// NaN below 0. Two inputs: exp(b log a), for a above 0.
fn power(arguments: &mut Arguments<'_, '_>) -> Result<Record, SpecError> {
    let exponent = arguments.number("exponent")?;
    match (exponent, arguments.inputs) {
        (None, 2) => boxed(|r, x| {
            let logarithm = each(r, Unary::Log, x[0])?;
            let product = both(r, Binary::Multiply, x[1], logarithm)?;
            each(r, Unary::Exp, product)
        }),
        (Some(exponent), 1) => boxed(move |r, x| {
            let x = r.float(x[0])?;
            let size = exponent.abs();
            let powered = match size {
                0.0 => {
                    let zero = r.constant(0.0)?;
                    let nothing = both(r, Binary::Multiply, x, zero)?;
                    let one = r.constant(1.0)?;
                    return both(r, Binary::Maximum, one, nothing);
                }
                0.5 => each(r, Unary::Sqrt, x)?,
                _ if size.fract() == 0.0 && size <= PRODUCT_MAX as f32 => {
                    whole_power(r, x, size as u32)?
                }
                _ => real_power(r, x, size)?,
            };
            if exponent < 0.0 {
                each(r, Unary::Reciprocal, powered)
            } else {
                Ok(powered)
            }
        }),
        _ => Err(arguments.bad(
            "exponent",
            &serde_json::Value::Null,
            "give one input and an exponent, or two inputs and none",
        )),
    }
}

/// By squaring.
fn whole_power(r: &mut Recording<'_>, x: Value, exponent: u32) -> Recorded {
    let (mut square, mut rest, mut product) = (x, exponent, None);
    loop {
        if rest & 1 == 1 {
            product = Some(match product {
                Some(before) => both(r, Binary::Multiply, before, square)?,
                None => square,
            });
        }
        rest >>= 1;
        match (rest, product) {
            (0, Some(product)) => return Ok(product),
            _ => square = each(r, Unary::Square, square)?,
        }
    }
}

/// exp(b log x) of numbers that are not 0, and 0 with the gradient 0 where x is 0.
fn real_power(r: &mut Recording<'_>, x: Value, exponent: f32) -> Recorded {
    let nonzero = truth(r, x)?;
    let zero_here = not(r, nonzero)?;
    let safe = both(r, Binary::Add, x, zero_here)?;
    let whole = exponent.fract() == 0.0;
    let size = if whole {
        each(r, Unary::Absolute, safe)?
    } else {
        safe
    };
    let logarithm = each(r, Unary::Log, size)?;
    let factor = r.constant(exponent)?;
    let product = both(r, Binary::Multiply, logarithm, factor)?;
    let mut powered = each(r, Unary::Exp, product)?;
    if whole && exponent % 2.0 == 1.0 {
        let sign = each(r, Unary::Sign, safe)?;
        powered = both(r, Binary::Multiply, powered, sign)?;
    }
    both(r, Binary::Keep, nonzero, powered)
}

//! The first table: the shape an operation makes of its inputs' shapes.

use crate::tensor::kernels::convolution::Convolution;
use crate::tensor::kernels::pool::Pool;
use crate::tensor::kernels::recurrent::{
    Recurrence, gru_backward_len, gru_len, lstm_backward_len, lstm_len,
};
use crate::tensor::{Shape, ShapeError};

use super::op::{Face, Op, Pooling};

/// The output's shape, or why the inputs do not go together.
pub(super) fn shape_of(op: &Op, inputs: &[&Shape]) -> Result<Shape, ShapeError> {
    match (op, inputs) {
        (
            Op::Input(_, shape)
            | Op::Indices(_, shape)
            | Op::Parameter(_, shape)
            | Op::Statistic(_, shape),
            [],
        ) => Ok(shape.clone()),
        (Op::DropoutMask { shape, .. } | Op::NormalNoise { shape, .. }, []) => Ok(shape.clone()),
        (Op::Literal(numbers, shape), []) if numbers.len() == shape.len() => Ok(shape.clone()),
        (Op::Constant(_), []) => Ok(Shape::scalar()),
        (Op::Unary(_), [x]) => Ok((*x).clone()),
        (Op::Binary(_), [a, b]) => a
            .broadcast(b)
            .filter(|whole| a.spread_over(whole).is_some() && b.spread_over(whole).is_some())
            .ok_or_else(|| refuse("elementwise", inputs, "extents must be equal or 1")),
        (Op::BroadcastTo(shape), [x]) if x.spread_over(shape).is_some() => Ok(shape.clone()),
        (Op::Reduce { axis, count, .. }, [x])
            if *count > 0 && axis.saturating_add(*count) <= x.rank() =>
        {
            let extents = x.extents();
            Ok(Shape::new(
                &[&extents[..*axis], &extents[axis + count..]].concat(),
            ))
        }
        (Op::Convolve(c, face), [a, b]) => convolved(c, *face, a, b).ok_or_else(|| {
            refuse(
                "convolution",
                inputs,
                "the operands must be as long as its windows say",
            )
        }),
        (Op::Pool(pool, pooling), operands) => pooled(pool, *pooling, operands).ok_or_else(|| {
            refuse(
                "pooling",
                inputs,
                "the operands must be as long as its windows say",
            )
        }),
        (Op::SoftmaxGradient | Op::LogSoftmaxGradient, [y, dy]) if y == dy && y.rank() >= 1 => {
            Ok((*y).clone())
        }
        (Op::Normalize { .. } | Op::RmsNormalize { .. }, [x]) if x.rank() >= 1 => Ok((*x).clone()),
        (Op::NormalizeGradient { .. } | Op::RmsNormalizeGradient { .. }, [x, dy])
            if x == dy && x.rank() >= 1 =>
        {
            Ok((*x).clone())
        }
        (Op::Lstm(r), operands) => recurrent(
            r,
            operands,
            &[
                4 * r.time * r.rows * r.units,
                4 * r.units * r.units,
                r.rows * r.units,
                r.rows * r.units,
            ],
            lstm_len(r),
        )
        .ok_or_else(|| {
            refuse(
                "lstm",
                inputs,
                "the operands must be as long as its steps say",
            )
        }),
        (Op::LstmGradient(r), [out, _, dh, dc, ..])
            if out.len() == lstm_len(r) && is_cotangent(r, dh) && is_cotangent(r, dc) =>
        {
            Ok(Shape::new(&[lstm_backward_len(r)]))
        }
        (Op::Gru(r), operands) => recurrent(
            r,
            operands,
            &[
                3 * r.time * r.rows * r.units,
                3 * r.units * r.units,
                3 * r.units,
                r.rows * r.units,
            ],
            gru_len(r),
        )
        .ok_or_else(|| {
            refuse(
                "gru",
                inputs,
                "the operands must be as long as its steps say",
            )
        }),
        (Op::GruGradient(r), [out, _, dh, ..])
            if out.len() == gru_len(r) && is_cotangent(r, dh) =>
        {
            Ok(Shape::new(&[gru_backward_len(r)]))
        }
        (Op::Ctc, [log_p, labels]) if is_alignment(log_p, labels) => {
            Ok(Shape::new(&[labels.extents()[0], 1]))
        }
        (Op::CtcGradient, [log_p, labels, dy])
            if is_alignment(log_p, labels)
                && (dy.len() == 1 || dy.extents() == [labels.extents()[0], 1]) =>
        {
            Ok((*log_p).clone())
        }
        (Op::Ctc | Op::CtcGradient, _) => Err(refuse(
            "ctc",
            inputs,
            "give log probabilities (rows, steps, classes) and labels (rows, places)",
        )),
        (Op::CumulativeSum { axis, .. }, [x]) if *axis < x.rank() => Ok((*x).clone()),
        (Op::ToFloat, [x]) => Ok((*x).clone()),
        (Op::View(view), [x]) if view.fits(x.len()) => Ok(view.shape()),
        (Op::ViewAdd(view, shape), [x]) if view.fits(shape.len()) && view.shape() == **x => {
            Ok(shape.clone())
        }
        (Op::SumTo(shape), [x]) if shape.spread_over(x).is_some() => Ok(shape.clone()),
        (
            Op::MatMul {
                transpose_a,
                transpose_b,
            },
            [a, b],
        ) => product(a, b, *transpose_a, *transpose_b).ok_or_else(|| {
            refuse(
                "matmul",
                inputs,
                "the inner extents must be equal, and so must the leading ones",
            )
        }),
        (Op::Softmax | Op::LogSoftmax, [x]) if x.rank() >= 1 => Ok((*x).clone()),
        (Op::OneHot { classes }, [x]) if x.rank() >= 1 && x.last() == 1 => {
            Ok(with_last(x, *classes))
        }
        (Op::Gather, [table, indices]) if table.rank() == 2 => Ok(appended(indices, table.last())),
        (Op::ScatterAdd { rows }, [indices, values])
            if values.rank() >= 1 && appended(indices, values.last()) == **values =>
        {
            Ok(Shape::new(&[*rows, values.last()]))
        }
        (Op::Concatenate { axis }, [first, ..])
            if *axis < first.rank()
                && inputs.iter().all(|x| {
                    x.rank() == first.rank()
                        && with_extent(x, *axis, 1) == with_extent(first, *axis, 1)
                }) =>
        {
            let total = inputs.iter().map(|x| x.extents()[*axis]).sum();
            Ok(with_extent(first, *axis, total))
        }
        (Op::Reshape(shape), [x]) if shape.len() == x.len() => Ok(shape.clone()),
        (Op::BroadcastTo(_), _) => Err(refuse(
            "broadcast",
            inputs,
            "the input must spread over the shape asked for",
        )),
        (Op::SumTo(_), _) => Err(refuse(
            "sum",
            inputs,
            "the shape asked for must spread over the input",
        )),
        (Op::Concatenate { .. }, _) => Err(refuse(
            "concatenate",
            inputs,
            "all extents but the one joined along must be equal",
        )),
        (Op::Reshape(_), _) => Err(refuse(
            "reshape",
            inputs,
            "the count of numbers must stay the same",
        )),
        (Op::Gather | Op::ScatterAdd { .. }, _) => Err(refuse(
            "gather",
            inputs,
            "the table must be a matrix and rows match the indices",
        )),
        (Op::View(_) | Op::ViewAdd(..), _) => {
            Err(refuse("view", inputs, "it must stay inside its source"))
        }
        (Op::Reduce { .. } | Op::CumulativeSum { .. }, _) => {
            Err(refuse("reduction", inputs, "the axis must exist"))
        }
        _ => Err(refuse(
            "operation",
            inputs,
            "give the operands that the operation takes",
        )),
    }
}

fn refuse(operation: &'static str, inputs: &[&Shape], hint: &'static str) -> ShapeError {
    ShapeError {
        operation,
        shapes: format!("{inputs:?}"),
        hint,
    }
}

/// Extents in full: rows, three spatial axes, channels; a kernel's are taps, input channels of a group, output channels.
fn convolved(c: &Convolution, face: Face, a: &Shape, b: &Shape) -> Option<Shape> {
    let [first, second, third] = c.windows;
    let lens = match face {
        Face::Output => (c.input_len(), c.kernel_len()),
        Face::Input => (c.output_len(), c.kernel_len()),
        Face::Kernel => (c.input_len(), c.output_len()),
    };
    (lens == (a.len(), b.len())).then(|| {
        Shape::new(&match face {
            Face::Output => [
                c.rows,
                first.output,
                second.output,
                third.output,
                c.output_channels,
            ],
            Face::Input => [
                c.rows,
                first.input,
                second.input,
                third.input,
                c.input_channels,
            ],
            Face::Kernel => [
                first.size,
                second.size,
                third.size,
                c.input_channels / c.groups,
                c.output_channels,
            ],
        })
    })
}

fn pooled(pool: &Pool, pooling: Pooling, operands: &[&Shape]) -> Option<Shape> {
    let [first, second, third] = pool.windows;
    let (input, output) = (pool.input_len(), pool.output_len());
    let expected: &[usize] = match pooling {
        Pooling::Pick => &[input, input],
        Pooling::Place => &[input, output],
        Pooling::Average => &[input],
        Pooling::Spread => &[output],
    };
    let found: Vec<usize> = operands.iter().map(|shape| shape.len()).collect();
    (found == expected).then(|| {
        Shape::new(&match pooling {
            Pooling::Pick | Pooling::Average => [
                pool.rows,
                first.output,
                second.output,
                third.output,
                pool.channels,
            ],
            Pooling::Place | Pooling::Spread => [
                pool.rows,
                first.input,
                second.input,
                third.input,
                pool.channels,
            ],
        })
    })
}

/// The result of all steps, if the operands have these lengths, a mask behind them or not.
fn recurrent(r: &Recurrence, operands: &[&Shape], lens: &[usize], result: usize) -> Option<Shape> {
    let fits = operands.len() >= lens.len()
        && operands.len() <= lens.len() + 1
        && operands
            .iter()
            .zip(lens)
            .all(|(shape, &len)| shape.len() == len)
        && operands
            .get(lens.len())
            .is_none_or(|mask| mask.len() == r.time * r.rows);
    fits.then(|| Shape::new(&[result]))
}

/// Log probabilities and labels of as many rows, none of whose extents is 0.
fn is_alignment(log_p: &Shape, labels: &Shape) -> bool {
    log_p.rank() == 3
        && labels.rank() == 2
        && log_p.extents()[0] == labels.extents()[0]
        && !log_p.extents()[1..].contains(&0)
        && labels.extents()[1] > 0
}

/// A cotangent of every state, the first included, or one zero for all.
fn is_cotangent(r: &Recurrence, shape: &Shape) -> bool {
    shape.len() == (r.time + 1) * r.rows * r.units || shape.len() == 1
}

fn product(a: &Shape, b: &Shape, transpose_a: bool, transpose_b: bool) -> Option<Shape> {
    let ([leading_a @ .., a0, a1], [leading_b @ .., b0, b1]) = (a.extents(), b.extents()) else {
        return None;
    };
    let (m, inner_a) = if transpose_a { (a1, a0) } else { (a0, a1) };
    let (inner_b, n) = if transpose_b { (b1, b0) } else { (b0, b1) };
    (inner_a == inner_b && leading_a == leading_b)
        .then(|| Shape::new(&[leading_a, &[*m, *n]].concat()))
}

fn with_last(shape: &Shape, last: usize) -> Shape {
    with_extent(shape, shape.rank() - 1, last)
}

fn with_extent(shape: &Shape, axis: usize, extent: usize) -> Shape {
    let mut extents = shape.extents().to_vec();
    extents[axis] = extent;
    Shape::new(&extents)
}

fn appended(shape: &Shape, last: usize) -> Shape {
    let mut extents = shape.extents().to_vec();
    extents.push(last);
    Shape::new(&extents)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_need_equal_inner_extents() {
        let product = Op::MatMul {
            transpose_a: false,
            transpose_b: true,
        };
        assert_eq!(
            shape_of(&product, &[&Shape::new(&[4, 3]), &Shape::new(&[5, 3])]),
            Ok(Shape::new(&[4, 5]))
        );
        let error = shape_of(&product, &[&Shape::new(&[4, 3]), &Shape::new(&[3, 5])]).unwrap_err();
        assert_eq!(
            error.to_string(),
            "matmul: shapes [(4, 3), (3, 5)] do not go together; the inner extents must be equal, and so must the leading ones"
        );
    }

    #[test]
    fn a_wrong_count_of_operands_is_refused() {
        assert!(shape_of(&Op::Softmax, &[]).is_err());
        assert!(shape_of(&Op::Concatenate { axis: 0 }, &[]).is_err());
    }
}

//! Running a plan over bound numbers. Allocates nothing.

use crate::tensor::blas;
use crate::tensor::kernels::ctc::{self, Alignment, BadLabel};
use crate::tensor::kernels::elementwise::{OPERANDS_MAX, OperandPointer, run_raw};
use crate::tensor::kernels::random_mask::{RandomKey, dropout_mask, normal_noise};
use crate::tensor::kernels::{
    concatenate, convolution, gather, normalize, pool, recurrent, reduce, softmax, view,
};

use super::absorb::{Matrices, Stacked};
use super::error::RunError;
use super::joined;
use super::lower::Kernel;
use super::op::{Face, Pooling};
use super::plan::{Location, Plan, Span, Step};

/// One bound input.
#[derive(Debug, Clone, Copy)]
pub enum Data<'a> {
    Float32(&'a [f32]),
    Int32(&'a [i32]),
}

/// The numbers of one run. `inputs` and then `more_inputs` are by number, as `Op::Input` and `Op::Indices` name them.
#[derive(Debug)]
pub struct Bindings<'a, 'b> {
    pub inputs: &'b [Data<'a>],
    /// Inputs numbered on from `inputs`: a caller adds targets to a model's inputs without copying the list.
    pub more_inputs: &'b [Data<'a>],
    pub parameters: &'a [f32],
    pub statistics: &'a [f32],
    /// Every part that the plan names as a destination is overwritten.
    pub gradient: &'b mut [f32],
    pub statistics_out: &'b mut [f32],
    /// The key of this run's random streams; `operation` is filled in by each mask.
    pub key: RandomKey,
}

impl Plan {
    /// Runs every step once. Afterwards `gradient`, `statistics_out` and `Plan::kept` hold the outputs.
    pub fn run(&mut self, bindings: &mut Bindings<'_, '_>) -> Result<(), RunError> {
        self.check(bindings)?;
        let places = Places {
            inputs: bindings.inputs,
            more_inputs: bindings.more_inputs,
            parameters: bindings.parameters,
            statistics: bindings.statistics,
            constants: &self.constants,
            arena: self.arena.as_mut_ptr(),
            gradient: bindings.gradient.as_mut_ptr(),
            statistics_out: bindings.statistics_out.as_mut_ptr(),
        };
        let mut steps = self.steps.iter();
        while let Some(step) = steps.next() {
            match step.strip {
                Some(rows) => {
                    if let Some(chain) = steps.next() {
                        joined::run(step, chain, rows, &places, &mut self.scratch);
                    }
                }
                None => run_step(step, &places, &bindings.key, &mut self.scratch)?,
            }
        }
        Ok(())
    }

    fn check(&self, bindings: &Bindings<'_, '_>) -> Result<(), RunError> {
        let exact = |what: &dyn Fn() -> String, expected: usize, found: usize| {
            if expected == found {
                Ok(())
            } else {
                Err(RunError::WrongLength {
                    what: what(),
                    expected,
                    found,
                })
            }
        };
        for (&input, &len) in &self.needs.inputs {
            let found = match bound(bindings.inputs, bindings.more_inputs, input) {
                Some(Data::Float32(values)) => values.len(),
                _ => 0,
            };
            exact(&|| format!("float32 input {input}"), len, found)?;
        }
        for (&input, &len) in &self.needs.indices {
            let found = match bound(bindings.inputs, bindings.more_inputs, input) {
                Some(Data::Int32(values)) => values.len(),
                _ => 0,
            };
            exact(&|| format!("int32 input {input}"), len, found)?;
        }
        for (what, needed, found) in [
            (
                "parameters",
                self.needs.parameters,
                bindings.parameters.len(),
            ),
            (
                "statistics",
                self.needs.statistics,
                bindings.statistics.len(),
            ),
            ("gradient", self.needs.gradient, bindings.gradient.len()),
            (
                "statistics out",
                self.needs.statistics_out,
                bindings.statistics_out.len(),
            ),
        ] {
            if found < needed {
                return Err(RunError::WrongLength {
                    what: what.to_string(),
                    expected: needed,
                    found,
                });
            }
        }
        Ok(())
    }
}

/// Where each kind of location starts in this run. Lengths were checked by `Plan::check`.
pub(super) struct Places<'a> {
    inputs: &'a [Data<'a>],
    more_inputs: &'a [Data<'a>],
    parameters: &'a [f32],
    statistics: &'a [f32],
    constants: &'a [f32],
    arena: *mut f32,
    gradient: *mut f32,
    statistics_out: *mut f32,
}

impl Places<'_> {
    pub(super) fn operand(&self, location: Location) -> OperandPointer {
        // SAFETY: every span lies inside its vector: the arena was made as large as its planner's peak, the rest was
        // checked against `Needs` before the run.
        unsafe {
            match location {
                Location::Input(input, span) => match bound(self.inputs, self.more_inputs, input) {
                    Some(Data::Float32(values)) => OperandPointer {
                        start: values.as_ptr().add(span.offset),
                        len: span.len,
                    },
                    _ => OperandPointer {
                        start: std::ptr::NonNull::dangling().as_ptr(),
                        len: 0,
                    },
                },
                Location::Indices(_) => OperandPointer {
                    start: std::ptr::NonNull::dangling().as_ptr(),
                    len: 0,
                },
                Location::Parameters(span) => OperandPointer {
                    start: self.parameters.as_ptr().add(span.offset),
                    len: span.len,
                },
                Location::Statistics(span) => OperandPointer {
                    start: self.statistics.as_ptr().add(span.offset),
                    len: span.len,
                },
                Location::Constant(span) => OperandPointer {
                    start: self.constants.as_ptr().add(span.offset),
                    len: span.len,
                },
                Location::Arena(span) => OperandPointer {
                    start: self.arena.add(span.offset),
                    len: span.len,
                },
                Location::Gradient(span) => OperandPointer {
                    start: self.gradient.add(span.offset),
                    len: span.len,
                },
                Location::StatisticsOut(span) => OperandPointer {
                    start: self.statistics_out.add(span.offset),
                    len: span.len,
                },
            }
        }
    }

    /// # Safety
    /// No exclusive slice over the same place may be alive.
    pub(super) unsafe fn read(&self, location: Location) -> &[f32] {
        let operand = self.operand(location);
        // SAFETY: as in `operand`, and the caller's promise.
        unsafe { std::slice::from_raw_parts(operand.start, operand.len) }
    }

    fn indices(&self, location: Location) -> (usize, &[i32]) {
        match location {
            Location::Indices(input) => match bound(self.inputs, self.more_inputs, input) {
                Some(Data::Int32(values)) => (input, values),
                _ => (input, &[]),
            },
            _ => (usize::MAX, &[]),
        }
    }
}

fn bound<'a>(inputs: &[Data<'a>], more_inputs: &[Data<'a>], input: usize) -> Option<Data<'a>> {
    inputs
        .get(input)
        .or_else(|| more_inputs.get(input - inputs.len()))
        .copied()
}

fn run_step(
    step: &Step,
    places: &Places<'_>,
    key: &RandomKey,
    scratch: &mut crate::tensor::kernels::elementwise::Scratch,
) -> Result<(), RunError> {
    let target = places.operand(step.output);
    if let Kernel::Chain(chain) = &step.kernel {
        let mut operands = [OperandPointer {
            start: std::ptr::null(),
            len: 0,
        }; OPERANDS_MAX];
        for (operand, &location) in operands.iter_mut().zip(&step.inputs) {
            *operand = places.operand(location);
        }
        // SAFETY: the planner puts a chain's result apart from its operands or exactly on a `Full` one.
        unsafe {
            run_raw(
                chain,
                &operands[..step.inputs.len()],
                target.start.cast_mut(),
                target.len,
                scratch,
            )
        };
        return Ok(());
    }
    // SAFETY: outputs stand in the arena or in vectors bound for writing, and the planner puts the output of every
    // kernel but a chain apart from its operands, all of which are alive at this step.
    // A workspace is taken while all of these are held, so it is apart from them too.
    let (out, workspace, read) = unsafe {
        let out = std::slice::from_raw_parts_mut(target.start.cast_mut(), target.len);
        let Span { offset, len } = step.workspace;
        let workspace = std::slice::from_raw_parts_mut(places.arena.add(offset), len);
        (out, workspace, |position: usize| {
            places.read(step.inputs[position])
        })
    };
    match &step.kernel {
        Kernel::Chain(_) => {}
        Kernel::Multiply(stacked) => multiply(stacked, read(0), read(1), out, workspace),
        Kernel::SumMiddle { extent, inner } => reduce::sum_middle(read(0), *extent, *inner, out),
        Kernel::MaxMiddle { extent, inner } => reduce::max_middle(read(0), *extent, *inner, out),
        Kernel::CumulativeSum {
            extent,
            inner,
            reverse,
        } => reduce::cumulative_sum(read(0), *extent, *inner, *reverse, out),
        Kernel::Convolve(c, face) => {
            let run = match face {
                Face::Output => convolution::forward,
                Face::Input => convolution::input_gradient,
                Face::Kernel => convolution::kernel_gradient,
            };
            run(c, read(0), read(1), out, workspace);
        }
        Kernel::Pool(p, pooling) => match pooling {
            Pooling::Pick => pool::pick(p, read(0), read(1), out),
            Pooling::Place => pool::place(p, read(0), read(1), out),
            Pooling::Average => pool::average(p, read(0), out),
            Pooling::Spread => pool::average_spread(p, read(0), out),
        },
        Kernel::SoftmaxGradient { inner } => {
            softmax::softmax_backward(read(0), read(1), *inner, out)
        }
        Kernel::LogSoftmaxGradient { inner } => {
            softmax::log_softmax_backward(read(0), read(1), *inner, out)
        }
        Kernel::Normalize { inner, epsilon } => {
            normalize::normalize(read(0), *inner, *epsilon, out)
        }
        Kernel::NormalizeGradient { inner, epsilon } => {
            normalize::normalize_backward(read(0), read(1), *inner, *epsilon, out);
        }
        Kernel::RmsNormalize { inner, epsilon } => {
            normalize::rms_normalize(read(0), *inner, *epsilon, out)
        }
        Kernel::RmsNormalizeGradient { inner, epsilon } => {
            normalize::rms_normalize_backward(read(0), read(1), *inner, *epsilon, out);
        }
        Kernel::Lstm(r) => {
            let mask = (step.inputs.len() > 4).then(|| read(4));
            recurrent::lstm(r, read(0), read(1), read(2), read(3), mask, out, workspace);
        }
        Kernel::LstmGradient(r) => {
            let mask = (step.inputs.len() > 4).then(|| read(4));
            recurrent::lstm_backward(r, read(0), read(1), mask, read(2), read(3), out, workspace);
        }
        Kernel::Gru(r) => {
            let mask = (step.inputs.len() > 4).then(|| read(4));
            recurrent::gru(r, read(0), read(1), read(2), read(3), mask, out, workspace);
        }
        Kernel::GruGradient(r) => {
            let mask = (step.inputs.len() > 3).then(|| read(3));
            recurrent::gru_backward(r, read(0), read(1), mask, read(2), out, workspace);
        }
        Kernel::Ctc(alignment) => ctc::loss(alignment, read(0), read(1), out, workspace)
            .map_err(|bad| bad_label(bad, alignment))?,
        Kernel::CtcGradient(alignment) => {
            ctc::gradient(alignment, read(0), read(1), read(2), out, workspace)
                .map_err(|bad| bad_label(bad, alignment))?;
        }
        Kernel::View(at) => view::read(at, read(0), out),
        Kernel::ViewAdd(at) => view::add(at, read(0), out),
        Kernel::ToFloat => {
            let (_, indices) = places.indices(step.inputs[0]);
            for (out, &index) in out.iter_mut().zip(indices) {
                *out = index as f32;
            }
        }
        Kernel::NormalNoise { stream } => normal_noise(
            &RandomKey {
                operation: *stream,
                ..*key
            },
            out,
        ),
        Kernel::SumRows => reduce::sum_rows(read(0), out),
        Kernel::SumProductRows => reduce::sum_product_rows(read(0), read(1), out),
        Kernel::SumColumns { inner } => reduce::sum_columns(read(0), *inner, out),
        Kernel::SumAll => out[0] = reduce::sum_all(read(0)),
        Kernel::Softmax { inner } => softmax::softmax(read(0), *inner, out),
        Kernel::LogSoftmax { inner } => softmax::log_softmax(read(0), *inner, out),
        Kernel::OneHot { classes } => gather::one_hot(read(0), *classes, out).map_err(
            |gather::OutOfRange { position, index }| RunError::ClassOutOfRange {
                position,
                index,
                classes: *classes,
            },
        )?,
        Kernel::Gather { width, rows } => {
            let (input, indices) = places.indices(step.inputs[1]);
            gather::gather(read(0), *width, indices, out)
                .map_err(|at| out_of_range(at, input, *rows))?;
        }
        Kernel::ScatterAdd { width, rows } => {
            let (input, indices) = places.indices(step.inputs[0]);
            gather::scatter_add(indices, read(1), *width, out)
                .map_err(|at| out_of_range(at, input, *rows))?;
        }
        Kernel::Concatenate { widths } => {
            let total = widths.iter().sum();
            let mut start = 0;
            for (position, &width) in widths.iter().enumerate() {
                concatenate::write_columns(read(position), width, start, out, total);
                start += width;
            }
        }
        Kernel::DropoutMask { stream, rate } => dropout_mask(
            &RandomKey {
                operation: *stream,
                ..*key
            },
            *rate,
            out,
        ),
        Kernel::Copy => out.copy_from_slice(read(0)),
    }
    Ok(())
}

/// Each of the products side by side.
fn multiply(stacked: &Stacked, a: &[f32], b: &[f32], c: &mut [f32], workspace: &mut [f32]) {
    let [first, second, third] = stacked.counts;
    for at in 0..first * second * third {
        let index = [at / (second * third), at / third % second, at % third];
        let start = |matrices: &Matrices| {
            let strides = matrices.strides.iter().zip(index);
            matrices.offset + strides.map(|(stride, index)| stride * index).sum::<usize>()
        };
        blas::multiply_turning(
            &stacked.product,
            &a[start(&stacked.a)..],
            stacked.a.leading,
            &b[start(&stacked.b)..],
            stacked.b.leading,
            &mut c[start(&stacked.c)..],
            stacked.c.leading,
            workspace,
        );
    }
}

fn bad_label(bad: BadLabel, alignment: &Alignment) -> RunError {
    match bad {
        BadLabel::OutOfRange { position, index } => RunError::ClassOutOfRange {
            position,
            index,
            classes: alignment.classes,
        },
        BadLabel::BlankInside { row } => RunError::BlankInLabel { row },
        BadLabel::TooLong { row, needed } => RunError::LabelTooLong {
            row,
            needed,
            steps: alignment.steps,
        },
    }
}

fn out_of_range(at: gather::OutOfRange, input: usize, rows: usize) -> RunError {
    RunError::IndexOutOfRange {
        input: Some(input),
        position: at.position,
        index: at.index,
        rows,
    }
}

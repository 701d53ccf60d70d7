//! Chains of elementwise functions run in one pass over memory.
//!
//! A `Chain` is a short straight-line program. It is run tile by tile: each instruction works on a tile of at most
//! `TILE` numbers that stays in the first-level cache, so a chain of any length reads its operands and writes its
//! result once. The answer does not depend on the tiling.

use super::{math, multiversion};
use crate::tensor::shape::Spread;

/// Numbers per tile: 2 KiB, so that a dozen tiles fit the first-level cache.
pub const TILE: usize = 512;
/// Most operands of one chain.
pub const OPERANDS_MAX: usize = 8;
/// Most intermediate tiles alive at one time.
pub const REGISTERS_MAX: usize = 8;

/// A function of one number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Unary {
    Copy,
    Negate,
    /// max(x, 0); NaN stays NaN.
    Relu,
    /// 1 where x > 0, else 0: the slope of `Relu`.
    Step,
    Sigmoid,
    Tanh,
    Exp,
    Log,
    Sqrt,
    Reciprocal,
    Square,
    Absolute,
    /// -1, 0 or 1: the slope of `Absolute`.
    Sign,
    Erf,
    /// log(1 + x), exact for small x.
    Log1p,
    /// e^x - 1, exact for small x.
    Expm1,
    Sin,
    Cos,
    /// The next whole number below.
    Floor,
    /// The nearest whole number; halves go to the even one.
    Round,
    /// The number itself, through which no gradient flows.
    Detach,
}

/// A function of two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Binary {
    Add,
    Subtract,
    Multiply,
    Divide,
    Maximum,
    Minimum,
    /// 1 where left > right, else 0.
    Greater,
    /// 1 where left = right, else 0.
    Equal,
    /// right where left is not 0, else 0: a NaN that is not kept does no harm.
    Keep,
    /// Cross-entropy of a logit (left) and a probability (right).
    SigmoidCrossEntropy,
}

/// One instruction's function.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Function {
    Unary(Unary),
    Binary(Binary),
}

/// Where an instruction takes a number from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Operand(u8),
    Register(u8),
}

/// `register[target] = function(left, right)`; a unary function ignores `right`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instruction {
    pub function: Function,
    pub left: Source,
    pub right: Source,
    pub target: u8,
}

/// A chain: the last instruction makes the result.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    instructions: Vec<Instruction>,
    operands: Vec<Spread>,
    /// The innermost extent of the result: what one number of a `Column` operand covers.
    inner: usize,
}

impl Chain {
    /// Panics when an instruction reads its own target or a bound is broken: the planner never does.
    pub fn new(instructions: Vec<Instruction>, operands: Vec<Spread>, inner: usize) -> Self {
        assert!(
            !instructions.is_empty() && operands.len() <= OPERANDS_MAX && inner > 0,
            "a chain has bounds"
        );
        for instruction in &instructions {
            assert!(
                usize::from(instruction.target) < REGISTERS_MAX,
                "registers are bounded"
            );
            for source in [instruction.left, instruction.right] {
                match source {
                    Source::Register(register) => assert!(
                        register != instruction.target && usize::from(register) < REGISTERS_MAX,
                        "an instruction never writes where it reads"
                    ),
                    Source::Operand(operand) => {
                        assert!(
                            usize::from(operand) < operands.len(),
                            "an operand is declared"
                        );
                    }
                }
            }
        }
        Chain {
            instructions,
            operands,
            inner,
        }
    }

    pub fn instructions(&self) -> &[Instruction] {
        &self.instructions
    }

    pub fn operands(&self) -> &[Spread] {
        &self.operands
    }
}

/// Tiles for intermediate values; made once, used by every chain of a plan.
#[derive(Debug)]
pub struct Scratch {
    tiles: Box<[[f32; TILE]; REGISTERS_MAX + OPERANDS_MAX]>,
}

impl Scratch {
    pub fn new() -> Self {
        Scratch {
            tiles: Box::new([[0.0; TILE]; REGISTERS_MAX + OPERANDS_MAX]),
        }
    }
}

impl Default for Scratch {
    fn default() -> Self {
        Self::new()
    }
}

/// One operand's numbers, by address because the result may take the place of an operand.
#[derive(Debug, Clone, Copy)]
pub struct OperandPointer {
    pub start: *const f32,
    pub len: usize,
}

/// Runs a chain over slices; `out` is apart from the operands, as the borrow checker says.
pub fn run(chain: &Chain, operands: &[&[f32]], out: &mut [f32], scratch: &mut Scratch) {
    let mut pointers = [OperandPointer {
        start: std::ptr::null(),
        len: 0,
    }; OPERANDS_MAX];
    for (pointer, operand) in pointers.iter_mut().zip(operands) {
        *pointer = OperandPointer {
            start: operand.as_ptr(),
            len: operand.len(),
        };
    }
    // SAFETY: the pointers come from live slices and `out` is a separate exclusive borrow.
    unsafe {
        run_raw(
            chain,
            &pointers[..operands.len()],
            out.as_mut_ptr(),
            out.len(),
            scratch,
        )
    };
}

/// Runs a chain whose result may take the place of a `Full` operand.
///
/// # Safety
/// Every operand must be valid for reading its `len` numbers, `out` for writing `out_len`; `out` must either be apart
/// from an operand or be exactly a `Full` operand's place. Operand lengths are checked.
pub unsafe fn run_raw(
    chain: &Chain,
    operands: &[OperandPointer],
    out: *mut f32,
    out_len: usize,
    scratch: &mut Scratch,
) {
    assert_eq!(
        operands.len(),
        chain.operands.len(),
        "a chain gets the operands it declares"
    );
    for (operand, spread) in operands.iter().zip(&chain.operands) {
        let fits = match spread {
            Spread::Full => operand.len == out_len,
            Spread::Row => operand.len > 0 && out_len.is_multiple_of(operand.len),
            Spread::Column => operand.len * chain.inner == out_len,
            Spread::Scalar => operand.len == 1,
        };
        assert!(
            fits || out_len == 0,
            "operand of {} numbers for a result of {out_len} as {spread:?}",
            operand.len
        );
    }
    run_tiles(chain, operands, out, out_len, scratch);
}

multiversion! {
    /// The loop over tiles. `run_raw` has checked every length.
    fn run_tiles(chain: &Chain, operands: &[OperandPointer], out: *mut f32, out_len: usize, scratch: &mut Scratch) {
        // Whole rows per tile where they fit, so that a bias is spread once and not per tile.
        let period = operands.iter().zip(&chain.operands).filter(|(_, spread)| **spread == Spread::Row).map(|(operand, _)| operand.len).max().unwrap_or(1);
        let tile_len = if period <= TILE { TILE / period * period } else { TILE };
        let base: *mut [f32; TILE] = scratch.tiles.as_mut_ptr();
        let last = chain.instructions.len() - 1;
        let mut start = 0;
        while start < out_len {
            let len = tile_len.min(out_len - start);
            let mut sources = [std::ptr::null::<f32>(); OPERANDS_MAX];
            for (index, (operand, spread)) in operands.iter().zip(&chain.operands).enumerate() {
                // SAFETY: lengths were checked by `run_raw`; each operand has its own tile behind the registers.
                unsafe {
                    let tile = base.add(REGISTERS_MAX + index).cast::<f32>();
                    sources[index] = match spread {
                        Spread::Full => operand.start.add(start),
                        Spread::Scalar => {
                            if start == 0 {
                                std::slice::from_raw_parts_mut(tile, len).fill(*operand.start);
                            }
                            tile
                        }
                        Spread::Row => {
                            if start == 0 || !tile_len.is_multiple_of(operand.len) {
                                spread_row(std::slice::from_raw_parts(operand.start, operand.len), start, std::slice::from_raw_parts_mut(tile, len));
                            }
                            tile
                        }
                        Spread::Column => {
                            spread_column(std::slice::from_raw_parts(operand.start, operand.len), chain.inner, start, std::slice::from_raw_parts_mut(tile, len));
                            tile
                        }
                    };
                }
            }
            for (position, instruction) in chain.instructions.iter().enumerate() {
                // SAFETY: targets differ from the registers read (`Chain::new`), registers and operand tiles are apart.
                // The result goes straight to its place unless the last function reads that very place; then it goes
                // through a register. So no exclusive slice overlaps a shared one.
                unsafe {
                    let find = |source: Source| match source {
                        Source::Operand(operand) => sources[usize::from(operand)],
                        Source::Register(register) => base.add(usize::from(register)).cast::<f32>().cast_const(),
                    };
                    let (left, right) = (find(instruction.left), find(instruction.right));
                    let place = out.add(start);
                    let register = base.add(usize::from(instruction.target)).cast::<f32>();
                    let direct = position == last && left != place.cast_const() && right != place.cast_const();
                    let target = std::slice::from_raw_parts_mut(if direct { place } else { register }, len);
                    let (left, right) = (std::slice::from_raw_parts(left, len), std::slice::from_raw_parts(right, len));
                    match instruction.function {
                        Function::Unary(function) => apply_unary(function, left, target),
                        Function::Binary(function) => apply_binary(function, left, right, target),
                    }
                    if position == last && !direct {
                        std::ptr::copy_nonoverlapping(register, place, len);
                    }
                }
            }
            start += len;
        }
    }
}

#[inline(always)]
fn spread_row(values: &[f32], start: usize, tile: &mut [f32]) {
    let mut from = start % values.len();
    let mut filled = 0;
    while filled < tile.len() {
        let count = (values.len() - from).min(tile.len() - filled);
        tile[filled..filled + count].copy_from_slice(&values[from..from + count]);
        filled += count;
        from = 0;
    }
}

#[inline(always)]
fn spread_column(values: &[f32], inner: usize, start: usize, tile: &mut [f32]) {
    let mut filled = 0;
    while filled < tile.len() {
        let position = start + filled;
        let count = (inner - position % inner).min(tile.len() - filled);
        tile[filled..filled + count].fill(values[position / inner]);
        filled += count;
    }
}

/// The table of unary kernels, one line each.
#[inline(always)]
fn apply_unary(function: Unary, x: &[f32], y: &mut [f32]) {
    match function {
        Unary::Copy | Unary::Detach => y.copy_from_slice(x),
        Unary::Negate => map(x, y, |x| -x),
        Unary::Relu => map(x, y, |x| if x < 0.0 { 0.0 } else { x }),
        Unary::Step => map(x, y, |x| if x > 0.0 { 1.0 } else { 0.0 }),
        Unary::Sigmoid => map(x, y, math::sigmoid),
        Unary::Tanh => map(x, y, math::tanh),
        Unary::Exp => map(x, y, math::exp),
        Unary::Log => map(x, y, math::log),
        Unary::Sqrt => map(x, y, f32::sqrt),
        Unary::Reciprocal => map(x, y, |x| 1.0 / x),
        Unary::Square => map(x, y, |x| x * x),
        Unary::Absolute => map(x, y, f32::abs),
        Unary::Sign => map(x, y, |x| {
            if x > 0.0 {
                1.0
            } else if x < 0.0 {
                -1.0
            } else {
                0.0
            }
        }),
        Unary::Erf => map(x, y, math::erf),
        Unary::Log1p => map(x, y, math::log_1p),
        Unary::Expm1 => map(x, y, math::exp_m1),
        Unary::Sin => map(x, y, math::sin),
        Unary::Cos => map(x, y, math::cos),
        Unary::Floor => map(x, y, f32::floor),
        Unary::Round => map(x, y, f32::round_ties_even),
    }
}

/// The table of binary kernels, one line each.
#[inline(always)]
fn apply_binary(function: Binary, a: &[f32], b: &[f32], y: &mut [f32]) {
    match function {
        Binary::Add => zip(a, b, y, |a, b| a + b),
        Binary::Subtract => zip(a, b, y, |a, b| a - b),
        Binary::Multiply => zip(a, b, y, |a, b| a * b),
        Binary::Divide => zip(a, b, y, |a, b| a / b),
        Binary::Maximum => zip(a, b, y, |a, b| if b > a { b } else { a }),
        Binary::Minimum => zip(a, b, y, |a, b| if b < a { b } else { a }),
        Binary::Greater => zip(a, b, y, |a, b| if a > b { 1.0 } else { 0.0 }),
        Binary::Equal => zip(a, b, y, |a, b| if a == b { 1.0 } else { 0.0 }),
        Binary::Keep => zip(a, b, y, |a, b| if a == 0.0 { 0.0 } else { b }),
        Binary::SigmoidCrossEntropy => zip(a, b, y, math::sigmoid_cross_entropy),
    }
}

#[inline(always)]
fn map(x: &[f32], y: &mut [f32], function: impl Fn(f32) -> f32) {
    for (y, &x) in y.iter_mut().zip(x) {
        *y = function(x);
    }
}

#[inline(always)]
fn zip(a: &[f32], b: &[f32], y: &mut [f32], function: impl Fn(f32, f32) -> f32) {
    for ((y, &a), &b) in y.iter_mut().zip(a).zip(b) {
        *y = function(a, b);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn a_chain_agrees_with_one_number_at_a_time_whatever_the_size() {
        for (rows, inner) in [
            (1, 1),
            (3, 5),
            (32, 128),
            (7, 700),
            (1000, 3),
            (5, 513),
            (2, 1024),
        ] {
            check(rows, inner);
        }
    }

    #[test]
    fn functions_of_one_number_have_the_same_bits_on_every_processor() {
        let x: Vec<f32> = numbers(2000, 7).iter().map(|x| x * 40.0).collect();
        for function in [
            Unary::Sigmoid,
            Unary::Tanh,
            Unary::Exp,
            Unary::Log,
            Unary::Erf,
            Unary::Log1p,
            Unary::Expm1,
            Unary::Sin,
            Unary::Cos,
            Unary::Floor,
            Unary::Round,
        ] {
            let instruction = Instruction {
                function: Function::Unary(function),
                left: Source::Operand(0),
                right: Source::Operand(0),
                target: 0,
            };
            let chain = Chain::new(vec![instruction], vec![Spread::Full], 1);
            let answer = || {
                let mut y = vec![0.0; x.len()];
                run(&chain, &[&x], &mut y, &mut Scratch::new());
                y.iter().map(|y| y.to_bits()).collect::<Vec<_>>()
            };
            let portable = crate::tensor::kernels::with_portable_kernels(answer);
            assert_eq!(answer(), portable, "{function:?}");
        }
    }

    #[test]
    fn a_result_may_take_the_place_of_an_operand() {
        let chain = tanh_of_sum(5);
        let (mut a, bias, mut scratch) = (numbers(15, 1), numbers(5, 2), Scratch::new());
        let mut expected = vec![0.0; 15];
        run(
            &chain,
            &[&a, &bias, &[2.0], &[1.0, 2.0, 3.0]],
            &mut expected,
            &mut scratch,
        );
        let (scale, weights) = ([2.0f32], [1.0f32, 2.0, 3.0]);
        let place = a.as_mut_ptr();
        let pointer = |slice: &[f32]| OperandPointer {
            start: slice.as_ptr(),
            len: slice.len(),
        };
        let operands = [
            OperandPointer {
                start: place,
                len: 15,
            },
            pointer(&bias),
            pointer(&scale),
            pointer(&weights),
        ];
        // SAFETY: the result is exactly the first operand's place.
        unsafe { run_raw(&chain, &operands, place, 15, &mut scratch) };
        assert_eq!(a, expected);
    }

    /// tanh(a + bias) * scale * weight
    fn tanh_of_sum(inner: usize) -> Chain {
        let binary = |function, left, right, target| Instruction {
            function: Function::Binary(function),
            left,
            right,
            target,
        };
        Chain::new(
            vec![
                binary(Binary::Add, Source::Operand(0), Source::Operand(1), 0),
                Instruction {
                    function: Function::Unary(Unary::Tanh),
                    left: Source::Register(0),
                    right: Source::Register(0),
                    target: 1,
                },
                binary(Binary::Multiply, Source::Register(1), Source::Operand(2), 0),
                binary(Binary::Multiply, Source::Register(0), Source::Operand(3), 1),
            ],
            vec![Spread::Full, Spread::Row, Spread::Scalar, Spread::Column],
            inner,
        )
    }

    fn check(rows: usize, inner: usize) {
        let (a, bias, weights) = (
            numbers(rows * inner, 1),
            numbers(inner, 2),
            numbers(rows, 3),
        );
        let mut out = vec![f32::NAN; rows * inner];
        run(
            &tanh_of_sum(inner),
            &[&a, &bias, &[0.5], &weights],
            &mut out,
            &mut Scratch::new(),
        );
        for (position, &found) in out.iter().enumerate() {
            // The same bits, one number at a time: no dependence on tiles, tails or vector width.
            let expected =
                math::tanh(a[position] + bias[position % inner]) * 0.5 * weights[position / inner];
            assert_eq!(
                found.to_bits(),
                expected.to_bits(),
                "({rows}, {inner}) at {position}"
            );
        }
    }

    fn numbers(count: usize, seed: u64) -> Vec<f32> {
        let mut stream = RandomKey::of(seed, 0).stream(Purpose::Test);
        (0..count).map(|_| stream.normal() as f32).collect()
    }
}

//! Sums of float64 numbers without any rounding, so that the order and the cut of what is added do not matter.
//!
//! A number is a whole multiple of 2^-1074, so a wide enough integer holds every sum of them (Kulisch, 1971). The integer
//! is kept in limbs of 32 bits with room for carries (Neal, 2015, arXiv:1505.05571), and rounded once, when it is read.

use super::bytes::{Reader, malformed};
use crate::nn::error::SpecError;

/// 2^-1074 is the smallest number and 2^1024 lies above the largest: 2,098 bits, and 64 to spare for sums.
const LIMBS: usize = 68;
/// Numbers added before carries are moved on: each adds less than 2^32 to a limb of 63 bits.
const CARRY_EVERY: u32 = 1 << 30;

/// A sum that is exact until it is read.
#[derive(Clone)]
pub(super) struct ExactSum {
    /// Limb i counts multiples of 2^(32 i - 1074); signed, and beyond 32 bits until carried.
    limbs: Box<[i64; LIMBS]>,
    since_carry: u32,
    /// The sum of what is not finite; 0 without such numbers.
    infinite: f64,
}

impl std::fmt::Debug for ExactSum {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ExactSum({})", self.value())
    }
}

impl PartialEq for ExactSum {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (self.carried(), other.carried());
        left.limbs == right.limbs && left.infinite.to_bits() == right.infinite.to_bits()
    }
}

impl ExactSum {
    pub(super) fn new() -> Self {
        ExactSum {
            limbs: Box::new([0; LIMBS]),
            since_carry: 0,
            infinite: 0.0,
        }
    }

    pub(super) fn add(&mut self, x: f64) {
        if !x.is_finite() {
            self.infinite = canonical(self.infinite + x);
            return;
        }
        let bits = x.to_bits();
        let exponent = ((bits >> 52) & 0x7ff) as usize;
        let fraction = bits & ((1 << 52) - 1);
        let (mantissa, place) = match exponent {
            0 => (fraction, 0),
            _ => (fraction | (1 << 52), exponent - 1),
        };
        let shifted = u128::from(mantissa) << (place % 32);
        let sign = if x.is_sign_negative() { -1 } else { 1 };
        for (offset, limb) in self.limbs[place / 32..place / 32 + 3]
            .iter_mut()
            .enumerate()
        {
            *limb += sign * i64::from((shifted >> (32 * offset)) as u32);
        }
        self.since_carry += 1;
        if self.since_carry == CARRY_EVERY {
            self.carry();
        }
    }

    pub(super) fn merge(&mut self, other: &ExactSum) {
        self.carry();
        for (limb, more) in self.limbs.iter_mut().zip(&*other.carried().limbs) {
            *limb += more;
        }
        self.carry();
        self.infinite = canonical(self.infinite + other.infinite);
    }

    /// The sum, rounded once to the nearest float64.
    pub(super) fn value(&self) -> f64 {
        if self.infinite != 0.0 {
            return self.infinite;
        }
        let mut whole = self.carried();
        let negative = whole.limbs[LIMBS - 1] < 0;
        if negative {
            whole.limbs.iter_mut().for_each(|limb| *limb = -*limb);
            whole.carry();
        }
        let Some(highest) = whole.limbs.iter().rposition(|limb| *limb != 0) else {
            return 0.0;
        };
        let lowest = highest.saturating_sub(2);
        let mut bits = 0u128;
        for limb in whole.limbs[lowest..=highest].iter().rev() {
            bits = (bits << 32) | *limb as u128;
        }
        // One bit below stands for all that is left out, so that a half is told from a little more.
        if whole.limbs[..lowest].iter().any(|limb| *limb != 0) {
            bits |= 1;
        }
        let power = 32 * lowest as i32 - 1074;
        let (first, second) = (power / 2, power - power / 2);
        let value = bits as f64 * 2f64.powi(first) * 2f64.powi(second);
        if negative { -value } else { value }
    }

    /// Every limb but the last, which has the sign, to 0 up to 2^32 - 1: one form for one sum.
    fn carry(&mut self) {
        for at in 0..LIMBS - 1 {
            let over = self.limbs[at] >> 32;
            self.limbs[at] &= 0xffff_ffff;
            self.limbs[at + 1] += over;
        }
        self.since_carry = 0;
    }

    fn carried(&self) -> ExactSum {
        let mut copy = self.clone();
        copy.carry();
        copy
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let whole = self.carried();
        let used = whole.limbs.iter().position(|limb| *limb != 0);
        let first = used.unwrap_or(0);
        let end = whole.limbs.iter().rposition(|limb| *limb != 0);
        let end = end.map_or(0, |last| last + 1);
        bytes.extend(whole.infinite.to_le_bytes());
        bytes.extend([first as u8, end as u8]);
        for limb in &whole.limbs[first.min(end)..end] {
            bytes.extend(limb.to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SpecError> {
        let mut sum = ExactSum::new();
        sum.infinite = canonical(f64::from_le_bytes(reader.take()?));
        let [first, end] = reader.take()?;
        let (first, end) = (usize::from(first), usize::from(end));
        if end > LIMBS || first > end || (sum.infinite.is_finite() && sum.infinite != 0.0) {
            return Err(malformed("a metric state holds no sum"));
        }
        for limb in &mut sum.limbs[first..end] {
            *limb = i64::from_le_bytes(reader.take()?);
            if limb.unsigned_abs() >> 32 != 0 {
                return Err(malformed("a metric state holds no sum"));
            }
        }
        Ok(sum)
    }
}

/// NaNs are one.
fn canonical(x: f64) -> f64 {
    if x.is_nan() { f64::NAN } else { x }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn a_sum_is_exact_in_any_order_and_any_cut() {
        let mut stream = RandomKey::of(5, 0).stream(Purpose::Test);
        // Numbers of very different size that cancel: the sum of all is 1 + 2^-60 in truth, and 1 when rounded.
        let mut numbers: Vec<f64> = (0..2000)
            .map(|_| stream.normal() * 2f64.powi(stream.below(400) as i32 - 200))
            .collect();
        numbers.extend(numbers.clone().iter().map(|x| -x));
        numbers.extend([
            1.0,
            2f64.powi(-60),
            1e300,
            -1e300,
            f64::from_bits(1),
            -f64::from_bits(1),
        ]);
        let whole = sum(&numbers);
        assert_eq!(whole.value(), 1.0);
        for size in [1, 7, 1000] {
            let mut merged = ExactSum::new();
            for part in numbers.chunks(size).rev() {
                let mut bytes = Vec::new();
                sum(part).write(&mut bytes);
                merged.merge(&ExactSum::read(&mut Reader { bytes: &bytes }).unwrap());
            }
            assert_eq!(merged, whole);
        }
    }

    #[test]
    fn the_value_is_rounded_once_to_the_nearest() {
        // math.fsum of Python answers these.
        assert_eq!(sum(&[0.1; 10]).value(), 1.0);
        assert_eq!(sum(&[1.0, 2f64.powi(-53)]).value(), 1.0);
        let above = [1.0, 2f64.powi(-53), 2f64.powi(-500)];
        assert_eq!(sum(&above).value(), 1.0 + f64::EPSILON);
        assert_eq!(sum(&above.map(|x| -x)).value(), -1.0 - f64::EPSILON);
        assert_eq!(sum(&[-3.5, 1.25]).value(), -2.25);
        assert_eq!(sum(&[]).value(), 0.0);
        assert!(sum(&[1.0, f64::NAN]).value().is_nan());
        assert_eq!(sum(&[1.0, f64::INFINITY]).value(), f64::INFINITY);
        assert!(sum(&[f64::NEG_INFINITY, f64::INFINITY]).value().is_nan());
    }

    fn sum(numbers: &[f64]) -> ExactSum {
        let mut sum = ExactSum::new();
        numbers.iter().for_each(|x| sum.add(*x));
        sum
    }
}

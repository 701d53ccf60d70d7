//! Elementary functions on float32, written so that the compiler vectorises loops over them.
//!
//! Only additions, multiplications, divisions, comparisons and bit moves: no tables, no branches, no fused
//! multiply-add. Stated errors are against float64 over the whole range, in units in the last place (ulp) of the
//! exact answer where not said otherwise, and are tested below.

/// 1.5 * 2^23: adding it rounds a small number to a whole one and leaves that in the low bits.
const ROUNDER: f32 = 12_582_912.0;

/// e^x; below -87.3 it is 0 (no subnormals), above 88.7 infinity. At most 2 ulp. NaN stays NaN.
///
/// Source: the degree-6 polynomial and two-part reduction of Cephes `expf`.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    // Clamped with comparisons that let NaN through.
    let bounded = if x > 88.8 { 88.8 } else { x };
    let bounded = if bounded < -87.5 { -87.5 } else { bounded };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUNDER;
    let whole = shifted - ROUNDER;
    let r = bounded - whole * 0.693_359_4;
    let r = r - whole * -2.121_944_4e-4;
    let p = exp_of_rest(r);
    // 2^whole in two factors, so that 2^128 does not overflow before the product does.
    let half = (shifted.to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32);
    let first = half >> 1;
    let second = half.wrapping_sub(first);
    let power = |exponent: i32| f32::from_bits((exponent.wrapping_add(127) << 23) as u32);
    let y = p * power(first) * power(second);
    let y = if x < -87.3 { 0.0 } else { y };
    let y = if x > 88.722_84 { f32::INFINITY } else { y };
    if x.is_nan() { f32::NAN } else { y }
}

/// e^r for |r| up to log(2) / 2.
#[inline(always)]
fn exp_of_rest(r: f32) -> f32 {
    // In pairs and not in one row of steps, which would each wait for the one before.
    let z = r * r;
    let low = 1.666_666_6e-1 * r + 0.5;
    let middle = 8.333_452e-3 * r + 4.166_579_6e-2;
    let high = 1.987_569_1e-4 * r + 1.398_199_9e-3;
    ((high * z + middle) * z + low) * z + r + 1.0
}

/// Natural logarithm; -infinity at 0, NaN below. Subnormal numbers count as the smallest normal one. At most 2 ulp.
///
/// Source: Cephes `logf`.
#[inline(always)]
pub fn log(x: f32) -> f32 {
    let positive = if x < f32::MIN_POSITIVE {
        f32::MIN_POSITIVE
    } else {
        x
    };
    let bits = positive.to_bits();
    // Mantissa in [sqrt(1/2), sqrt(2)), exponent to match.
    let shifted = bits.wrapping_sub(0x3f35_04f3);
    let exponent = ((shifted as i32) >> 23) as f32;
    let m = f32::from_bits((shifted & 0x007f_ffff).wrapping_add(0x3f35_04f3)) - 1.0;
    let z = m * m;
    let mut p = 7.037_683_6e-2;
    p = p * m - 1.151_461e-1;
    p = p * m + 1.167_699_9e-1;
    p = p * m - 1.242_014_1e-1;
    p = p * m + 1.424_932_3e-1;
    p = p * m - 1.666_805_8e-1;
    p = p * m + 2.000_071_5e-1;
    p = p * m - 2.499_999_4e-1;
    p = p * m + 3.333_333e-1;
    let y = p * m * z + exponent * -2.121_944_4e-4 - 0.5 * z;
    let y = m + y + exponent * 0.693_359_4;
    let y = if x == 0.0 { f32::NEG_INFINITY } else { y };
    let y = if x == f32::INFINITY { f32::INFINITY } else { y };
    if x < 0.0 || x.is_nan() { f32::NAN } else { y }
}

/// log(1 + x) for x in [0, 1], exact for tiny x. At most 3 ulp.
#[inline(always)]
pub fn log_1p_of_unit(x: f32) -> f32 {
    let u = 1.0 + x;
    log(u) + (x - (u - 1.0)) / u
}

/// e^x for x up to 0, without the steps that only larger numbers need; the same bits as `exp`. NaN stays NaN.
#[inline(always)]
pub fn exp_of_negative(x: f32) -> f32 {
    let bounded = if x < -87.3 { -87.3 } else { x };
    let shifted = bounded * std::f32::consts::LOG2_E + ROUNDER;
    let whole = shifted - ROUNDER;
    let r = bounded - whole * 0.693_359_4;
    let r = r - whole * -2.121_944_4e-4;
    let p = exp_of_rest(r);
    // The low bits of `shifted` go straight to the exponent: those of ROUNDER itself are 0.
    let y = f32::from_bits(p.to_bits().wrapping_add(shifted.to_bits() << 23));
    if x < -87.3 { 0.0 } else { y }
}

/// log(1 + x); -infinity at -1, NaN below. At most 4 ulp.
#[inline(always)]
pub fn log_1p(x: f32) -> f32 {
    let u = 1.0 + x;
    // What rounding took from 1 + x, put back to first order; at the ends there is nothing to put back.
    let lost = (x - (u - 1.0)) / u;
    let y = log(u) + lost;
    if x == -1.0 || x == f32::INFINITY {
        log(u)
    } else {
        y
    }
}

/// e^x - 1. At most 6 ulp.
///
/// Source: the Taylor series up to the ninth power within a half, `exp` beyond.
#[inline(always)]
pub fn exp_m1(x: f32) -> f32 {
    let mut p = 2.755_732e-6;
    p = p * x + 2.480_158_7e-5;
    p = p * x + 1.984_127e-4;
    p = p * x + 1.388_888_9e-3;
    p = p * x + 8.333_334e-3;
    p = p * x + 4.166_666_6e-2;
    p = p * x + 1.666_666_7e-1;
    p = p * x + 0.5;
    let near = x + x * x * p;
    let far = exp(x) - 1.0;
    if x.abs() < 0.5 { near } else { far }
}

/// x less the nearest multiple of pi/2, and that multiple's number in its low two bits.
///
/// Source: `__rem_pio2f` of musl; exact to float32 up to 4e8, beyond that the error grows with x * 2^-52.
#[inline(always)]
fn quarter_turns(x: f32) -> (f64, u32) {
    const ROUNDER: f64 = 6_755_399_441_055_744.0; // 1.5 * 2^52
    const HALF_PI_HIGH: f64 = 1.570_796_310_901_641_8; // its first 25 bits
    const HALF_PI_LOW: f64 = 1.589_325_477_352_819_6e-8;
    let x = f64::from(x);
    let shifted = x * std::f64::consts::FRAC_2_PI + ROUNDER;
    let turns = shifted - ROUNDER;
    let rest = x - turns * HALF_PI_HIGH - turns * HALF_PI_LOW;
    (rest, shifted.to_bits() as u32 & 3)
}

/// Sine within an eighth of a turn. Source: `__sindf` of musl.
#[inline(always)]
fn sine_near(x: f64) -> f64 {
    let z = x * x;
    let r = -0.000_198_393_348_360_966_32 + z * 0.000_002_718_311_493_989_822;
    let s = z * x;
    (x + s * (-0.166_666_666_416_265_24 + z * 0.008_333_329_385_889_463)) + s * (z * z) * r
}

/// Cosine within an eighth of a turn. Source: `__cosdf` of musl.
#[inline(always)]
fn cosine_near(x: f64) -> f64 {
    let z = x * x;
    let w = z * z;
    let r = -0.001_388_676_377_460_993 + z * 0.000_024_390_448_796_277_41;
    ((1.0 + z * -0.499_999_997_251_031) + w * 0.041_666_623_323_739_06) + (w * z) * r
}

/// Sine of radians. At most 2 ulp up to 4e8; beyond 1e15 it is 0, for float32 has no turns left there.
#[inline(always)]
pub fn sin(x: f32) -> f32 {
    let (rest, turns) = quarter_turns(x);
    let (sine, cosine) = (sine_near(rest), cosine_near(rest));
    let y = if turns & 1 == 0 { sine } else { cosine };
    let y = if turns & 2 == 0 { y } else { -y } as f32;
    let y = if x.abs() > 1e15 { 0.0 } else { y };
    if x.is_finite() { y } else { f32::NAN }
}

/// Cosine of radians. At most 2 ulp up to 4e8; beyond 1e15 it is 1.
#[inline(always)]
pub fn cos(x: f32) -> f32 {
    let (rest, turns) = quarter_turns(x);
    let (sine, cosine) = (sine_near(rest), cosine_near(rest));
    let y = if turns & 1 == 0 { cosine } else { sine };
    let y = if turns.wrapping_add(1) & 2 == 0 {
        y
    } else {
        -y
    } as f32;
    let y = if x.abs() > 1e15 { 1.0 } else { y };
    if x.is_finite() { y } else { f32::NAN }
}

/// 1 / (1 + e^-x). At most 2 ulp; 0 below -87.3 (no subnormals).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    // Through e^-|x|, which cannot overflow.
    let e = exp_of_negative(-x.abs());
    let above = if x < 0.0 { e } else { 1.0 };
    above / (1.0 + e)
}

/// Hyperbolic tangent. At most 2 ulp.
///
/// Source: Cephes `tanhf`, with its polynomial below 0.625; above, `(1 - e^-2|x|) / (1 + e^-2|x|)`.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let size = x.abs();
    let e = exp_of_negative(-2.0 * size);
    let large = ((1.0 - e) / (1.0 + e)).copysign(x);
    let z = x * x;
    let mut p = -5.704_988_7e-3;
    p = p * z + 2.063_909e-2;
    p = p * z - 5.373_971_6e-2;
    p = p * z + 1.333_144_2e-1;
    p = p * z - 3.333_328e-1;
    let small = p * z * x + x;
    if size < 0.625 { small } else { large }
}

/// The error function. At most 1.5 ulp.
///
/// Below 0.92 an odd polynomial; above, 1 - 2^q with a polynomial q. Source: N. Juffa's `erff` (2016), without its fused
/// multiply-adds.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    let size = x.abs();
    let z = x * x;
    let mut p = -5.967_617e-4;
    p = p * z + 4.991_194_2e-3;
    p = p * z - 2.676_813_5e-2;
    p = p * z + 1.128_199_25e-1;
    p = p * z - 3.761_253_4e-1;
    p = p * z + 1.283_791_7e-1;
    let small = p * x + x;
    // From 4 on the answer is 1. q is a logarithm to the base 2, whose whole part goes straight to the exponent.
    let t = if size > 4.0 { 4.0 } else { size };
    let w = t * t;
    let high = -2.493_748_4e-5 * t + 5.528_366e-4;
    let middle = -5.603_376e-3 * t + 3.499_202_3e-2;
    let mut q = high * w + middle;
    q = q * t - 1.540_479_2e-1;
    q = q * t - 9.158_901_6e-1;
    q = q * t - 1.628_395_2;
    let q = q * t;
    let shifted = q + ROUNDER;
    let r = q - (shifted - ROUNDER);
    // 2^r for |r| up to 1/2, to 1e-7: the best polynomial, whose slope at 0 is a little less than that of 2^r.
    let mut e = 1.326_472_5e-3 * r + 9.671_513e-3;
    e = e * r + 5.550_733_7e-2;
    e = e * r + 2.402_224_3e-1;
    e = e * r + (std::f32::consts::LN_2 - 2e-7);
    e = e * r + 1.0;
    let rest = f32::from_bits(e.to_bits().wrapping_add(shifted.to_bits() << 23));
    let large = (1.0 - rest).copysign(x);
    if size > 0.921_875 { large } else { small }
}

/// Binary cross-entropy of a logit: `max(x, 0) - x t + log(1 + e^-|x|)`, which neither overflows nor cancels.
#[inline(always)]
pub fn sigmoid_cross_entropy(x: f32, target: f32) -> f32 {
    let positive = if x > 0.0 { x } else { 0.0 };
    positive - x * target + log_1p_of_unit(exp(-x.abs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elementary_functions_keep_their_stated_error_against_float64() {
        check("exp", exp, f64::exp, -87.0, 88.7, 2.0);
        check(
            "exp_of_negative",
            exp_of_negative,
            f64::exp,
            -87.3,
            0.0,
            2.0,
        );
        check("log", log, f64::ln, 1e-37, 4.0, 2.0);
        check("log", log, f64::ln, 1.0, 1e30, 2.0);
        check("log_1p", log_1p_of_unit, f64::ln_1p, 0.0, 1.0, 3.0);
        check(
            "sigmoid",
            sigmoid,
            |x| 1.0 / (1.0 + (-x).exp()),
            -87.0,
            100.0,
            2.0,
        );
        check("tanh", tanh, f64::tanh, -12.0, 12.0, 2.0);
        check("tanh", tanh, f64::tanh, -1e-3, 1e-3, 2.0);
        check("erf", erf, erf_by_series, -5.0, 5.0, 1.5);
        check("erf", erf, erf_by_series, -1e-3, 1e-3, 1.5);
        check("log_1p", log_1p, f64::ln_1p, -0.9999, 3.0, 4.0);
        check("log_1p", log_1p, f64::ln_1p, -1e-4, 1e-4, 4.0);
        check("log_1p", log_1p, f64::ln_1p, 1.0, 1e30, 4.0);
        check("exp_m1", exp_m1, f64::exp_m1, -87.0, 88.7, 6.0);
        check("exp_m1", exp_m1, f64::exp_m1, -1.0, 1.0, 6.0);
        check("exp_m1", exp_m1, f64::exp_m1, -1e-4, 1e-4, 6.0);
        check("sin", sin, f64::sin, -20.0, 20.0, 2.0);
        check("sin", sin, f64::sin, -4e8, 4e8, 2.0);
        check("cos", cos, f64::cos, -20.0, 20.0, 2.0);
        check("cos", cos, f64::cos, -4e8, 4e8, 2.0);
    }

    #[test]
    fn the_edges_of_the_range_are_as_in_ieee() {
        assert_eq!(
            (exp(f32::NEG_INFINITY), exp(f32::INFINITY), exp(0.0)),
            (0.0, f32::INFINITY, 1.0)
        );
        assert_eq!(
            (log(0.0), log(f32::INFINITY), log(1.0)),
            (f32::NEG_INFINITY, f32::INFINITY, 0.0)
        );
        assert!(exp(f32::NAN).is_nan() && log(f32::NAN).is_nan() && log(-1.0).is_nan());
        assert_eq!(
            (log_1p(-1.0), log_1p(f32::INFINITY), log_1p(0.0)),
            (f32::NEG_INFINITY, f32::INFINITY, 0.0)
        );
        assert!(log_1p(-1.5).is_nan() && log_1p(f32::NAN).is_nan());
        assert_eq!(
            (
                exp_m1(f32::NEG_INFINITY),
                exp_m1(f32::INFINITY),
                exp_m1(0.0)
            ),
            (-1.0, f32::INFINITY, 0.0)
        );
        assert!(exp_m1(f32::NAN).is_nan());
        for function in [sin, cos] {
            assert!(function(f32::INFINITY).is_nan() && function(f32::NAN).is_nan());
            assert!(function(f32::MAX).abs() <= 1.0);
        }
        assert!(tanh(f32::NAN).is_nan() && sigmoid(f32::NAN).is_nan() && erf(f32::NAN).is_nan());
        assert_eq!(
            (sigmoid(f32::NEG_INFINITY), sigmoid(f32::INFINITY)),
            (0.0, 1.0)
        );
        assert!(exp_of_negative(f32::NAN).is_nan());
        assert_eq!(exp_of_negative(f32::NEG_INFINITY), 0.0);
        assert!((sigmoid_cross_entropy(20.0, 1.0) - 2.061_153_6e-9).abs() < 1e-14);
        assert_eq!(sigmoid_cross_entropy(-200.0, 0.0), 0.0);
    }

    fn check(
        name: &str,
        ours: fn(f32) -> f32,
        exact: fn(f64) -> f64,
        low: f32,
        high: f32,
        ulp_max: f64,
    ) {
        let steps = 200_000;
        let mut worst = (0.0, 0.0);
        for step in 0..=steps {
            let x = low + (high - low) * (step as f32 / steps as f32);
            let expected = exact(f64::from(x));
            let ulp = f64::from(f32::from_bits((expected.abs() as f32).to_bits() + 1))
                - f64::from(expected.abs() as f32);
            let error = (f64::from(ours(x)) - expected).abs() / ulp;
            if error > worst.0 {
                worst = (error, x);
            }
        }
        println!("{name}: {:.2} ulp at {}", worst.0, worst.1);
        assert!(
            worst.0 <= ulp_max,
            "{name}: {:.2} ulp at {}",
            worst.0,
            worst.1
        );
    }

    /// Taylor series near 0, continued fraction beyond (Abramowitz and Stegun 7.1.5 and 7.1.14).
    fn erf_by_series(x: f64) -> f64 {
        let a = x.abs();
        let y = if a < 3.0 {
            let (mut term, mut sum, mut n) = (a, a, 0.0);
            while term.abs() > 1e-18 * sum.abs() && n < 200.0 {
                n += 1.0;
                term *= -a * a / n;
                sum += term / (2.0 * n + 1.0);
            }
            sum * 2.0 / std::f64::consts::PI.sqrt()
        } else {
            let mut fraction = 0.0;
            for n in (1..=60).rev() {
                fraction = f64::from(n) / 2.0 / (a + fraction);
            }
            1.0 - (-a * a).exp() / (a + fraction) / std::f64::consts::PI.sqrt()
        };
        y.copysign(x)
    }
}

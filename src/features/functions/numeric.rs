//! Numbers to numbers, in float64; and numbers to buckets.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Float64Type;
use datafusion::error::Result as DataFusionResult;

use super::wrong_argument;

/// A function of one number. Null stays null, except under `Fill`.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::features) enum NumericFunction {
    /// NaN becomes null: both mean "missing" to `impute`.
    Present,
    /// Null and NaN become this number.
    Fill(f64),
    /// `(x - shift) / scale`, as scikit-learn's StandardScaler and MinMaxScaler.
    Scale { shift: f64, scale: f64 },
    /// `ln(1 + x)`, exact near 0.
    Log1p,
    /// Numbers outside become the nearer end.
    Clip { min: f64, max: f64 },
}

impl NumericFunction {
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Fill(_) => "impute",
            Self::Scale { .. } => "scale",
            Self::Log1p => "log1p",
            Self::Clip { .. } => "clip",
        }
    }

    pub(super) fn call(&self, column: &ArrayRef) -> DataFusionResult<ArrayRef> {
        let Some(numbers) = column.as_primitive_opt::<Float64Type>() else {
            return Err(wrong_argument(self.name(), column.data_type()));
        };
        Ok(match *self {
            Self::Present => {
                if numbers.values().iter().any(|x| x.is_nan()) {
                    let present: NullBuffer = numbers
                        .iter()
                        .map(|x| x.is_some_and(|x| !x.is_nan()))
                        .collect();
                    Arc::new(Float64Array::new(numbers.values().clone(), Some(present)))
                } else {
                    Arc::clone(column)
                }
            }
            Self::Fill(value) => {
                let filled: Float64Array = if numbers.null_count() == 0 {
                    numbers.unary(|x| if x.is_nan() { value } else { x })
                } else {
                    numbers
                        .iter()
                        .map(|x| Some(x.filter(|x| !x.is_nan()).unwrap_or(value)))
                        .collect()
                };
                Arc::new(filled)
            }
            Self::Scale { shift, scale } => {
                let scaled: Float64Array = numbers.unary(|x| (x - shift) / scale);
                Arc::new(scaled)
            }
            Self::Log1p => {
                let logarithms: Float64Array = numbers.unary(f64::ln_1p);
                Arc::new(logarithms)
            }
            // Comparisons, not f64::clamp: a NaN passes through to be refused by name, and never panics.
            Self::Clip { min, max } => {
                let clipped: Float64Array = numbers.unary(|x| {
                    if x < min {
                        min
                    } else if x > max {
                        max
                    } else {
                        x
                    }
                });
                Arc::new(clipped)
            }
        })
    }
}

/// The number of `boundaries` (ascending) at or below each number: `numpy.digitize`. Null and NaN become null.
pub(super) fn bucketize(column: &ArrayRef, boundaries: &[f64]) -> DataFusionResult<ArrayRef> {
    let Some(numbers) = column.as_primitive_opt::<Float64Type>() else {
        return Err(wrong_argument("bucketize", column.data_type()));
    };
    let buckets: Int32Array = numbers
        .iter()
        .map(|x| {
            x.filter(|x| !x.is_nan())
                .map(|x| boundaries.partition_point(|boundary| *boundary <= x) as i32)
        })
        .collect();
    Ok(Arc::new(buckets))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(function: NumericFunction, numbers: Vec<Option<f64>>) -> Vec<Option<f64>> {
        let column: ArrayRef = Arc::new(Float64Array::from(numbers));
        let out = function.call(&column).unwrap();
        out.as_primitive::<Float64Type>().iter().collect()
    }

    #[test]
    fn missing_means_null_or_nan() {
        let numbers = vec![Some(1.0), None, Some(f64::NAN)];
        assert_eq!(
            run(NumericFunction::Fill(7.0), numbers.clone()),
            [Some(1.0), Some(7.0), Some(7.0)]
        );
        assert_eq!(
            run(NumericFunction::Fill(7.0), vec![Some(f64::NAN)]),
            [Some(7.0)]
        );
        assert_eq!(
            run(NumericFunction::Present, numbers),
            [Some(1.0), None, None]
        );
    }

    #[test]
    fn a_bucket_counts_the_boundaries_at_or_below() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![
            Some(-1.0),
            Some(0.0),
            Some(0.5),
            Some(2.0),
            None,
            Some(f64::NAN),
        ]));
        let out = bucketize(&column, &[0.0, 1.0, 2.0]).unwrap();
        assert_eq!(
            out.as_ref(),
            &Int32Array::from(vec![Some(0), Some(1), Some(1), Some(3), None, None]) as &dyn Array
        );
    }

    #[test]
    fn clip_and_log1p_keep_nulls() {
        let clip = NumericFunction::Clip {
            min: f64::NEG_INFINITY,
            max: 2.0,
        };
        assert_eq!(
            run(clip, vec![Some(-5.0), Some(9.0), None]),
            [Some(-5.0), Some(2.0), None]
        );
        assert_eq!(
            run(NumericFunction::Log1p, vec![Some(1e-12), None]),
            [Some(9.999_999_999_995e-13), None]
        );
    }
}

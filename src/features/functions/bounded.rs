//! Functions that make much of little: `repeat('x', 10000000000)` is one row of ten gigabytes.
//!
//! DataFusion's memory pool does not see what a scalar function makes, so the few functions whose result is as large as
//! a number says are asked first how large it would be, and refused beyond a limit. Everything else about them is theirs.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{
    DataType, FieldRef, Float64Type, IntervalMonthDayNanoType, IntervalUnit, TimeUnit,
};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    ColumnarValue, Documentation, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl,
    Signature,
};

use crate::features::FeatureError;

/// How large a result is, from the arguments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Growth {
    /// `repeat(text, n)`, `array_repeat(element, n)`: the first argument, n times.
    Repeat,
    /// `lpad(text, n)`, `rpad(text, n)`, `array_resize(list, n)`: n pieces.
    Resize,
    /// `range(stop)`, `range(start, stop)`, `range(start, stop, step)`.
    Series,
}

/// The functions whose result a number makes large.
const GROWING: [(&str, Growth); 7] = [
    ("repeat", Growth::Repeat),
    ("array_repeat", Growth::Repeat),
    ("lpad", Growth::Resize),
    ("rpad", Growth::Resize),
    ("array_resize", Growth::Resize),
    ("range", Growth::Series),
    ("generate_series", Growth::Series),
];

/// What one call makes of one batch, at most: far above what a batch on the wire should hold, far below what stops a core.
const CALL_BYTES_MAX: usize = 64 << 20;
/// Bytes of one character of text, at most.
const CHARACTER_BYTES: f64 = 4.0;
/// Bytes of one element of a list or series, at most.
const ELEMENT_BYTES: f64 = 16.0;
const DAY_NANOSECONDS: f64 = 86_400e9;

/// Those of `functions` that can grow, held to [`CALL_BYTES_MAX`] per batch, and to a quarter of `memory_bytes`.
pub(in crate::features) fn bounded<'a>(
    functions: impl Iterator<Item = &'a Arc<ScalarUDF>>,
    memory_bytes: usize,
) -> Vec<Arc<ScalarUDF>> {
    let limit = CALL_BYTES_MAX.min(memory_bytes / 4);
    let mut found: Vec<Arc<ScalarUDF>> = Vec::new();
    for function in functions {
        let growth = GROWING
            .iter()
            .find(|(name, _)| *name == function.name())
            .map(|(_, growth)| *growth);
        if let Some(growth) = growth
            && found.iter().all(|other| other.name() != function.name())
        {
            found.push(Arc::new(ScalarUDF::new_from_impl(Bounded {
                inner: Arc::clone(function),
                growth,
                limit,
            })));
        }
    }
    found
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    growth: Growth,
    limit: usize,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner && self.limit == other.limit
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        self.inner.return_type(arguments)
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, arguments: &[DataType]) -> DataFusionResult<Vec<DataType>> {
        self.inner.coerce_types(arguments)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let scalars = args
            .args
            .iter()
            .all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let rows = if scalars { 1 } else { args.number_rows };
        let columns = args
            .args
            .iter()
            .map(|value| value.to_array(rows))
            .collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let bytes = self.growth.bytes(&columns, rows)?;
        if bytes > self.limit as f64 {
            return Err(DataFusionError::External(Box::new(
                FeatureError::CallTooLarge {
                    function: self.name().to_owned(),
                    bytes,
                    limit: self.limit,
                },
            )));
        }
        self.inner.invoke_with_args(args)
    }
}

impl Growth {
    fn bytes(self, columns: &[ArrayRef], rows: usize) -> DataFusionResult<f64> {
        let number = |at: usize| -> DataFusionResult<Vec<f64>> {
            match columns.get(at) {
                Some(column) => numbers(column),
                None => Ok(vec![0.0; rows]),
            }
        };
        Ok(match self {
            Self::Repeat => {
                let each = columns
                    .first()
                    .map_or(0.0, |column| column_bytes(column) / rows.max(1) as f64);
                // The longest text may stand beside the largest number: exact for text, the mean for the rest.
                let lengths = columns
                    .first()
                    .and_then(text_lengths)
                    .unwrap_or_else(|| vec![each + ELEMENT_BYTES; rows]);
                lengths
                    .iter()
                    .zip(number(1)?)
                    .map(|(length, times)| length * times.max(0.0))
                    .sum()
            }
            Self::Resize => {
                let piece = match columns.first().map(|column| column.data_type()) {
                    Some(DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View) => {
                        CHARACTER_BYTES
                    }
                    _ => ELEMENT_BYTES,
                };
                number(1)?.iter().map(|size| size.max(0.0) * piece).sum()
            }
            Self::Series => {
                let (start, stop) = match columns.len() {
                    0 | 1 => (vec![0.0; rows], number(0)?),
                    _ => (number(0)?, number(1)?),
                };
                let step = if columns.len() > 2 {
                    number(2)?
                } else {
                    vec![1.0; rows]
                };
                start
                    .iter()
                    .zip(stop)
                    .zip(step)
                    .filter(|(_, step)| *step != 0.0)
                    .map(|((start, stop), step)| {
                        ((stop - start) / step + 1.0).max(0.0) * ELEMENT_BYTES
                    })
                    .sum()
            }
        })
    }
}

/// Numbers as they are, times and intervals in nanoseconds (a month as 28 days); null as 0.
fn numbers(column: &ArrayRef) -> DataFusionResult<Vec<f64>> {
    let column = match column.data_type() {
        DataType::Interval(_) => {
            let whole = cast(column, &DataType::Interval(IntervalUnit::MonthDayNano))?;
            return Ok(whole
                .as_primitive::<IntervalMonthDayNanoType>()
                .iter()
                .map(|interval| {
                    interval.map_or(0.0, |interval| {
                        f64::from(interval.months) * 28.0 * DAY_NANOSECONDS
                            + f64::from(interval.days) * DAY_NANOSECONDS
                            + interval.nanoseconds as f64
                    })
                })
                .collect());
        }
        DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
            // Milliseconds hold every date; nanoseconds do not.
            let times = cast(column, &DataType::Timestamp(TimeUnit::Millisecond, None))?;
            let milliseconds = cast(&cast(&times, &DataType::Int64)?, &DataType::Float64)?;
            return Ok(milliseconds
                .as_primitive::<Float64Type>()
                .iter()
                .map(|milliseconds| milliseconds.unwrap_or(0.0) * 1e6)
                .collect());
        }
        _ => cast(column, &DataType::Float64)?,
    };
    Ok(column
        .as_primitive::<Float64Type>()
        .iter()
        .map(|number| number.unwrap_or(0.0))
        .collect())
}

fn column_bytes(column: &ArrayRef) -> f64 {
    column.to_data().get_slice_memory_size().unwrap_or(0) as f64
}

fn text_lengths(column: &ArrayRef) -> Option<Vec<f64>> {
    let length = |text: Option<&str>| text.map_or(0.0, |text| text.len() as f64);
    Some(match column.data_type() {
        DataType::Utf8 => column.as_string::<i32>().iter().map(length).collect(),
        DataType::LargeUtf8 => column.as_string::<i64>().iter().map(length).collect(),
        DataType::Utf8View => column.as_string_view().iter().map(length).collect(),
        _ => return None,
    })
}

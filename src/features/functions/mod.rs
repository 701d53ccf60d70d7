//! The arithmetic of fitted transforms as scalar functions: what one column becomes, given what fitting learnt;
//! and the bounds of DataFusion's own functions that can grow without end.
//!
//! The same function stands in the aggregate queries of `fit` and in the expressions that every scoring door evaluates,
//! so there is one implementation and one set of bits. Knows no pipeline, no name of a column and no catalog.

mod bounded;
mod hashing;
mod lookup;
mod numeric;

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::{
    Array, ArrayRef, BooleanArray, Int64Array, Scalar, StringArray, new_empty_array,
};
use arrow::compute::is_null;
use arrow::compute::kernels::zip::zip;
use arrow::datatypes::{DataType, Field};
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

pub(super) use bounded::bounded;
pub(super) use lookup::{Categories, CategoryValues};
pub(super) use numeric::NumericFunction;

/// A function of one column (of several, for `Cross`).
#[derive(Debug, Clone)]
pub(super) enum ColumnFunction {
    /// Float64 to Float64.
    Numeric(NumericFunction),
    /// Null text becomes this text.
    FillText(String),
    /// Null Int64 becomes this number.
    FillInteger(i64),
    /// Null Boolean becomes this value.
    FillBoolean(bool),
    /// A category to a row of zeros with one 1. With `bucket`, unknown categories have the last place.
    OneHot {
        categories: Arc<Categories>,
        bucket: bool,
    },
    /// A category to its place from 1; 0 is for unknown ones and null.
    Index(Arc<Categories>),
    /// Text to a number below `buckets`.
    Hash { buckets: u32 },
    /// Several columns' texts to a number below `buckets`.
    Cross { buckets: u32 },
    /// Float64 to the number of boundaries at or below it.
    Bucketize(Arc<[f64]>),
}

impl ColumnFunction {
    fn name(&self) -> &'static str {
        match self {
            Self::Numeric(function) => function.name(),
            Self::FillText(_) | Self::FillInteger(_) | Self::FillBoolean(_) => "impute",
            Self::OneHot { .. } => "one_hot",
            Self::Index(_) => "string_index",
            Self::Hash { .. } => "hash",
            Self::Cross { .. } => "cross",
            Self::Bucketize(_) => "bucketize",
        }
    }

    /// Places in a row of one-hot numbers.
    pub(super) fn slots(categories: &Categories, bucket: bool) -> usize {
        categories.len() + usize::from(bucket)
    }

    /// This function over `arguments`, as an expression.
    pub(super) fn over(self, arguments: Vec<Expr>) -> Expr {
        ScalarUDF::new_from_impl(PipelineFunction::new(self)).call(arguments)
    }

    fn return_type(&self, argument: Option<&DataType>) -> DataType {
        match self {
            Self::Numeric(_) => DataType::Float64,
            Self::FillText(_) => argument.cloned().unwrap_or(DataType::Utf8),
            Self::FillInteger(_) => DataType::Int64,
            Self::FillBoolean(_) => DataType::Boolean,
            Self::OneHot { categories, bucket } => one_hot_type(Self::slots(categories, *bucket)),
            Self::Index(_) | Self::Hash { .. } | Self::Cross { .. } | Self::Bucketize(_) => {
                DataType::Int32
            }
        }
    }

    fn call(&self, columns: &[ArrayRef], rows: usize) -> DataFusionResult<ArrayRef> {
        let Some(first) = columns.first() else {
            return Err(wrong_argument(self.name(), &DataType::Null));
        };
        match self {
            Self::Numeric(function) => function.call(first),
            Self::FillText(text) => match first.data_type() {
                DataType::LargeUtf8 => fill(
                    first,
                    &Scalar::new(Arc::new(arrow::array::LargeStringArray::from(vec![
                        text.as_str(),
                    ]))),
                ),
                DataType::Utf8View => fill(
                    first,
                    &Scalar::new(Arc::new(arrow::array::StringViewArray::from(vec![
                        text.as_str(),
                    ]))),
                ),
                _ => fill(
                    first,
                    &Scalar::new(Arc::new(StringArray::from(vec![text.as_str()]))),
                ),
            },
            Self::FillInteger(number) => fill(
                first,
                &Scalar::new(Arc::new(Int64Array::from(vec![*number]))),
            ),
            Self::FillBoolean(value) => fill(
                first,
                &Scalar::new(Arc::new(BooleanArray::from(vec![*value]))),
            ),
            Self::OneHot { categories, bucket } => categories.one_hot(first, *bucket),
            Self::Index(categories) => categories.index(first),
            Self::Hash { buckets } => hashing::hash(first, *buckets),
            Self::Cross { buckets } => hashing::cross(columns, rows, *buckets),
            Self::Bucketize(boundaries) => numeric::bucketize(first, boundaries),
        }
    }
}

/// Type of a one-hot column: no nulls inside.
pub(super) fn one_hot_type(slots: usize) -> DataType {
    DataType::FixedSizeList(
        Arc::new(Field::new_list_field(DataType::Float32, false)),
        i32::try_from(slots).unwrap_or(i32::MAX),
    )
}

fn fill(column: &ArrayRef, value: &Scalar<ArrayRef>) -> DataFusionResult<ArrayRef> {
    if column.null_count() == 0 {
        return Ok(Arc::clone(column));
    }
    Ok(zip(&is_null(column)?, value, column)?)
}

pub(super) fn wrong_argument(function: &str, given: &DataType) -> DataFusionError {
    DataFusionError::Internal(format!("pipeline function {function} got a {given} column"))
}

/// A [`ColumnFunction`] as DataFusion sees it. Two are equal when they are clones of one.
#[derive(Debug)]
struct PipelineFunction {
    function: ColumnFunction,
    signature: Signature,
    name: String,
    number: u64,
}

impl PipelineFunction {
    fn new(function: ColumnFunction) -> Self {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let number = NUMBERS.fetch_add(1, Ordering::Relaxed);
        Self {
            name: format!("{}_{number}", function.name()),
            signature: Signature::variadic_any(Volatility::Immutable),
            function,
            number,
        }
    }
}

impl PartialEq for PipelineFunction {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for PipelineFunction {}

impl Hash for PipelineFunction {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

impl ScalarUDFImpl for PipelineFunction {
    fn name(&self) -> &str {
        &self.name
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, arguments: &[DataType]) -> DataFusionResult<DataType> {
        Ok(self.function.return_type(arguments.first()))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let columns = args
            .args
            .iter()
            .map(|value| value.to_array(args.number_rows))
            .collect::<DataFusionResult<Vec<_>>>()?;
        if args.number_rows == 0 {
            return Ok(ColumnarValue::Array(new_empty_array(args.return_type())));
        }
        self.function
            .call(&columns, args.number_rows)
            .map(ColumnarValue::Array)
    }
}

//! `predict('model', ...)` as SQL sees it. Fulfilled by `serving`, which this folder does not know.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::kernels::cmp::distinct;
use arrow::datatypes::{DataType, Field, FieldRef, Fields, SchemaRef};
use arrow::util::display::array_value_to_string;
use async_trait::async_trait;
use datafusion::common::ScalarValue;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::logical_expr::{
    ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDFImpl, Signature, Volatility,
};

use super::FeatureError;
use super::session::strict_cast;
use super::vectors::{VectorProblem, is_list_of_numbers, is_number, to_vectors};

/// The name of the function that asks models.
pub(super) const FUNCTION: &str = "predict";

/// One model version as a function of rows.
pub trait ModelFunction: std::fmt::Debug + Send + Sync {
    /// `churn` version 3.
    fn name(&self) -> &str;
    fn version(&self) -> u64;
    /// Raw columns it reads, in the model's input order.
    fn input_schema(&self) -> SchemaRef;
    /// Columns it answers.
    fn answer_schema(&self) -> SchemaRef;
    /// Same rows, same order. Runs on a CPU thread. The rows are a batch of a query: the error names no row by number.
    fn call(&self, rows: &RecordBatch) -> Result<RecordBatch, String>;
}

/// Finds models by name before a statement is planned.
#[async_trait]
pub trait ModelFunctions: std::fmt::Debug + Send + Sync {
    /// `version` `None` is the newest. The error is the text for the caller, with its class.
    async fn find(
        &self,
        name: &str,
        version: Option<u64>,
    ) -> Result<Arc<dyn ModelFunction>, (crate::support::fault::Fault, String)>;
}

/// `churn` or `churn@3`.
pub(super) fn split_version(written: &str) -> Result<(&str, Option<u64>), FeatureError> {
    match written.split_once('@') {
        None => Ok((written, None)),
        Some((name, version)) => match version.parse() {
            Ok(version) => Ok((name, Some(version))),
            Err(_) => Err(FeatureError::ModelFunction {
                reason: format!(
                    "{version:?} in {written:?} is not a version; write a number, as in 'churn@3'"
                ),
            }),
        },
    }
}

/// `predict` of one statement: the models it names, found before planning.
///
/// `predict('churn', age, income)` takes the columns in the model's input order; `predict('churn', named_struct('age', a, ...))`
/// one struct, matched by field names (or, when the fields are unnamed as `struct(a, b)` leaves them, by place). A model
/// whose one input is a struct takes such a struct as the value.
/// The answer is a struct of the model's answer columns.
#[derive(Debug)]
pub(super) struct PredictFunction {
    signature: Signature,
    models: Vec<(String, Arc<dyn ModelFunction>)>,
}

impl PredictFunction {
    pub(super) fn new(models: Vec<(String, Arc<dyn ModelFunction>)>) -> Self {
        Self {
            signature: Signature::variadic_any(Volatility::Stable),
            models,
        }
    }

    fn model(&self, written: &str) -> DataFusionResult<&Arc<dyn ModelFunction>> {
        self.models
            .iter()
            .find(|(name, _)| name == written)
            .map(|(_, model)| model)
            .ok_or_else(|| refuse(format!("model {written:?} was not looked up")))
    }

    fn identity(&self) -> impl Iterator<Item = (&str, &str, u64)> {
        self.models
            .iter()
            .map(|(written, model)| (written.as_str(), model.name(), model.version()))
    }
}

impl PartialEq for PredictFunction {
    fn eq(&self, other: &Self) -> bool {
        self.identity().eq(other.identity())
    }
}

impl Eq for PredictFunction {}

impl std::hash::Hash for PredictFunction {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        for part in self.identity() {
            part.hash(state);
        }
    }
}

fn refuse(reason: String) -> DataFusionError {
    DataFusionError::External(Box::new(FeatureError::ModelFunction { reason }))
}

/// Which argument (or field of the struct argument) feeds each input of the model, checked against its types.
fn match_inputs(model: &dyn ModelFunction, given: &[FieldRef]) -> DataFusionResult<Vec<usize>> {
    let inputs = model.input_schema();
    let signature = || {
        inputs
            .fields()
            .iter()
            .map(|field| format!("{} {}", field.name(), field.data_type()))
            .collect::<Vec<_>>()
            .join(", ")
    };
    let (fields, by_name): (Vec<FieldRef>, bool) = match lone_struct(model, given) {
        Some(fields) => {
            let unnamed = fields
                .iter()
                .enumerate()
                .all(|(index, field)| field.name() == &format!("c{index}"));
            (fields.iter().cloned().collect(), !unnamed)
        }
        None => (given.to_vec(), false),
    };
    let places: Vec<usize> = if by_name {
        inputs
            .fields()
            .iter()
            .map(|input| {
                fields
                    .iter()
                    .position(|field| field.name() == input.name())
                    .ok_or_else(|| {
                        refuse(format!(
                            "the struct for model {:?} has no field {:?}; the model reads: {}",
                            model.name(),
                            input.name(),
                            signature()
                        ))
                    })
            })
            .collect::<DataFusionResult<_>>()?
    } else if fields.len() == inputs.fields().len() {
        (0..fields.len()).collect()
    } else {
        return Err(refuse(format!(
            "model {:?} reads {} columns and {} were given; in order: {}",
            model.name(),
            inputs.fields().len(),
            fields.len(),
            signature()
        )));
    };
    for (input, place) in inputs.fields().iter().zip(&places) {
        if !fits(fields[*place].data_type(), input.data_type()) {
            return Err(refuse(format!(
                "input {:?} of model {:?} is {} and {} was given; in order: {}",
                input.name(),
                model.name(),
                input.data_type(),
                fields[*place].data_type(),
                signature()
            )));
        }
    }
    Ok(places)
}

/// The fields of a single struct that holds the inputs; `None` when the arguments are the inputs themselves, as a
/// struct is for a model whose one input is such a struct.
fn lone_struct<'a>(model: &dyn ModelFunction, given: &'a [FieldRef]) -> Option<&'a Fields> {
    let [only] = given else { return None };
    let DataType::Struct(fields) = only.data_type() else {
        return None;
    };
    let inputs = model.input_schema();
    let is_the_input = matches!(inputs.fields().as_ref(), [input] if same_type(only.data_type(), input.data_type()));
    (!is_the_input).then_some(fields)
}

/// Whether two types differ in nothing but nullability, metadata and the names of list items.
fn same_type(left: &DataType, right: &DataType) -> bool {
    match (left, right) {
        (DataType::Struct(left), DataType::Struct(right)) => {
            left.len() == right.len()
                && left.iter().zip(right).all(|(left, right)| {
                    left.name() == right.name() && same_type(left.data_type(), right.data_type())
                })
        }
        (DataType::List(left), DataType::List(right))
        | (DataType::LargeList(left), DataType::LargeList(right)) => {
            same_type(left.data_type(), right.data_type())
        }
        (DataType::FixedSizeList(left, size), DataType::FixedSizeList(right, other)) => {
            size == other && same_type(left.data_type(), right.data_type())
        }
        (left, right) => left == right,
    }
}

/// Whether a column of type `given` may feed an input of type `wanted`; values are checked as they are cast.
fn fits(given: &DataType, wanted: &DataType) -> bool {
    let text = |data_type: &DataType| {
        matches!(
            data_type,
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
        )
    };
    match given {
        DataType::Null => true,
        DataType::Dictionary(_, values) => fits(values, wanted),
        given if same_type(given, wanted) => true,
        DataType::List(item) | DataType::LargeList(item) => {
            matches!(wanted, DataType::FixedSizeList(number, _) if vector_fits(item, number))
        }
        DataType::FixedSizeList(item, size) => {
            matches!(wanted, DataType::FixedSizeList(number, wide) if size == wide && vector_fits(item, number))
        }
        given if given.is_numeric() && wanted.is_numeric() => true,
        given => text(given) && text(wanted),
    }
}

/// Whether numbers of one vector may be cast to those of another without being cut.
fn vector_fits(given: &Field, wanted: &Field) -> bool {
    let (given, wanted) = (given.data_type(), wanted.data_type());
    is_number(given) && is_number(wanted) && (given.is_integer() || !wanted.is_integer())
}

/// One argument as the model's input; the error says what is wrong with it.
fn as_input(column: &ArrayRef, wanted: &DataType) -> Result<ArrayRef, String> {
    if !matches!(wanted, DataType::FixedSizeList(..)) || !is_list_of_numbers(column.data_type()) {
        let input = strict_cast(column, wanted)?;
        let given = column.data_type();
        if wanted.is_integer() && given.is_numeric() && !given.is_integer() {
            refuse_cut_numbers(column, &input)?;
        }
        return Ok(input);
    }
    to_vectors(column, wanted).map_err(|problem| match problem {
        VectorProblem::Length { length, .. } => {
            format!("a row of the query has {length} numbers, and the model reads {wanted}")
        }
        VectorProblem::Cast(reason) => reason,
    })
}

/// A cast to whole numbers cuts what is behind the point without a word; here it is an error.
fn refuse_cut_numbers(column: &ArrayRef, whole: &ArrayRef) -> Result<(), String> {
    let back = strict_cast(whole, column.data_type())?;
    let differs = distinct(column, &back).map_err(|error| error.to_string())?;
    match (0..differs.len()).find(|&row| differs.value(row)) {
        Some(row) => Err(format!(
            "{} is no whole number; round it in the query",
            array_value_to_string(column, row).map_err(|error| error.to_string())?
        )),
        None => Ok(()),
    }
}

impl ScalarUDFImpl for PredictFunction {
    fn name(&self) -> &str {
        FUNCTION
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> DataFusionResult<DataType> {
        Err(refuse(
            "its answer depends on the model's name, which must be a literal".into(),
        ))
    }

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> DataFusionResult<FieldRef> {
        let model = self.model(literal_name(
            args.scalar_arguments.first().copied().flatten(),
        )?)?;
        match_inputs(model.as_ref(), &args.arg_fields[1..])?;
        Ok(Arc::new(Field::new(
            self.name(),
            DataType::Struct(model.answer_schema().fields().clone()),
            false,
        )))
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> DataFusionResult<ColumnarValue> {
        let name = match args.args.first() {
            Some(ColumnarValue::Scalar(name)) => Some(name),
            _ => None,
        };
        let model = self.model(literal_name(name)?)?;
        let places = match_inputs(model.as_ref(), &args.arg_fields[1..])?;
        let mut columns = args.args[1..]
            .iter()
            .map(|value| value.to_array(args.number_rows))
            .collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        let single_struct = match (
            columns.as_slice(),
            lone_struct(model.as_ref(), &args.arg_fields[1..]),
        ) {
            ([only], Some(_)) => only.as_any().downcast_ref::<StructArray>().cloned(),
            _ => None,
        };
        if let Some(fields) = single_struct {
            if fields.null_count() > 0 {
                return Err(refuse(format!(
                    "the struct for model {:?} is null in some row; leave such rows out with WHERE",
                    model.name()
                )));
            }
            columns = fields.columns().to_vec();
        }
        let inputs = model.input_schema();
        let rows = inputs
            .fields()
            .iter()
            .zip(places)
            .map(|(input, place)| {
                as_input(&columns[place], input.data_type())
                    .map_err(|reason| refuse(format!("input {:?}: {reason}", input.name())))
            })
            .collect::<DataFusionResult<Vec<ArrayRef>>>()?;
        // Nulls are the model's pipeline's business: the batch admits them everywhere.
        let fields: Vec<FieldRef> = inputs
            .fields()
            .iter()
            .map(|field| Arc::new(field.as_ref().clone().with_nullable(true)))
            .collect();
        let options = RecordBatchOptions::new().with_row_count(Some(args.number_rows));
        let batch = RecordBatch::try_new_with_options(
            Arc::new(arrow::datatypes::Schema::new(fields)),
            rows,
            &options,
        )?;
        let answer = model
            .call(&batch)
            .map_err(|reason| refuse(format!("{}: {reason}", model.name())))?;
        if answer.num_rows() != args.number_rows {
            return Err(refuse(format!(
                "model {:?} answered {} rows for {}",
                model.name(),
                answer.num_rows(),
                args.number_rows
            )));
        }
        let answer = StructArray::try_new(
            model.answer_schema().fields().clone(),
            answer.columns().to_vec(),
            None,
        )?;
        Ok(ColumnarValue::Array(Arc::new(answer)))
    }
}

fn literal_name(value: Option<&ScalarValue>) -> DataFusionResult<&str> {
    match value {
        Some(
            ScalarValue::Utf8(Some(name))
            | ScalarValue::LargeUtf8(Some(name))
            | ScalarValue::Utf8View(Some(name)),
        ) => Ok(name),
        _ => Err(refuse(
            "the first argument is the model's name in single quotes".into(),
        )),
    }
}

//! Numbers of a network to answer columns: what they are called, of which type they are, and what stands in them.
//!
//! Pure: knows no model file, no pipeline and no stream.

use std::sync::Arc;

use arrow::array::{ArrayRef, FixedSizeListArray, Float32Array, StringArray, UInt32Array};
use arrow::compute::{CastOptions, cast_with_options, take};
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};

/// The predicted number or class.
pub const PREDICTION: &str = "prediction";
/// Probability of the second of two classes.
pub const PROBABILITY: &str = "probability";
/// Probability of each class, in class order.
pub const PROBABILITIES: &str = "probabilities";

/// Above this probability the second of two classes is predicted, as Keras and our accuracy metric decide.
const DECISION_THRESHOLD: f32 = 0.5;

/// How a model answers.
#[derive(Debug, Clone)]
pub(super) struct AnswerForm {
    kind: Kind,
    schema: SchemaRef,
    width: usize,
}

#[derive(Debug, Clone)]
enum Kind {
    /// A regressor: the outputs themselves.
    Numbers,
    /// A classifier: one class per row and its probabilities. `classes` holds the classes in the label's own type.
    TwoClasses {
        classes: ArrayRef,
    },
    ManyClasses {
        classes: ArrayRef,
    },
}

/// A classifier whose output is NaN: no class can be told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct NotANumber {
    pub(super) row: usize,
    pub(super) value: f32,
}

impl AnswerForm {
    /// `classes` is empty for a regressor; `width` is what the network answers per row.
    /// Errors say what does not fit, for the caller to name the model.
    pub(super) fn new(label: &DataType, classes: &[String], width: usize) -> Result<Self, String> {
        if width == 0 {
            return Err("the network answers no number per row".to_owned());
        }
        if classes.is_empty() {
            let data_type = if width == 1 {
                DataType::Float32
            } else {
                list_of(width)?
            };
            return Ok(Self {
                kind: Kind::Numbers,
                schema: Arc::new(Schema::new(vec![Field::new(PREDICTION, data_type, false)])),
                width,
            });
        }
        let values = typed_classes(label, classes)?;
        let prediction = Field::new(PREDICTION, values.data_type().clone(), false);
        let two = classes.len() == 2 && width <= 2;
        if !two && width != classes.len() {
            return Err(format!(
                "the network answers {width} numbers per row for {} classes",
                classes.len()
            ));
        }
        let (kind, second) = if two {
            (
                Kind::TwoClasses { classes: values },
                Field::new(PROBABILITY, DataType::Float32, false),
            )
        } else {
            (
                Kind::ManyClasses { classes: values },
                Field::new(PROBABILITIES, list_of(width)?, false),
            )
        };
        Ok(Self {
            kind,
            schema: Arc::new(Schema::new(vec![prediction, second])),
            width,
        })
    }

    pub(super) fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// Answer columns for a row-major matrix of (rows, width) outputs.
    pub(super) fn columns(&self, outputs: Vec<f32>) -> Result<Vec<ArrayRef>, NotANumber> {
        debug_assert_eq!(outputs.len() % self.width, 0);
        match &self.kind {
            Kind::Numbers if self.width == 1 => Ok(vec![Arc::new(Float32Array::from(outputs))]),
            Kind::Numbers => Ok(vec![self.lists(0, outputs)]),
            Kind::TwoClasses { classes } => {
                let second: Vec<f32> = if self.width == 1 {
                    outputs
                } else {
                    outputs.iter().skip(1).step_by(2).copied().collect()
                };
                refuse_nan(&second, 1)?;
                let chosen: UInt32Array = second
                    .iter()
                    .map(|&probability| u32::from(probability > DECISION_THRESHOLD))
                    .collect::<Vec<u32>>()
                    .into();
                Ok(vec![
                    pick(classes, &chosen),
                    Arc::new(Float32Array::from(second)),
                ])
            }
            Kind::ManyClasses { classes } => {
                refuse_nan(&outputs, self.width)?;
                let chosen: UInt32Array = outputs
                    .chunks_exact(self.width)
                    .map(index_of_largest)
                    .collect::<Vec<u32>>()
                    .into();
                Ok(vec![pick(classes, &chosen), self.lists(1, outputs)])
            }
        }
    }

    /// The outputs as one list per row, of the type that `field` of the schema promises.
    fn lists(&self, field: usize, outputs: Vec<f32>) -> ArrayRef {
        let DataType::FixedSizeList(item, size) = self.schema.field(field).data_type() else {
            unreachable!("only list answers are made into lists")
        };
        Arc::new(FixedSizeListArray::new(
            FieldRef::clone(item),
            *size,
            Arc::new(Float32Array::from(outputs)),
            None,
        ))
    }
}

/// The type that answers carry for a label of type `label`: its own, with dictionaries and views expanded.
pub(super) fn class_type(label: &DataType) -> Option<DataType> {
    match label {
        DataType::Dictionary(_, values) => class_type(values),
        DataType::Utf8View => Some(DataType::Utf8),
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Boolean => Some(label.clone()),
        integer if integer.is_integer() => Some(integer.clone()),
        _ => None,
    }
}

fn list_of(width: usize) -> Result<DataType, String> {
    let size = i32::try_from(width).map_err(|_| format!("{width} outputs are too many"))?;
    Ok(DataType::FixedSizeList(
        Arc::new(Field::new_list_field(DataType::Float32, false)),
        size,
    ))
}

/// The classes, kept as text in the manifest, in the label's own type.
fn typed_classes(label: &DataType, classes: &[String]) -> Result<ArrayRef, String> {
    let wanted =
        class_type(label).ok_or_else(|| format!("a label of type {label} has no classes"))?;
    let texts = StringArray::from_iter_values(classes);
    let strict = CastOptions {
        safe: false,
        ..CastOptions::default()
    };
    cast_with_options(&texts, &wanted, &strict)
        .map_err(|error| format!("its classes are not of type {wanted}: {error}"))
}

fn pick(classes: &ArrayRef, chosen: &UInt32Array) -> ArrayRef {
    // Every index was made from the number of classes, so that it lies within.
    take(classes, chosen, None).expect("a class index lies within the classes")
}

/// The first of the largest, as NumPy's argmax.
fn index_of_largest(row: &[f32]) -> u32 {
    let mut best = 0;
    for (index, value) in row.iter().enumerate() {
        if *value > row[best] {
            best = index;
        }
    }
    u32::try_from(best).unwrap_or(u32::MAX)
}

fn refuse_nan(values: &[f32], width: usize) -> Result<(), NotANumber> {
    match values.iter().position(|value| value.is_nan()) {
        Some(position) => Err(NotANumber {
            row: position / width,
            value: values[position],
        }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{Array, AsArray};
    use arrow::datatypes::{Int16Type, Int64Type, UInt8Type};

    fn form(label: DataType, classes: &[&str], width: usize) -> AnswerForm {
        let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
        AnswerForm::new(&label, &classes, width).unwrap()
    }

    fn names(form: &AnswerForm) -> Vec<&str> {
        let fields = form.schema.fields().iter();
        fields.map(|field| field.name().as_str()).collect()
    }

    #[test]
    fn a_regressor_answers_its_number_and_several_as_a_list() {
        let one = form(DataType::Float64, &[], 1);
        let columns = one.columns(vec![1.5, -2.0]).unwrap();
        assert_eq!(columns[0].as_ref(), &Float32Array::from(vec![1.5, -2.0]));
        let three = form(DataType::Float64, &[], 3);
        let columns = three.columns(vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
        let second = columns[0].as_fixed_size_list().value(1);
        assert_eq!(second.as_ref(), &Float32Array::from(vec![4.0, 5.0, 6.0]));
        assert_eq!(columns[0].data_type(), three.schema.field(0).data_type());
        assert_eq!(names(&three), [PREDICTION]);
    }

    #[test]
    fn two_classes_are_answered_in_the_labels_own_type_with_the_probability_of_the_second() {
        let outputs = vec![0.1, 0.5, 0.6];
        let texts = form(DataType::Utf8, &["<=50K", ">50K"], 1);
        let columns = texts.columns(outputs.clone()).unwrap();
        assert_eq!(
            columns[0].as_ref(),
            &StringArray::from(vec!["<=50K", "<=50K", ">50K"])
        );
        assert_eq!(columns[1].as_ref(), &Float32Array::from(outputs.clone()));
        assert_eq!(names(&texts), [PREDICTION, PROBABILITY]);

        let flags = form(DataType::Boolean, &["false", "true"], 1);
        let columns = flags.columns(outputs.clone()).unwrap();
        assert!(!columns[0].as_boolean().value(1) && columns[0].as_boolean().value(2));

        let numbers = form(DataType::Int64, &["-1", "7"], 1);
        let columns = numbers.columns(outputs).unwrap();
        assert_eq!(
            columns[0].as_primitive::<Int64Type>().values(),
            &[-1, -1, 7]
        );
    }

    #[test]
    fn a_softmax_of_two_answers_like_a_sigmoid() {
        let softmax = form(DataType::Int16, &["0", "1"], 2);
        let columns = softmax.columns(vec![0.75, 0.25, 0.25, 0.75]).unwrap();
        assert_eq!(columns[0].as_primitive::<Int16Type>().values(), &[0, 1]);
        assert_eq!(columns[1].as_ref(), &Float32Array::from(vec![0.25, 0.75]));
        assert_eq!(names(&softmax), [PREDICTION, PROBABILITY]);
    }

    #[test]
    fn many_classes_are_answered_with_all_their_probabilities_and_ties_go_to_the_first() {
        let digits = form(DataType::UInt8, &["3", "5", "8"], 3);
        let columns = digits.columns(vec![0.2, 0.2, 0.6, 0.4, 0.4, 0.2]).unwrap();
        assert_eq!(columns[0].as_primitive::<UInt8Type>().values(), &[8, 3]);
        let first = columns[1].as_fixed_size_list().value(0);
        assert_eq!(first.as_ref(), &Float32Array::from(vec![0.2, 0.2, 0.6]));
        assert_eq!(names(&digits), [PREDICTION, PROBABILITIES]);
    }

    #[test]
    fn dictionaries_and_views_are_answered_as_plain_values() {
        let dictionary =
            DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::LargeUtf8));
        let label = form(dictionary, &["a", "b"], 1);
        assert_eq!(label.schema.field(0).data_type(), &DataType::LargeUtf8);
        let label = form(DataType::Utf8View, &["a", "b"], 1);
        assert_eq!(label.schema.field(0).data_type(), &DataType::Utf8);
    }

    #[test]
    fn no_class_is_told_from_a_nan() {
        let texts = form(DataType::Utf8, &["a", "b"], 1);
        assert_eq!(texts.columns(vec![0.1, f32::NAN]).unwrap_err().row, 1);
        let digits = form(DataType::UInt8, &["3", "5", "8"], 3);
        let outputs = vec![0.2, 0.2, 0.6, 0.4, f32::NAN, 0.2];
        assert_eq!(digits.columns(outputs).unwrap_err().row, 1);
    }

    #[test]
    fn zero_rows_are_answered_by_zero_rows() {
        for (label, classes, width) in [
            (DataType::Float32, &[] as &[&str], 1),
            (DataType::Float32, &[], 4),
            (DataType::Utf8, &["a", "b"], 1),
            (DataType::Utf8, &["a", "b"], 2),
            (DataType::Utf8, &["a", "b", "c"], 3),
        ] {
            let form = form(label, classes, width);
            let columns = form.columns(Vec::new()).unwrap();
            assert_eq!(columns.len(), form.schema.fields().len());
            for (column, field) in columns.iter().zip(form.schema.fields()) {
                assert_eq!((column.len(), column.data_type()), (0, field.data_type()));
            }
        }
    }

    #[test]
    fn classes_that_do_not_fit_the_label_or_the_network_are_refused() {
        let classes = ["a".to_owned(), "b".to_owned(), "c".to_owned()];
        assert!(AnswerForm::new(&DataType::Int64, &classes, 3).is_err());
        assert!(AnswerForm::new(&DataType::Float64, &classes, 3).is_err());
        let error = AnswerForm::new(&DataType::Utf8, &classes, 1).unwrap_err();
        assert_eq!(error, "the network answers 1 numbers per row for 3 classes");
    }
}

//! The label and the sample weights of a job's rows, read once before anything else: their classes, and that no row is
//! null, not a number or negative.
//!
//! Sees the rows as the source has them, before they are split, so that a bad one is named by the source's own number.

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, Field};

use super::TrainingError;
use super::outputs::CheckedOutput;
use super::prepare::bad_option;
use crate::catalog::LabelColumn;
use crate::frames::{ClassCollector, FrameError, gather_float};
use crate::nn::Loss;

/// The labels of all outputs.
#[derive(Debug)]
pub(crate) struct LabelReaders<'a> {
    each: Vec<LabelReader<'a>>,
}

impl<'a> LabelReaders<'a> {
    pub(crate) fn new(
        outputs: &'a [CheckedOutput],
        sample_weight: Option<&'a str>,
    ) -> Result<Self, TrainingError> {
        // The weights are read once, beside the first label.
        let each = outputs.iter().enumerate().map(|(number, output)| {
            LabelReader::new(
                &output.label,
                &output.label_type,
                output.objective.loss.clone(),
                sample_weight.filter(|_| number == 0),
            )
        });
        Ok(Self {
            each: each.collect::<Result<_, _>>()?,
        })
    }

    /// The columns that they read.
    pub(crate) fn columns(&self) -> Vec<String> {
        let mut columns: Vec<String> = Vec::new();
        for column in self.each.iter().flat_map(LabelReader::columns) {
            if !columns.contains(&column) {
                columns.push(column);
            }
        }
        columns
    }

    /// Takes the rows that follow; `trained` says which of them are trained on (`None`: all).
    pub(crate) fn add(
        &mut self,
        batch: &RecordBatch,
        trained: Option<&BooleanArray>,
    ) -> Result<(), TrainingError> {
        let mut each = self.each.iter_mut();
        each.try_for_each(|label| label.add(batch, trained))
    }

    /// What the rows came to, for each output.
    pub(crate) fn finish(self) -> Result<Vec<LabelColumn>, TrainingError> {
        self.each.into_iter().map(LabelReader::finish).collect()
    }
}

/// Takes the source's rows in order.
#[derive(Debug)]
struct LabelReader<'a> {
    label: &'a str,
    data_type: &'a DataType,
    loss: Loss,
    sample_weight: Option<&'a str>,
    /// Where the loss is over classes and the label holds one to a row.
    collector: Option<ClassCollector>,
    /// Rows taken so far.
    row: usize,
    numbers: Vec<f32>,
    /// Of the rows to train on.
    weight_sum: f64,
}

impl<'a> LabelReader<'a> {
    fn new(
        label: &'a str,
        data_type: &'a DataType,
        loss: Loss,
        sample_weight: Option<&'a str>,
    ) -> Result<Self, TrainingError> {
        // A list holds numbers: one share or index for each, not one class.
        let listed = matches!(data_type, DataType::FixedSizeList(..));
        let collector = match loss.takes_classes() && !listed {
            true => Some(ClassCollector::new(label, data_type)?),
            false => None,
        };
        Ok(Self {
            label,
            data_type,
            loss,
            sample_weight,
            collector,
            row: 0,
            numbers: Vec::new(),
            weight_sum: 0.0,
        })
    }

    /// The columns it reads.
    fn columns(&self) -> Vec<String> {
        let names = std::iter::once(self.label).chain(self.sample_weight);
        names.map(str::to_owned).collect()
    }

    fn add(
        &mut self,
        batch: &RecordBatch,
        trained: Option<&BooleanArray>,
    ) -> Result<(), TrainingError> {
        let (first, numbers) = (self.row, &mut self.numbers);
        let checked = match &mut self.collector {
            Some(collector) => collector.add(batch),
            None => {
                numbers.clear();
                let label = [self.label.to_owned()];
                gather_float(batch, &label, label_width(self.data_type), numbers)
            }
        };
        checked.map_err(|error| bad_label(self.label, error.from_row(first)))?;
        if let Some(column) = self.sample_weight {
            numbers.clear();
            gather_float(batch, &[column.to_owned()], 1, numbers)
                .map_err(|error| error.from_row(first))?;
            if let Some(at) = numbers.iter().position(|weight| *weight < 0.0) {
                let received = format!("column {column:?}, {} in row {}", numbers[at], first + at);
                return Err(bad_option(
                    "sample_weight",
                    received,
                    "weights are not negative",
                ));
            }
            let counts = |row: usize| trained.is_none_or(|trained| trained.value(row));
            let weights = numbers.iter().enumerate().filter(|(row, _)| counts(*row));
            self.weight_sum += weights.map(|(_, weight)| f64::from(*weight)).sum::<f64>();
        }
        self.row += batch.num_rows();
        Ok(())
    }

    /// What the rows came to.
    fn finish(self) -> Result<LabelColumn, TrainingError> {
        if let Some(column) = self.sample_weight
            && self.weight_sum == 0.0
        {
            let received = format!("column {column:?}, whose sum over all rows is 0");
            let hint = "give at least one row a weight above 0";
            return Err(bad_option("sample_weight", received, hint));
        }
        let classes = match self.collector {
            None => Vec::new(),
            Some(collector) => collector.finish()?.text().to_vec(),
        };
        let bad = |problem: String, hint: &str| TrainingError::BadLabel {
            column: self.label.to_owned(),
            problem,
            hint: hint.to_owned(),
        };
        match (classes.as_slice(), &self.loss) {
            ([only], _) => Err(bad(
                format!("has one class only, {only:?}"),
                "give rows of at least two classes",
            )),
            (several, loss) if several.len() > 2 && loss.is_binary() => Err(bad(
                format!("has {} classes", several.len()),
                &format!(
                    "{} takes two; use sparse_categorical_crossentropy",
                    loss.name()
                ),
            )),
            _ => Ok(LabelColumn {
                name: self.label.to_owned(),
                data_type: plain_type(self.data_type).to_string(),
                classes,
            }),
        }
    }
}

/// Numbers per row of a label that holds numbers.
pub(crate) fn label_width(data_type: &DataType) -> usize {
    match data_type {
        DataType::FixedSizeList(_, size) => usize::try_from(*size).unwrap_or(0),
        _ => 1,
    }
}

fn bad_label(label: &str, error: FrameError) -> TrainingError {
    let (problem, hint) = match error {
        FrameError::Null { row, .. } => (format!("is null in row {row}"), "drop these rows"),
        FrameError::NotFinite { row, value, .. } | FrameError::OutOfRange { row, value, .. } => {
            (format!("is {value} in row {row}"), "drop these rows")
        }
        other => return other.into(),
    };
    TrainingError::BadLabel {
        column: label.to_owned(),
        problem,
        hint: hint.to_owned(),
    }
}

/// The label's type as it is written into manifests: a list without the names and metadata of its items.
fn plain_type(data_type: &DataType) -> DataType {
    match data_type {
        DataType::FixedSizeList(item, size) => {
            let item = Field::new_list_field(item.data_type().clone(), true);
            DataType::FixedSizeList(item.into(), *size)
        }
        other => other.clone(),
    }
}

//! A network with its weights, run over feature columns in blocks of a fixed number of rows.
//!
//! Every block has exactly `block_rows` rows, the last one filled up with zeros. BLAS picks its kernel by the number of
//! rows, and kernels differ in the last bit; with one number of rows there is one kernel, whose answer for a row does not
//! depend on the row's place. Hence the promise: on one kind of CPU and one BLAS build, the same row gives the same bits
//! whichever rows come beside it. The price is that a single row costs a block (0.15 ms for the census model).

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType, Float32Type, Int32Type, Int64Type, Schema};
use parking_lot::Mutex;

use crate::nn::{
    FeatureColumn, FeatureKind, InputData, InputType, Model, ModelSpec, ParameterInfo, Predictor,
    ProgramError,
};
use crate::tensor::archive::{self, NamedArray};

/// Rows of a block: enough for BLAS to run at speed while the block stays in a core's second-level cache.
const BLOCK_ROWS: usize = 256;
/// Rows of a block of a large model, where a request for one row should not pay for 256.
const BLOCK_ROWS_OF_LARGE_MODEL: usize = 64;
/// From so many parameters on a model counts as large.
const LARGE_MODEL_PARAMETERS: usize = 1 << 20;

/// Immutable; runs on as many threads at once as ask for it.
pub(super) struct Network {
    model: Arc<Model>,
    parameters: Vec<f32>,
    statistics: Vec<f32>,
    block_rows: usize,
    /// For each input of the model: where its columns are among the features.
    inputs: Vec<Vec<Part>>,
    /// Runners not in use; never more than `runners_max`.
    idle: Mutex<Vec<Runner>>,
    runners_max: usize,
}

/// What is known of rows besides the answers, for a loss that is measured.
#[derive(Debug, Default)]
pub(super) struct Measured {
    /// Which steps count, as `Predictor::masks` has it.
    pub(super) masks: Vec<f32>,
    /// As `Predictor::penalties` has it.
    pub(super) penalties: Vec<f32>,
}

/// One feature column's place in an input's matrix.
#[derive(Debug, Clone)]
struct Part {
    column: usize,
    width: usize,
    offset: usize,
}

/// What one thread needs to run the network.
#[derive(Debug)]
struct Runner {
    predictor: Predictor,
    /// One that tells penalties, once they were asked for.
    measuring: Option<Predictor>,
    matrices: Vec<Matrix>,
}

/// A block's (`block_rows`, width) matrix of one input.
#[derive(Debug)]
enum Matrix {
    Float(Vec<f32>),
    Integer(Vec<i32>),
}

impl Network {
    /// Joins a description to the feature columns it reads and to its weights (safetensors), all checked.
    pub(super) fn new(
        spec: &serde_json::Value,
        features: &Schema,
        weights: &[u8],
        runners_max: usize,
    ) -> Result<Self, String> {
        let columns = feature_columns(features)?;
        let model = build(spec, features)?;
        let arrays = archive::from_bytes(weights).map_err(|error| error.to_string())?;
        let (parameters, statistics) = place_weights(&model, arrays)?;
        let inputs = model
            .inputs()
            .iter()
            .map(|input| {
                let mut offset = 0;
                let mut parts = Vec::with_capacity(input.columns.len());
                for name in &input.columns {
                    let column = columns
                        .iter()
                        .position(|column| column.name == *name)
                        .ok_or_else(|| format!("input column {name:?} is not a feature"))?;
                    if input.dtype == InputType::Int32
                        && columns[column].kind != FeatureKind::Integer
                    {
                        return Err(format!(
                            "input {:?} takes integers and column {name:?} holds floats",
                            input.name
                        ));
                    }
                    let width = columns[column].width;
                    parts.push(Part {
                        column,
                        width,
                        offset,
                    });
                    offset += width;
                }
                if offset != input.width {
                    return Err(format!(
                        "input {:?} is {} wide and its columns are {offset} wide",
                        input.name, input.width
                    ));
                }
                Ok(parts)
            })
            .collect::<Result<Vec<_>, String>>()?;
        let block_rows = if model.parameter_len() < LARGE_MODEL_PARAMETERS {
            BLOCK_ROWS
        } else {
            BLOCK_ROWS_OF_LARGE_MODEL
        };
        Ok(Self {
            model: Arc::new(model),
            parameters,
            statistics,
            block_rows,
            inputs,
            idle: Mutex::new(Vec::new()),
            runners_max,
        })
    }

    pub(super) fn model(&self) -> &Model {
        &self.model
    }

    /// Bytes of the weights and of what one runner per thread keeps for its inputs.
    pub(super) fn bytes(&self) -> usize {
        let weights = self.parameters.len() + self.statistics.len();
        let inputs: usize = self.model.inputs().iter().map(|input| input.width).sum();
        (weights + self.runners_max * self.block_rows * inputs) * size_of::<f32>()
    }

    /// Appends `output_width` numbers per row of `features` to `outputs`, and to `measured` what it asks for. Rows of errors
    /// count from `features`' first.
    pub(super) fn run(
        &self,
        features: &RecordBatch,
        outputs: &mut Vec<f32>,
        measured: Option<&mut Measured>,
    ) -> Result<(), ProgramError> {
        let mut runner = self.take_runner();
        let answer = self.run_blocks(&mut runner, features, outputs, measured);
        self.give_back(runner);
        answer
    }

    fn run_blocks(
        &self,
        runner: &mut Runner,
        features: &RecordBatch,
        outputs: &mut Vec<f32>,
        mut measured: Option<&mut Measured>,
    ) -> Result<(), ProgramError> {
        let predictor = match measured {
            None => &mut runner.predictor,
            Some(_) => runner
                .measuring
                .get_or_insert_with(|| Predictor::with_penalties(Arc::clone(&self.model))),
        };
        let rows = features.num_rows();
        let width = self.model.output_width();
        outputs.reserve(rows * width);
        for first in (0..rows).step_by(self.block_rows) {
            let taken = self.block_rows.min(rows - first);
            for (matrix, (input, parts)) in runner
                .matrices
                .iter_mut()
                .zip(self.model.inputs().iter().zip(&self.inputs))
            {
                for part in parts {
                    let column = features.column(part.column);
                    matrix.fill(column, part, input.width, first, taken);
                }
                matrix.clear_after(taken * input.width);
            }
            let inputs: Vec<InputData<'_>> = runner.matrices.iter().map(Matrix::data).collect();
            let answer = predictor
                .predict(&self.parameters, &self.statistics, self.block_rows, &inputs)
                .map_err(|error| at_row(error, first))?;
            outputs.extend_from_slice(&answer[..taken * width]);
            if let Some(measured) = &mut measured {
                let mask = predictor.masks();
                let of_rows = &mask.values[..taken * mask.width];
                measured.masks.extend_from_slice(of_rows);
                let penalties = &predictor.penalties()[..taken];
                measured.penalties.extend_from_slice(penalties);
            }
        }
        Ok(())
    }

    fn take_runner(&self) -> Runner {
        if let Some(runner) = self.idle.lock().pop() {
            return runner;
        }
        let matrices = self.model.inputs().iter().map(|input| {
            let numbers = self.block_rows * input.width;
            match input.dtype {
                InputType::Float32 => Matrix::Float(vec![0.0; numbers]),
                InputType::Int32 => Matrix::Integer(vec![0; numbers]),
            }
        });
        Runner {
            matrices: matrices.collect(),
            predictor: Predictor::new(Arc::clone(&self.model)),
            measuring: None,
        }
    }

    fn give_back(&self, runner: Runner) {
        let mut idle = self.idle.lock();
        if idle.len() < self.runners_max {
            idle.push(runner);
        }
    }
}

impl fmt::Debug for Network {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Network")
            .field("parameters", &self.parameters.len())
            .field("block_rows", &self.block_rows)
            .finish_non_exhaustive()
    }
}

impl Matrix {
    /// Copies rows `first..first + rows` of a feature column into its columns of the matrix.
    fn fill(&mut self, column: &ArrayRef, part: &Part, width: usize, first: usize, rows: usize) {
        let numbers = match column.data_type() {
            DataType::FixedSizeList(..) => column.as_fixed_size_list().values(),
            _ => column,
        };
        let range = first * part.width..(first + rows) * part.width;
        match self {
            Self::Integer(matrix) if matches!(numbers.data_type(), DataType::Int64) => {
                let values = &numbers.as_primitive::<Int64Type>().values()[range];
                // What no index can be becomes the nearest that can, and is refused as out of range where it is used.
                let nearest = |value: i64| value.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
                spread(values, matrix, part, width, nearest);
            }
            Self::Integer(matrix) => {
                let values = &numbers.as_primitive::<Int32Type>().values()[range];
                spread(values, matrix, part, width, |value| value);
            }
            Self::Float(matrix) if matches!(numbers.data_type(), DataType::Int64) => {
                let values = &numbers.as_primitive::<Int64Type>().values()[range];
                spread(values, matrix, part, width, |value| value as f32);
            }
            Self::Float(matrix) if matches!(numbers.data_type(), DataType::Float32) => {
                let values = &numbers.as_primitive::<Float32Type>().values()[range];
                spread(values, matrix, part, width, |value| value);
            }
            Self::Float(matrix) => {
                let values = &numbers.as_primitive::<Int32Type>().values()[range];
                // Integers beyond 2^24 lose their last bits here as they do in training.
                spread(values, matrix, part, width, |value| value as f32);
            }
        }
    }

    /// Zeros from `length` on, so that nothing of an earlier block is computed with.
    fn clear_after(&mut self, length: usize) {
        match self {
            Self::Float(matrix) => matrix[length..].fill(0.0),
            Self::Integer(matrix) => matrix[length..].fill(0),
        }
    }

    fn data(&self) -> InputData<'_> {
        match self {
            Self::Float(matrix) => InputData::Float32(matrix),
            Self::Integer(matrix) => InputData::Int32(matrix),
        }
    }
}

/// Writes a (rows, `part.width`) matrix into columns `part.offset..` of a (rows, `width`) matrix.
fn spread<From: Copy, To>(
    values: &[From],
    matrix: &mut [To],
    part: &Part,
    width: usize,
    convert: impl Fn(From) -> To,
) {
    if part.width == 1 {
        for (value, row) in values.iter().zip(matrix.chunks_exact_mut(width)) {
            row[part.offset] = convert(*value);
        }
        return;
    }
    for (values, row) in values
        .chunks_exact(part.width)
        .zip(matrix.chunks_exact_mut(width))
    {
        for (value, place) in values.iter().zip(&mut row[part.offset..]) {
            *place = convert(*value);
        }
    }
}

/// An error of a block with its row counted from the first row of all.
fn at_row(error: ProgramError, first: usize) -> ProgramError {
    match error {
        ProgramError::IndexOutOfRange {
            layer,
            row,
            index,
            last,
        } => ProgramError::IndexOutOfRange {
            layer,
            row: row + first,
            index,
            last,
        },
        other => other,
    }
}

/// The network of a description over the feature columns it reads, without weights.
pub(super) fn build(spec: &serde_json::Value, features: &Schema) -> Result<Model, String> {
    let spec = ModelSpec::from_json(spec).map_err(|error| error.to_string())?;
    Model::build(&spec, &feature_columns(features)?).map_err(|error| error.to_string())
}

/// The pipeline's output columns as the network sees them.
fn feature_columns(features: &Schema) -> Result<Vec<FeatureColumn>, String> {
    let columns = features.fields().iter().map(|field| {
        let (values, width) = match field.data_type() {
            DataType::FixedSizeList(item, size) => {
                (item.data_type(), usize::try_from(*size).unwrap_or(0))
            }
            single => (single, 1),
        };
        let kind = match values {
            DataType::Float32 => FeatureKind::Float,
            DataType::Int32 | DataType::Int64 => FeatureKind::Integer,
            other => {
                return Err(format!(
                    "feature column {:?} has type {other}, which no network takes",
                    field.name()
                ));
            }
        };
        Ok(FeatureColumn {
            name: field.name().clone(),
            width,
            kind,
        })
    });
    columns.collect()
}

/// The flat vectors of parameters and statistics from named arrays; each array must be there once, in its shape.
fn place_weights(model: &Model, arrays: Vec<NamedArray>) -> Result<(Vec<f32>, Vec<f32>), String> {
    let mut unplaced: std::collections::BTreeMap<String, NamedArray> = arrays
        .into_iter()
        .map(|array| (array.name.clone(), array))
        .collect();
    let mut place = |wanted: &[ParameterInfo], length: usize| {
        let mut flat = vec![0.0; length];
        for info in wanted {
            let array = unplaced
                .remove(&info.name)
                .ok_or_else(|| format!("its weights have no array {:?}", info.name))?;
            if array.shape != info.shape {
                return Err(format!(
                    "array {:?} of its weights has shape {:?} where the network wants {:?}",
                    info.name, array.shape, info.shape
                ));
            }
            flat.get_mut(info.offset..info.offset + array.values.len())
                .ok_or_else(|| format!("array {:?} does not fit the network", info.name))?
                .copy_from_slice(&array.values);
        }
        Ok::<_, String>(flat)
    };
    let parameters = place(model.parameters(), model.parameter_len())?;
    let statistics = place(model.statistics(), model.statistics_len())?;
    match unplaced.into_keys().next() {
        Some(name) => Err(format!(
            "its weights have an array {name:?} that the network does not"
        )),
        None => Ok((parameters, statistics)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    use arrow::array::{FixedSizeListArray, Float32Array, Int32Array};
    use arrow::compute::{concat_batches, take_record_batch};
    use arrow::datatypes::Field;
    use serde_json::{Value, json};

    #[test]
    fn networks_of_every_kind_answer_as_pytorch_does() {
        let golden = Golden::read();
        for (name, width) in [
            ("regressor", 1),
            ("pair", 2),
            ("sigmoid", 1),
            ("softmax", 3),
            ("embedding", 1),
        ] {
            let network = golden.network(name);
            assert_eq!(network.model().output_width(), width, "{name}");
            let answers = run(&network, &golden.features());
            let expected = &golden.arrays[&format!("answer/{name}")].values;
            assert_eq!(answers.len(), expected.len(), "{name}");
            for (position, (found, expected)) in answers.iter().zip(expected).enumerate() {
                let tolerance = 1e-5 * expected.abs().max(1.0);
                assert!(
                    (found - expected).abs() <= tolerance,
                    "{name}, number {position}: {found} instead of {expected}"
                );
            }
        }
    }

    #[test]
    fn a_row_gets_the_same_bits_in_whatever_company_and_place() {
        let golden = Golden::read();
        let features = golden.features();
        let rows = features.num_rows();
        for name in ["regressor", "pair", "sigmoid", "softmax", "embedding"] {
            let network = golden.network(name);
            let width = network.model().output_width();
            let together = run(&network, &features);
            for length in [1, 2, 3, 16, 255, 256, 257, 500] {
                for first in (0..rows).step_by(length.max(13)) {
                    let part = features.slice(first, length.min(rows - first));
                    let alone = run(&network, &part);
                    let expected = &together[first * width..][..alone.len()];
                    assert!(same_bits(&alone, expected), "{name}: {length} from {first}");
                }
            }
            let reversed = arrow::array::UInt32Array::from_iter_values((0..rows as u32).rev());
            let backward = run(&network, &take_record_batch(&features, &reversed).unwrap());
            for row in 0..rows {
                let there = &backward[(rows - 1 - row) * width..][..width];
                assert!(
                    same_bits(there, &together[row * width..][..width]),
                    "{name}"
                );
            }
        }
    }

    #[test]
    fn a_runner_used_before_leaves_no_trace() {
        let golden = Golden::read();
        let features = golden.features();
        let network = golden.network("softmax");
        let few = features.slice(700, 5);
        let fresh = run(&network, &few);
        run(
            &network,
            &concat_batches(&features.schema(), [&features, &features]).unwrap(),
        );
        assert!(same_bits(&run(&network, &few), &fresh));
        assert_eq!(network.idle.lock().len(), 1);
        assert!(run(&network, &features.slice(0, 0)).is_empty());
    }

    #[test]
    fn an_index_outside_an_embedding_is_told_with_its_row() {
        let golden = Golden::read();
        let network = golden.network("embedding");
        let features = golden.features();
        let mut towns = features["town"]
            .as_primitive::<Int32Type>()
            .values()
            .to_vec();
        towns[300] = 7;
        let mut columns = features.columns().to_vec();
        columns[3] = Arc::new(Int32Array::from(towns));
        let features = RecordBatch::try_new(features.schema(), columns).unwrap();
        let error = network.run(&features, &mut Vec::new(), None).unwrap_err();
        let ProgramError::IndexOutOfRange { row, index, .. } = error else {
            panic!("{error}");
        };
        assert_eq!((row, index), (300, 7));
    }

    #[test]
    fn weights_that_are_not_the_networks_are_refused_by_name() {
        let golden = Golden::read();
        let refuse = |change: &dyn Fn(&mut Vec<NamedArray>)| {
            let mut weights = golden.weights("softmax");
            change(&mut weights);
            let weights = archive::to_bytes(&weights).unwrap();
            let schema = golden.features().schema();
            Network::new(&spec("softmax"), &schema, &weights, 1).unwrap_err()
        };
        let error = refuse(&|weights| {
            weights.pop();
        });
        assert!(error.contains("have no array \"hidden/kernel\""), "{error}");
        let error = refuse(&|weights| weights[0].shape = vec![1, 3]);
        assert!(error.contains("\"answer/bias\""), "{error}");
        let error = refuse(&|weights| weights[0].name = "other/bias".to_owned());
        assert!(error.contains("\"answer/bias\""), "{error}");
        let error = refuse(&|weights| {
            let extra = NamedArray {
                name: "zebra".to_owned(),
                ..weights[0].clone()
            };
            weights.push(extra);
        });
        assert!(error.contains("\"zebra\""), "{error}");
    }

    struct Golden {
        arrays: BTreeMap<String, NamedArray>,
    }

    impl Golden {
        /// Made by `tests/golden/serving/networks.py`.
        fn read() -> Self {
            let path = concat!(
                env!("CARGO_MANIFEST_DIR"),
                "/tests/golden/serving/networks.safetensors"
            );
            let arrays = archive::from_bytes(&std::fs::read(path).unwrap()).unwrap();
            let named = arrays.into_iter().map(|array| (array.name.clone(), array));
            Self {
                arrays: named.collect(),
            }
        }

        fn features(&self) -> RecordBatch {
            let values = |name: &str| self.arrays[&format!("feature/{name}")].values.clone();
            let list = FixedSizeListArray::new(
                Arc::new(Field::new_list_field(DataType::Float32, false)),
                5,
                Arc::new(Float32Array::from(values("job"))),
                None,
            );
            let towns = values("town").iter().map(|&town| town as i32).collect();
            RecordBatch::try_from_iter([
                (
                    "age",
                    Arc::new(Float32Array::from(values("age"))) as ArrayRef,
                ),
                ("hours", Arc::new(Float32Array::from(values("hours")))),
                ("job", Arc::new(list)),
                ("town", Arc::new(Int32Array::new(towns, None))),
            ])
            .unwrap()
        }

        fn weights(&self, name: &str) -> Vec<NamedArray> {
            let prefix = format!("{name}/");
            let of_network = self.arrays.values().filter_map(|array| {
                let name = array.name.strip_prefix(&prefix)?.to_owned();
                Some(NamedArray {
                    name,
                    ..array.clone()
                })
            });
            of_network.collect()
        }

        fn network(&self, name: &str) -> Network {
            let weights = archive::to_bytes(&self.weights(name)).unwrap();
            Network::new(&spec(name), &self.features().schema(), &weights, 2).unwrap()
        }
    }

    fn spec(name: &str) -> Value {
        let (units, activation) = match name {
            "regressor" => (1, "linear"),
            "pair" => (2, "linear"),
            "softmax" => (3, "softmax"),
            _ => (1, "sigmoid"),
        };
        let dense = json!({"name": "dense", "layer": "Input", "config": {"columns": ["age", "hours", "job"]}});
        let answer = |input: &str| json!({"name": "answer", "layer": "Dense", "config": {"units": units, "activation": activation}, "inputs": [input]});
        let layers = if name == "embedding" {
            json!([
                {"name": "towns", "layer": "Input", "config": {"columns": ["town"], "dtype": "int32"}},
                {"name": "places", "layer": "Embedding", "config": {"input_dim": 7, "output_dim": 4}, "inputs": ["towns"]},
                {"name": "flat", "layer": "Flatten", "inputs": ["places"]},
                dense,
                {"name": "joined", "layer": "Concatenate", "inputs": ["flat", "dense"]},
                answer("joined"),
            ])
        } else {
            json!([
                dense,
                {"name": "hidden", "layer": "Dense", "config": {"units": 16, "activation": "relu"}, "inputs": ["dense"]},
                answer("hidden"),
            ])
        };
        json!({"format_version": 1, "name": name, "layers": layers, "outputs": ["answer"]})
    }

    fn run(network: &Network, features: &RecordBatch) -> Vec<f32> {
        let mut outputs = Vec::new();
        network.run(features, &mut outputs, None).unwrap();
        outputs
    }

    fn same_bits(left: &[f32], right: &[f32]) -> bool {
        let bits = |values: &[f32]| {
            values
                .iter()
                .map(|value| value.to_bits())
                .collect::<Vec<_>>()
        };
        bits(left) == bits(right)
    }
}

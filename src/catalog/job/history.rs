//! A job's history as one record batch, and as the bytes that stand in its journal.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{ArrayRef, Float64Array, Int32Array, RecordBatch};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use bytes::Bytes;

use crate::catalog::CatalogError;

fn history_failed(source: ArrowError) -> CatalogError {
    CatalogError::Store {
        doing: "writing a job's history".into(),
        source: Box::new(source),
    }
}

pub(super) fn history_batch(
    rows: &[BTreeMap<String, Option<f64>>],
) -> Result<RecordBatch, CatalogError> {
    let names: BTreeSet<&String> = rows
        .iter()
        .flat_map(BTreeMap::keys)
        .filter(|name| *name != "epoch")
        .collect();
    let epochs: Int32Array = rows
        .iter()
        .enumerate()
        .map(|(row, values)| match values.get("epoch") {
            Some(Some(epoch)) => *epoch as i32,
            _ => i32::try_from(row + 1).unwrap_or(i32::MAX),
        })
        .collect::<Vec<_>>()
        .into();
    let mut fields = vec![Field::new("epoch", DataType::Int32, false)];
    let mut columns: Vec<ArrayRef> = vec![Arc::new(epochs)];
    for name in names {
        let values: Float64Array = rows
            .iter()
            .map(|row| row.get(name).copied().flatten())
            .collect();
        fields.push(Field::new(name, DataType::Float64, true));
        columns.push(Arc::new(values));
    }
    RecordBatch::try_new(Arc::new(Schema::new(fields)), columns).map_err(history_failed)
}

pub(super) fn encode_history(history: &RecordBatch) -> Result<Bytes, CatalogError> {
    let mut writer =
        StreamWriter::try_new(Vec::new(), &history.schema()).map_err(history_failed)?;
    writer.write(history).map_err(history_failed)?;
    writer.finish().map_err(history_failed)?;
    Ok(Bytes::from(writer.into_inner().map_err(history_failed)?))
}

pub(super) fn decode_history(bytes: &[u8]) -> Result<RecordBatch, ArrowError> {
    let mut reader = StreamReader::try_new(bytes, None)?;
    match reader.next() {
        Some(batch) => batch,
        None => Ok(RecordBatch::new_empty(reader.schema())),
    }
}

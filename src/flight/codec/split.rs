//! Batches cut to the size of messages.

use arrow::array::{Array, ArrayData, RecordBatch};
use arrow::datatypes::DataType;

/// So many rows fill whole 64-byte lines at one byte a row or more, and whole bytes of a bitmap.
const ROWS_ALIGNED: usize = 64;

/// Cuts a batch into runs of rows whose bodies are at most `bytes_max`, but for single rows that are larger.
pub(super) fn split(batch: &RecordBatch, bytes_max: usize) -> Vec<RecordBatch> {
    let mut parts = Vec::new();
    split_into(batch, bytes_max, &mut parts);
    parts
}

fn split_into(batch: &RecordBatch, bytes_max: usize, parts: &mut Vec<RecordBatch>) {
    let rows = batch.num_rows();
    if rows == 0 {
        return;
    }
    let bytes: usize = batch
        .columns()
        .iter()
        .map(|column| body_bytes(&column.to_data()))
        .sum();
    if bytes <= bytes_max || rows == 1 {
        parts.push(batch.clone());
        return;
    }
    let step = rows_of_a_part(rows, bytes, bytes_max);
    for start in (0..rows).step_by(step) {
        split_into(
            &batch.slice(start, step.min(rows - start)),
            bytes_max,
            parts,
        );
    }
}

/// Rows of each of the fewest equal parts, in whole groups of [`ROWS_ALIGNED`] where that fits: then buffers need no padding,
/// and validity and booleans no shifting. `bytes` is more than `bytes_max`.
fn rows_of_a_part(rows: usize, bytes: usize, bytes_max: usize) -> usize {
    let most = (rows as u128 * bytes_max as u128 / bytes as u128) as usize;
    let parts = rows.div_ceil(most.max(1)).max(2);
    let equal = rows.div_ceil(parts);
    let aligned = equal.next_multiple_of(ROWS_ALIGNED);
    if aligned <= most { aligned } else { equal }
}

/// Bytes that the values of `data` take in a message's body, slices counted as what they show.
fn body_bytes(data: &ArrayData) -> usize {
    /// Every buffer is padded to this.
    const PADDING: usize = 64;
    let (offset, rows) = (data.offset(), data.len());
    let validity = if data.nulls().is_some() {
        rows.div_ceil(8) + PADDING
    } else {
        0
    };
    let child =
        |start: usize, length: usize| body_bytes(&data.child_data()[0].slice(start, length));
    let between = |wide: bool| -> (usize, usize) {
        if rows == 0 {
            return (0, 0);
        }
        let buffer = &data.buffers()[0];
        if wide {
            let offsets = buffer.typed_data::<i64>();
            (offsets[offset] as usize, offsets[offset + rows] as usize)
        } else {
            let offsets = buffer.typed_data::<i32>();
            (offsets[offset] as usize, offsets[offset + rows] as usize)
        }
    };
    validity
        + PADDING
        + match data.data_type() {
            DataType::Null => 0,
            DataType::Boolean => rows.div_ceil(8),
            DataType::Utf8 | DataType::Binary => {
                let (start, end) = between(false);
                (rows + 1) * 4 + PADDING + (end - start)
            }
            DataType::LargeUtf8 | DataType::LargeBinary => {
                let (start, end) = between(true);
                (rows + 1) * 8 + PADDING + (end - start)
            }
            DataType::List(_) | DataType::Map(_, _) => {
                let (start, end) = between(false);
                (rows + 1) * 4 + child(start, end - start)
            }
            DataType::LargeList(_) => {
                let (start, end) = between(true);
                (rows + 1) * 8 + child(start, end - start)
            }
            DataType::FixedSizeList(_, size) => {
                let size = usize::try_from(*size).unwrap_or(0);
                child(offset * size, rows * size)
            }
            DataType::Dictionary(key, _) => rows * key.primitive_width().unwrap_or(0),
            DataType::FixedSizeBinary(size) => rows * usize::try_from(*size).unwrap_or(0),
            DataType::Struct(_) => data
                .child_data()
                .iter()
                .map(|child| body_bytes(&child.slice(offset, rows)))
                .sum(),
            other => match other.primitive_width() {
                Some(width) => rows * width,
                // Unions, which are rare: what the buffers hold.
                None => data.get_slice_memory_size().unwrap_or(0),
            },
        }
}

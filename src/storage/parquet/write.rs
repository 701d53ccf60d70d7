//! Rows into Parquet files.
//!
//! Bounds. A row group holds at most 65,536 rows (what a trainer shuffles and a reader decodes at once) and closes
//! early at 64 MiB of Arrow data; at most 2 are being encoded or written while a third gathers, so an upload holds
//! some 200 MiB at most, and a file ends at 512 MiB.
//!
//! Encoding is chosen for speed of upload: floats are written plain and uncompressed (noise does not compress, and
//! a dictionary of distinct numbers is thrown away after it was built), everything else is compressed with LZ4,
//! strings and decimals through a dictionary. Statistics are kept per column chunk.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array as _, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use bytes::Bytes;
use object_store::path::Path;
use object_store::{MultipartUpload, ObjectStore, ObjectStoreExt as _};
use parking_lot::Mutex;
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::ColumnPath;
use serde::{Deserialize, Serialize};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::super::physical::StoredSchema;
use super::super::{Objects, StorageError};

/// Rows of a full row group.
pub const ROW_GROUP_ROWS_MAX: usize = 65_536;
/// Arrow bytes after which a row group closes with fewer rows.
pub const ROW_GROUP_BYTES_MAX: usize = 64 << 20;
/// Row groups being encoded or written at once, per upload.
const ROW_GROUPS_IN_FLIGHT_MAX: usize = 2;
/// Encoded bytes after which a file is closed and the next one begun.
const FILE_BYTES_MAX: u64 = 512 << 20;
/// Row groups after which a file is closed and the next one begun: a footer stays some megabytes, and Parquet numbers
/// row groups with 15 bits.
const FILE_ROW_GROUPS_MAX: usize = 4_096;
/// Encoded bytes gathered for one part of an upload; object stores ask for at least 5 MiB.
const PART_BYTES_MIN: usize = 8 << 20;
/// Columns of a file that get minima and maxima in the log, as is Delta's custom.
const STATISTICS_COLUMNS_MAX: usize = 32;

/// A finished, flushed file that no table names yet.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WrittenFile {
    #[serde(with = "path_text")]
    pub path: Path,
    pub bytes: u64,
    pub row_groups: Vec<u64>,
    /// Delta's per-file statistics, as JSON.
    pub statistics: String,
}

/// A path in a record is its text.
mod path_text {
    use object_store::path::Path;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(path.as_ref())
    }

    pub(super) fn deserialize<'a, D: Deserializer<'a>>(reader: D) -> Result<Path, D::Error> {
        Path::parse(String::deserialize(reader)?).map_err(D::Error::custom)
    }
}

/// Rows on their way into Parquet files below one folder.
///
/// Dropped (or aborted) before `finish`, it deletes what it wrote, in the background.
#[derive(Debug)]
pub struct RowsWriter {
    schema: Arc<StoredSchema>,
    gathered: Vec<RecordBatch>,
    gathered_rows: usize,
    gathered_bytes: usize,
    precise: bool,
    room: Arc<Semaphore>,
    steps: Option<mpsc::Sender<Step>>,
    task: Option<JoinHandle<Result<Vec<WrittenFile>, StorageError>>>,
}

/// What the writing task is told, in row order.
enum Step {
    RowGroup(
        JoinHandle<Result<EncodedRowGroup, StorageError>>,
        OwnedSemaphorePermit,
    ),
    Finish,
}

struct EncodedRowGroup {
    precise: bool,
    rows: u64,
    chunks: Vec<ArrowColumnChunk>,
}

impl RowsWriter {
    /// Begins; files are named when the first rows need one. `tracker` counts the task, clean-up included.
    pub fn new(
        objects: &Objects,
        folder: &Path,
        schema: Arc<StoredSchema>,
        tracker: &tokio_util::task::TaskTracker,
    ) -> Self {
        Self::named(
            objects,
            folder,
            &format!("part-{}", Uuid::now_v7()),
            schema,
            tracker,
        )
    }

    /// Begins files whose names begin with `stem`, which no other writer may have.
    pub fn named(
        objects: &Objects,
        folder: &Path,
        stem: &str,
        schema: Arc<StoredSchema>,
        tracker: &tokio_util::task::TaskTracker,
    ) -> Self {
        let (steps, received) = mpsc::channel(ROW_GROUPS_IN_FLIGHT_MAX + 1);
        let files = Files {
            store: objects.store(),
            folder: folder.clone(),
            stem: stem.to_string(),
            schema: Arc::clone(&schema),
            open: None,
            written: Vec::new(),
        };
        Self {
            schema,
            gathered: Vec::new(),
            gathered_rows: 0,
            gathered_bytes: 0,
            precise: false,
            room: Arc::new(Semaphore::new(ROW_GROUPS_IN_FLIGHT_MAX)),
            steps: Some(steps),
            task: Some(tracker.spawn(files.run(received))),
        }
    }

    /// Takes rows whose columns stand in the exact schema's order; waits while two row groups are under way.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), StorageError> {
        let mut from = 0;
        // A slice's share of a large batch's bytes, estimated by rows.
        let row_bytes = bytes_of(batch) / batch.num_rows().max(1);
        while from < batch.num_rows() {
            let room = ROW_GROUP_ROWS_MAX - self.gathered_rows;
            let mut rows = room.min(batch.num_rows() - from);
            let bytes_left = ROW_GROUP_BYTES_MAX.saturating_sub(self.gathered_bytes);
            if let Some(fitting) = bytes_left.checked_div(row_bytes) {
                rows = rows.min(fitting.max(1));
            }
            let part = batch.slice(from, rows);
            if !self.precise && self.schema.needs_nanoseconds(&part) {
                // From here on files are in nanoseconds; what was gathered stays in microseconds.
                self.send_row_group().await?;
                self.precise = true;
            }
            self.gathered_rows += rows;
            self.gathered_bytes += rows * row_bytes;
            self.gathered.push(part);
            from += rows;
            if self.gathered_rows == ROW_GROUP_ROWS_MAX
                || self.gathered_bytes >= ROW_GROUP_BYTES_MAX
            {
                self.send_row_group().await?;
            }
        }
        Ok(())
    }

    /// Closes the row group under way, if it has rows: the next rows begin another.
    pub async fn end_row_group(&mut self) -> Result<(), StorageError> {
        self.send_row_group().await
    }

    /// Writes the rest, flushes, and names the files.
    pub async fn finish(mut self) -> Result<Vec<WrittenFile>, StorageError> {
        self.send_row_group().await?;
        if let Some(steps) = self.steps.take() {
            // A task that has ended says why below.
            let _ = steps.send(Step::Finish).await;
        }
        self.outcome().await
    }

    /// Deletes what was written.
    pub async fn abort(mut self) {
        self.steps = None;
        // The task ends with an error by design: it was not told to finish.
        let _ = self.outcome().await;
    }

    async fn outcome(&mut self) -> Result<Vec<WrittenFile>, StorageError> {
        match self.task.take() {
            Some(task) => task
                .await
                .map_err(|source| StorageError::failed("writing rows", source))?,
            None => Err(StorageError::failed(
                "writing rows",
                "the upload has failed",
            )),
        }
    }

    async fn send_row_group(&mut self) -> Result<(), StorageError> {
        if self.gathered_rows == 0 {
            return Ok(());
        }
        let batches = std::mem::take(&mut self.gathered);
        let rows = std::mem::take(&mut self.gathered_rows) as u64;
        self.gathered_bytes = 0;
        let permit = Arc::clone(&self.room)
            .acquire_owned()
            .await
            .map_err(|source| StorageError::failed("writing rows", source))?;
        let (schema, precise) = (Arc::clone(&self.schema), self.precise);
        let encoding = tokio::task::spawn_blocking(move || {
            Ok(EncodedRowGroup {
                precise,
                rows,
                chunks: encode(&schema, &batches, precise)?,
            })
        });
        let sent = match &self.steps {
            Some(steps) => steps.send(Step::RowGroup(encoding, permit)).await.is_ok(),
            None => false,
        };
        if sent {
            return Ok(());
        }
        // The task has ended early: its error is the answer.
        self.steps = None;
        self.outcome().await.map(|_| ())
    }
}

/// Bytes that the batch's own rows take; a slice is not charged with the whole of which it is a part.
fn bytes_of(batch: &RecordBatch) -> usize {
    let bytes =
        |column: &arrow::array::ArrayRef| column.to_data().get_slice_memory_size().unwrap_or(0);
    batch.columns().iter().map(bytes).sum()
}

/// Encodes the columns of one row group.
fn encode(
    schema: &StoredSchema,
    batches: &[RecordBatch],
    precise: bool,
) -> Result<Vec<ArrowColumnChunk>, StorageError> {
    let failed = |source: ParquetError| StorageError::failed("encoding rows", source);
    let in_file = schema.in_file(precise);
    // A writer over nothing: the factory wants one for the schema and the settings alone.
    let writer = file_writer(in_file, Vec::new())?;
    let factory = ArrowRowGroupWriterFactory::new(&writer, Arc::clone(in_file));
    let mut columns = factory.create_column_writers(0).map_err(failed)?;
    for batch in batches {
        let stored = schema.store(batch, precise)?;
        let mut next = columns.iter_mut();
        for (field, column) in in_file.fields().iter().zip(stored.columns()) {
            for leaf in compute_leaves(field, column).map_err(failed)? {
                if let Some(writer) = next.next() {
                    writer.write(&leaf).map_err(failed)?;
                }
            }
        }
    }
    columns
        .into_iter()
        .map(|column| column.close().map_err(failed))
        .collect()
}

fn file_writer<W: Write + Send>(
    schema: &SchemaRef,
    sink: W,
) -> Result<SerializedFileWriter<W>, StorageError> {
    let failed = |source: ParquetError| StorageError::failed("beginning a Parquet file", source);
    let parquet_schema = ArrowSchemaConverter::new()
        .convert(schema)
        .map_err(failed)?;
    let mut properties = WriterProperties::builder()
        .set_created_by(concat!("volary version ", env!("CARGO_PKG_VERSION")).to_string())
        .set_compression(Compression::LZ4_RAW)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_statistics_truncate_length(Some(64))
        .set_write_batch_size(8_192)
        .set_max_row_group_row_count(None);
    for column in parquet_schema.columns() {
        let path = ColumnPath::new(column.path().parts().to_vec());
        match column.physical_type() {
            parquet::basic::Type::FLOAT | parquet::basic::Type::DOUBLE => {
                properties = properties.set_column_compression(path, Compression::UNCOMPRESSED);
            }
            parquet::basic::Type::BYTE_ARRAY | parquet::basic::Type::FIXED_LEN_BYTE_ARRAY => {
                properties = properties.set_column_dictionary_enabled(path, true);
            }
            _ => {}
        }
    }
    SerializedFileWriter::new(
        sink,
        parquet_schema.root_schema_ptr(),
        Arc::new(properties.build()),
    )
    .map_err(failed)
}

/// Where the Parquet writer puts bytes until they are sent.
#[derive(Debug, Clone, Default)]
struct Outbox(Arc<Mutex<Vec<u8>>>);

impl Write for Outbox {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

struct OpenFile {
    path: Path,
    precise: bool,
    writer: SerializedFileWriter<Outbox>,
    outbox: Outbox,
    upload: Box<dyn MultipartUpload>,
    bytes: u64,
    row_groups: Vec<u64>,
}

/// The files of one upload: the state of the writing task.
struct Files {
    store: Arc<dyn ObjectStore>,
    folder: Path,
    stem: String,
    schema: Arc<StoredSchema>,
    open: Option<OpenFile>,
    written: Vec<WrittenFile>,
}

impl Files {
    async fn run(
        mut self,
        mut steps: mpsc::Receiver<Step>,
    ) -> Result<Vec<WrittenFile>, StorageError> {
        let outcome = self.follow(&mut steps).await;
        if outcome.is_err() {
            // No further steps are taken, and writers waiting to send one learn of it.
            drop(steps);
            if let Some(mut open) = self.open.take() {
                let _ = open.upload.abort().await;
            }
            for file in &self.written {
                // Best effort: a file that no table names is invisible.
                let _ = self.store.delete(&file.path).await;
            }
        }
        outcome?;
        Ok(self.written)
    }

    async fn follow(&mut self, steps: &mut mpsc::Receiver<Step>) -> Result<(), StorageError> {
        loop {
            match steps.recv().await {
                Some(Step::RowGroup(encoding, permit)) => {
                    let row_group = encoding
                        .await
                        .map_err(|source| StorageError::failed("encoding rows", source))??;
                    self.append(row_group).await?;
                    drop(permit);
                }
                Some(Step::Finish) => return self.close().await,
                None => {
                    return Err(StorageError::failed(
                        "writing rows",
                        "the upload was broken off",
                    ));
                }
            }
        }
    }

    async fn append(&mut self, row_group: EncodedRowGroup) -> Result<(), StorageError> {
        let full = |open: &OpenFile| {
            open.bytes >= FILE_BYTES_MAX
                || open.row_groups.len() >= FILE_ROW_GROUPS_MAX
                || open.precise != row_group.precise
        };
        if self.open.as_ref().is_some_and(full) {
            self.close().await?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.begin(row_group.precise).await?,
        };
        open.row_groups.push(row_group.rows);
        // Copying a row group's pages is too long for the threads that serve connections.
        let (open, appended) = tokio::task::spawn_blocking(move || {
            let appended = append_chunks(&mut open.writer, row_group.chunks);
            (open, appended)
        })
        .await
        .map_err(|source| StorageError::failed("writing rows", source))?;
        let open = self.open.insert(open);
        appended.map_err(|source| StorageError::failed("writing rows", source))?;
        if open.outbox.0.lock().len() >= PART_BYTES_MIN {
            send_part(open).await?;
        }
        Ok(())
    }

    async fn begin(&mut self, precise: bool) -> Result<OpenFile, StorageError> {
        let name = format!("{}-{:05}.parquet", self.stem, self.written.len());
        let path = self.folder.clone().join(name);
        let outbox = Outbox::default();
        let writer = file_writer(self.schema.in_file(precise), outbox.clone())?;
        let upload = self
            .store
            .put_multipart(&path)
            .await
            .map_err(|source| StorageError::failed("writing rows", source))?;
        Ok(OpenFile {
            path,
            precise,
            writer,
            outbox,
            upload,
            bytes: 0,
            row_groups: Vec::new(),
        })
    }

    async fn close(&mut self) -> Result<(), StorageError> {
        let Some(open) = &mut self.open else {
            return Ok(());
        };
        let metadata = open
            .writer
            .finish()
            .map_err(|source| StorageError::failed("writing rows", source))?;
        open.writer
            .flush()
            .map_err(|source| StorageError::failed("writing rows", source))?;
        send_part(open).await?;
        open.upload
            .complete()
            .await
            .map_err(|source| StorageError::failed("writing rows", source))?;
        if let Some(open) = self.open.take() {
            self.written.push(WrittenFile {
                statistics: delta_statistics(&metadata, self.schema.in_file(open.precise)),
                path: open.path,
                bytes: open.bytes,
                row_groups: open.row_groups,
            });
        }
        Ok(())
    }
}

fn append_chunks(
    writer: &mut SerializedFileWriter<Outbox>,
    chunks: Vec<ArrowColumnChunk>,
) -> Result<(), ParquetError> {
    let mut row_group = writer.next_row_group()?;
    for chunk in chunks {
        chunk.append_to_row_group(&mut row_group)?;
    }
    row_group.close()?;
    writer.flush()?;
    Ok(())
}

async fn send_part(open: &mut OpenFile) -> Result<(), StorageError> {
    let part = Bytes::from(std::mem::take(&mut *open.outbox.0.lock()));
    open.bytes += part.len() as u64;
    open.upload
        .put_part(part.into())
        .await
        .map_err(|source| StorageError::failed("writing rows", source))
}

/// Delta's statistics of a file: rows, and for the first columns nulls, minimum and maximum.
///
/// Minima and maxima are given for integers, dates and short strings. Floats have none: Parquet's leave NaN out,
/// which Delta counts as the largest number, so a reader might pass over rows that it should see.
fn delta_statistics(metadata: &ParquetMetaData, schema: &SchemaRef) -> String {
    let mut nulls = serde_json::Map::new();
    let mut minima = serde_json::Map::new();
    let mut maxima = serde_json::Map::new();
    let descriptor = metadata.file_metadata().schema_descr();
    let mut counted = 0;
    for leaf in 0..descriptor.num_columns() {
        let field = schema.field(descriptor.get_column_root_idx(leaf));
        if field.data_type().is_nested() {
            continue;
        }
        counted += 1;
        if counted > STATISTICS_COLUMNS_MAX {
            break;
        }
        let chunks: Vec<Option<&Statistics>> = metadata
            .row_groups()
            .iter()
            .map(|row_group| row_group.column(leaf).statistics())
            .collect();
        let count = chunks
            .iter()
            .map(|chunk| chunk.and_then(Statistics::null_count_opt))
            .sum::<Option<u64>>();
        if let Some(count) = count {
            nulls.insert(field.name().clone(), count.into());
        }
        if let Some((low, high)) = range_of(&chunks, field.data_type()) {
            minima.insert(field.name().clone(), low);
            maxima.insert(field.name().clone(), high);
        }
    }
    serde_json::json!({
        "numRecords": metadata.file_metadata().num_rows(),
        "minValues": minima,
        "maxValues": maxima,
        "nullCount": nulls,
    })
    .to_string()
}

/// Smallest and largest value over all row groups that have any; `None` where one does not tell exactly.
fn range_of(
    chunks: &[Option<&Statistics>],
    data_type: &DataType,
) -> Option<(serde_json::Value, serde_json::Value)> {
    let mut integers: Option<(i64, i64)> = None;
    let mut texts: Option<(String, String)> = None;
    for chunk in chunks {
        match (*chunk)? {
            Statistics::Int32(values) => {
                if let (Some(low), Some(high)) = (values.min_opt(), values.max_opt()) {
                    let (low, high) = (i64::from(*low), i64::from(*high));
                    integers =
                        Some(integers.map_or((low, high), |(l, h)| (l.min(low), h.max(high))));
                }
            }
            Statistics::Int64(values) => {
                if let (Some(low), Some(high)) = (values.min_opt(), values.max_opt()) {
                    integers =
                        Some(integers.map_or((*low, *high), |(l, h)| (l.min(*low), h.max(*high))));
                }
            }
            Statistics::ByteArray(values) => {
                if let (Some(low), Some(high)) = (values.min_opt(), values.max_opt()) {
                    if !values.min_is_exact() || !values.max_is_exact() {
                        return None;
                    }
                    let low = low.as_utf8().ok()?.to_string();
                    let high = high.as_utf8().ok()?.to_string();
                    texts = Some(match texts {
                        None => (low, high),
                        Some((l, h)) => (l.min(low), h.max(high)),
                    });
                }
            }
            _ => return None,
        }
    }
    match data_type {
        DataType::Int8 | DataType::Int16 | DataType::Int32 | DataType::Int64 => {
            integers.map(|(low, high)| (low.into(), high.into()))
        }
        DataType::Date32 => {
            let (low, high) = integers?;
            Some((date_text(low)?, date_text(high)?))
        }
        DataType::Utf8 => texts.map(|(low, high)| (low.into(), high.into())),
        _ => None,
    }
}

/// A day since 1970 as `2026-11-22`; `None` beyond four-digit years, where readers disagree.
fn date_text(day: i64) -> Option<serde_json::Value> {
    let day = arrow::array::Date32Array::from(vec![i32::try_from(day).ok()?]).value_as_date(0)?;
    let text = day.to_string();
    (text.len() == 10).then(|| text.into())
}

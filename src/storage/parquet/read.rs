//! Parquet files into rows.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{RecordBatch, new_null_array};
use arrow::datatypes::{DataType, FieldRef, Schema, SchemaRef};
use bytes::Bytes;
use object_store::ObjectStoreExt as _;
use object_store::path::Path;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder,
};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_schema};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use parquet::file::reader::{ChunkReader, Length};

use super::super::physical::restore;
use super::super::{Objects, StorageError};

/// Reads a file's footer.
pub async fn read_footer(
    objects: &Objects,
    path: &Path,
    bytes: u64,
) -> Result<Arc<ParquetMetaData>, StorageError> {
    /// Read with the first request; footers of our files are mostly smaller.
    const GUESS_BYTES: u64 = 64 << 10;
    let store = objects.store();
    let corrupt = |reason: String| StorageError::Corrupt {
        what: path.to_string(),
        reason,
    };
    let mut want = GUESS_BYTES.min(bytes);
    loop {
        let tail = store
            .get_range(path, bytes - want..bytes)
            .await
            .map_err(|source| StorageError::failed(format!("reading {path}"), source))?;
        let mut reader = ParquetMetaDataReader::new();
        match reader.try_parse_sized(&tail, bytes) {
            Ok(()) => {
                let metadata = reader
                    .finish()
                    .map_err(|error| corrupt(error.to_string()))?;
                return Ok(Arc::new(metadata));
            }
            Err(ParquetError::NeedMoreData(needed)) if want < bytes => {
                want = (needed as u64).clamp(want + 1, bytes);
            }
            Err(error) => return Err(corrupt(error.to_string())),
        }
    }
}

/// Rows of each row group.
pub fn row_groups_of(metadata: &ParquetMetaData) -> Vec<u64> {
    metadata
        .row_groups()
        .iter()
        .map(|row_group| u64::try_from(row_group.num_rows()).unwrap_or(0))
        .collect()
}

/// Fetches the column chunks of one row group, to be decoded as rows of `exact`, which may be a part of the table's schema
/// in any order. A column that the file lacks is null, as Delta has it.
pub async fn fetch_row_group(
    objects: &Objects,
    path: &Path,
    metadata: Arc<ParquetMetaData>,
    row_group: usize,
    exact: &SchemaRef,
) -> Result<FetchedRowGroup, StorageError> {
    let descriptor = metadata.file_metadata().schema_descr_ptr();
    let roots: HashMap<&str, usize> = descriptor
        .root_schema()
        .get_fields()
        .iter()
        .enumerate()
        .map(|(place, field)| (field.name(), place))
        .collect();
    let wanted: Vec<Option<usize>> = exact
        .fields()
        .iter()
        .map(|field| roots.get(field.name().as_str()).copied())
        .collect();
    let mut sorted: Vec<usize> = wanted.iter().flatten().copied().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let places = wanted
        .iter()
        .map(|root| root.and_then(|root| sorted.binary_search(&root).ok()))
        .collect();

    let group = metadata
        .row_groups()
        .get(row_group)
        .ok_or_else(|| StorageError::Corrupt {
            what: path.to_string(),
            reason: format!("there is no row group {row_group}"),
        })?;
    let mask = ProjectionMask::roots(&descriptor, sorted);
    let ranges: Vec<Range<u64>> = (0..group.num_columns())
        .filter(|leaf| mask.leaf_included(*leaf))
        .map(|leaf| {
            let (start, length) = group.column(leaf).byte_range();
            start..start + length
        })
        .collect();
    let fetched = objects
        .store()
        .get_ranges(path, &ranges)
        .await
        .map_err(|source| StorageError::failed(format!("reading {path}"), source))?;
    let starts = ranges.into_iter().map(|range| range.start);
    Ok(FetchedRowGroup {
        pieces: Pieces(starts.zip(fetched).collect()),
        what: path.to_string(),
        exact: Arc::clone(exact),
        places,
        mask,
        row_group,
        metadata,
    })
}

/// The bytes of one row group, before they are decoded.
#[derive(Debug)]
pub struct FetchedRowGroup {
    what: String,
    metadata: Arc<ParquetMetaData>,
    row_group: usize,
    exact: SchemaRef,
    /// Where in the decoded columns each column of `exact` stands.
    places: Vec<Option<usize>>,
    mask: ProjectionMask,
    pieces: Pieces,
}

impl FetchedRowGroup {
    /// Rows of a batch, in whole groups of 64, at least 64: so many that none has more than about so many bytes and all are
    /// of about one length. By the sizes of the columns fetched, as the footer tells them before compression.
    pub fn rows_of(&self, bytes: usize) -> usize {
        let group = self.metadata.row_group(self.row_group);
        let whole: i64 = (0..group.num_columns())
            .filter(|leaf| self.mask.leaf_included(*leaf))
            .map(|leaf| group.column(leaf).uncompressed_size())
            .sum();
        let rows = usize::try_from(group.num_rows()).unwrap_or(0);
        let whole = usize::try_from(whole).unwrap_or(0).max(1);
        even_batches(rows, whole, bytes)
    }

    /// Decodes the rows, so many at a time. Each step is work for a blocking thread; mostly one batch comes of it: see
    /// `physical::restore`.
    pub fn decode(
        self,
        batch_rows: usize,
    ) -> Result<
        impl Iterator<Item = Result<Vec<RecordBatch>, StorageError>> + Send + 'static,
        StorageError,
    > {
        let Self {
            what,
            metadata,
            row_group,
            exact,
            places,
            mask,
            pieces,
        } = self;
        let corrupt = |what: &str, reason: String| StorageError::Corrupt {
            what: what.to_owned(),
            reason,
        };
        let batches = reader_options(&metadata, &exact)
            .and_then(|options| ArrowReaderMetadata::try_new(metadata, options))
            .and_then(|metadata| {
                ParquetRecordBatchReaderBuilder::new_with_metadata(pieces, metadata)
                    .with_row_groups(vec![row_group])
                    .with_projection(mask)
                    .with_batch_size(batch_rows.max(1))
                    .build()
            })
            .map_err(|error| corrupt(&what, error.to_string()))?;
        Ok(batches.map(move |batch| {
            let batch =
                batch.map_err(|error| corrupt(&what, ParquetError::from(error).to_string()))?;
            let columns = exact
                .fields()
                .iter()
                .zip(&places)
                .map(|(field, place)| match place {
                    Some(place) => Arc::clone(batch.column(*place)),
                    None => new_null_array(field.data_type(), batch.num_rows()),
                })
                .collect::<Vec<_>>();
            restore(&columns, batch.num_rows(), &exact, &what)
        }))
    }
}

/// The types come from Parquet alone: what another writer left about Arrow is not ours to follow. But where a dictionary
/// of texts is wanted, the file's own dictionary is taken over, instead of every text looked up anew.
fn reader_options(
    metadata: &ParquetMetaData,
    exact: &SchemaRef,
) -> Result<ArrowReaderOptions, ParquetError> {
    let options = ArrowReaderOptions::new();
    let of_texts = |field: &FieldRef| match field.data_type() {
        DataType::Dictionary(_, value) => value.is_string() || value.is_binary(),
        _ => false,
    };
    let wanted: HashSet<&str> = exact
        .fields()
        .iter()
        .filter(|field| of_texts(field))
        .map(|field| field.name().as_str())
        .collect();
    if wanted.is_empty() {
        return Ok(options.with_skip_arrow_metadata(true));
    }
    let stored = parquet_to_arrow_schema(metadata.file_metadata().schema_descr(), None)?;
    let fields = stored.fields().iter().map(|field| match field.data_type() {
        DataType::Utf8 | DataType::Binary if wanted.contains(field.name().as_str()) => {
            let value = Box::new(field.data_type().clone());
            let dictionary = DataType::Dictionary(Box::new(DataType::Int32), value);
            Arc::new(field.as_ref().clone().with_data_type(dictionary))
        }
        _ => Arc::clone(field),
    });
    Ok(options.with_schema(Arc::new(Schema::new(fields.collect::<Vec<_>>()))))
}

/// The fetched parts of a file, by their first byte.
#[derive(Debug)]
struct Pieces(Vec<(u64, Bytes)>);

impl Length for Pieces {
    fn len(&self) -> u64 {
        let end = |(start, bytes): &(u64, Bytes)| start + bytes.len() as u64;
        self.0.iter().map(end).max().unwrap_or(0)
    }
}

impl ChunkReader for Pieces {
    type T = bytes::buf::Reader<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        use bytes::Buf as _;
        self.from(start).map(Bytes::reader)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let rest = self.from(start)?;
        if rest.len() < length {
            return Err(ParquetError::EOF(format!(
                "{length} bytes at {start} were not fetched"
            )));
        }
        Ok(rest.slice(..length))
    }
}

impl Pieces {
    fn from(&self, start: u64) -> Result<Bytes, ParquetError> {
        self.0
            .iter()
            .find_map(|(first, bytes)| {
                let offset = usize::try_from(start.checked_sub(*first)?).ok()?;
                (offset < bytes.len()).then(|| bytes.slice(offset..))
            })
            .ok_or_else(|| ParquetError::EOF(format!("byte {start} was not fetched")))
    }
}

/// How many of so many rows make a batch: see [`FetchedRowGroup::rows_of`].
fn even_batches(rows: usize, bytes_of_all: usize, bytes_max: usize) -> usize {
    const GROUP: usize = 64;
    let fitting =
        (rows as u128 * bytes_max as u128 / bytes_of_all as u128) as usize / GROUP * GROUP;
    let fitting = fitting.max(GROUP);
    let batches = rows.div_ceil(fitting).max(1);
    rows.div_ceil(batches)
        .next_multiple_of(GROUP)
        .clamp(GROUP, fitting)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_are_of_about_one_length_and_none_is_larger_than_it_may_be() {
        assert_eq!(even_batches(65_536, 3 << 20, 2 << 20), 32_768);
        assert_eq!(even_batches(65_536, 8 << 20, 2 << 20), 16_384);
        assert_eq!(even_batches(1_000, 1 << 10, 2 << 20), 1_024);
        // A row larger than a batch may be: the smallest batch there is.
        assert_eq!(even_batches(1_000, 4 << 30, 2 << 20), 64);
        assert_eq!(even_batches(0, 1, 2 << 20), 64);
        for rows in (1..3_000).step_by(7) {
            let batch = even_batches(rows, rows * 10_000, 2 << 20);
            assert!(batch * 10_000 <= 2 << 20, "{rows} rows: {batch}");
        }
    }
}

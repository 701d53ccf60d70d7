//! The rows of a dataset, from its files.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use futures::future::{Either, ready};
use futures::stream::BoxStream;
use futures::{Stream, StreamExt as _};
use tokio::sync::mpsc;
use tokio::task::JoinError;
use tokio_util::task::AbortOnDropHandle;

use super::kept::{Gathering, RowGroupKey, Rows};
use super::{DataFile, Dataset};
use crate::catalog::CatalogError;
use crate::storage::StorageError;
use crate::storage::parquet::{FetchedRowGroup, fetch_row_group};

/// Row groups whose bytes a scan holds: the one being decoded, and the next.
const ROW_GROUPS_FETCHED: usize = 2;
/// Decoded batches that wait for whoever reads a scan.
const BATCHES_AHEAD: usize = 2;
/// What a scan decodes at a time: with its header one message to a client, and small enough to be in the processor's
/// cache still when it is sent.
const SCAN_BATCH_BYTES: usize = (2 << 20) - (64 << 10);

impl Dataset {
    /// Reads one row group (all columns, or the named ones in the order given) as record batches of the dataset's schema.
    pub async fn read_row_group(
        &self,
        file: usize,
        row_group: usize,
        columns: Option<&[String]>,
    ) -> Result<Vec<RecordBatch>, CatalogError> {
        let schema = self.project(columns)?;
        let fetched = self.fetch(self.file(file)?, row_group, &schema).await?;
        let decode = move || -> Result<Vec<RecordBatch>, StorageError> {
            let mut rows = Vec::new();
            for batches in fetched.decode(usize::MAX)? {
                rows.extend(batches?);
            }
            Ok(rows)
        };
        let decoded = tokio::task::spawn_blocking(decode).await;
        Ok(decoded.map_err(reading_lost)??)
    }

    /// Streams every row in file and row-group order, in batches of about [`SCAN_BATCH_BYTES`] as they are encoded: columns
    /// of few different values are larger once decoded, and never more than their row group.
    ///
    /// Memory is bounded by the fetched bytes of [`ROW_GROUPS_FETCHED`] row groups and [`BATCHES_AHEAD`] decoded batches.
    /// Dropping the stream stops the reading.
    pub fn scan(
        &self,
        columns: Option<&[String]>,
    ) -> BoxStream<'static, Result<RecordBatch, CatalogError>> {
        match self.project(columns) {
            Ok(schema) => self.scan_row_groups(schema, 0..usize::MAX, Keeping::Nothing),
            Err(error) => futures::stream::once(async { Err(error) }).boxed(),
        }
    }

    /// Streams the rows of some row groups, counted over all files in order, for one of many readers: rows that are read
    /// again and again are kept decoded, as far as the store's memory for that goes; as [`Dataset::scan`] else.
    ///
    /// They come as `schema` has them: columns of the dataset in any order, each in its own type or another of the same
    /// values (`Utf8` where the dataset has a dictionary or a view of texts). A reader that wants plain values gets them
    /// without a detour over the dataset's own encoding.
    pub fn serve(
        &self,
        schema: SchemaRef,
        row_groups: Range<usize>,
    ) -> BoxStream<'static, Result<RecordBatch, CatalogError>> {
        self.scan_row_groups(schema, row_groups, Keeping::WhatIsReadAgain)
    }

    fn scan_row_groups(
        &self,
        schema: SchemaRef,
        row_groups: Range<usize>,
        keeping: Keeping,
    ) -> BoxStream<'static, Result<RecordBatch, CatalogError>> {
        let dataset = Arc::new(self.clone());
        let places: Vec<(usize, usize)> = self
            .files
            .iter()
            .enumerate()
            .flat_map(|(file, data)| (0..data.row_groups.len()).map(move |group| (file, group)))
            .skip(row_groups.start)
            .take(row_groups.len())
            .collect();
        let read = futures::stream::iter(places)
            .map(move |(file, row_group)| {
                let file = &dataset.files[file];
                let key = (keeping == Keeping::WhatIsReadAgain).then(|| RowGroupKey {
                    file: file.path.clone(),
                    row_group,
                    columns: schema.fields().clone(),
                });
                if let Some(rows) = key.as_ref().and_then(|key| dataset.kept.rows(key)) {
                    return Either::Left(ready(Ok(Ok(RowGroup::Kept(rows)))));
                }
                let gathering = key.and_then(|key| dataset.kept.gather(key));
                let (dataset, schema, file) =
                    (Arc::clone(&dataset), Arc::clone(&schema), file.clone());
                // A task of its own, so that it reads while the row group before it is being decoded.
                Either::Right(AbortOnDropHandle::new(tokio::spawn(async move {
                    let fetched = dataset.fetch(&file, row_group, &schema).await?;
                    Ok(RowGroup::Fetched(Box::new(fetched), gathering))
                })))
            })
            .buffered(ROW_GROUPS_FETCHED);
        let (sender, mut batches) = mpsc::channel(BATCHES_AHEAD);
        let reader = AbortOnDropHandle::new(tokio::spawn(decode_in_order(read, sender)));
        async_stream::stream! {
            while let Some(decoded) = batches.recv().await {
                match decoded {
                    Ok(Decoded::Batch(batch)) => yield Ok(batch),
                    Ok(Decoded::RowGroup(rows)) => {
                        for batch in rows.iter() {
                            yield Ok(batch.clone());
                        }
                    }
                    Err(error) => yield Err(error),
                }
            }
            // A panic while reading must not look like the end of the rows.
            if let Err(lost) = reader.await {
                yield Err(reading_lost(lost));
            }
        }
        .boxed()
    }

    fn file(&self, file: usize) -> Result<&DataFile, CatalogError> {
        self.files.get(file).ok_or_else(|| CatalogError::Corrupt {
            what: format!("version {} of dataset {:?}", self.version, self.name),
            reason: format!("there is no file {file}"),
        })
    }

    async fn fetch(
        &self,
        file: &DataFile,
        row_group: usize,
        schema: &SchemaRef,
    ) -> Result<FetchedRowGroup, CatalogError> {
        let footer = self.kept.footer(&self.objects, file).await?;
        Ok(fetch_row_group(&self.objects, &file.path, footer, row_group, schema).await?)
    }
}

/// Whether a scan leaves rows behind for the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keeping {
    Nothing,
    WhatIsReadAgain,
}

/// A row group on its way to be decoded.
enum RowGroup {
    Kept(Rows),
    /// Its rows may be on their way to be kept.
    Fetched(Box<FetchedRowGroup>, Option<Gathering>),
}

/// What a scan's reader has next.
enum Decoded {
    Batch(RecordBatch),
    RowGroup(Rows),
}

/// Decodes row groups one after the other, a batch at a time: a reader that is slow holds no thread.
async fn decode_in_order(
    row_groups: impl Stream<Item = Result<Result<RowGroup, CatalogError>, JoinError>> + Send,
    sender: mpsc::Sender<Result<Decoded, CatalogError>>,
) {
    let decode = async {
        let mut row_groups = std::pin::pin!(row_groups);
        while let Some(row_group) = row_groups.next().await {
            let (fetched, mut gathering) = match row_group.map_err(reading_lost)?? {
                RowGroup::Fetched(fetched, gathering) => (fetched, gathering),
                RowGroup::Kept(rows) => {
                    if sender.send(Ok(Decoded::RowGroup(rows))).await.is_err() {
                        return Ok(());
                    }
                    continue;
                }
            };
            let rows = fetched.rows_of(SCAN_BATCH_BYTES);
            let mut batches = fetched.decode(rows)?;
            loop {
                let step = tokio::task::spawn_blocking(move || {
                    let next = batches.next();
                    (batches, next)
                });
                let (rest, next) = step.await.map_err(reading_lost)?;
                batches = rest;
                let Some(decoded) = next else { break };
                for batch in decoded? {
                    gathering = gathering.and_then(|gathering| gathering.add(&batch));
                    if sender.send(Ok(Decoded::Batch(batch))).await.is_err() {
                        return Ok(());
                    }
                }
            }
            if let Some(gathering) = gathering {
                let keep = tokio::task::spawn_blocking(|| gathering.keep());
                keep.await.map_err(reading_lost)?;
            }
        }
        Ok::<(), CatalogError>(())
    };
    if let Err(error) = decode.await {
        // Nobody hears it when the stream is gone.
        let _ = sender.send(Err(error)).await;
    }
}

fn reading_lost(lost: JoinError) -> CatalogError {
    CatalogError::Store {
        doing: "reading rows".into(),
        source: Box::new(lost),
    }
}

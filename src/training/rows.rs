//! Where a job's rows are: a table pinned to its version, or a copy staged under the job.
//!
//! Rows are staged for three reasons: a query or path is read once, in its fixed order; a validation split must be the
//! same for the SQL that fits the pipeline and for the data plan; and rows read in windows come from row groups small
//! enough for the job's share of memory. Nothing here depends on how many servers there are.

use std::collections::VecDeque;

use arrow::array::{Array, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use futures::{FutureExt, TryStreamExt};

use super::TrainingError;
use super::decode::DatasetRows;
use super::job::{RowsPlace, TrainRequest, Validation};
use super::label::LabelReaders;
use super::memory::WINDOW_ROWS_MIN;
use super::prepare::{bad_option, internal, no_rows};
use crate::catalog::{Catalog, Dataset, DatasetWriter, JobId};
use crate::features::{QueryEngine, Source};
use crate::frames::data_plan::SplitPart;
use crate::storage::parquet::{ROW_GROUP_BYTES_MAX, ROW_GROUP_ROWS_MAX};

/// Rows that have their place.
#[derive(Debug)]
pub(crate) struct PlacedRows {
    pub(crate) place: RowsPlace,
    pub(crate) dataset: Dataset,
    /// Which of the source's rows they are; `None`: all of them.
    pub(crate) split: Option<SplitPart>,
}

/// What a job stages. Each has a place of its own beside the job: its id with the last bits turned.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Staged {
    Train,
    Validation,
    TrainWindows,
    ValidationWindows,
}

impl Staged {
    fn place(self, job: JobId) -> JobId {
        JobId::from_u128(job.as_u128() ^ self as u128)
    }
}

/// Removes the rows that a job staged.
pub(crate) async fn clean_up(job: JobId, catalog: &Catalog) {
    for staged in [
        Staged::Train,
        Staged::Validation,
        Staged::TrainWindows,
        Staged::ValidationWindows,
    ] {
        remove(staged.place(job), catalog).await;
    }
}

async fn remove(place: JobId, catalog: &Catalog) {
    if let Err(error) = catalog.datasets.remove_staged(place).await {
        tracing::warn!(job = %place, %error, "staged rows were not removed");
    }
}

/// Finds a place for the rows to train on and those to validate on, and shows all rows of the source to `label`.
pub(crate) async fn place_rows(
    request: &TrainRequest,
    job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
    label: &mut LabelReaders<'_>,
) -> Result<(PlacedRows, Option<PlacedRows>), TrainingError> {
    let train_job = Staged::Train.place(job);
    let validation_job = Staged::Validation.place(job);
    let source = &request.source;
    let (train, validation) = match &request.validation {
        Validation::None => {
            let train = place(source, train_job, catalog, queries, Some(label)).await?;
            (train, None)
        }
        Validation::Source(other) => {
            let train = place(source, train_job, catalog, queries, Some(label)).await?;
            // It must not bring new classes.
            let validation = place(other, validation_job, catalog, queries, None).await?;
            if validation.dataset.rows == 0 {
                return Err(no_rows(other));
            }
            (train, Some(validation))
        }
        Validation::Split(share) => {
            let jobs = (train_job, validation_job);
            let (train, validation) =
                stage_split(request, *share, jobs, catalog, queries, label).await?;
            (train, Some(validation))
        }
    };
    if train.dataset.rows == 0 {
        return Err(no_rows(source));
    }
    Ok((train, validation))
}

/// A table is pinned to its version; a query or path is written down once, in its fixed order.
async fn place(
    source: &Source,
    job: JobId,
    catalog: &Catalog,
    queries: &QueryEngine,
    mut label: Option<&mut LabelReaders<'_>>,
) -> Result<PlacedRows, TrainingError> {
    if let Source::Table(reference) = source {
        let dataset = catalog.datasets.open(reference).boxed().await?;
        if let Some(label) = label {
            let mut rows = dataset.scan(Some(&label.columns()));
            while let Some(batch) = rows.try_next().await? {
                label.add(&batch, None)?;
            }
        }
        return Ok(PlacedRows {
            place: RowsPlace::Table {
                name: dataset.name.clone(),
                version: dataset.version,
            },
            dataset,
            split: None,
        });
    }
    let query = queries.open(source).await?;
    let mut writer = catalog.datasets.stage(job, query.schema()).await?;
    let mut rows = query.execute().await?;
    while let Some(batch) = rows.try_next().await? {
        if let Some(label) = &mut label {
            label.add(&batch, None)?;
        }
        writer.write(batch).await?;
    }
    Ok(PlacedRows {
        place: RowsPlace::Staged { job },
        dataset: writer.commit().await?,
        split: None,
    })
}

/// Writes the rows down in two parts, by the rule of seed and row number, so that the pipeline is fitted and the
/// data planned on exactly the training rows.
async fn stage_split(
    request: &TrainRequest,
    share: f64,
    (train_job, validation_job): (JobId, JobId),
    catalog: &Catalog,
    queries: &QueryEngine,
    label: &mut LabelReaders<'_>,
) -> Result<(PlacedRows, PlacedRows), TrainingError> {
    let query = queries.open(&request.source).await?;
    let stage = async |job| catalog.datasets.stage(job, query.schema()).await;
    let (mut train, mut validation) = (stage(train_job).await?, stage(validation_job).await?);
    let part = |held_out| SplitPart {
        seed: request.seed,
        share,
        held_out,
    };
    let (to_train, to_validate) = (part(false), part(true));
    let mut rows = query.execute().await?;
    let mut row = 0u64;
    let (mut kept, mut held) = (0u64, 0u64);
    while let Some(batch) = rows.try_next().await? {
        let is_held: BooleanArray = (row..row + batch.num_rows() as u64)
            .map(|row| Some(to_validate.takes(row)))
            .collect();
        row += batch.num_rows() as u64;
        let is_kept = arrow::compute::not(&is_held).map_err(internal)?;
        label.add(&batch, Some(&is_kept))?;
        kept += write_where(&mut train, &batch, &is_kept).await?;
        held += write_where(&mut validation, &batch, &is_held).await?;
    }
    if row == 0 {
        return Err(no_rows(&request.source));
    }
    if kept == 0 || held == 0 {
        let received =
            format!("{share}, which leaves {kept} rows to train on and {held} to validate on");
        let hint = "choose another share, or give more rows";
        return Err(bad_option("validation_split", received, hint));
    }
    let placed = |dataset, job, split| PlacedRows {
        place: RowsPlace::Staged { job },
        dataset,
        split: Some(split),
    };
    Ok((
        placed(train.commit().await?, train_job, to_train),
        placed(validation.commit().await?, validation_job, to_validate),
    ))
}

async fn write_where(
    writer: &mut DatasetWriter,
    batch: &RecordBatch,
    chosen: &BooleanArray,
) -> Result<u64, TrainingError> {
    let rows = filter_record_batch(batch, chosen).map_err(internal)?;
    let count = rows.num_rows() as u64;
    if count > 0 {
        writer.write(rows).await?;
    }
    Ok(count)
}

/// Writes the columns that a job reads into row groups of at most `row_group_bytes`, in the same order, and decodes
/// every row on the way: a bad one fails the job now, the first one first, and not in the midst of an epoch.
///
/// A copy staged before is removed. The new row groups follow from the rows and their order alone.
pub(crate) async fn stage_windows(
    rows: &DatasetRows,
    former: &RowsPlace,
    job: JobId,
    staged: Staged,
    row_group_bytes: u64,
    catalog: &Catalog,
) -> Result<RowsPlace, TrainingError> {
    let place = staged.place(job);
    let mut writer = catalog.datasets.stage(place, rows.schema()?).await?;
    let bytes = usize::try_from(row_group_bytes).unwrap_or(usize::MAX);
    let mut waiting = Waiting::new(bytes.min(ROW_GROUP_BYTES_MAX / 2));
    let mut batches = rows.scan();
    let mut first = 0;
    loop {
        let batch = batches.try_next().await?;
        let ended = batch.is_none();
        waiting.extend(batch);
        while let Some(row_group) = waiting.row_group(ended) {
            let count: usize = row_group.iter().map(RecordBatch::num_rows).sum();
            rows.check(row_group.clone(), first).await?;
            for batch in row_group {
                writer.write(batch).await?;
            }
            writer.end_row_group().await?;
            first += count as u64;
        }
        if ended {
            break;
        }
    }
    writer.commit().await?;
    if let RowsPlace::Staged { job } = former {
        remove(*job, catalog).await;
    }
    Ok(RowsPlace::Staged { job: place })
}

/// Rows on their way into row groups: 65,536 rows, or half as many, and again half, until the bytes suffice. Halves,
/// so that batches cut in another way end in the same row groups.
#[derive(Debug)]
struct Waiting {
    bytes_max: usize,
    batches: VecDeque<RecordBatch>,
    rows: usize,
}

impl Waiting {
    fn new(bytes_max: usize) -> Self {
        Self {
            bytes_max,
            batches: VecDeque::new(),
            rows: 0,
        }
    }

    fn extend(&mut self, batch: Option<RecordBatch>) {
        if let Some(batch) = batch.filter(|batch| batch.num_rows() > 0) {
            self.rows += batch.num_rows();
            self.batches.push_back(batch);
        }
    }

    /// The next row group; none while rows are missing from a full one, unless the rows have `ended`.
    fn row_group(&mut self, ended: bool) -> Option<Vec<RecordBatch>> {
        if self.rows == 0 || (self.rows < ROW_GROUP_ROWS_MAX && !ended) {
            return None;
        }
        let mut rows = ROW_GROUP_ROWS_MAX;
        while rows as u64 > WINDOW_ROWS_MIN && self.bytes_of(rows) > self.bytes_max {
            rows /= 2;
        }
        let mut row_group = Vec::new();
        let mut left = rows;
        while left > 0
            && let Some(batch) = self.batches.pop_front()
        {
            let taken = left.min(batch.num_rows());
            row_group.push(batch.slice(0, taken));
            if taken < batch.num_rows() {
                let rest = batch.slice(taken, batch.num_rows() - taken);
                self.batches.push_front(rest);
            }
            left -= taken;
            self.rows -= taken;
        }
        Some(row_group)
    }

    /// Bytes of the first rows, each with its number in a shuffled order.
    fn bytes_of(&self, rows: usize) -> usize {
        let mut left = rows;
        let mut bytes = 0;
        for batch in &self.batches {
            let part = batch.slice(0, left.min(batch.num_rows()));
            left -= part.num_rows();
            bytes += 4 * part.num_rows();
            let columns = part.columns().iter();
            let columns =
                columns.map(|column| column.to_data().get_slice_memory_size().unwrap_or(0));
            bytes += columns.sum::<usize>();
            if left == 0 {
                break;
            }
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, StringArray};

    use super::*;

    /// Rows of each row group, when the source comes in batches of `batch_rows`.
    fn row_groups(rows: usize, batch_rows: usize, bytes_max: usize) -> Vec<usize> {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..rows as i64));
        // Long values toward the end.
        let texts = (0..rows).map(|row| "x".repeat(row / 10_000));
        let texts: ArrayRef = Arc::new(StringArray::from_iter_values(texts));
        let all = RecordBatch::try_from_iter([("number", numbers), ("text", texts)]).unwrap();
        let mut waiting = Waiting::new(bytes_max);
        let mut sizes = Vec::new();
        let mut next = 0;
        let mut take = |waiting: &mut Waiting, ended| {
            while let Some(row_group) = waiting.row_group(ended) {
                let before = next;
                for batch in &row_group {
                    let numbers = batch.column(0).as_any().downcast_ref::<Int64Array>();
                    for &number in numbers.unwrap().values() {
                        assert_eq!(number, next);
                        next += 1;
                    }
                }
                sizes.push((next - before) as usize);
            }
        };
        for start in (0..rows).step_by(batch_rows) {
            waiting.extend(Some(all.slice(start, batch_rows.min(rows - start))));
            take(&mut waiting, false);
        }
        take(&mut waiting, true);
        assert_eq!(next, rows as i64);
        sizes
    }

    #[test]
    fn row_groups_keep_to_their_bytes_whatever_the_batches() {
        let sizes = row_groups(200_000, 65_536, 1 << 19);
        let (last, halves) = sizes.split_last().unwrap();
        assert_eq!(
            (halves[0], halves[halves.len() - 1], *last),
            (16_384, 8_192, 11_584)
        );
        assert!(
            halves.is_sorted_by(|before, after| before >= after),
            "{sizes:?}"
        );
        assert_eq!(row_groups(200_000, 10_007, 1 << 19), sizes);
        assert_eq!(row_groups(200_000, 200_000, 1 << 19), sizes);
    }

    #[test]
    fn a_row_group_has_no_fewer_rows_than_a_window() {
        assert_eq!(row_groups(150, 100, 1), [64, 64, 22]);
    }
}

//! Work on the batches of a stream by several threads at once, answers in the order of the rows.
//!
//! Three stages run side by side: a task that reads the source, CPU threads that work, and whoever takes the answers.
//! What lies between them is bounded, so that a slow taker stops the reader.

use std::sync::Arc;

use arrow::array::RecordBatch;
use futures::stream::{BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::ServingError;
use crate::features::FeatureError;

/// Rows of one piece of work at most: small enough for steady progress and a prompt cancel.
const PIECE_ROWS: usize = 32_768;
/// Batches that the reader may be ahead of the workers, for each worker.
const READ_AHEAD: usize = 2;
/// Pieces under work or waiting to be taken, for each worker: one to work on, one that is ready or next.
const IN_FLIGHT: usize = 2;

/// What a piece of work gave, and the rows it covered.
#[derive(Debug)]
pub(super) struct Piece<T> {
    pub(super) rows: u64,
    pub(super) answer: T,
}

/// Applies `work` to (rows, position of the first row) for all rows of `source`. Dropping the stream stops the reading;
/// pieces that are being worked on end by themselves.
pub(super) fn in_order<T, Work>(
    source: BoxStream<'static, Result<RecordBatch, FeatureError>>,
    workers: usize,
    work: Work,
) -> impl Stream<Item = Result<Piece<T>, ServingError>> + Send
where
    T: Send + 'static,
    Work: Fn(&RecordBatch, u64) -> Result<T, ServingError> + Send + Sync + 'static,
{
    let work = Arc::new(work);
    let workers = workers.max(1);
    cut(read_ahead(source, workers * READ_AHEAD))
        .map(move |piece| {
            let work = Arc::clone(&work);
            async move {
                let (batch, first_row) = piece?;
                let worked = tokio::task::spawn_blocking(move || {
                    work(&batch, first_row).map(|answer| Piece {
                        rows: batch.num_rows() as u64,
                        answer,
                    })
                });
                worked.await.map_err(|error| {
                    if error.is_cancelled() {
                        ServingError::Stopping
                    } else {
                        ServingError::Execution {
                            reason: "the scoring thread panicked".to_owned(),
                        }
                    }
                })?
            }
        })
        .buffered(workers * IN_FLIGHT)
}

/// Polls `source` in a task of its own, at most `batches` ahead.
fn read_ahead(
    source: BoxStream<'static, Result<RecordBatch, FeatureError>>,
    batches: usize,
) -> impl Stream<Item = Result<RecordBatch, FeatureError>> + Send {
    let (sender, receiver) = mpsc::channel(batches);
    // The set ends its task when it is dropped, which is when the receiver is.
    let mut reader = JoinSet::new();
    reader.spawn(async move {
        let mut source = source;
        while let Some(batch) = source.next().await {
            let failed = batch.is_err();
            if sender.send(batch).await.is_err() || failed {
                return;
            }
        }
    });
    futures::stream::unfold(
        (receiver, reader),
        async |(mut receiver, mut reader)| match receiver.recv().await {
            Some(batch) => Some((batch, (receiver, reader))),
            None => match reader.join_next().await {
                Some(Err(error)) if error.is_panic() => Some((
                    Err(FeatureError::Internal {
                        reason: "the reader of the source panicked".to_owned(),
                    }),
                    (receiver, reader),
                )),
                _ => None,
            },
        },
    )
}

/// Pieces of at most `PIECE_ROWS` rows, each with the position of its first row. Empty batches are passed over.
fn cut(
    source: impl Stream<Item = Result<RecordBatch, FeatureError>> + Send,
) -> impl Stream<Item = Result<(RecordBatch, u64), ServingError>> + Send {
    let mut position = 0;
    source.flat_map(move |batch| {
        let pieces = match batch {
            Err(error) => vec![Err(ServingError::Feature(error))],
            Ok(batch) => (0..batch.num_rows())
                .step_by(PIECE_ROWS)
                .map(|first| {
                    let piece = batch.slice(first, PIECE_ROWS.min(batch.num_rows() - first));
                    let first_row = position;
                    position += piece.num_rows() as u64;
                    Ok((piece, first_row))
                })
                .collect(),
        };
        futures::stream::iter(pieces)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{AsArray, UInt64Array};
    use arrow::datatypes::UInt64Type;
    use futures::TryStreamExt;

    fn counted(lengths: &[usize]) -> BoxStream<'static, Result<RecordBatch, FeatureError>> {
        let mut next = 0;
        let batches: Vec<_> = lengths
            .iter()
            .map(|&length| {
                let values = UInt64Array::from_iter_values(next..next + length as u64);
                next += length as u64;
                Ok(RecordBatch::try_from_iter([("row", Arc::new(values) as _)]).unwrap())
            })
            .collect();
        futures::stream::iter(batches).boxed()
    }

    #[tokio::test]
    async fn answers_come_in_the_order_of_the_rows_however_the_source_is_cut() {
        let lengths = [0, 1, 100_000, 3, 0, PIECE_ROWS, PIECE_ROWS + 1, 7];
        let pieces: Vec<Piece<Vec<u64>>> = in_order(counted(&lengths), 3, |rows, first| {
            let values = rows
                .column(0)
                .as_primitive::<UInt64Type>()
                .values()
                .to_vec();
            assert_eq!(values[0], first);
            Ok(values)
        })
        .try_collect()
        .await
        .unwrap();
        assert!(pieces.iter().all(|piece| piece.rows <= PIECE_ROWS as u64));
        let rows: Vec<u64> = pieces.into_iter().flat_map(|piece| piece.answer).collect();
        let total = lengths.iter().sum::<usize>() as u64;
        assert_eq!(rows, (0..total).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn the_first_failure_in_row_order_is_the_one_that_is_told() {
        let answer: Result<Vec<Piece<()>>, _> = in_order(counted(&[10; 20]), 4, |_, first| {
            if first >= 50 {
                return Err(ServingError::BadLabel {
                    reason: first.to_string(),
                });
            }
            Ok(())
        })
        .try_collect()
        .await;
        assert_eq!(answer.unwrap_err().to_string(), "the label: 50");
    }

    #[tokio::test]
    async fn a_source_that_fails_ends_the_stream_with_its_error() {
        let failing = counted(&[5, 5])
            .chain(futures::stream::iter([Err(FeatureError::Execution {
                reason: "the disk is gone".to_owned(),
            })]))
            .boxed();
        let answer: Result<Vec<Piece<()>>, _> =
            in_order(failing, 2, |_, _| Ok(())).try_collect().await;
        assert!(matches!(answer, Err(ServingError::Feature(_))));
    }

    #[tokio::test]
    async fn a_panic_in_the_work_is_an_error_and_not_a_hang() {
        let answer: Result<Vec<Piece<()>>, _> =
            in_order(counted(&[5]), 2, |_, _| panic!("on purpose"))
                .try_collect()
                .await;
        assert!(matches!(answer, Err(ServingError::Execution { .. })));
    }
}

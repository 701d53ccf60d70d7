//! Rows for lanes: kept in memory, or read in windows ahead of need.
//!
//! Knows where rows come from only as [`RowGroups`]; which rows come when is the data plan's.

use std::sync::Arc;

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt};
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::TrainingError;
use crate::frames::data_plan::{DataPlan, Window};
use crate::frames::minibatch::{DecodedRows, LoadedWindow, RowShape, WindowCursor};

/// Windows of one lane that wait, decoded, for their turn; with the one in use and the one being read, a lane
/// holds at most three.
const WINDOWS_AHEAD: usize = 1;

/// Windows that a lane may hold at a time.
pub(crate) const WINDOWS_PER_LANE: u64 = 2 + WINDOWS_AHEAD as u64;

/// A dataset version as training sees it: row groups that decode to matrices.
#[async_trait]
pub(crate) trait RowGroups: std::fmt::Debug + Send + Sync {
    fn shape(&self) -> &RowShape;
    /// Rows of every row group.
    fn row_groups(&self) -> &[u64];
    /// All rows of one row group.
    async fn read(&self, row_group: usize) -> Result<DecodedRows, TrainingError>;
}

/// Reads everything, in order; at most `at_a_time` row groups are decoded together.
pub(crate) async fn read_all(
    source: &dyn RowGroups,
    at_a_time: usize,
) -> Result<DecodedRows, TrainingError> {
    let rows: u64 = source.row_groups().iter().sum();
    let mut all = DecodedRows::with_capacity(source.shape(), rows as usize);
    let mut groups = futures::stream::iter(0..source.row_groups().len())
        .map(|row_group| read_checked(source, row_group))
        .buffered(at_a_time.max(1));
    while let Some(group) = groups.try_next().await? {
        all.append(&group, 0..group.rows);
    }
    Ok(all)
}

async fn read_checked(
    source: &dyn RowGroups,
    row_group: usize,
) -> Result<DecodedRows, TrainingError> {
    let rows = source.read(row_group).await?;
    let expected = source.row_groups()[row_group];
    if rows.rows as u64 != expected {
        return Err(TrainingError::Internal {
            reason: format!(
                "row group {row_group} has {} rows where its file says {expected}",
                rows.rows
            ),
        });
    }
    Ok(rows)
}

/// Where the rows of all lanes of an epoch come from.
#[derive(Debug, Clone)]
pub(crate) enum RowStore {
    /// All rows, in memory.
    Memory(Arc<DecodedRows>),
    /// Too many: read in windows.
    Windows(Arc<dyn RowGroups>),
}

/// One lane's rows of one epoch.
#[derive(Debug)]
pub(crate) enum LaneFeed {
    Memory {
        rows: Arc<DecodedRows>,
        order: Arc<Vec<u32>>,
    },
    Windows {
        cursor: WindowCursor,
        windows: mpsc::Receiver<Result<LoadedWindow, TrainingError>>,
    },
    /// Between epochs.
    None,
}

impl LaneFeed {
    /// A feed that reads `windows` ahead on the runtime until it is dropped or `stop` is asked for.
    pub(crate) fn read_windows(
        source: Arc<dyn RowGroups>,
        windows: Vec<Window>,
        runtime: &Handle,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(WINDOWS_AHEAD);
        runtime.spawn(async move {
            for window in windows {
                let loaded = tokio::select! {
                    loaded = load(source.as_ref(), window) => loaded,
                    () = stop.cancelled() => Err(TrainingError::Cancelled),
                };
                let failed = loaded.is_err();
                if sender.send(loaded).await.is_err() || failed {
                    return;
                }
            }
        });
        Self::Windows {
            cursor: WindowCursor::default(),
            windows: receiver,
        }
    }

    /// Replaces `into` by the lane's rows at `positions` of the epoch's order. A windowed feed gives the next rows of
    /// its stream: parts are asked for in order.
    pub(crate) fn fill(
        &mut self,
        positions: std::ops::Range<u64>,
        into: &mut DecodedRows,
    ) -> Result<(), TrainingError> {
        into.clear();
        let wanted = (positions.end - positions.start) as usize;
        match self {
            Self::Memory { rows, order } => {
                into.gather(
                    rows,
                    &order[positions.start as usize..positions.end as usize],
                );
                Ok(())
            }
            Self::Windows { cursor, windows } => {
                let taken = cursor.take(wanted, into, || windows.blocking_recv().transpose())?;
                if taken == wanted {
                    Ok(())
                } else {
                    Err(TrainingError::Internal {
                        reason: format!("a lane's rows ended {} early", wanted - taken),
                    })
                }
            }
            Self::None => Err(TrainingError::Internal {
                reason: "a lane was asked for rows between epochs".into(),
            }),
        }
    }
}

/// The feed of one lane for one epoch. `order` is the epoch's permutation, for rows in memory.
pub(crate) fn open_feed(
    store: &RowStore,
    plan: &DataPlan,
    epoch: u64,
    lane: u32,
    order: &Arc<Vec<u32>>,
    runtime: &Handle,
    stop: &CancellationToken,
) -> LaneFeed {
    match store {
        RowStore::Memory(rows) => LaneFeed::Memory {
            rows: Arc::clone(rows),
            order: Arc::clone(order),
        },
        RowStore::Windows(source) => LaneFeed::read_windows(
            Arc::clone(source),
            plan.windows(epoch, lane),
            runtime,
            stop.clone(),
        ),
    }
}

async fn load(source: &dyn RowGroups, window: Window) -> Result<LoadedWindow, TrainingError> {
    let mut rows = DecodedRows::with_capacity(source.shape(), window.order.len());
    for segment in &window.segments {
        let group = read_checked(source, segment.row_group).await?;
        rows.append(
            &group,
            segment.rows.start as usize..segment.rows.end as usize,
        );
    }
    Ok(LoadedWindow { rows, window })
}

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
use crate::frames::data_plan::{DataPlan, Windows};
use crate::frames::minibatch::{DecodedRows, RowShape, WindowCursor};

/// Windows of one lane that wait, decoded, for their turn; with the one in use and the one being read, a lane
/// holds at most three.
const WINDOWS_AHEAD: usize = 1;

/// Windows that a lane may hold at a time.
pub(crate) const WINDOWS_PER_LANE: u64 = 2 + WINDOWS_AHEAD as u64;

/// Decoded bytes of row groups on their way into memory, where all rows are kept; one row group is always on its way.
const READ_AHEAD_BYTES: u64 = 128 << 20;

/// A dataset version as training sees it: row groups that decode to matrices.
#[async_trait]
pub(crate) trait RowGroups: std::fmt::Debug + Send + Sync {
    fn shape(&self) -> &RowShape;
    /// Rows of every row group.
    fn row_groups(&self) -> &[u64];
    /// Brings one row group into memory, as it is stored.
    async fn open(&self, row_group: usize) -> Result<Arc<dyn RowGroup>, TrainingError>;
}

/// A row group in memory, not decoded.
#[async_trait]
pub(crate) trait RowGroup: std::fmt::Debug + Send + Sync {
    /// All its rows, decoded.
    async fn all(&self) -> Result<DecodedRows, TrainingError>;
    /// The rows of these numbers, in this order, in the room of `into`, whose rows are forgotten.
    async fn rows(&self, rows: Vec<u32>, into: DecodedRows) -> Result<DecodedRows, TrainingError>;
}

/// Reads everything, in order; at most `at_a_time` row groups are decoded together.
pub(crate) async fn read_all(
    source: &dyn RowGroups,
    at_a_time: usize,
) -> Result<DecodedRows, TrainingError> {
    let row_groups = source.row_groups();
    let rows: u64 = row_groups.iter().sum();
    let largest = row_groups.iter().copied().max().unwrap_or(0);
    let bytes = largest.saturating_mul(source.shape().row_bytes()).max(1);
    let at_a_time = at_a_time.min((READ_AHEAD_BYTES / bytes) as usize).max(1);
    let mut all = DecodedRows::with_capacity(source.shape(), rows as usize);
    let mut groups = futures::stream::iter(0..row_groups.len())
        .map(|row_group| async move {
            let rows = source.open(row_group).await?.all().await?;
            checked(rows, row_groups[row_group])
        })
        .buffered(at_a_time);
    while let Some(group) = groups.try_next().await? {
        all.append(&group, 0..group.rows);
    }
    Ok(all)
}

fn checked(rows: DecodedRows, expected: u64) -> Result<DecodedRows, TrainingError> {
    if rows.rows as u64 == expected {
        return Ok(rows);
    }
    Err(TrainingError::Internal {
        reason: format!(
            "{} rows of a row group were decoded and {expected} were asked for",
            rows.rows
        ),
    })
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
        windows: mpsc::Receiver<Result<DecodedRows, TrainingError>>,
        /// Windows used up, on their way back to be filled again.
        used: mpsc::Sender<DecodedRows>,
    },
    /// Between epochs.
    None,
}

impl LaneFeed {
    /// A feed that reads `windows` ahead on the runtime until it is dropped or `stop` is asked for.
    pub(crate) fn read_windows(
        source: Arc<dyn RowGroups>,
        windows: Windows,
        runtime: &Handle,
        stop: CancellationToken,
    ) -> Self {
        let (sender, receiver) = mpsc::channel(WINDOWS_AHEAD);
        let (used, used_receiver) = mpsc::channel(WINDOWS_PER_LANE as usize);
        runtime.spawn(async move {
            let mut reader = WindowReader {
                source,
                open: None,
                used: used_receiver,
            };
            for window in windows {
                let loaded = tokio::select! {
                    loaded = reader.read(window.row_group, window.rows) => loaded,
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
            used,
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
            Self::Windows {
                cursor,
                windows,
                used,
            } => {
                let taken = cursor.take(wanted, into, |window| {
                    if let Some(window) = window {
                        // Nobody takes it after the last window.
                        let _ = used.try_send(window);
                    }
                    windows.blocking_recv().transpose()
                })?;
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
) -> Result<LaneFeed, TrainingError> {
    Ok(match store {
        RowStore::Memory(rows) => LaneFeed::Memory {
            rows: Arc::clone(rows),
            order: Arc::clone(order),
        },
        RowStore::Windows(source) => LaneFeed::read_windows(
            Arc::clone(source),
            plan.windows(epoch, lane)?,
            runtime,
            stop.clone(),
        ),
    })
}

/// Decodes a lane's windows, and holds the row group that they are taken from.
struct WindowReader {
    source: Arc<dyn RowGroups>,
    open: Option<(usize, Arc<dyn RowGroup>)>,
    /// Windows whose room is free: memory that one thread takes and another gives back, window by window, would stay
    /// with the allocator.
    used: mpsc::Receiver<DecodedRows>,
}

impl WindowReader {
    async fn read(
        &mut self,
        row_group: usize,
        rows: Vec<u32>,
    ) -> Result<DecodedRows, TrainingError> {
        let expected = rows.len() as u64;
        let open = match &self.open {
            Some((number, open)) if *number == row_group => Arc::clone(open),
            _ => {
                // The former one first: a lane has room for one.
                self.open = None;
                let open = self.source.open(row_group).await?;
                self.open = Some((row_group, Arc::clone(&open)));
                open
            }
        };
        let room = self.used.try_recv();
        let room =
            room.unwrap_or_else(|_| DecodedRows::with_capacity(self.source.shape(), rows.len()));
        checked(open.rows(rows, room).await?, expected)
    }
}

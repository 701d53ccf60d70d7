//! The sparse tables' part of a step (`Embedding` with `sparse`): lists of rows to the rows' owners, new rows back.
//!
//! Every table's rows are cut into contiguous ranges, one per worker, and a worker's range into one per thread; who owns
//! a row never depends on the data. An owner finishes the tree of sums over its rows, updates those that the step met, and
//! keeps the slots of all of them. What goes to other workers is as long as the lists are.
//!
//! On the wire a list is its length, its rows in ascending order and their numbers: 4 bytes each, little-endian.

use std::ops::Range;

use bytes::Bytes;
use parking_lot::RwLock;

use super::TrainingError;
use super::reduction;
use super::step::{Crew, Partials, Share, StepOfJob};
use crate::frames::data_plan::split;
use crate::nn::SparseTable;
use crate::optim::TableRows;
use crate::tensor::row_sums::{KnownRows, RowSums, for_each_sum, within};

/// One thread's rows of one table.
#[derive(Debug)]
pub(super) struct OwnedRows {
    table: SparseTable,
    rows: Range<u32>,
    slots: Vec<Vec<f32>>,
    /// Rows that the last step met, where there are others to tell.
    met: Vec<u32>,
    scratch: Vec<f32>,
}

/// Lists of other workers over one table, by node.
#[derive(Debug)]
pub(super) struct ReceivedRows {
    nodes: Vec<u32>,
    sums: RowSums,
}

impl Share {
    /// An empty store of lists for each table.
    pub(super) fn row_sums(&self) -> Vec<RowSums> {
        let tables = self.model.sparse_tables().iter();
        tables.map(|table| RowSums::new(table.width)).collect()
    }

    /// The same for what other workers send.
    pub(super) fn received_rows(&self) -> Vec<ReceivedRows> {
        let all = self.row_sums().into_iter();
        all.map(|sums| ReceivedRows {
            nodes: Vec::new(),
            sums,
        })
        .collect()
    }

    /// The rows of a table that a worker owns.
    fn rows_of_worker(&self, table: &SparseTable, worker: u32) -> Range<u32> {
        let rows = split(table.rows as u64, self.workers, worker);
        rows.start as u32..rows.end as u32
    }

    /// Those of one of this worker's threads, with first slots.
    pub(super) fn rows_of_thread(&self, threads: u32, thread: u32) -> Vec<OwnedRows> {
        let tables = self.model.sparse_tables().iter();
        tables
            .map(|table| {
                let of_worker = self.rows_of_worker(table, self.worker);
                let part = split(of_worker.len() as u64, threads, thread);
                let first = of_worker.start;
                let rows = first + part.start as u32..first + part.end as u32;
                OwnedRows {
                    table: *table,
                    slots: self.optimizer.first_row_slots(rows.len() * table.width),
                    rows,
                    met: Vec::new(),
                    scratch: Vec::new(),
                }
            })
            .collect()
    }
}

impl OwnedRows {
    /// State of the rows, each slot as long as they are.
    pub(super) fn slots(&self) -> &[Vec<f32>] {
        &self.slots
    }

    /// Takes the rows' part of the slots of the whole table. None where they are those of another table.
    pub(super) fn restore(&mut self, all: &[Vec<f32>]) -> Option<()> {
        let whole = self.table.rows * self.table.width;
        let at = |row: u32| row as usize * self.table.width;
        let part = at(self.rows.start)..at(self.rows.end);
        if all.len() != self.slots.len() || all.iter().any(|slot| slot.len() != whole) {
            return None;
        }
        for (own, all) in self.slots.iter_mut().zip(all) {
            own.copy_from_slice(&all[part.clone()]);
        }
        Some(())
    }

    /// Where the rows stand in the flat vector.
    fn place(&self) -> Range<usize> {
        let at = |row: u32| self.table.offset + row as usize * self.table.width;
        at(self.rows.start)..at(self.rows.end)
    }
}

impl Crew {
    pub(crate) fn has_tables(&self) -> bool {
        !self.share.model.sparse_tables().is_empty()
    }

    /// The second phase over a thread's rows: the sums over all lanes, and the update of the rows that they hold.
    pub(super) fn update_tables(&self, owned: &mut [OwnedRows], now: &StepOfJob) {
        if owned.is_empty() {
            return;
        }
        let partials: Vec<_> = self.partials.iter().map(RwLock::read).collect();
        let received = self.received_rows.read();
        let optimizer = &self.share.optimizer;
        let update = optimizer.row_update(now.total_step, now.learning_rate);
        let keeps_met = self.share.workers > 1;
        for (index, owned) in owned.iter_mut().enumerate() {
            owned.met.clear();
            let width = owned.table.width;
            let here = known_here(&partials, index, &owned.rows);
            let there = received.get(index).into_iter().flat_map(|received| {
                let lists = received.nodes.iter().zip(received.sums.lists());
                lists.map(|(&node, list)| KnownRows {
                    node,
                    entries: &list[within(list, &owned.rows)],
                    values: received.sums.values(),
                })
            });
            let mut known: Vec<KnownRows<'_>> = here.chain(there).collect();
            // SAFETY: every thread has its own rows, and between the barriers around this phase nobody reads another's.
            let values = unsafe { self.vector.write(owned.place()) };
            let met = &mut owned.met;
            update.update_rows(
                TableRows {
                    first: owned.rows.start,
                    width,
                    values,
                    slots: &mut owned.slots,
                },
                self.share.lanes,
                &mut known,
                &mut owned.scratch,
                |row| {
                    if keeps_met {
                        met.push(row);
                    }
                },
            );
        }
    }

    /// This worker's lists of the rows of another owner. Called by the leader between the phases.
    pub(crate) fn row_sums(&self, step: u64, owner: u32) -> Bytes {
        let partials: Vec<_> = self.partials.iter().map(RwLock::read).collect();
        let (share, mut scratch) = (&self.share, Vec::new());
        let (mut bytes, mut rows, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for node in share.nodes_with_rows(share.own_lanes.clone(), step) {
            for (index, table) in share.model.sparse_tables().iter().enumerate() {
                let of_owner = share.rows_of_worker(table, owner);
                let mut known: Vec<KnownRows<'_>> = known_here(&partials, index, &of_owner)
                    .filter(|known| reduction::is_below(known.node, node))
                    .collect();
                rows.clear();
                values.clear();
                for_each_sum(
                    share.lanes,
                    node,
                    table.width,
                    &mut known,
                    &mut scratch,
                    |row, sum, _| {
                        rows.push(row);
                        values.extend_from_slice(sum);
                    },
                );
                put_list(&mut bytes, &rows, &values);
            }
        }
        Bytes::from(bytes)
    }

    /// Takes the other workers' lists of this worker's rows. Called by the leader between the phases.
    pub(crate) fn take_row_sums(
        &self,
        step: u64,
        sent: &[(u32, Vec<u8>)],
    ) -> Result<(), TrainingError> {
        let share = &self.share;
        let received = &mut *self.received_rows.write();
        for of_table in &mut *received {
            of_table.nodes.clear();
            of_table.sums.clear();
        }
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for (worker, bytes) in sent {
            let mut bytes: &[u8] = bytes;
            let lanes = reduction::lanes_of_worker(share.lanes, share.workers, *worker);
            for node in share.nodes_with_rows(lanes, step) {
                for (of_table, table) in received.iter_mut().zip(share.model.sparse_tables()) {
                    let own = share.rows_of_worker(table, share.worker);
                    take_list(&mut bytes, table.width, &own, &mut rows, &mut values)?;
                    of_table.nodes.push(node);
                    of_table.sums.push_list(rows.iter().copied(), &values);
                }
            }
            ends(bytes)?;
        }
        Ok(())
    }

    /// This worker's rows that the step changed. Called by the leader after the second phase.
    pub(crate) fn new_rows(&self) -> Bytes {
        let (mut bytes, mut rows, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (index, table) in self.share.model.sparse_tables().iter().enumerate() {
            rows.clear();
            values.clear();
            for hand in &self.hands {
                // Threads' ranges ascend.
                rows.extend_from_slice(&hand.lock().tables[index].met);
            }
            for &row in &rows {
                let start = table.offset + row as usize * table.width;
                // SAFETY: the followers wait at a barrier; nobody writes.
                values.extend_from_slice(unsafe { self.vector.read(start..start + table.width) });
            }
            put_list(&mut bytes, &rows, &values);
        }
        Bytes::from(bytes)
    }

    /// Takes over the rows that another owner changed. Called by the leader after the second phase.
    pub(crate) fn take_new_rows(&self, owner: u32, bytes: &[u8]) -> Result<(), TrainingError> {
        let (mut bytes, mut rows, mut values) = (bytes, Vec::new(), Vec::new());
        for table in self.share.model.sparse_tables() {
            let of_owner = self.share.rows_of_worker(table, owner);
            take_list(&mut bytes, table.width, &of_owner, &mut rows, &mut values)?;
            for (&row, new) in rows.iter().zip(values.chunks_exact(table.width)) {
                let start = table.offset + row as usize * table.width;
                // SAFETY: the followers wait at a barrier; nobody else reads or writes.
                unsafe { self.vector.write(start..start + table.width) }.copy_from_slice(new);
            }
        }
        ends(bytes)
    }
}

/// The lists of this worker's threads over some rows of a table.
fn known_here<'a>(
    partials: &'a [impl std::ops::Deref<Target = Partials>],
    table: usize,
    rows: &Range<u32>,
) -> impl Iterator<Item = KnownRows<'a>> {
    partials.iter().flat_map(move |partials| {
        let sums = &partials.tables[table];
        let lists = partials.dense.iter().zip(sums.lists());
        lists.map(move |((node, _), list)| KnownRows {
            node: *node,
            entries: &list[within(list, rows)],
            values: sums.values(),
        })
    })
}

fn put_list(bytes: &mut Vec<u8>, rows: &[u32], values: &[f32]) {
    bytes.reserve(4 * (1 + rows.len() + values.len()));
    bytes.extend_from_slice(&(rows.len() as u32).to_le_bytes());
    bytes.extend(rows.iter().flat_map(|row| row.to_le_bytes()));
    bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
}

/// Takes a list off the front of a message and checks it: ascending rows within the given ones.
fn take_list(
    bytes: &mut &[u8],
    width: usize,
    within: &Range<u32>,
    rows: &mut Vec<u32>,
    values: &mut Vec<f32>,
) -> Result<(), TrainingError> {
    let count = take_words(bytes, 1)?;
    let count = u32::from_le_bytes([count[0], count[1], count[2], count[3]]) as usize;
    if count > within.len() {
        return Err(internal("a list has more rows than its owner"));
    }
    rows.clear();
    let (words, _) = take_words(bytes, count)?.as_chunks::<4>();
    rows.extend(words.iter().map(|word| u32::from_le_bytes(*word)));
    let ascend = rows.windows(2).all(|pair| pair[0] < pair[1]);
    if !ascend || rows.iter().any(|row| !within.contains(row)) {
        return Err(internal("a list has rows that are not its owner's"));
    }
    values.clear();
    let (words, _) = take_words(bytes, count * width)?.as_chunks::<4>();
    values.extend(words.iter().map(|word| f32::from_le_bytes(*word)));
    Ok(())
}

fn take_words<'a>(bytes: &mut &'a [u8], count: usize) -> Result<&'a [u8], TrainingError> {
    let (words, rest) = bytes
        .split_at_checked(4 * count)
        .ok_or_else(|| internal("a list of rows is shorter than it says"))?;
    *bytes = rest;
    Ok(words)
}

fn ends(bytes: &[u8]) -> Result<(), TrainingError> {
    if bytes.is_empty() {
        Ok(())
    } else {
        Err(internal("a message of rows is longer than its lists"))
    }
}

fn internal(reason: &str) -> TrainingError {
    TrainingError::Internal {
        reason: reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_comes_back_as_it_was_and_is_as_long_as_its_rows() {
        let mut bytes = Vec::new();
        put_list(&mut bytes, &[3, 9], &[0.5, -0.0, f32::MIN_POSITIVE, 4.0]);
        put_list(&mut bytes, &[], &[]);
        assert_eq!(bytes.len(), 4 * (1 + 2 + 4) + 4);
        let (mut rows, mut values, mut left) = (vec![1], vec![1.0], bytes.as_slice());
        take_list(&mut left, 2, &(3..10), &mut rows, &mut values).unwrap();
        assert_eq!(rows, [3, 9]);
        let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&values), bits(&[0.5, -0.0, f32::MIN_POSITIVE, 4.0]));
        take_list(&mut left, 2, &(3..10), &mut rows, &mut values).unwrap();
        assert!(rows.is_empty() && values.is_empty());
        ends(left).unwrap();
    }

    #[test]
    fn a_list_of_other_rows_or_of_another_length_is_refused() {
        let mut bytes = Vec::new();
        put_list(&mut bytes, &[3, 9], &[0.0; 4]);
        let mut unsorted = Vec::new();
        put_list(&mut unsorted, &[9, 3], &[0.0; 4]);
        for (bytes, width, rows) in [
            (&bytes[..], 2, 4..10),
            (&bytes[..], 2, 3..9),
            (&bytes[..], 2, 3..4),
            (&bytes[..], 3, 3..10),
            (&bytes[..2], 2, 3..10),
            (&unsorted[..], 2, 3..10),
        ] {
            let mut left = bytes;
            let taken = take_list(&mut left, width, &rows, &mut Vec::new(), &mut Vec::new());
            assert!(
                matches!(taken, Err(TrainingError::Internal { .. })),
                "{rows:?}"
            );
        }
        assert!(ends(&bytes[..1]).is_err());
    }
}

//! Sums of the few rows of a large table that a minibatch meets, as sorted lists: a row that nobody met costs nothing.
//!
//! A list holds every row at most once, in ascending order. Lists are joined along a fixed binary tree, numbered as in a
//! heap: 1 is the root, node `n` has the children `2n` and `2n + 1`, leaf `l` of `leaves` is `leaves + l`. At a node a row
//! of both sides is left plus right; a row of one side is taken as it is, with nothing added. So the bits of a row's sum
//! depend on the leaves' lists alone, and not on who joined which subtree.
//!
//! Knows no tables, optimisers or threads. Allocates nothing once its stores have grown to what a step needs.

use std::ops::Range;

/// How many rows ahead a taker is told what comes: far enough for memory to answer, near enough to stay in the cache.
const AHEAD: usize = 12;

/// One row of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Row of the table.
    pub row: u32,
    /// Where its numbers stand: a row of the store that the list belongs to.
    pub at: u32,
}

/// The lists of one thread over one table, and the numbers that they point to. Lists are a stack, so that a walk over a
/// tree pushes the leaves' and joins them two by two.
#[derive(Debug)]
pub struct RowSums {
    width: usize,
    values: Vec<f32>,
    lists: Vec<Vec<Entry>>,
    /// Lists that are not in use.
    spare: Vec<Vec<Entry>>,
    /// Row and position of every lookup, to be sorted.
    keys: Vec<u64>,
}

impl RowSums {
    /// For a table whose rows are of so many numbers.
    pub fn new(width: usize) -> Self {
        RowSums {
            width,
            values: Vec::new(),
            lists: Vec::new(),
            spare: Vec::new(),
            keys: Vec::new(),
        }
    }

    /// Forgets all lists, and keeps the memory.
    pub fn clear(&mut self) {
        self.values.clear();
        self.spare.append(&mut self.lists);
    }

    /// Pushes the list of one leaf: for each row that any part's indices name, the sum of that part's rows of numbers, in
    /// the order of the parts and of their indices. A part is indices (N) with numbers (N, width).
    ///
    /// Panics when an index is negative or a part's numbers are not as many as its indices ask for.
    pub fn push<'a>(&mut self, parts: impl Iterator<Item = (&'a [i32], &'a [f32])> + Clone) {
        let width = self.width;
        self.keys.clear();
        let mut position = 0u64;
        for (indices, values) in parts.clone() {
            assert_eq!(indices.len() * width, values.len(), "every index has a row");
            for &index in indices {
                let row = u32::try_from(index).expect("an index is not negative");
                self.keys.push(u64::from(row) << 32 | position);
                position += 1;
            }
        }
        // Keys differ, so that the order is one.
        self.keys.sort_unstable();
        let mut list = self.spare.pop().unwrap_or_default();
        list.clear();
        let mut last = None;
        for &key in &self.keys {
            let (row, mut position) = ((key >> 32) as u32, (key & 0xffff_ffff) as usize);
            let mut found: &[f32] = &[];
            for (indices, values) in parts.clone() {
                if position < indices.len() {
                    found = &values[position * width..(position + 1) * width];
                    break;
                }
                position -= indices.len();
            }
            if last == Some(row) {
                let start = self.values.len() - width;
                add(&mut self.values[start..], found);
            } else {
                let at = place(self.values.len() / width);
                list.push(Entry { row, at });
                self.values.extend_from_slice(found);
                last = Some(row);
            }
        }
        self.lists.push(list);
    }

    /// Replaces the two last lists by their sum, the earlier one left. Panics when there are fewer.
    pub fn join(&mut self) {
        let (Some(right), Some(left)) = (self.lists.pop(), self.lists.pop()) else {
            panic!("two lists are joined");
        };
        let mut sum = self.spare.pop().unwrap_or_default();
        sum.clear();
        let (mut i, mut j) = (0, 0);
        while i < left.len() && j < right.len() {
            let (of_left, of_right) = (left[i], right[j]);
            if of_left.row < of_right.row {
                sum.push(of_left);
                i += 1;
            } else if of_right.row < of_left.row {
                sum.push(of_right);
                j += 1;
            } else {
                // What was pushed earlier stands earlier.
                let border = of_right.at as usize * self.width;
                let (before, from) = self.values.split_at_mut(border);
                let start = of_left.at as usize * self.width;
                add(&mut before[start..start + self.width], &from[..self.width]);
                sum.push(of_left);
                i += 1;
                j += 1;
            }
        }
        sum.extend_from_slice(&left[i..]);
        sum.extend_from_slice(&right[j..]);
        self.lists.push(sum);
        self.spare.extend([left, right]);
    }

    /// The lists in the order in which they were pushed.
    pub fn lists(&self) -> &[Vec<Entry>] {
        &self.lists
    }

    /// What entries point to: rows of `width` numbers.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Numbers of a row.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Pushes a list as it came from elsewhere. Panics unless rows ascend and each has its numbers.
    pub fn push_list(&mut self, rows: impl Iterator<Item = u32>, values: &[f32]) {
        let mut list = self.spare.pop().unwrap_or_default();
        list.clear();
        let first = self.values.len() / self.width;
        list.extend(rows.enumerate().map(|(index, row)| Entry {
            row,
            at: place(first + index),
        }));
        assert_eq!(values.len(), list.len() * self.width, "a row has numbers");
        assert!(
            list.windows(2).all(|pair| pair[0].row < pair[1].row),
            "the rows of a list ascend"
        );
        self.values.extend_from_slice(values);
        self.lists.push(list);
    }
}

/// The entries of a list whose rows lie in a range.
pub fn within(list: &[Entry], rows: &Range<u32>) -> Range<usize> {
    let before = |border: u32| list.partition_point(|entry| entry.row < border);
    before(rows.start)..before(rows.end)
}

/// The list of a node that somebody knows.
#[derive(Debug, Clone, Copy)]
pub struct KnownRows<'a> {
    pub node: u32,
    pub entries: &'a [Entry],
    /// What the entries point to.
    pub values: &'a [f32],
}

/// Joins known lists along the tree of so many leaves and hands the sum at `node` out row by row, in ascending order, with
/// the entry's numbers, and with a row that comes soon, if one is known, so that its memory can be asked for. `known` are
/// nodes below `node` (or itself), none below another; they are used up.
pub fn for_each_sum(
    leaves: u32,
    node: u32,
    width: usize,
    known: &mut [KnownRows<'_>],
    scratch: &mut Vec<f32>,
    mut take: impl FnMut(u32, &[f32], Option<u32>),
) {
    let soon = |entries: &[Entry]| entries.get(AHEAD).map(|entry| entry.row);
    let numbers = |known: &KnownRows<'_>, entry: Entry| {
        let start = entry.at as usize * width;
        start..(start + width).min(known.values.len())
    };
    if let [only] = known {
        for (index, &entry) in only.entries.iter().enumerate() {
            take(
                entry.row,
                &only.values[numbers(only, entry)],
                soon(&only.entries[index..]),
            );
        }
        return;
    }
    scratch.clear();
    scratch.resize((leaves.ilog2() as usize + 2) * width, 0.0);
    loop {
        let heads = known.iter().filter_map(|known| known.entries.first());
        let Some(row) = heads.map(|entry| entry.row).min() else {
            return;
        };
        let has_row = |known: &&KnownRows<'_>| known.entries.first().is_some_and(|e| e.row == row);
        let mut having = known.iter().filter(has_row);
        match (having.next(), having.next()) {
            (Some(only), None) => take(
                row,
                &only.values[numbers(only, only.entries[0])],
                soon(only.entries),
            ),
            (first, _) => {
                let soon = first.and_then(|known| soon(known.entries));
                sum_row(leaves, node, row, width, known, scratch);
                take(row, &scratch[..width], soon);
            }
        }
        for known in known.iter_mut() {
            if let [first, rest @ ..] = known.entries
                && first.row == row
            {
                known.entries = rest;
            }
        }
    }
}

/// The sum of one row at a node, into the first row of the scratch; false where no list below has the row.
fn sum_row(
    leaves: u32,
    node: u32,
    row: u32,
    width: usize,
    known: &[KnownRows<'_>],
    scratch: &mut [f32],
) -> bool {
    if let Some(found) = known.iter().find(|known| known.node == node) {
        let Some(entry) = found.entries.first().filter(|entry| entry.row == row) else {
            return false;
        };
        let start = entry.at as usize * width;
        scratch[..width].copy_from_slice(&found.values[start..start + width]);
        return true;
    }
    if node >= leaves {
        return false;
    }
    let left = sum_row(leaves, 2 * node, row, width, known, scratch);
    let (own, rest) = scratch.split_at_mut(width);
    let right = sum_row(leaves, 2 * node + 1, row, width, known, rest);
    match (left, right) {
        (true, true) => add(own, &rest[..width]),
        (false, true) => own.copy_from_slice(&rest[..width]),
        _ => {}
    }
    left || right
}

fn add(sum: &mut [f32], addend: &[f32]) {
    for (sum, &addend) in sum.iter_mut().zip(addend) {
        *sum += addend;
    }
}

fn place(at: usize) -> u32 {
    u32::try_from(at).expect("a step meets fewer than 2^32 rows")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    const WIDTH: usize = 3;
    const ROWS: usize = 23;

    /// Lookups of one leaf: indices and their rows of numbers.
    type Lookups = (Vec<i32>, Vec<f32>);

    #[test]
    fn a_leaf_sums_equal_rows_in_the_order_of_parts_and_indices() {
        let mut sums = RowSums::new(2);
        let first = [1e8, 1.0, 5.0, 6.0, 1.0, 2.0];
        let second = [-1e8, 4.0, 0.5, 0.25];
        let parts = [(&[7, 2, 7][..], &first[..]), (&[7, 0][..], &second[..])];
        sums.push(parts.into_iter());
        let rows: Vec<u32> = sums.lists()[0].iter().map(|entry| entry.row).collect();
        assert_eq!(rows, [0, 2, 7]);
        // (1e8 + 1) - 1e8 in float32, and in this order.
        assert_eq!(sums.values(), [0.5, 0.25, 5.0, 6.0, 0.0, 7.0]);
    }

    #[test]
    fn sums_have_the_same_bits_however_leaves_are_dealt_out_and_whoever_owns_which_rows() {
        let mut stream = RandomKey::of(43, 0).stream(Purpose::Test);
        for round in 0..100 {
            let leaves = 1u32 << stream.below(5);
            let lookups: Vec<Option<Lookups>> = (0..leaves)
                .map(|leaf| {
                    (leaf == 0 || stream.below(4) > 0).then(|| {
                        let count = stream.below(30) as usize;
                        let indices = (0..count)
                            .map(|_| stream.below(ROWS as u64) as i32)
                            .collect();
                        let values = (0..count * WIDTH).map(|_| stream.normal() as f32).collect();
                        (indices, values)
                    })
                })
                .collect();
            let expected = plain(&lookups, leaves, 1).unwrap();
            for holders in 1..=5 {
                for owners in [1, 2, 3] {
                    let found = summed(&lookups, leaves, holders, owners);
                    assert!(
                        found == expected,
                        "seed 43, round {round}, {holders} holders"
                    );
                }
            }
        }
    }

    /// Every row's bits, by a table of its own per leaf.
    fn plain(lookups: &[Option<Lookups>], leaves: u32, node: u32) -> Option<Vec<Option<Vec<u32>>>> {
        fn values(
            lookups: &[Option<Lookups>],
            leaves: u32,
            node: u32,
        ) -> Option<Vec<Option<Vec<f32>>>> {
            if node < leaves {
                let left = values(lookups, leaves, 2 * node);
                let right = values(lookups, leaves, 2 * node + 1);
                return match (left, right) {
                    (Some(left), Some(right)) => {
                        let pairs = left.into_iter().zip(right);
                        let joined = pairs.map(|pair| match pair {
                            (Some(l), Some(r)) => {
                                Some(l.iter().zip(&r).map(|(l, r)| l + r).collect())
                            }
                            (l, r) => l.or(r),
                        });
                        Some(joined.collect())
                    }
                    (left, right) => left.or(right),
                };
            }
            let (indices, numbers) = lookups[(node - leaves) as usize].as_ref()?;
            let mut table: Vec<Option<Vec<f32>>> = vec![None; ROWS];
            for (&index, numbers) in indices.iter().zip(numbers.chunks(WIDTH)) {
                match &mut table[index as usize] {
                    Some(sum) => sum.iter_mut().zip(numbers).for_each(|(s, n)| *s += n),
                    empty => *empty = Some(numbers.to_vec()),
                }
            }
            Some(table)
        }
        let bits = |row: Vec<f32>| row.into_iter().map(f32::to_bits).collect();
        let table = values(lookups, leaves, node)?;
        Some(table.into_iter().map(|row| row.map(bits)).collect())
    }

    /// The same through lists: holders of neighbouring leaves join what they can, owners of rows finish.
    fn summed(
        lookups: &[Option<Lookups>],
        leaves: u32,
        holders: u32,
        owners: u32,
    ) -> Vec<Option<Vec<u32>>> {
        fn walk(sums: &mut RowSums, lookups: &[Option<Lookups>], leaves: u32, node: u32) -> bool {
            if node >= leaves {
                let Some((indices, values)) = &lookups[(node - leaves) as usize] else {
                    return false;
                };
                sums.push(std::iter::once((indices.as_slice(), values.as_slice())));
                return true;
            }
            let left = walk(sums, lookups, leaves, 2 * node);
            let right = walk(sums, lookups, leaves, 2 * node + 1);
            if left && right {
                sums.join();
            }
            left || right
        }
        /// The largest subtrees within leaves `held`.
        fn cover(node: u32, covered: Range<u32>, held: &Range<u32>, nodes: &mut Vec<u32>) {
            if covered.end <= held.start || held.end <= covered.start {
                return;
            }
            if held.start <= covered.start && covered.end <= held.end {
                return nodes.push(node);
            }
            let middle = covered.start.midpoint(covered.end);
            cover(2 * node, covered.start..middle, held, nodes);
            cover(2 * node + 1, middle..covered.end, held, nodes);
        }
        let held: Vec<(Vec<u32>, RowSums)> = (0..holders)
            .map(|holder| {
                let range = leaves * holder / holders..leaves * (holder + 1) / holders;
                let (mut nodes, mut sums) = (Vec::new(), RowSums::new(WIDTH));
                cover(1, 0..leaves, &range, &mut nodes);
                nodes.retain(|&node| walk(&mut sums, lookups, leaves, node));
                (nodes, sums)
            })
            .collect();
        let mut found = vec![None; ROWS];
        for owner in 0..owners {
            let owned = |owner: u32| ROWS as u32 * owner / owners;
            let owned = owned(owner)..owned(owner + 1);
            let mut known: Vec<KnownRows<'_>> = Vec::new();
            for (nodes, sums) in &held {
                known.extend(
                    nodes
                        .iter()
                        .zip(sums.lists())
                        .map(|(&node, list)| KnownRows {
                            node,
                            entries: &list[within(list, &owned)],
                            values: sums.values(),
                        }),
                );
            }
            let mut last = None;
            for_each_sum(
                leaves,
                1,
                WIDTH,
                &mut known,
                &mut Vec::new(),
                |row, sum, _| {
                    assert!(owned.contains(&row) && last < Some(row));
                    last = Some(row);
                    found[row as usize] = Some(sum.iter().map(|value| value.to_bits()).collect());
                },
            );
        }
        found
    }
}

//! The fixed binary tree over lanes, in which every sum of a job is taken.
//!
//! Nodes are numbered as in a heap: 1 is the root, node `n` has the children `2n` and `2n + 1`, and lane `l` of
//! `lanes` is leaf `lanes + l`. The value of a node is the sum of its children, left plus right, in float32;
//! a lane without rows has no value, and a node with one valued child has that child's value.
//! So the root's bits depend on the lanes' values alone, and not on who summed which subtree.
//!
//! Pure: no threads, no servers, no clock.

use std::ops::Range;

/// Floats that are summed at a time: two such blocks and a source stay in the first-level cache.
const BLOCK: usize = 2048;

/// The largest subtrees that lie wholly within a contiguous range of lanes, from left to right.
pub fn cover(lanes: u32, held: Range<u32>) -> Vec<u32> {
    fn descend(node: u32, covered: Range<u32>, held: &Range<u32>, nodes: &mut Vec<u32>) {
        if covered.end <= held.start || held.end <= covered.start {
            return;
        }
        if held.start <= covered.start && covered.end <= held.end {
            nodes.push(node);
            return;
        }
        let middle = covered.start + (covered.end - covered.start) / 2;
        descend(2 * node, covered.start..middle, held, nodes);
        descend(2 * node + 1, middle..covered.end, held, nodes);
    }
    assert!(lanes.is_power_of_two(), "lanes are a power of two");
    let mut nodes = Vec::new();
    descend(1, 0..lanes, &held, &mut nodes);
    nodes
}

/// The lanes below a node.
pub fn lanes_below(lanes: u32, node: u32) -> Range<u32> {
    let width = lanes >> node.ilog2();
    let first = (node << width.ilog2()) - lanes;
    first..first + width
}

/// Whether a node is another one or lies below it.
pub fn is_below(node: u32, above: u32) -> bool {
    node >= above && node >> (node.ilog2() - above.ilog2()) == above
}

/// The lanes that worker `worker` of `workers` computes: contiguous, the first worker never without one.
pub fn lanes_of_worker(lanes: u32, workers: u32, worker: u32) -> Range<u32> {
    let first = |worker: u32| (worker * lanes).div_ceil(workers);
    first(worker)..first(worker + 1)
}

/// Fewest floats between cuts of the flat vector, so that no two owners write one cache line.
pub const CACHE_LINE: usize = 16;

/// Part `index` of a flat vector cut into `parts`: contiguous, together the whole vector, cut at multiples of `grid`.
pub fn parameter_shard(length: usize, parts: usize, index: usize, grid: usize) -> Range<usize> {
    let cut = |index: usize| {
        if index == parts {
            length
        } else {
            (length * index / parts).next_multiple_of(grid).min(length)
        }
    };
    cut(index)..cut(index + 1)
}

/// Values of one node over a stretch of the flat vector that begins at `offset`.
#[derive(Debug, Clone, Copy)]
pub struct NodeValues<'a> {
    pub node: u32,
    pub offset: usize,
    pub values: &'a [f32],
}

/// Sums node `node` over `range` of the flat vector into `out`, from the nodes that are known.
/// Returns false (and leaves `out` undefined) when no lane below the node has a value.
pub fn sum_node<'a>(
    lanes: u32,
    node: u32,
    known: &impl Fn(u32) -> Option<NodeValues<'a>>,
    range: Range<usize>,
    out: &mut [f32],
) -> bool {
    assert_eq!(range.len(), out.len(), "the output is as long as the range");
    let mut any = false;
    for (index, block) in out.chunks_mut(BLOCK).enumerate() {
        let start = range.start + index * BLOCK;
        any |= sum_block(lanes, node, known, start, block);
    }
    any
}

fn sum_block<'a>(
    lanes: u32,
    node: u32,
    known: &impl Fn(u32) -> Option<NodeValues<'a>>,
    start: usize,
    out: &mut [f32],
) -> bool {
    let stretch = |values: NodeValues<'a>| {
        let first = start - values.offset;
        &values.values[first..first + out.len()]
    };
    if let Some(values) = known(node) {
        let values = stretch(values);
        out.copy_from_slice(values);
        return true;
    }
    if node >= lanes {
        return false;
    }
    if let (Some(left), Some(right)) = (known(2 * node), known(2 * node + 1)) {
        let (left, right) = (stretch(left), stretch(right));
        for ((out, left), right) in out.iter_mut().zip(left).zip(right) {
            *out = left + right;
        }
        return true;
    }
    let has_left = sum_block(lanes, 2 * node, known, start, out);
    let mut scratch = [0.0; BLOCK];
    let right = &mut scratch[..out.len()];
    let has_right = sum_block(lanes, 2 * node + 1, known, start, right);
    match (has_left, has_right) {
        (true, true) => add(out, right),
        (false, true) => out.copy_from_slice(right),
        _ => {}
    }
    has_left || has_right
}

/// `left += right`, number by number.
pub fn add(left: &mut [f32], right: &[f32]) {
    assert_eq!(left.len(), right.len(), "sums need equal lengths");
    for (left, right) in left.iter_mut().zip(right) {
        *left += right;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn workers_hold_every_lane_once_and_the_first_always_one() {
        for lanes in [1, 2, 4, 8, 16, 256] {
            for workers in 1..20 {
                let held: Vec<u32> = (0..workers)
                    .flat_map(|worker| lanes_of_worker(lanes, workers, worker))
                    .collect();
                assert_eq!(held, (0..lanes).collect::<Vec<u32>>());
                assert!(!lanes_of_worker(lanes, workers, 0).is_empty());
            }
        }
    }

    #[test]
    fn shards_are_the_whole_vector_whatever_the_number_of_owners() {
        for length in [0, 1, 15, 16, 17, 1_000, 22_273] {
            for (parts, grid) in (1..12).flat_map(|parts| [(parts, CACHE_LINE), (parts, 1024)]) {
                let mut next = 0;
                for index in 0..parts {
                    let shard = parameter_shard(length, parts, index, grid);
                    assert_eq!(shard.start, next, "{length} numbers, {parts} owners");
                    assert!(shard.start.is_multiple_of(grid) || shard.start == length);
                    next = shard.end;
                }
                assert_eq!(next, length);
            }
        }
    }

    #[test]
    fn a_cover_is_made_of_the_largest_aligned_subtrees() {
        assert_eq!(cover(8, 0..8), [1]);
        assert_eq!(cover(8, 0..4), [2]);
        assert_eq!(cover(8, 3..6), [11, 6]);
        assert_eq!(cover(8, 1..8), [9, 5, 3]);
        assert_eq!(cover(8, 5..5), [0u32; 0]);
        assert_eq!(lanes_below(8, 1), 0..8);
        assert_eq!(lanes_below(8, 6), 4..6);
        assert_eq!(lanes_below(8, 11), 3..4);
        for node in 1..16 {
            for above in 1..16 {
                let (inner, outer) = (lanes_below(8, node), lanes_below(8, above));
                let contains = outer.start <= inner.start && inner.end <= outer.end;
                assert_eq!(is_below(node, above), contains && node >= above);
            }
        }
    }

    #[test]
    fn the_sum_has_the_same_bits_whatever_the_cut_and_whichever_lanes_are_empty() {
        let mut stream = RandomKey::of(41, 0).stream(Purpose::Test);
        let length = BLOCK + 37;
        for round in 0..60 {
            let lanes = 1u32 << stream.below(5);
            let values: Vec<Option<Vec<f32>>> = (0..lanes)
                .map(|lane| {
                    (lane == 0 || stream.below(4) > 0)
                        .then(|| (0..length).map(|_| stream.normal() as f32).collect())
                })
                .collect();
            let expected = reference(&values, lanes, 1).unwrap();
            for workers in 1..=9 {
                // Each worker sums the subtrees it holds, as it would send them.
                let mut sent: Vec<(u32, Vec<f32>)> = Vec::new();
                for worker in 0..workers {
                    for node in cover(lanes, lanes_of_worker(lanes, workers, worker)) {
                        let mut sum = vec![0.0; length];
                        let leaf = |node: u32| {
                            (node >= lanes)
                                .then(|| values[(node - lanes) as usize].as_deref())
                                .flatten()
                                .map(|values| NodeValues {
                                    node,
                                    offset: 0,
                                    values,
                                })
                        };
                        if sum_node(lanes, node, &leaf, 0..length, &mut sum) {
                            sent.push((node, sum));
                        }
                    }
                }
                // Each owner finishes the tree over its shard.
                let mut found = vec![0.0; length];
                for owner in 0..workers as usize {
                    let shard = parameter_shard(length, workers as usize, owner, CACHE_LINE);
                    let known = |node: u32| {
                        let (node, values) = sent.iter().find(|(sent, _)| *sent == node)?;
                        Some(NodeValues {
                            node: *node,
                            offset: shard.start,
                            values: &values[shard.clone()],
                        })
                    };
                    if !shard.is_empty() {
                        assert!(sum_node(
                            lanes,
                            1,
                            &known,
                            shard.clone(),
                            &mut found[shard.clone()]
                        ));
                    }
                }
                assert!(
                    found
                        .iter()
                        .zip(&expected)
                        .all(|(found, expected)| found.to_bits() == expected.to_bits()),
                    "seed 41, round {round}, {workers} workers"
                );
            }
        }
    }

    fn reference(values: &[Option<Vec<f32>>], lanes: u32, node: u32) -> Option<Vec<f32>> {
        if node >= lanes {
            return values[(node - lanes) as usize].clone();
        }
        let left = reference(values, lanes, 2 * node);
        let right = reference(values, lanes, 2 * node + 1);
        match (left, right) {
            (Some(left), Some(right)) => {
                Some(left.iter().zip(&right).map(|(l, r)| l + r).collect())
            }
            (left, right) => left.or(right),
        }
    }
}

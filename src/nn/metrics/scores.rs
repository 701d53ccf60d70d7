//! How much weight of each class stands at each score: what curves over thresholds are computed from.

use super::bytes::{Reader, malformed};
use crate::nn::error::SpecError;

/// Most distinct scores kept: 6 MiB. Up to here AUC is exact.
const SCORES_MAX: usize = 1 << 18;
/// Rows waiting to be counted in: 1 MiB.
const WAITING_MAX: usize = 1 << 16;
/// How much weight of each class stands at each score.
///
/// Exact while there are at most `SCORES_MAX` distinct scores. Beyond that the lowest bits of all scores are dropped, as
/// few as bring the count back: two scores that then coincide count as a tie, so the area is off by at most half the
/// share of (positive, negative) pairs that coincide: about 1 / (2 * 131,072) when scores are spread evenly. How
/// many bits are dropped depends on the set of scores alone, so merging gives the same counts in any order.
#[derive(Debug, Clone, Default)]
pub(super) struct ScoreCounts {
    pub(super) dropped_bits: u32,
    /// (score, negative weight, positive weight) by rising score.
    counts: Vec<(u32, u64, u64)>,
    waiting: Vec<(u32, u64, u64)>,
    has_nan: bool,
}

impl PartialEq for ScoreCounts {
    fn eq(&self, other: &Self) -> bool {
        let (left, right) = (self.compacted(), other.compacted());
        (left.dropped_bits, &left.counts, left.has_nan)
            == (right.dropped_bits, &right.counts, right.has_nan)
    }
}

impl ScoreCounts {
    /// `units` is the weight, see `weight_units`.
    pub(super) fn add(&mut self, score: f32, positive: bool, units: u64) {
        self.has_nan |= score.is_nan();
        let key = ordered_bits(score) >> self.dropped_bits;
        self.waiting.push(if positive {
            (key, 0, units)
        } else {
            (key, units, 0)
        });
        if self.waiting.len() >= 2 * WAITING_MAX {
            self.compact();
        }
    }

    pub(super) fn compact_if_full(&mut self) {
        if self.waiting.len() >= WAITING_MAX {
            self.compact();
        }
    }

    fn compact(&mut self) {
        if !self.waiting.is_empty() {
            self.counts.append(&mut self.waiting);
            self.counts.sort_unstable_by_key(|entry| entry.0);
            self.join_equal();
        }
        while self.counts.len() > SCORES_MAX {
            self.drop_bits(1);
        }
    }

    fn drop_bits(&mut self, bits: u32) {
        self.counts.iter_mut().for_each(|entry| entry.0 >>= bits);
        self.dropped_bits += bits;
        self.join_equal();
    }

    fn join_equal(&mut self) {
        self.counts.dedup_by(|next, kept| {
            let equal = next.0 == kept.0;
            if equal {
                kept.1 = kept.1.saturating_add(next.1);
                kept.2 = kept.2.saturating_add(next.2);
            }
            equal
        });
    }

    pub(super) fn compacted(&self) -> ScoreCounts {
        let mut copy = self.clone();
        copy.compact();
        copy
    }

    pub(super) fn merge(&mut self, other: &ScoreCounts) {
        let mut other = other.compacted();
        self.compact();
        let bits = self.dropped_bits.max(other.dropped_bits);
        self.drop_bits(bits - self.dropped_bits);
        other.drop_bits(bits - other.dropped_bits);
        self.has_nan |= other.has_nan;
        self.waiting = other.counts;
        self.compact();
    }

    /// (negative weight, positive weight) at each distinct score from the highest down; `None` when one of the classes is
    /// missing or a score is NaN.
    pub(super) fn highest_first(&self) -> Option<Vec<(u64, u64)>> {
        let whole = self.compacted();
        let has = |of: fn(&(u32, u64, u64)) -> u64| whole.counts.iter().any(|entry| of(entry) > 0);
        let complete = !whole.has_nan && has(|entry| entry.1) && has(|entry| entry.2);
        let entries = whole.counts.iter().rev();
        complete.then(|| entries.map(|entry| (entry.1, entry.2)).collect())
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        let whole = self.compacted();
        bytes.push(u8::from(whole.has_nan));
        bytes.extend(whole.dropped_bits.to_le_bytes());
        bytes.extend((whole.counts.len() as u64).to_le_bytes());
        for (score, negatives, positives) in whole.counts {
            bytes.extend(score.to_le_bytes());
            bytes.extend(negatives.to_le_bytes());
            bytes.extend(positives.to_le_bytes());
        }
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, SpecError> {
        let [has_nan] = reader.take()?;
        let dropped_bits = u32::from_le_bytes(reader.take()?);
        let count = u64::from_le_bytes(reader.take()?);
        // The count is checked against the bytes at hand before anything is allocated.
        if dropped_bits >= 32
            || count > SCORES_MAX as u64
            || (reader.bytes.len() as u64) < count * 20
        {
            return Err(malformed("a metric state has a wrong length"));
        }
        let mut counts: Vec<(u32, u64, u64)> = Vec::with_capacity(count as usize);
        for _ in 0..count {
            let entry = (
                u32::from_le_bytes(reader.take()?),
                u64::from_le_bytes(reader.take()?),
                u64::from_le_bytes(reader.take()?),
            );
            if counts.last().is_some_and(|last| last.0 >= entry.0) {
                return Err(malformed("a metric state is out of order"));
            }
            counts.push(entry);
        }
        Ok(ScoreCounts {
            dropped_bits,
            counts,
            waiting: Vec::new(),
            has_nan: has_nan != 0,
        })
    }
}

/// Bits that rise as the number does; both zeros are one.
fn ordered_bits(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 {
        !bits
    } else {
        bits | (1 << 31)
    }
}

//! At which rank the right one of a group of answers stands.
//!
//! A group is `neg_num` + 1 numbers that follow each other, one of them labelled 1 and the others 0, as Analytics Zoo's
//! recommenders are evaluated: rows with one answer each, or rows that hold whole groups. Rows may be cut anywhere: what
//! is left at either end of a part is kept and joined to its neighbour, so the parts of rows in order merge to the whole.
//! Rows whose order is not known (the shuffled ones of training) make no groups, unless each holds whole ones.

use super::bytes::{Reader, malformed};
use crate::nn::error::SpecError;

/// Counts of ranks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Groups {
    /// Numbers of one group.
    size: usize,
    /// Groups by rank from 1; the last counts all ranks beyond.
    ranks: Vec<u64>,
    /// Where in a group the first number stands; `None` while that is not known.
    start: Option<u64>,
    /// Numbers seen.
    length: u64,
    /// Answers and labels before the first whole group, and after the last.
    head: Vec<(f32, f32)>,
    tail: Vec<(f32, f32)>,
    /// A group did not have exactly one right answer, or parts did not follow each other.
    broken: bool,
}

impl Groups {
    pub(super) fn new(size: usize, ranks: usize) -> Self {
        Groups {
            size,
            ranks: vec![0; ranks + 1],
            start: None,
            length: 0,
            head: Vec::new(),
            tail: Vec::new(),
            broken: false,
        }
    }

    /// Says which number of all the first one is.
    pub(super) fn begin_at(&mut self, number: u64) {
        self.start = Some(number % self.size as u64);
    }

    pub(super) fn add(&mut self, answer: f32, label: f32) {
        let Some(start) = self.start else {
            self.broken = true;
            return;
        };
        let before = (self.size as u64 - start) % self.size as u64;
        self.length += 1;
        if self.length <= before {
            self.head.push((answer, label));
            return;
        }
        self.tail.push((answer, label));
        if self.tail.len() < self.size {
            return;
        }
        let right = self.tail.iter().filter(|(_, label)| *label > 0.5).count();
        let found = self.tail.iter().find(|(_, label)| *label > 0.5);
        match found {
            Some((of, _)) if right == 1 && !of.is_nan() => {
                // How many others are larger: a tie counts for the right one.
                let ahead = self.tail.iter().filter(|(each, _)| each > of).count();
                let place = ahead.min(self.ranks.len() - 1);
                self.ranks[place] += 1;
            }
            _ => self.broken = true,
        }
        self.tail.clear();
    }

    pub(super) fn merge(&mut self, other: &Groups) {
        if self.start.is_none() && self.length == 0 && !self.broken {
            *self = other.clone();
            return;
        }
        let end = self
            .start
            .map(|start| (start + self.length) % self.size as u64);
        self.broken |= other.broken || (other.start != end && other.length > 0);
        if self.broken {
            return;
        }
        other.head.iter().for_each(|(y, t)| self.add(*y, *t));
        for (count, more) in self.ranks.iter_mut().zip(&other.ranks) {
            *count += more;
        }
        self.length += other.ranks.iter().sum::<u64>() * self.size as u64;
        other.tail.iter().for_each(|(y, t)| self.add(*y, *t));
    }

    /// The mean over all groups of the gain of their rank, 0 beyond the ranks counted. NaN when there are no groups, when
    /// one has not exactly one right answer, or when numbers are left over.
    pub(super) fn mean(&self, gain: fn(usize) -> f64) -> f64 {
        let groups: u64 = self.ranks.iter().sum();
        if self.broken || groups == 0 || !self.head.is_empty() || !self.tail.is_empty() {
            return f64::NAN;
        }
        let counted = self.ranks[..self.ranks.len() - 1].iter().enumerate();
        let sum: f64 = counted
            .map(|(place, count)| *count as f64 * gain(place + 1))
            .sum();
        sum / groups as f64
    }

    pub(super) fn write(&self, bytes: &mut Vec<u8>) {
        bytes.push(u8::from(self.broken));
        bytes.extend(self.start.unwrap_or(u64::MAX).to_le_bytes());
        bytes.extend(self.length.to_le_bytes());
        self.ranks
            .iter()
            .for_each(|count| bytes.extend(count.to_le_bytes()));
        for part in [&self.head, &self.tail] {
            bytes.extend((part.len() as u64).to_le_bytes());
            for (answer, label) in part {
                bytes.extend(answer.to_le_bytes());
                bytes.extend(label.to_le_bytes());
            }
        }
    }

    /// Reads into an empty one of the same metric.
    pub(super) fn read(mut self, reader: &mut Reader<'_>) -> Result<Self, SpecError> {
        let [broken] = reader.take()?;
        self.broken = broken != 0;
        let start = u64::from_le_bytes(reader.take()?);
        self.start = (start < self.size as u64).then_some(start);
        self.length = u64::from_le_bytes(reader.take()?);
        for count in &mut self.ranks {
            *count = u64::from_le_bytes(reader.take()?);
        }
        for part in [&mut self.head, &mut self.tail] {
            let count = u64::from_le_bytes(reader.take()?);
            if count >= self.size as u64 {
                return Err(malformed("a metric state holds a group that is too large"));
            }
            for _ in 0..count {
                let answer = f32::from_le_bytes(reader.take()?);
                part.push((answer, f32::from_le_bytes(reader.take()?)));
            }
        }
        Ok(self)
    }
}

/// 1 for every rank counted.
pub(super) fn hit(_: usize) -> f64 {
    1.0
}

/// log 2 / log(1 + rank): the gain discounted by the rank, whose best is 1.
pub(super) fn discounted_gain(rank: usize) -> f64 {
    std::f64::consts::LN_2 / (rank as f64 + 1.0).ln()
}

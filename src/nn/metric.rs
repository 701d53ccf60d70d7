//! Metrics that add up over batches, lanes and servers.
//!
//! A state holds sums, never rows; states of parts merge into the state of the whole. AUC merges exactly in any order;
//! the others add float64 sums, so they are merged in the fixed order of lanes.

use super::error::SpecError;
use super::loss::Loss;

/// What is measured, by Keras name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Metric {
    /// Sum of weight * loss over the number of rows, as the training loss.
    Loss,
    /// Share of right answers: threshold 0.5 for one output, highest output for classes.
    Accuracy,
    /// Area under the ROC curve; one output only.
    Auc,
    MeanAbsoluteError,
    MeanSquaredError,
}

const NAMES: &[(&str, Metric)] = &[
    ("loss", Metric::Loss),
    ("accuracy", Metric::Accuracy),
    ("auc", Metric::Auc),
    ("mean_absolute_error", Metric::MeanAbsoluteError),
    ("mae", Metric::MeanAbsoluteError),
    ("mean_squared_error", Metric::MeanSquaredError),
    ("mse", Metric::MeanSquaredError),
];

impl Metric {
    pub fn parse(name: &str) -> Result<Metric, SpecError> {
        NAMES
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, metric)| *metric)
            .ok_or_else(|| SpecError::UnknownName {
                what: "metric",
                found: name.chars().take(80).collect(),
                known: NAMES
                    .iter()
                    .map(|(name, _)| *name)
                    .collect::<Vec<_>>()
                    .join(", "),
            })
    }

    /// Whether it counts right answers and so means nothing for a label of numbers.
    pub fn needs_classes(self) -> bool {
        matches!(self, Metric::Accuracy | Metric::Auc)
    }

    /// The name in histories: the short one.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .rfind(|(_, metric)| *metric == self)
            .map_or("", |(name, _)| name)
    }
}

/// Sums of one metric over the rows seen so far.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricState {
    metric: Metric,
    loss: Loss,
    width: usize,
    sum: f64,
    weight: f64,
    scores: ScoreCounts,
}

impl MetricState {
    /// `width` is the model's output width; `loss` says how targets are laid out.
    pub fn new(metric: Metric, loss: Loss, width: usize) -> Result<Self, SpecError> {
        if metric == Metric::Auc && width != 1 {
            return Err(SpecError::BadInput {
                layer: "metrics".to_string(),
                problem: format!("\"auc\" needs one output and the model has {width}"),
                hint: "use \"accuracy\", or one sigmoid unit".to_string(),
            });
        }
        let sparse = loss == Loss::SparseCategoricalCrossentropy;
        if sparse && matches!(metric, Metric::MeanAbsoluteError | Metric::MeanSquaredError) {
            return Err(SpecError::BadInput {
                layer: "metrics".to_string(),
                problem: format!("{:?} has no meaning for class indices", metric.name()),
                hint: "use \"accuracy\"".to_string(),
            });
        }
        Ok(MetricState {
            metric,
            loss,
            width,
            sum: 0.0,
            weight: 0.0,
            scores: ScoreCounts::default(),
        })
    }

    pub fn metric(&self) -> Metric {
        self.metric
    }

    /// Adds rows: `predictions` of the model's width, `targets` as in `LaneBatch`, one weight per row (default 1).
    /// Rows beyond the shorter of the slices are left out.
    pub fn update(&mut self, predictions: &[f32], targets: &[f32], weights: Option<&[f32]>) {
        let target_width = self.loss.target_width_for(self.width);
        let rows = predictions
            .chunks_exact(self.width)
            .zip(targets.chunks_exact(target_width));
        for (row, (prediction, target)) in rows.enumerate() {
            let weight = weights.map_or(1.0, |weights| {
                f64::from(weights.get(row).copied().unwrap_or(1.0))
            });
            if self.metric == Metric::Auc {
                self.scores.add(prediction[0], target[0] > 0.5, weight);
                continue;
            }
            let each = || {
                prediction
                    .iter()
                    .zip(target)
                    .map(|(&y, &t)| f64::from(y) - f64::from(t))
            };
            let value = match self.metric {
                Metric::Loss => self.loss.of_row(prediction, target),
                Metric::Accuracy => accuracy(self.loss, prediction, target),
                Metric::MeanAbsoluteError => each().map(f64::abs).sum::<f64>() / self.width as f64,
                Metric::MeanSquaredError => each().map(|d| d * d).sum::<f64>() / self.width as f64,
                Metric::Auc => 0.0,
            };
            self.sum += weight * value;
            self.weight += if self.metric == Metric::Loss {
                1.0
            } else {
                weight
            };
        }
        self.scores.compact_if_full();
    }

    /// Adds a loss sum that a training step has found, over so many rows. Only for `Metric::Loss`.
    pub fn add_loss(&mut self, loss_sum: f64, rows: usize) {
        self.sum += loss_sum;
        self.weight += rows as f64;
    }

    /// Adds the rows of another state of the same metric.
    pub fn merge(&mut self, other: &MetricState) -> Result<(), SpecError> {
        if (self.metric, self.loss, self.width) != (other.metric, other.loss, other.width) {
            return Err(malformed("states of different metrics were merged"));
        }
        self.sum += other.sum;
        self.weight += other.weight;
        self.scores.merge(&other.scores);
        Ok(())
    }

    /// NaN when nothing was counted (or, for AUC, when one class is missing or a score is NaN).
    pub fn result(&self) -> f64 {
        if self.metric == Metric::Auc {
            self.scores.area()
        } else {
            self.sum / self.weight
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let position = |found: Option<usize>| found.unwrap_or(0) as u8;
        let mut bytes = vec![
            STATE_FORMAT,
            position(METRICS.iter().position(|m| *m == self.metric)),
            position(LOSSES.iter().position(|l| *l == self.loss)),
        ];
        bytes.extend((self.width as u64).to_le_bytes());
        bytes.extend(self.sum.to_le_bytes());
        bytes.extend(self.weight.to_le_bytes());
        self.scores.write(&mut bytes);
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SpecError> {
        let mut reader = Reader { bytes };
        let [format, metric, loss] = reader.take::<3>()?;
        if format != STATE_FORMAT {
            return Err(malformed("a metric state of another format was read"));
        }
        let metric = METRICS
            .get(usize::from(metric))
            .ok_or_else(|| malformed("a metric state names no metric"))?;
        let loss = LOSSES
            .get(usize::from(loss))
            .ok_or_else(|| malformed("a metric state names no loss"))?;
        let width = usize::try_from(u64::from_le_bytes(reader.take()?))
            .ok()
            .filter(|width| *width > 0);
        let mut state = MetricState::new(
            *metric,
            *loss,
            width.ok_or_else(|| malformed("a metric state has width 0"))?,
        )?;
        state.sum = f64::from_le_bytes(reader.take()?);
        state.weight = f64::from_le_bytes(reader.take()?);
        state.scores = ScoreCounts::read(&mut reader)?;
        Ok(state)
    }
}

/// First byte of a serialised state.
const STATE_FORMAT: u8 = 1;
/// Positions are part of the serialised form: append only.
const METRICS: &[Metric] = &[
    Metric::Loss,
    Metric::Accuracy,
    Metric::Auc,
    Metric::MeanAbsoluteError,
    Metric::MeanSquaredError,
];
const LOSSES: &[Loss] = &[
    Loss::MeanSquaredError,
    Loss::MeanAbsoluteError,
    Loss::BinaryCrossentropy,
    Loss::CategoricalCrossentropy,
    Loss::SparseCategoricalCrossentropy,
    Loss::MeanAbsolutePercentageError,
    Loss::MeanSquaredLogarithmicError,
    Loss::Huber,
    Loss::LogCosh,
    Loss::Poisson,
    Loss::KlDivergence,
    Loss::CosineSimilarity,
    Loss::Hinge,
    Loss::SquaredHinge,
];

fn malformed(problem: &str) -> SpecError {
    SpecError::Malformed {
        problem: problem.to_string(),
        hint: "all servers of a job must run the same version".to_string(),
    }
}

fn accuracy(loss: Loss, prediction: &[f32], target: &[f32]) -> f64 {
    let highest = |values: &[f32]| {
        // The first of equals, as NumPy's argmax.
        values.iter().enumerate().fold(
            0,
            |best, (index, value)| if *value > values[best] { index } else { best },
        )
    };
    match loss {
        Loss::SparseCategoricalCrossentropy => {
            f64::from(u8::from(highest(prediction) as f32 == target[0]))
        }
        Loss::CategoricalCrossentropy => {
            f64::from(u8::from(highest(prediction) == highest(target)))
        }
        _ => {
            let right = prediction
                .iter()
                .zip(target)
                .filter(|(y, t)| (**y > 0.5) == (**t > 0.5))
                .count();
            right as f64 / prediction.len() as f64
        }
    }
}

/// Most distinct scores kept: 6 MiB. Up to here AUC is exact.
const SCORES_MAX: usize = 1 << 18;
/// Rows waiting to be counted in: 1 MiB.
const WAITING_MAX: usize = 1 << 16;
/// Weights are counted in units of 2^-20, so that sums are whole numbers and merging is exact.
const WEIGHT_UNIT: f64 = (1u64 << 20) as f64;

/// How much weight of each class stands at each score.
///
/// Exact while there are at most `SCORES_MAX` distinct scores. Beyond that the lowest bits of all scores are dropped, as
/// few as bring the count back: two scores that then coincide count as a tie, so the area is off by at most half the
/// share of (positive, negative) pairs that coincide: about 1 / (2 * 131,072) when scores are spread evenly. How
/// many bits are dropped depends on the set of scores alone, so merging gives the same counts in any order.
#[derive(Debug, Clone, Default)]
struct ScoreCounts {
    dropped_bits: u32,
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
    fn add(&mut self, score: f32, positive: bool, weight: f64) {
        self.has_nan |= score.is_nan();
        let units = (weight.max(0.0) * WEIGHT_UNIT).round() as u64;
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

    fn compact_if_full(&mut self) {
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

    fn compacted(&self) -> ScoreCounts {
        let mut copy = self.clone();
        copy.compact();
        copy
    }

    fn merge(&mut self, other: &ScoreCounts) {
        let mut other = other.compacted();
        self.compact();
        let bits = self.dropped_bits.max(other.dropped_bits);
        self.drop_bits(bits - self.dropped_bits);
        other.drop_bits(bits - other.dropped_bits);
        self.has_nan |= other.has_nan;
        self.waiting = other.counts;
        self.compact();
    }

    /// Area by the trapezoid rule: a pair in order counts 1, a tie one half.
    fn area(&self) -> f64 {
        let whole = self.compacted();
        let (mut below, mut area) = (0u128, 0u128);
        let positive: u128 = whole.counts.iter().map(|entry| u128::from(entry.2)).sum();
        for &(_, negatives, positives) in &whole.counts {
            area += u128::from(positives) * (2 * below + u128::from(negatives));
            below += u128::from(negatives);
        }
        if whole.has_nan || positive == 0 || below == 0 {
            return f64::NAN;
        }
        area as f64 / 2.0 / positive as f64 / below as f64
    }

    fn write(&self, bytes: &mut Vec<u8>) {
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

    fn read(reader: &mut Reader<'_>) -> Result<Self, SpecError> {
        let [has_nan] = reader.take()?;
        let dropped_bits = u32::from_le_bytes(reader.take()?);
        let count = u64::from_le_bytes(reader.take()?);
        // The count is checked against the bytes at hand before anything is allocated.
        if dropped_bits >= 32
            || count > SCORES_MAX as u64
            || reader.bytes.len() as u64 != count * 20
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

struct Reader<'a> {
    bytes: &'a [u8],
}

impl Reader<'_> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], SpecError> {
        let (taken, rest) = self
            .bytes
            .split_first_chunk::<N>()
            .ok_or_else(|| malformed("a metric state ends early"))?;
        self.bytes = rest;
        Ok(*taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::support::random::{Purpose, RandomKey};

    #[test]
    fn auc_counts_every_pair_and_halves_ties() {
        // sklearn.metrics.roc_auc_score([0, 0, 1, 1], [0.1, 0.4, 0.35, 0.8]) == 0.75; with a tie 0.875.
        assert_eq!(
            auc(&[0.1, 0.4, 0.35, 0.8], &[0.0, 0.0, 1.0, 1.0], None).result(),
            0.75
        );
        assert_eq!(
            auc(&[0.1, 0.4, 0.4, 0.8], &[0.0, 0.0, 1.0, 1.0], None).result(),
            0.875
        );
        // With sample_weight [1, 2, 3, 4]: pairs in order 1*3 + 1*4 + 2*4 = 15 of 21.
        assert!(
            (auc(
                &[0.1, 0.4, 0.35, 0.8],
                &[0.0, 0.0, 1.0, 1.0],
                Some(&[1.0, 2.0, 3.0, 4.0])
            )
            .result()
                - 15.0 / 21.0)
                .abs()
                < 1e-12
        );
        assert!(auc(&[0.1, 0.2], &[1.0, 1.0], None).result().is_nan());
    }

    #[test]
    fn auc_of_parts_merged_in_any_order_is_that_of_the_whole_even_beyond_its_memory() {
        let rows = 700_000;
        let mut stream = RandomKey::of(21, 0).stream(Purpose::Test);
        let labels: Vec<f32> = (0..rows).map(|_| stream.below(2) as f32).collect();
        let scores: Vec<f32> = labels
            .iter()
            .map(|label| 1.0 / (1.0 + (-(stream.normal() + f64::from(*label))).exp()) as f32)
            .collect();
        let whole = auc(&scores, &labels, None);
        assert!(
            whole.scores.compacted().dropped_bits > 0,
            "seed 21: the bound must be met"
        );
        let parts: Vec<MetricState> = scores
            .chunks(99_999)
            .zip(labels.chunks(99_999))
            .map(|(s, l)| auc(s, l, None))
            .collect();
        let mut merged = auc(&[], &[], None);
        parts.iter().rev().for_each(|part| {
            merged
                .merge(&MetricState::from_bytes(&part.to_bytes()).unwrap())
                .unwrap()
        });
        assert_eq!(merged.to_bytes(), whole.to_bytes());
        assert!(
            (merged.result() - exact_auc(&scores, &labels)).abs() < 1e-6,
            "seed 21"
        );
    }

    #[test]
    fn accuracy_and_errors_are_weighted_means() {
        let mut accuracy =
            MetricState::new(Metric::Accuracy, Loss::SparseCategoricalCrossentropy, 3).unwrap();
        accuracy.update(
            &[0.1, 0.7, 0.2, 0.5, 0.3, 0.2],
            &[1.0, 2.0],
            Some(&[3.0, 1.0]),
        );
        assert_eq!(accuracy.result(), 0.75);
        let mut error =
            MetricState::new(Metric::MeanAbsoluteError, Loss::MeanSquaredError, 2).unwrap();
        error.update(&[1.0, 2.0, 3.0, 4.0], &[0.0, 2.0, 5.0, 4.0], None);
        assert_eq!(error.result(), 0.75);
        let mut loss = MetricState::new(Metric::Loss, Loss::BinaryCrossentropy, 1).unwrap();
        loss.update(&[0.5, 0.5], &[1.0, 0.0], Some(&[2.0, 0.0]));
        assert!((loss.result() - std::f64::consts::LN_2).abs() < 1e-12);
    }

    #[test]
    fn bytes_that_are_no_state_are_refused() {
        let bytes = auc(&[0.1, 0.9], &[0.0, 1.0], None).to_bytes();
        for len in 0..bytes.len() {
            assert!(MetricState::from_bytes(&bytes[..len]).is_err(), "{len}");
        }
        let mut huge = bytes.clone();
        let at = bytes.len() - 2 * 20 - 8;
        huge[at..at + 8].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(MetricState::from_bytes(&huge).is_err());
    }

    fn auc(scores: &[f32], labels: &[f32], weights: Option<&[f32]>) -> MetricState {
        let mut state = MetricState::new(Metric::Auc, Loss::BinaryCrossentropy, 1).unwrap();
        state.update(scores, labels, weights);
        state
    }

    /// By ranks (Mann and Whitney), ties averaged.
    fn exact_auc(scores: &[f32], labels: &[f32]) -> f64 {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|&a, &b| scores[a].total_cmp(&scores[b]));
        let (mut rank_sum, mut start) = (0.0, 0);
        while start < order.len() {
            let end = start
                + order[start..]
                    .iter()
                    .take_while(|&&row| scores[row] == scores[order[start]])
                    .count();
            let rank = (start + end + 1) as f64 / 2.0;
            rank_sum += order[start..end]
                .iter()
                .filter(|&&row| labels[row] > 0.5)
                .count() as f64
                * rank;
            start = end;
        }
        let positive = labels.iter().filter(|&&label| label > 0.5).count() as f64;
        (rank_sum - positive * (positive + 1.0) / 2.0) / positive / (labels.len() as f64 - positive)
    }
}

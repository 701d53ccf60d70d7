//! What rows came to: the part of a metric that is added to, merged and sent.
//!
//! Sums are kept without rounding and everything else is counted in whole numbers, so the state of a whole is the same
//! bits whatever parts it is merged from, in any order (groups of rows, `ranking.rs`, in the order of rows). Curves are
//! exact up to a number of distinct scores, see `scores.rs`.

use serde_json::{Value, json};

use super::bytes::{Reader, malformed};
use super::exact_sum::ExactSum;
use super::ranking::Groups;
use super::recipes::{Form, Measure, Position};
use super::scores::ScoreCounts;
use super::{Loss, Metric, SpecError};

/// Sums of one metric over the rows seen so far.
#[derive(Debug, Clone, PartialEq)]
pub struct MetricState {
    metric: Metric,
    loss: Loss,
    /// Of one row of the model's answer.
    extents: Vec<usize>,
    form: Form,
    sums: Vec<ExactSum>,
    counts: Vec<u64>,
    scores: ScoreCounts,
    groups: Option<Groups>,
}

/// Weights are counted in units of 2^-20, so that sums are whole numbers.
const WEIGHT_UNIT: f64 = (1u64 << 20) as f64;
/// First byte of a serialised state.
const STATE_FORMAT: u8 = 2;
/// Most bytes of the description of a state, more than any real one has.
const DESCRIPTION_BYTES_MAX: u32 = 1 << 18;

impl MetricState {
    /// `extents` are those of one row of the model's answer; `loss` says how targets are laid out.
    pub fn new(metric: Metric, loss: Loss, extents: &[usize]) -> Result<Self, SpecError> {
        let form = form_of(&loss, extents);
        metric.check(&loss, &form)?;
        if let Some(own) = &metric.own {
            own.check("metric", extents)?;
        }
        let (sums, counts) = room(&metric, &form);
        let mut groups = None;
        if let Measure::Ranks(_) = metric.recipe.measure {
            let size = metric.values.number(1) as usize + 1;
            let mut empty = Groups::new(size, metric.values.number(0) as usize);
            if extents.iter().product::<usize>().is_multiple_of(size) {
                empty.begin_at(0);
            }
            groups = Some(empty);
        }
        Ok(MetricState {
            metric,
            loss,
            extents: extents.to_vec(),
            form,
            sums: (0..sums).map(|_| ExactSum::new()).collect(),
            counts: vec![0; counts],
            scores: ScoreCounts::default(),
            groups,
        })
    }

    pub fn metric(&self) -> &Metric {
        &self.metric
    }

    /// Says which row of all the first one will be; what follows is in order. Metrics of groups of rows need it.
    pub fn begin_at(&mut self, row: u64) {
        let numbers = self.extents.iter().product::<usize>() as u64;
        if let Some(groups) = &mut self.groups {
            groups.begin_at(row.wrapping_mul(numbers));
        }
    }

    /// Adds rows: `predictions` of the model's width, `targets` as in `LaneBatch`, one weight per row (default 1).
    /// Rows beyond the shorter of the slices are left out.
    pub fn update(&mut self, predictions: &[f32], targets: &[f32], weights: Option<&[f32]>) {
        self.update_masked(predictions, targets, weights, None);
    }

    /// As `update`; `mask` has 1 for each step of a row that counts in the loss.
    pub fn update_masked(
        &mut self,
        predictions: &[f32],
        targets: &[f32],
        weights: Option<&[f32]>,
        mask: Option<&[f32]>,
    ) {
        let width: usize = self.extents.iter().product();
        let target_width = self.loss.target_width_for(&self.extents);
        let rows = (predictions.len() / width.max(1)).min(targets.len() / target_width.max(1));
        let (predictions, targets) = (
            &predictions[..rows * width],
            &targets[..rows * target_width],
        );
        let weight_of = |row: usize| {
            weights.map_or(1.0, |weights| {
                f64::from(weights.get(row).copied().unwrap_or(1.0))
            })
        };
        if let Measure::Loss = self.metric.recipe.measure {
            let losses = self.loss.of_rows(predictions, targets, &self.extents, mask);
            for (row, loss) in losses.iter().enumerate() {
                self.sums[0].add(weight_of(row) * loss);
                self.sums[1].add(1.0);
            }
            return;
        }
        if let Some(own) = &self.metric.own {
            let values = own.of_rows(predictions, targets, &self.extents, None);
            for (row, value) in values.iter().enumerate() {
                self.sums[0].add(weight_of(row) * value);
                self.sums[1].add(weight_of(row));
            }
            return;
        }
        let positions = width / self.form.width;
        let answers = predictions.chunks_exact(self.form.width);
        let labels = targets.chunks_exact((target_width / positions.max(1)).max(1));
        for (place, (answer, label)) in answers.zip(labels).enumerate() {
            let position = Position {
                answer,
                label,
                form: self.form,
                values: &self.metric.values,
            };
            let weight = weight_of(place / positions);
            match self.metric.recipe.measure {
                Measure::Loss | Measure::Own => {}
                Measure::Mean(each) | Measure::RootMean(each) => {
                    self.sums[0].add(weight * each(&position));
                    self.sums[1].add(weight);
                }
                Measure::Sums { add, .. } => add(&position, weight, &mut self.sums),
                Measure::Counts { add, .. } => add(&position, units(weight), &mut self.counts),
                Measure::Scores(_) => {
                    for (score, mark) in answer.iter().zip(label) {
                        self.scores.add(*score, *mark > 0.5, units(weight));
                    }
                }
                Measure::Ranks(_) => {
                    if let Some(groups) = &mut self.groups {
                        let pairs = answer.iter().zip(label);
                        pairs.for_each(|(score, mark)| groups.add(*score, *mark));
                    }
                }
            }
        }
        self.scores.compact_if_full();
    }

    /// Adds the rows of another state of the same metric: those that follow, where groups of rows are measured.
    pub fn merge(&mut self, other: &MetricState) -> Result<(), SpecError> {
        if (&self.metric, &self.loss, &self.extents) != (&other.metric, &other.loss, &other.extents)
        {
            return Err(malformed("states of different metrics were merged"));
        }
        for (sum, more) in self.sums.iter_mut().zip(&other.sums) {
            sum.merge(more);
        }
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count = count.saturating_add(*more);
        }
        self.scores.merge(&other.scores);
        if let (Some(groups), Some(more)) = (&mut self.groups, &other.groups) {
            groups.merge(more);
        }
        Ok(())
    }

    /// Of a loss: adds what the model adds to the losses of rows besides. Neither weighted nor masked.
    pub fn add_penalties(&mut self, penalties: &[f32]) {
        if let (Measure::Loss, [_, _, sum]) = (&self.metric.recipe.measure, &mut self.sums[..]) {
            for &penalty in penalties {
                sum.add(f64::from(penalty));
            }
        }
    }

    /// Of a loss: the mean of the penalties over its rows; not part of `result`.
    pub fn penalty(&self) -> f64 {
        match (&self.metric.recipe.measure, &self.sums[..]) {
            (Measure::Loss, [_, rows, sum]) if rows.value() > 0.0 => sum.value() / rows.value(),
            _ => 0.0,
        }
    }

    /// NaN when nothing was counted, and where the metric's own function says so.
    pub fn result(&self) -> f64 {
        let sums = || -> Vec<f64> { self.sums.iter().map(ExactSum::value).collect() };
        let mean = || self.sums[0].value() / self.sums[1].value();
        let values = &self.metric.values;
        match self.metric.recipe.measure {
            Measure::Loss | Measure::Own | Measure::Mean(_) => mean(),
            Measure::RootMean(_) => mean().sqrt(),
            Measure::Sums { result, .. } => result(values, &sums()),
            Measure::Counts { result, .. } => result(values, &self.counts),
            Measure::Scores(area) => match self.scores.highest_first() {
                Some(scores) => area(values, &scores),
                None => f64::NAN,
            },
            Measure::Ranks(gain) => match &self.groups {
                Some(groups) => groups.mean(gain),
                None => f64::NAN,
            },
        }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let description = json!({
            "metric": self.metric.to_json(),
            "before": self.metric.before,
            "loss": self.loss.to_json(),
            "extents": self.extents,
        })
        .to_string();
        let mut bytes = vec![STATE_FORMAT];
        bytes.extend((description.len() as u32).to_le_bytes());
        bytes.extend(description.as_bytes());
        self.sums.iter().for_each(|sum| sum.write(&mut bytes));
        for count in &self.counts {
            bytes.extend(count.to_le_bytes());
        }
        self.scores.write(&mut bytes);
        if let Some(groups) = &self.groups {
            groups.write(&mut bytes);
        }
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Result<Self, SpecError> {
        let mut reader = Reader { bytes };
        let [format] = reader.take()?;
        if format != STATE_FORMAT {
            return Err(malformed("a metric state of another format was read"));
        }
        let length = u32::from_le_bytes(reader.take()?).min(DESCRIPTION_BYTES_MAX);
        let described: Value = serde_json::from_slice(reader.slice(length as usize)?)
            .map_err(|_| malformed("a metric state names no metric"))?;
        let mut metric = Metric::read(&described["metric"])?;
        metric.before = described["before"].as_u64().unwrap_or(0) as u8;
        let extents = described["extents"].as_array().map(|extents| {
            let extents = extents.iter().map(|extent| extent.as_u64().unwrap_or(0));
            extents.map(|extent| extent as usize).collect::<Vec<_>>()
        });
        let extents = extents
            .filter(|extents| extents.iter().all(|extent| (1..1 << 32).contains(extent)))
            .ok_or_else(|| malformed("a metric state has no extents"))?;
        let loss = Loss::read(&described["loss"])?;
        // Each sum and count stands in the bytes that follow; before anything is allocated for them.
        let (sums, counts) = room(&metric, &form_of(&loss, &extents));
        if sums
            .saturating_mul(10)
            .saturating_add(counts.saturating_mul(8))
            > reader.bytes.len()
        {
            return Err(malformed("a metric state ends early"));
        }
        let mut state = MetricState::new(metric, loss, &extents)?;
        for sum in &mut state.sums {
            *sum = ExactSum::read(&mut reader)?;
        }
        for count in &mut state.counts {
            *count = u64::from_le_bytes(reader.take()?);
        }
        state.scores = ScoreCounts::read(&mut reader)?;
        state.groups = match state.groups {
            Some(groups) => Some(groups.read(&mut reader)?),
            None => None,
        };
        match reader.bytes.is_empty() {
            true => Ok(state),
            false => Err(malformed("a metric state has a wrong length")),
        }
    }
}

fn form_of(loss: &Loss, extents: &[usize]) -> Form {
    Form {
        label: loss.label(),
        width: extents.last().copied().unwrap_or(1).max(1),
    }
}

/// How many sums and counts a metric keeps.
fn room(metric: &Metric, form: &Form) -> (usize, usize) {
    match metric.recipe.measure {
        // The third is that of penalties.
        Measure::Loss => (3, 0),
        Measure::Own | Measure::Mean(_) | Measure::RootMean(_) => (2, 0),
        Measure::Sums { cells, .. } => (cells(form), 0),
        Measure::Counts { cells, .. } => (0, cells(form)),
        Measure::Scores(_) | Measure::Ranks(_) => (0, 0),
    }
}

fn units(weight: f64) -> u64 {
    (weight.max(0.0) * WEIGHT_UNIT).round() as u64
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
        let mut accuracy = state("accuracy", "sparse_categorical_crossentropy", 3);
        accuracy.update(
            &[0.1, 0.7, 0.2, 0.5, 0.3, 0.2],
            &[1.0, 2.0],
            Some(&[3.0, 1.0]),
        );
        assert_eq!(accuracy.result(), 0.75);
        let mut error = state("mae", "mse", 2);
        error.update(&[1.0, 2.0, 3.0, 4.0], &[0.0, 2.0, 5.0, 4.0], None);
        assert_eq!(error.result(), 0.75);
        let mut loss = state("loss", "binary_crossentropy", 1);
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

    fn state(metric: &str, loss: &str, width: usize) -> MetricState {
        let loss = Loss::parse(loss).unwrap();
        MetricState::new(Metric::parse(metric).unwrap(), loss, &[width]).unwrap()
    }

    fn auc(scores: &[f32], labels: &[f32], weights: Option<&[f32]>) -> MetricState {
        let mut state = self::state("auc", "binary_crossentropy", 1);
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

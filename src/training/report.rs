//! What lanes found in an epoch, carried from every worker to the first one and merged in the order of lanes.
//!
//! Loss sums and metrics are kept per lane over the whole epoch, so that they are the same numbers on any cluster.

use std::collections::BTreeMap;

use super::TrainingError;
use crate::nn::MetricState;

/// One lane's sums of one epoch.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LaneReport {
    /// Sum of weight times loss over the lane's training rows.
    pub(crate) loss_sum: f64,
    /// States of the metrics asked for, over the training rows.
    pub(crate) train: Vec<MetricState>,
    /// The same over the validation rows, led by the loss; empty without validation.
    pub(crate) validation: Vec<MetricState>,
}

/// Reports by lane.
pub(crate) type EpochReport = BTreeMap<u32, LaneReport>;

/// All lanes together.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) loss_sum: f64,
    pub(crate) train: Vec<f64>,
    pub(crate) validation: Vec<f64>,
}

/// Merges the lanes' sums in the order of lanes.
pub(crate) fn merge(report: &EpochReport) -> Result<Merged, TrainingError> {
    let mut loss_sum = 0.0;
    let mut train: Vec<MetricState> = Vec::new();
    let mut validation: Vec<MetricState> = Vec::new();
    for lane in report.values() {
        loss_sum += lane.loss_sum;
        merge_states(&mut train, &lane.train)?;
        merge_states(&mut validation, &lane.validation)?;
    }
    let results = |states: &[MetricState]| states.iter().map(MetricState::result).collect();
    Ok(Merged {
        loss_sum,
        train: results(&train),
        validation: results(&validation),
    })
}

fn merge_states(
    merged: &mut Vec<MetricState>,
    states: &[MetricState],
) -> Result<(), TrainingError> {
    if merged.is_empty() {
        merged.extend_from_slice(states);
        return Ok(());
    }
    if merged.len() != states.len() {
        return Err(malformed("lanes disagree on the metrics"));
    }
    for (merged, state) in merged.iter_mut().zip(states) {
        merged
            .merge(state)
            .map_err(|error| malformed(&error.to_string()))?;
    }
    Ok(())
}

/// The report as bytes: all integers and floats little-endian.
pub(crate) fn encode(report: &EpochReport) -> Vec<u8> {
    let mut bytes = Vec::new();
    let count = |bytes: &mut Vec<u8>, count: usize| {
        bytes.extend_from_slice(&(count as u64).to_le_bytes());
    };
    count(&mut bytes, report.len());
    for (lane, report) in report {
        bytes.extend_from_slice(&lane.to_le_bytes());
        bytes.extend_from_slice(&report.loss_sum.to_le_bytes());
        for states in [&report.train, &report.validation] {
            count(&mut bytes, states.len());
            for state in states {
                let state = state.to_bytes();
                count(&mut bytes, state.len());
                bytes.extend_from_slice(&state);
            }
        }
    }
    bytes
}

/// Reads what `encode` wrote; trailing bytes (padding) are passed over.
pub(crate) fn decode(bytes: &[u8]) -> Result<EpochReport, TrainingError> {
    let mut reader = Reader { bytes };
    let lanes = reader.count()?;
    let mut report = EpochReport::new();
    for _ in 0..lanes {
        let lane = u32::from_le_bytes(reader.array()?);
        let loss_sum = f64::from_le_bytes(reader.array()?);
        let train = reader.states()?;
        let validation = reader.states()?;
        report.insert(
            lane,
            LaneReport {
                loss_sum,
                train,
                validation,
            },
        );
    }
    Ok(report)
}

struct Reader<'a> {
    bytes: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], TrainingError> {
        let (taken, rest) = self
            .bytes
            .split_at_checked(length)
            .ok_or_else(|| malformed("it ends early"))?;
        self.bytes = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], TrainingError> {
        let taken = self.take(N)?;
        taken.try_into().map_err(|_| malformed("it ends early"))
    }

    fn count(&mut self) -> Result<usize, TrainingError> {
        let count = u64::from_le_bytes(self.array()?);
        // Everything counted takes at least a byte, so a count is never above the bytes left.
        usize::try_from(count)
            .ok()
            .filter(|&count| count <= self.bytes.len())
            .ok_or_else(|| malformed("it counts more than it holds"))
    }

    fn states(&mut self) -> Result<Vec<MetricState>, TrainingError> {
        let count = self.count()?;
        let mut states = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            let length = self.count()?;
            let state = MetricState::from_bytes(self.take(length)?)
                .map_err(|error| malformed(&error.to_string()))?;
            states.push(state);
        }
        Ok(states)
    }
}

fn malformed(reason: &str) -> TrainingError {
    TrainingError::Internal {
        reason: format!("an epoch report cannot be read: {reason}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nn::{Loss, Metric};

    fn report() -> EpochReport {
        (0..3)
            .map(|lane| {
                let state = |metric: &str| {
                    let metric = Metric::parse(metric).unwrap();
                    let mut state =
                        MetricState::new(metric, Loss::parse("binary_crossentropy").unwrap(), &[1])
                            .unwrap();
                    state.update(&[0.2, 0.9, 0.4 + 0.1 * lane as f32], &[0.0, 1.0, 1.0], None);
                    state
                };
                let report = LaneReport {
                    loss_sum: 0.25 * f64::from(lane),
                    train: vec![state("accuracy")],
                    validation: vec![state("loss"), state("auc")],
                };
                (lane, report)
            })
            .collect()
    }

    #[test]
    fn a_report_survives_the_wire_and_padding() {
        let mut bytes = encode(&report());
        bytes.extend_from_slice(&[0, 0, 0]);
        assert_eq!(decode(&bytes).unwrap(), report());
        for length in 0..bytes.len() - 3 {
            assert!(decode(&bytes[..length]).is_err(), "cut to {length} bytes");
        }
    }

    #[test]
    fn lanes_are_merged_over_all_rows() {
        let merged = merge(&report()).unwrap();
        assert_eq!(merged.loss_sum, 0.75);
        // Predictions of the third row: 0.4, 0.5 and 0.6 of a positive; the first is wrong whichever way 0.5 counts.
        assert!(merged.train[0] > 0.7 && merged.train[0] < 1.0);
        assert_eq!(merged.validation.len(), 2);
    }
}

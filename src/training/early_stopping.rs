//! When to stop before the last epoch. Pure.

use serde::{Deserialize, Serialize};

/// Early stopping with every default resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StoppingRule {
    /// A history column.
    pub monitor: String,
    /// Epochs without improvement that are borne.
    pub patience: u32,
    /// A change must be larger than this to be an improvement.
    pub min_delta: f64,
    pub restore_best_weights: bool,
    pub maximize: bool,
}

impl StoppingRule {
    /// As a manifest keeps it, under the names that a request has.
    pub(crate) fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "monitor": self.monitor,
            "patience": self.patience,
            "min_delta": self.min_delta,
            "restore_best_weights": self.restore_best_weights,
            "maximize": self.maximize,
        })
    }
}

/// What an epoch's value means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// The best value so far.
    pub(crate) improved: bool,
    pub(crate) stop: bool,
}

/// The monitored value over the epochs.
#[derive(Debug)]
pub(crate) struct EarlyStopping {
    rule: StoppingRule,
    /// The best value so far.
    pub(crate) best: Option<f64>,
    /// Epochs in a row without a better one.
    pub(crate) waited: u32,
}

impl EarlyStopping {
    pub(crate) fn new(rule: StoppingRule) -> Self {
        Self {
            rule,
            best: None,
            waited: 0,
        }
    }

    pub(crate) fn rule(&self) -> &StoppingRule {
        &self.rule
    }

    /// Takes the value of one more epoch. A value that is not a number is no improvement.
    /// As Keras: the job stops once `patience` epochs in a row (at least one) brought none.
    pub(crate) fn observe(&mut self, value: f64) -> Verdict {
        let improved = !value.is_nan()
            && self.best.is_none_or(|best| {
                if self.rule.maximize {
                    value > best + self.rule.min_delta
                } else {
                    value < best - self.rule.min_delta
                }
            });
        if improved {
            self.best = Some(value);
            self.waited = 0;
        } else {
            self.waited += 1;
        }
        Verdict {
            improved,
            stop: !improved && self.waited >= self.rule.patience,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn training_stops_after_patience_epochs_without_improvement() {
        // Values, patience, min_delta, maximize; the epoch (from 1) that stops and the best one.
        check(&[3.0, 2.0, 2.5, 2.4, 2.3], 2, 0.0, false, Some(4), 2);
        check(&[3.0, 2.0, 1.95, 1.5], 1, 0.1, false, Some(3), 2);
        check(&[0.5, 0.7, 0.6, 0.8, 0.79], 2, 0.0, true, None, 4);
        check(&[1.0, 1.0], 0, 0.0, false, Some(2), 1);
        check(&[1.0, f64::NAN, f64::NAN], 2, 0.0, false, Some(3), 1);
    }

    fn check(
        values: &[f64],
        patience: u32,
        min_delta: f64,
        maximize: bool,
        stops: Option<usize>,
        best: usize,
    ) {
        let mut stopping = EarlyStopping::new(StoppingRule {
            monitor: "val_loss".into(),
            patience,
            min_delta,
            restore_best_weights: true,
            maximize,
        });
        let verdicts: Vec<Verdict> = values
            .iter()
            .map(|&value| stopping.observe(value))
            .collect();
        let stopped = verdicts.iter().position(|verdict| verdict.stop);
        assert_eq!(stopped.map(|index| index + 1), stops, "{values:?}");
        let lived = &verdicts[..stopped.map_or(values.len(), |index| index + 1)];
        let last = lived.iter().rposition(|verdict| verdict.improved);
        assert_eq!(last.map(|index| index + 1), Some(best), "{values:?}");
    }
}

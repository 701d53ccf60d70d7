//! A learning rate that falls when a measured value no longer gets better: Keras' `ReduceLROnPlateau`. Pure; who measures
//! is the caller's.
//!
//! It is a factor on whatever the schedule says, so that it goes with every schedule.

use serde::{Deserialize, Serialize};

/// The rule with every default resolved.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PlateauRule {
    /// A history column.
    pub monitor: String,
    /// What the learning rate is multiplied by, below 1.
    pub factor: f64,
    /// Epochs without improvement after which it is; 0 is as 1.
    pub patience: u32,
    /// A change must be larger than this to be an improvement.
    pub min_delta: f64,
    /// Epochs after a reduction in which none counts as one without improvement.
    pub cooldown: u32,
    /// A reduction ends here at the lowest. The schedule itself may go lower.
    pub min_learning_rate: f64,
    pub maximize: bool,
}

impl PlateauRule {
    /// As a manifest keeps it, under the names that a request has.
    pub fn record(&self) -> serde_json::Value {
        serde_json::json!({
            "monitor": self.monitor,
            "factor": self.factor,
            "patience": self.patience,
            "min_delta": self.min_delta,
            "cooldown": self.cooldown,
            "min_learning_rate": self.min_learning_rate,
            "maximize": self.maximize,
        })
    }
}

/// The monitored value over the epochs, and what it has done to the learning rate.
#[derive(Debug)]
pub struct ReduceOnPlateau {
    rule: PlateauRule,
    state: PlateauState,
}

/// What the rule remembers from epoch to epoch.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlateauState {
    /// The best value so far.
    pub best: Option<f64>,
    /// Epochs in a row without a better one.
    pub waited: u32,
    /// Epochs left that do not count.
    pub cooling: u32,
    /// What the scheduled learning rate is multiplied by.
    pub scale: f32,
}

impl ReduceOnPlateau {
    pub fn new(rule: PlateauRule) -> Self {
        Self::resume(
            rule,
            PlateauState {
                best: None,
                waited: 0,
                cooling: 0,
                scale: 1.0,
            },
        )
    }

    /// Goes on from what an earlier one remembered.
    pub fn resume(rule: PlateauRule, state: PlateauState) -> Self {
        Self { rule, state }
    }

    pub fn state(&self) -> PlateauState {
        self.state
    }

    pub fn rule(&self) -> &PlateauRule {
        &self.rule
    }

    /// What the scheduled learning rate is multiplied by in the next epoch.
    pub fn scale(&self) -> f32 {
        self.state.scale
    }

    /// Takes the value of one more epoch, whose last step had the scheduled (not yet multiplied) learning rate. A value
    /// that is not a number is no improvement.
    pub fn observe(&mut self, value: f64, scheduled: f32) {
        if self.state.cooling > 0 {
            self.state.cooling -= 1;
            self.state.waited = 0;
        }
        let improved = !value.is_nan()
            && self.state.best.is_none_or(|best| {
                if self.rule.maximize {
                    value > best + self.rule.min_delta
                } else {
                    value < best - self.rule.min_delta
                }
            });
        if improved {
            self.state.best = Some(value);
            self.state.waited = 0;
            return;
        }
        if self.state.cooling > 0 {
            return;
        }
        self.state.waited += 1;
        if self.state.waited < self.rule.patience {
            return;
        }
        let rate = f64::from(scheduled) * f64::from(self.state.scale);
        // A hair above the lowest rate is the lowest rate, rounded.
        if rate > self.rule.min_learning_rate * (1.0 + 1e-6) {
            let reduced = (rate * self.rule.factor).max(self.rule.min_learning_rate);
            self.state.scale = (reduced / f64::from(scheduled)) as f32;
            self.state.cooling = self.rule.cooldown;
            self.state.waited = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedule_that_falls_by_itself_is_multiplied_and_may_go_below_the_lowest_reduction() {
        let mut plateau = ReduceOnPlateau::new(PlateauRule {
            monitor: "loss".into(),
            factor: 0.5,
            patience: 1,
            min_delta: 0.0,
            cooldown: 0,
            min_learning_rate: 0.03,
            maximize: false,
        });
        let schedule = [0.1, 0.1, 0.08, 0.08, 0.02, 0.0];
        let mut rates = Vec::new();
        for scheduled in schedule {
            rates.push(scheduled * plateau.scale());
            plateau.observe(1.0, scheduled);
        }
        // Halved after the second epoch, then cut at 0.03 after the third, a share of 0.375 from then on.
        let expected = [0.1, 0.1, 0.04, 0.03, 0.0075, 0.0];
        for (found, expected) in rates.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-8, "{rates:?}");
        }
    }

    #[test]
    fn what_is_no_number_is_no_improvement() {
        let mut plateau = ReduceOnPlateau::new(PlateauRule {
            monitor: "loss".into(),
            factor: 0.5,
            patience: 2,
            min_delta: 0.0,
            cooldown: 0,
            min_learning_rate: 0.0,
            maximize: false,
        });
        for value in [f64::NAN, 1.0, f64::NAN, f64::NAN] {
            plateau.observe(value, 0.1);
        }
        assert_eq!(plateau.scale(), 0.5);
    }
}

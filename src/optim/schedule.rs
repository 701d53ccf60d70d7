//! Learning rates over time: pure functions of step and epoch.

/// How the learning rate goes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    Constant {
        learning_rate: f64,
    },
    /// learning_rate * gamma^(epoch / step_size), whole division; epochs count from 0.
    Step {
        learning_rate: f64,
        step_size: u64,
        gamma: f64,
    },
}

impl Schedule {
    /// `step` counts from 1 over the whole job, `epoch` from 0.
    pub fn at(&self, _step: u64, epoch: u64) -> f32 {
        match *self {
            Schedule::Constant { learning_rate } => learning_rate as f32,
            Schedule::Step {
                learning_rate,
                step_size,
                gamma,
            } => (learning_rate * gamma.powf((epoch / step_size) as f64)) as f32,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_schedule_decays_every_so_many_epochs() {
        let schedule = Schedule::Step {
            learning_rate: 0.1,
            step_size: 3,
            gamma: 0.5,
        };
        let found: Vec<f32> = (0..7).map(|epoch| schedule.at(1, epoch)).collect();
        assert_eq!(found, [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025]);
    }
}

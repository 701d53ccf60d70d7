//! Learning rates over time: pure functions of step and epoch.
//!
//! Names, options and values are those of Keras' `keras.optimizers.schedules`; beside them PyTorch's `StepLR` and
//! `OneCycleLR`, and two that are made of others, a warm-up and a sequence. Computed in float64.

use std::f64::consts::PI;

use serde_json::{Value, json};

use super::error::OptimizerError;
use super::options::{Options, name_of, unknown, whole};

/// Largest learning rate that is taken.
const RATE_MAX: f64 = 1e6;
/// Most schedules inside one another.
const DEPTH_MAX: usize = 8;

/// How the learning rate goes. Steps count from 0 over the whole job, as Keras' iterations, epochs from 0.
#[derive(Debug, Clone, PartialEq)]
pub enum Schedule {
    Constant {
        learning_rate: f64,
    },
    /// learning_rate gamma^(epoch / step_size), whole division.
    Step {
        learning_rate: f64,
        step_size: u64,
        gamma: f64,
    },
    /// start rate^(step / steps); a staircase rounds the exponent down.
    Exponential {
        start: f64,
        steps: u64,
        rate: f64,
        staircase: bool,
    },
    /// start / (1 + rate step / steps); a staircase rounds the quotient down.
    InverseTime {
        start: f64,
        steps: u64,
        rate: f64,
        staircase: bool,
    },
    /// (start - end) (1 - step / steps)^power + end; in cycles the steps are stretched to the next multiple.
    Polynomial {
        start: f64,
        steps: u64,
        end: f64,
        power: f64,
        cycle: bool,
    },
    /// Half a cosine from the start (or, after a linear warm-up, from its target) to alpha of it.
    Cosine {
        start: f64,
        steps: u64,
        alpha: f64,
        warmup: Option<(f64, u64)>,
    },
    /// Half cosines one after the other, each `t_mul` times as long and `m_mul` times as high as the one before.
    CosineRestarts {
        start: f64,
        first_steps: u64,
        t_mul: f64,
        m_mul: f64,
        alpha: f64,
    },
    /// `values[i]` for steps up to and with `boundaries[i]`, the last value after the last boundary.
    Piecewise {
        boundaries: Vec<u64>,
        values: Vec<f64>,
    },
    /// Up to the maximum on half a cosine within the first share of the steps, down on another (Smith and Topin, 2018).
    OneCycle {
        max: f64,
        steps: u64,
        share_up: f64,
        start_divisor: f64,
        end_divisor: f64,
    },
    /// From `start` on a straight line to where `then` begins, which counts its steps from there.
    WarmUp {
        steps: u64,
        start: f64,
        then: Box<Schedule>,
    },
    /// Each for so many steps, which it counts from its own beginning; the last goes on.
    Sequence {
        parts: Vec<(Schedule, u64)>,
    },
}

const NAMES: &str = "constant, step, exponential_decay, inverse_time_decay, polynomial_decay, cosine_decay, \
                     cosine_decay_restarts, piecewise_constant_decay, one_cycle, warm_up, sequence";

impl Schedule {
    /// `step` counts from 1 over the whole job, `epoch` from 0.
    pub fn at(&self, step: u64, epoch: u64) -> f32 {
        self.rate(step.saturating_sub(1), epoch) as f32
    }

    fn rate(&self, step: u64, epoch: u64) -> f64 {
        let progress = |steps: u64| step as f64 / steps as f64;
        let stairs = |value: f64, staircase: bool| if staircase { value.floor() } else { value };
        match self {
            Schedule::Constant { learning_rate } => *learning_rate,
            Schedule::Step {
                learning_rate,
                step_size,
                gamma,
            } => learning_rate * gamma.powf((epoch / step_size) as f64),
            Schedule::Exponential {
                start,
                steps,
                rate,
                staircase,
            } => start * rate.powf(stairs(progress(*steps), *staircase)),
            Schedule::InverseTime {
                start,
                steps,
                rate,
                staircase,
            } => start / (1.0 + rate * stairs(progress(*steps), *staircase)),
            Schedule::Polynomial {
                start,
                steps,
                end,
                power,
                cycle,
            } => {
                let share = if *cycle {
                    progress(*steps) / progress(*steps).ceil().max(1.0)
                } else {
                    progress(*steps).min(1.0)
                };
                (start - end) * (1.0 - share).powf(*power) + end
            }
            Schedule::Cosine {
                start,
                steps,
                alpha,
                warmup,
            } => {
                let down = |from: f64, share: f64| {
                    from * ((1.0 - alpha) * half_cosine(share.min(1.0)) + alpha)
                };
                match warmup {
                    Some((target, length)) if step < *length => {
                        start + (target - start) * progress(*length)
                    }
                    Some((target, length)) => down(*target, (step - length) as f64 / *steps as f64),
                    None => down(*start, progress(*steps)),
                }
            }
            Schedule::CosineRestarts {
                start,
                first_steps,
                t_mul,
                m_mul,
                alpha,
            } => {
                let (restarts, share) = restarts_before(progress(*first_steps), *t_mul);
                let height = m_mul.powf(restarts);
                start * ((1.0 - alpha) * height * half_cosine(share) + alpha)
            }
            Schedule::Piecewise { boundaries, values } => {
                values[boundaries.partition_point(|&boundary| boundary < step)]
            }
            Schedule::OneCycle {
                max,
                steps,
                share_up,
                start_divisor,
                end_divisor,
            } => {
                let first = max / start_divisor;
                let last = first / end_divisor;
                // PyTorch's phases end on step indices: the first at share * steps - 1, the second at steps - 1.
                let up = share_up * *steps as f64 - 1.0;
                let end = *steps as f64 - 1.0;
                let step = (step as f64).min(end);
                if step <= up {
                    let share = if up > 0.0 { step / up } else { 1.0 };
                    max + (first - max) * half_cosine(share)
                } else {
                    let share = if end > up {
                        (step - up) / (end - up)
                    } else {
                        1.0
                    };
                    last + (max - last) * half_cosine(share)
                }
            }
            Schedule::WarmUp { steps, start, then } => {
                if step < *steps {
                    start + (then.rate(0, epoch) - start) * progress(*steps)
                } else {
                    then.rate(step - steps, epoch)
                }
            }
            Schedule::Sequence { parts } => {
                let mut step = step;
                for (part, steps) in &parts[..parts.len() - 1] {
                    if step < *steps {
                        return part.rate(step, epoch);
                    }
                    step -= steps;
                }
                parts[parts.len() - 1].0.rate(step, epoch)
            }
        }
    }

    /// Reads a number or an object; `default` is the rate of one that names none.
    pub(super) fn from_json(
        value: &Value,
        default: f64,
        owner: &Options<'_>,
    ) -> Result<Schedule, OptimizerError> {
        read(value, default, owner, DEPTH_MAX)
    }

    pub(super) fn to_json(&self) -> Value {
        match self {
            Schedule::Constant { learning_rate } => json!(learning_rate),
            Schedule::Step {
                learning_rate,
                step_size,
                gamma,
            } => {
                json!({"name": "step", "learning_rate": learning_rate, "step_size": step_size, "gamma": gamma})
            }
            Schedule::Exponential {
                start,
                steps,
                rate,
                staircase,
            } => {
                json!({"name": "exponential_decay", "initial_learning_rate": start, "decay_steps": steps,
                        "decay_rate": rate, "staircase": staircase})
            }
            Schedule::InverseTime {
                start,
                steps,
                rate,
                staircase,
            } => {
                json!({"name": "inverse_time_decay", "initial_learning_rate": start, "decay_steps": steps,
                        "decay_rate": rate, "staircase": staircase})
            }
            Schedule::Polynomial {
                start,
                steps,
                end,
                power,
                cycle,
            } => {
                json!({"name": "polynomial_decay", "initial_learning_rate": start, "decay_steps": steps,
                        "end_learning_rate": end, "power": power, "cycle": cycle})
            }
            Schedule::Cosine {
                start,
                steps,
                alpha,
                warmup,
            } => {
                json!({"name": "cosine_decay", "initial_learning_rate": start, "decay_steps": steps, "alpha": alpha,
                        "warmup_target": warmup.map(|(target, _)| target), "warmup_steps": warmup.map(|(_, steps)| steps)})
            }
            Schedule::CosineRestarts {
                start,
                first_steps,
                t_mul,
                m_mul,
                alpha,
            } => {
                json!({"name": "cosine_decay_restarts", "initial_learning_rate": start, "first_decay_steps": first_steps,
                        "t_mul": t_mul, "m_mul": m_mul, "alpha": alpha})
            }
            Schedule::Piecewise { boundaries, values } => {
                json!({"name": "piecewise_constant_decay", "boundaries": boundaries, "values": values})
            }
            Schedule::OneCycle {
                max,
                steps,
                share_up,
                start_divisor,
                end_divisor,
            } => {
                json!({"name": "one_cycle", "max_learning_rate": max, "total_steps": steps, "share_up": share_up,
                        "start_divisor": start_divisor, "end_divisor": end_divisor})
            }
            Schedule::WarmUp { steps, start, then } => {
                json!({"name": "warm_up", "steps": steps, "start": start, "then": then.to_json()})
            }
            Schedule::Sequence { parts } => {
                let parts: Vec<Value> = parts
                    .iter()
                    .map(|(part, steps)| json!({"learning_rate": part.to_json(), "steps": steps}))
                    .collect();
                json!({"name": "sequence", "parts": parts})
            }
        }
    }
}

/// From 1 at 0 to 0 at 1.
fn half_cosine(share: f64) -> f64 {
    0.5 * (1.0 + (PI * share).cos())
}

/// How many cosines have ended, and how far the one under way is, when `time` first lengths have passed.
fn restarts_before(time: f64, t_mul: f64) -> (f64, f64) {
    if t_mul == 1.0 {
        return (time.floor(), time.fract());
    }
    // The n-th restart is at (1 - t^n) / (1 - t).
    let restarts = ((1.0 - time * (1.0 - t_mul)).ln() / t_mul.ln()).floor();
    let length = t_mul.powf(restarts);
    (restarts, (time - (1.0 - length) / (1.0 - t_mul)) / length)
}

fn read(
    value: &Value,
    default: f64,
    owner: &Options<'_>,
    depth: usize,
) -> Result<Schedule, OptimizerError> {
    let Value::Object(values) = value else {
        return match value.as_f64() {
            Some(learning_rate) if (0.0..=RATE_MAX).contains(&learning_rate) => {
                Ok(Schedule::Constant { learning_rate })
            }
            _ => Err(owner.bad(
                "learning_rate",
                value,
                format!("give a number from 0 to {RATE_MAX} or a schedule"),
            )),
        };
    };
    if depth == 0 {
        return Err(OptimizerError::Malformed {
            problem: format!("its schedules are more than {DEPTH_MAX} inside one another"),
        });
    }
    let name = name_of(values)?;
    let mut options = Options::new(name, values);
    let schedule = match name {
        "constant" => Schedule::Constant {
            learning_rate: options.number("learning_rate", default, 0.0, RATE_MAX)?,
        },
        "step" => Schedule::Step {
            learning_rate: options.number("learning_rate", default, 0.0, RATE_MAX)?,
            step_size: options.count("step_size", "epochs")?,
            gamma: options.number("gamma", 0.1, 0.0, RATE_MAX)?,
        },
        "exponential_decay" => Schedule::Exponential {
            start: start(&mut options, default)?,
            steps: options.count("decay_steps", "steps")?,
            rate: options.number("decay_rate", 0.96, 0.0, RATE_MAX)?,
            staircase: options.flag("staircase")?,
        },
        "inverse_time_decay" => Schedule::InverseTime {
            start: start(&mut options, default)?,
            steps: options.count("decay_steps", "steps")?,
            rate: options.number("decay_rate", 0.5, 0.0, RATE_MAX)?,
            staircase: options.flag("staircase")?,
        },
        "polynomial_decay" => Schedule::Polynomial {
            start: start(&mut options, default)?,
            steps: options.count("decay_steps", "steps")?,
            end: options.number("end_learning_rate", 1e-4, 0.0, RATE_MAX)?,
            power: options.number("power", 1.0, 0.0, 1e3)?,
            cycle: options.flag("cycle")?,
        },
        "cosine_decay" => {
            let (start, steps) = (
                start(&mut options, default)?,
                options.count("decay_steps", "steps")?,
            );
            let alpha = options.number("alpha", 0.0, 0.0, 1.0)?;
            let target = options.optional_number("warmup_target", 0.0, RATE_MAX)?;
            let length = match target {
                Some(_) => options.count("warmup_steps", "steps")?,
                None => {
                    let given = options.value("warmup_steps");
                    if let Some(given) = given.filter(|given| given.as_f64() != Some(0.0)) {
                        return Err(options.bad(
                            "warmup_steps",
                            given,
                            "give \"warmup_target\" too".into(),
                        ));
                    }
                    0
                }
            };
            Schedule::Cosine {
                start,
                steps,
                alpha,
                warmup: target.map(|target| (target, length)),
            }
        }
        "cosine_decay_restarts" => Schedule::CosineRestarts {
            start: start(&mut options, default)?,
            first_steps: options.count("first_decay_steps", "steps")?,
            t_mul: options.number("t_mul", 2.0, 1.0, 1e3)?,
            m_mul: options.number("m_mul", 1.0, 0.0, 1e3)?,
            alpha: options.number("alpha", 0.0, 0.0, 1.0)?,
        },
        "piecewise_constant_decay" => {
            let boundaries =
                options.list("boundaries", "give rising whole numbers of steps", whole)?;
            if !boundaries.is_sorted_by(|a, b| a < b) {
                let found = values.get("boundaries").unwrap_or(&Value::Null);
                return Err(options.bad(
                    "boundaries",
                    found,
                    "give rising whole numbers of steps".into(),
                ));
            }
            let rates =
                options.list("values", "give a learning rate for each stretch", |value| {
                    value
                        .as_f64()
                        .filter(|rate| (0.0..=RATE_MAX).contains(rate))
                })?;
            if rates.len() != boundaries.len() + 1 {
                let found = values.get("values").unwrap_or(&Value::Null);
                let hint = format!(
                    "give {} learning rates: one more than boundaries",
                    boundaries.len() + 1
                );
                return Err(options.bad("values", found, hint));
            }
            Schedule::Piecewise {
                boundaries,
                values: rates,
            }
        }
        "one_cycle" => Schedule::OneCycle {
            max: options.number("max_learning_rate", default, 0.0, RATE_MAX)?,
            steps: options.count("total_steps", "steps")?,
            share_up: options.number("share_up", 0.3, 0.0, 1.0)?,
            start_divisor: options.number("start_divisor", 25.0, 1.0, 1e12)?,
            end_divisor: options.number("end_divisor", 1e4, 1.0, 1e12)?,
        },
        "warm_up" => Schedule::WarmUp {
            steps: options.count("steps", "steps")?,
            start: options.number("start", 0.0, 0.0, RATE_MAX)?,
            then: {
                let then = options.value("then").unwrap_or(&Value::Null);
                Box::new(read(then, default, &options, depth - 1)?)
            },
        },
        "sequence" => {
            let hint = "give objects with a \"learning_rate\" and its \"steps\"";
            let listed = options.list("parts", hint, |part| part.as_object().cloned())?;
            let mut parts = Vec::with_capacity(listed.len());
            for part in &listed {
                let mut inner = Options::new(name, part);
                let rate = inner.value("learning_rate").unwrap_or(&Value::Null);
                parts.push((
                    read(rate, default, &inner, depth - 1)?,
                    inner.count("steps", "steps")?,
                ));
                inner.finish()?;
            }
            Schedule::Sequence { parts }
        }
        _ => return Err(unknown("schedule", name, NAMES)),
    };
    options.finish()?;
    Ok(schedule)
}

fn start(options: &mut Options<'_>, default: f64) -> Result<f64, OptimizerError> {
    options.number("initial_learning_rate", default, 0.0, RATE_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(description: &Value) -> Result<Schedule, OptimizerError> {
        let none = serde_json::Map::new();
        Schedule::from_json(description, 0.001, &Options::new("sgd", &none))
    }

    #[test]
    fn a_step_schedule_decays_every_so_many_epochs() {
        let schedule =
            schedule(&json!({"name": "step", "learning_rate": 0.1, "step_size": 3, "gamma": 0.5}));
        let schedule = schedule.unwrap();
        let found: Vec<f32> = (0..7).map(|epoch| schedule.at(1, epoch)).collect();
        assert_eq!(found, [0.1, 0.1, 0.1, 0.05, 0.05, 0.05, 0.025]);
    }

    #[test]
    fn schedules_are_made_of_schedules() {
        let warm = json!({"name": "warm_up", "steps": 4, "start": 0.1, "then":
            {"name": "piecewise_constant_decay", "boundaries": [1], "values": [0.5, 0.25]}});
        let warm = schedule(&warm).unwrap();
        let found: Vec<f32> = (1..=8).map(|step| warm.at(step, 0)).collect();
        assert_eq!(found, [0.1, 0.2, 0.3, 0.4, 0.5, 0.5, 0.25, 0.25]);

        let parts = json!({"name": "sequence", "parts": [
            {"learning_rate": 0.5, "steps": 2}, {"learning_rate": {"name": "exponential_decay",
            "initial_learning_rate": 1.0, "decay_steps": 1, "decay_rate": 0.5}, "steps": 1}]});
        let parts = schedule(&parts).unwrap();
        let found: Vec<f32> = (1..=5).map(|step| parts.at(step, 0)).collect();
        assert_eq!(found, [0.5, 0.5, 1.0, 0.5, 0.25]);
    }

    #[test]
    fn a_schedule_is_written_back_as_it_was_read() {
        for description in [
            json!(0.25),
            json!({"name": "step", "learning_rate": 0.1, "step_size": 2, "gamma": 0.5}),
            json!({"name": "exponential_decay", "initial_learning_rate": 0.1, "decay_steps": 9, "decay_rate": 0.5, "staircase": true}),
            json!({"name": "inverse_time_decay", "initial_learning_rate": 0.1, "decay_steps": 9, "decay_rate": 0.5, "staircase": false}),
            json!({"name": "polynomial_decay", "initial_learning_rate": 0.1, "decay_steps": 9, "end_learning_rate": 0.0, "power": 2.0, "cycle": true}),
            json!({"name": "cosine_decay", "initial_learning_rate": 0.0, "decay_steps": 9, "alpha": 0.1, "warmup_target": 0.5, "warmup_steps": 3}),
            json!({"name": "cosine_decay_restarts", "initial_learning_rate": 0.1, "first_decay_steps": 9, "t_mul": 2.0, "m_mul": 0.5, "alpha": 0.0}),
            json!({"name": "piecewise_constant_decay", "boundaries": [3, 7], "values": [0.1, 0.2, 0.3]}),
            json!({"name": "one_cycle", "max_learning_rate": 0.1, "total_steps": 100, "share_up": 0.3, "start_divisor": 25.0, "end_divisor": 1e4}),
            json!({"name": "warm_up", "steps": 5, "start": 0.0, "then": 0.1}),
            json!({"name": "sequence", "parts": [{"learning_rate": 0.1, "steps": 5}]}),
        ] {
            assert_eq!(schedule(&description).unwrap().to_json(), description);
        }
    }

    #[test]
    fn what_is_no_schedule_is_refused_with_a_remedy() {
        let mut deep = json!(0.1);
        for _ in 0..20 {
            deep = json!({"name": "warm_up", "steps": 1, "then": deep});
        }
        for (description, expected) in [
            (
                json!({"name": "cosine"}),
                "unknown schedule \"cosine\"; known are constant, step, exponential_decay",
            ),
            (
                json!(-1),
                "sgd: option \"learning_rate\" cannot be -1; give a number from 0",
            ),
            (
                json!({"name": "exponential_decay"}),
                "exponential_decay: option \"decay_steps\" cannot be null; give a whole number of steps",
            ),
            (
                json!({"name": "cosine_decay", "decay_steps": 3, "warmup_steps": 2}),
                "cosine_decay: option \"warmup_steps\" cannot be 2; give \"warmup_target\" too",
            ),
            (
                json!({"name": "piecewise_constant_decay", "boundaries": [3, 3], "values": [1, 2, 3]}),
                "piecewise_constant_decay: option \"boundaries\" cannot be [3,3]",
            ),
            (
                json!({"name": "piecewise_constant_decay", "boundaries": [3], "values": [1]}),
                "piecewise_constant_decay: option \"values\" cannot be [1]; give 2 learning rates",
            ),
            (
                json!({"name": "sequence", "parts": []}),
                "sequence: option \"parts\" cannot be []",
            ),
            (
                json!({"name": "warm_up", "steps": 3}),
                "warm_up: option \"learning_rate\" cannot be null",
            ),
            (
                deep,
                "the optimizer description is malformed: its schedules are more than 8 inside one another",
            ),
        ] {
            let message = schedule(&description).unwrap_err().to_string();
            assert!(message.starts_with(expected), "{message}");
        }
    }
}

//! An optimiser from its description: `{"name": "adam", "learning_rate": 0.001}`.
//!
//! A learning rate is a number or a schedule: `{"name": "constant", "learning_rate": r}` or
//! `{"name": "step", "learning_rate": r, "step_size": epochs, "gamma": g}`. Names and defaults are Keras'.

use serde_json::{Map, Value, json};

use super::chain::Chain;
use super::error::OptimizerError;
use super::recipes;
use super::schedule::Schedule;
use super::transform::{Moment, Scope};

/// An optimiser as described by a client, every option filled in.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimizerSpec {
    recipe: Recipe,
    schedule: Schedule,
}

#[derive(Debug, Clone, PartialEq)]
enum Recipe {
    Sgd {
        momentum: f64,
        nesterov: bool,
    },
    Adam {
        beta_1: f64,
        beta_2: f64,
        epsilon: f64,
    },
    AdamW {
        beta_1: f64,
        beta_2: f64,
        epsilon: f64,
        weight_decay: f64,
    },
}

impl OptimizerSpec {
    /// Reads a description: an object, or only a name for all defaults.
    pub fn from_json(json: &Value) -> Result<Self, OptimizerError> {
        let only_name;
        let values = match json {
            Value::Object(values) => values,
            Value::String(name) => {
                only_name = Map::from_iter([("name".to_string(), json!(name))]);
                &only_name
            }
            _ => {
                return Err(OptimizerError::Malformed {
                    problem: "it is neither an object nor a name".to_string(),
                });
            }
        };
        let name = name_of(values)?;
        let mut options = Options {
            name,
            values,
            known: vec!["name"],
        };
        let default_rate = if name == "sgd" { 0.01 } else { 0.001 };
        let schedule = options.schedule(default_rate)?;
        let recipe = match name {
            "sgd" => Recipe::Sgd {
                momentum: options.number("momentum", 0.0, 0.0, 1.0)?,
                nesterov: options.flag("nesterov")?,
            },
            "adam" | "adamw" => {
                // A beta of 1 never learns and divides by zero.
                let (beta_1, beta_2) = (
                    options.number("beta_1", 0.9, 0.0, 0.999_999_9)?,
                    options.number("beta_2", 0.999, 0.0, 0.999_999_9)?,
                );
                let epsilon = options.number("epsilon", 1e-7, 1e-30, 1.0)?;
                if name == "adam" {
                    Recipe::Adam {
                        beta_1,
                        beta_2,
                        epsilon,
                    }
                } else {
                    Recipe::AdamW {
                        beta_1,
                        beta_2,
                        epsilon,
                        weight_decay: options.number("weight_decay", 0.004, 0.0, 1e3)?,
                    }
                }
            }
            _ => return Err(unknown("optimizer", name, "sgd, adam, adamw")),
        };
        options.finish()?;
        Ok(OptimizerSpec { recipe, schedule })
    }

    pub fn to_json(&self) -> Value {
        let mut json = match &self.recipe {
            Recipe::Sgd { momentum, nesterov } => {
                json!({"name": "sgd", "momentum": momentum, "nesterov": nesterov})
            }
            Recipe::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => json!({"name": "adam", "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon}),
            Recipe::AdamW {
                beta_1,
                beta_2,
                epsilon,
                weight_decay,
            } => {
                json!({"name": "adamw", "beta_1": beta_1, "beta_2": beta_2, "epsilon": epsilon, "weight_decay": weight_decay})
            }
        };
        json["learning_rate"] = match self.schedule {
            Schedule::Constant { learning_rate } => json!(learning_rate),
            Schedule::Step {
                learning_rate,
                step_size,
                gamma,
            } => {
                json!({"name": "step", "learning_rate": learning_rate, "step_size": step_size, "gamma": gamma})
            }
        };
        json
    }
}

/// An optimiser ready to update any cut of the flat parameter vector: elementwise throughout, so cuts do not matter.
#[derive(Debug)]
pub struct Optimizer {
    chain: Chain,
    schedule: Schedule,
    slot_names: Vec<&'static str>,
}

impl Optimizer {
    pub fn build(spec: &OptimizerSpec) -> Result<Optimizer, OptimizerError> {
        let chain = match spec.recipe {
            Recipe::Sgd { momentum, nesterov } => recipes::sgd(momentum, nesterov),
            Recipe::Adam {
                beta_1,
                beta_2,
                epsilon,
            } => recipes::adam(beta_1, beta_2, epsilon),
            Recipe::AdamW {
                beta_1,
                beta_2,
                epsilon,
                weight_decay,
            } => recipes::adamw(beta_1, beta_2, epsilon, weight_decay),
        };
        let slot_names = chain.slot_names();
        Ok(Optimizer {
            chain,
            schedule: spec.schedule,
            slot_names,
        })
    }

    /// State vectors per parameter vector, all starting at zero, each as long as the parameters.
    pub fn slots(&self) -> usize {
        self.slot_names.len()
    }

    pub fn slot_names(&self) -> &[&'static str] {
        &self.slot_names
    }

    /// Whether an update needs more than the numbers of the cut itself.
    pub fn scope(&self) -> Scope {
        self.chain.scope()
    }

    /// `step` counts from 1 over the whole job, `epoch` from 0.
    pub fn learning_rate(&self, step: u64, epoch: u64) -> f32 {
        self.schedule.at(step, epoch)
    }

    /// One update of a cut of the vector; `step` counts from 1.
    ///
    /// Panics when gradient or slots are not as long as the parameters, or there are not `slots()` of them.
    pub fn update(
        &self,
        step: u64,
        learning_rate: f32,
        parameters: &mut [f32],
        gradient: &[f32],
        slots: &mut [Vec<f32>],
    ) {
        self.chain.update(
            &Moment {
                step,
                learning_rate,
            },
            parameters,
            gradient,
            slots,
        );
    }
}

fn name_of(values: &Map<String, Value>) -> Result<&str, OptimizerError> {
    values
        .get("name")
        .and_then(Value::as_str)
        .ok_or_else(|| OptimizerError::Malformed {
            problem: "it has no name".to_string(),
        })
}

fn unknown(what: &'static str, found: &str, known: &str) -> OptimizerError {
    OptimizerError::UnknownName {
        what,
        found: found.chars().take(80).collect(),
        known: known.to_string(),
    }
}

/// Options taken by name; what is left over is refused by name.
struct Options<'a> {
    name: &'a str,
    values: &'a Map<String, Value>,
    known: Vec<&'static str>,
}

impl<'a> Options<'a> {
    fn value(&mut self, option: &'static str) -> Option<&'a Value> {
        self.known.push(option);
        self.values.get(option).filter(|value| !value.is_null())
    }

    fn number(
        &mut self,
        option: &'static str,
        default: f64,
        low: f64,
        high: f64,
    ) -> Result<f64, OptimizerError> {
        let Some(value) = self.value(option) else {
            return Ok(default);
        };
        match value.as_f64() {
            Some(number) if (low..=high).contains(&number) => Ok(number),
            _ => Err(self.bad(option, value, format!("give a number from {low} to {high}"))),
        }
    }

    fn flag(&mut self, option: &'static str) -> Result<bool, OptimizerError> {
        let Some(value) = self.value(option) else {
            return Ok(false);
        };
        value
            .as_bool()
            .ok_or_else(|| self.bad(option, value, "give true or false".to_string()))
    }

    fn schedule(&mut self, default: f64) -> Result<Schedule, OptimizerError> {
        let Some(value) = self.value("learning_rate") else {
            return Ok(Schedule::Constant {
                learning_rate: default,
            });
        };
        let Value::Object(values) = value else {
            return match value.as_f64() {
                Some(learning_rate) if (0.0..=1e6).contains(&learning_rate) => {
                    Ok(Schedule::Constant { learning_rate })
                }
                _ => Err(self.bad(
                    "learning_rate",
                    value,
                    "give a number from 0 to 1000000 or a schedule".to_string(),
                )),
            };
        };
        let name = name_of(values)?;
        let mut inner = Options {
            name,
            values,
            known: vec!["name"],
        };
        let learning_rate = inner.number("learning_rate", default, 0.0, 1e6)?;
        let schedule = match name {
            "constant" => Schedule::Constant { learning_rate },
            "step" => {
                let size = inner.value("step_size").cloned().unwrap_or(Value::Null);
                let step_size = size.as_u64().filter(|size| *size > 0);
                let step_size = step_size.ok_or_else(|| {
                    inner.bad(
                        "step_size",
                        &size,
                        "give a whole number of epochs from 1".to_string(),
                    )
                })?;
                Schedule::Step {
                    learning_rate,
                    step_size,
                    gamma: inner.number("gamma", 0.1, 0.0, 1e6)?,
                }
            }
            _ => return Err(unknown("schedule", name, "constant, step")),
        };
        inner.finish()?;
        Ok(schedule)
    }

    fn bad(&self, option: &str, found: &Value, hint: String) -> OptimizerError {
        let found = found.to_string().chars().take(80).collect();
        OptimizerError::BadOption {
            name: self.name.to_string(),
            option: option.to_string(),
            found,
            hint,
        }
    }

    fn finish(self) -> Result<(), OptimizerError> {
        match self
            .values
            .keys()
            .find(|key| !self.known.contains(&key.as_str()))
        {
            Some(option) => Err(OptimizerError::UnknownOption {
                name: self.name.to_string(),
                option: option.chars().take(80).collect(),
                known: self.known.join(", "),
            }),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_written_back_with_every_option_filled_in() {
        let spec = OptimizerSpec::from_json(&json!("adamw")).unwrap();
        assert_eq!(
            spec.to_json(),
            json!({"name": "adamw", "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7, "weight_decay": 0.004})
        );
        let step = json!({"name": "sgd", "momentum": 0.9, "nesterov": true,
            "learning_rate": {"name": "step", "learning_rate": 0.1, "step_size": 2, "gamma": 0.5}});
        assert_eq!(OptimizerSpec::from_json(&step).unwrap().to_json(), step);
        let optimizer = Optimizer::build(&OptimizerSpec::from_json(&step).unwrap()).unwrap();
        assert_eq!(
            (optimizer.learning_rate(1, 1), optimizer.learning_rate(9, 2)),
            (0.1, 0.05)
        );
    }

    #[test]
    fn unknown_names_and_options_are_refused_by_name() {
        check(
            json!({"name": "adagrad"}),
            "unknown optimizer \"adagrad\"; known are sgd, adam, adamw",
        );
        check(
            json!({"name": "adam", "lr": 0.1}),
            "adam: unknown option \"lr\"; known are name, learning_rate, beta_1",
        );
        check(
            json!({"name": "adam", "beta_1": 1.0}),
            "adam: option \"beta_1\" cannot be 1.0; give a number from 0",
        );
        check(
            json!({"name": "sgd", "learning_rate": {"name": "cosine"}}),
            "unknown schedule \"cosine\"; known are constant, step",
        );
        check(
            json!({"name": "sgd", "learning_rate": -1}),
            "sgd: option \"learning_rate\" cannot be -1",
        );
        check(json!(3), "the optimizer description is malformed");
    }

    #[test]
    fn any_cut_of_the_vector_gives_the_same_bits() {
        for name in ["sgd", "adam", "adamw"] {
            let mut description = json!({"name": name});
            if name == "sgd" {
                description["momentum"] = json!(0.9);
            }
            let optimizer =
                Optimizer::build(&OptimizerSpec::from_json(&description).unwrap()).unwrap();
            let whole = train(&optimizer, &[3001]);
            assert_eq!(train(&optimizer, &[1, 15, 2000, 985]), whole, "{name}");
            assert_eq!(
                train(
                    &optimizer,
                    &[513; 5].iter().copied().chain([436]).collect::<Vec<_>>()
                ),
                whole,
                "{name}"
            );
        }
    }

    /// Three updates of 3001 parameters, each cut updated on its own.
    fn train(optimizer: &Optimizer, cuts: &[usize]) -> Vec<u32> {
        // Numbers without pattern enough: optim knows no random streams.
        let mut next = 0u32;
        let mut numbers = || -> Vec<f32> {
            let drawn = (0..3001).map(|_| {
                next += 1;
                (next as f32 * 12.9898).sin()
            });
            drawn.collect()
        };
        let (mut parameters, gradients) = (numbers(), [numbers(), numbers(), numbers()]);
        let mut start = 0;
        for &cut in cuts {
            let range = start..start + cut;
            let mut slots = vec![vec![0.0; cut]; optimizer.slots()];
            for (step, gradient) in (1..).zip(&gradients) {
                optimizer.update(
                    step,
                    0.01,
                    &mut parameters[range.clone()],
                    &gradient[range.clone()],
                    &mut slots,
                );
            }
            start += cut;
        }
        assert_eq!(start, 3001);
        parameters.iter().map(|value| value.to_bits()).collect()
    }

    fn check(description: Value, expected: &str) {
        let message = OptimizerSpec::from_json(&description)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

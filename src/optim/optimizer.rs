//! An optimiser from its description: `{"name": "adam", "learning_rate": 0.001}`.
//!
//! A learning rate is a number or a schedule (`schedule.rs`). Names, options and defaults are Keras'; which there are is
//! the table of `recipes.rs`.

use serde_json::{Map, Value, json};

use super::chain::Chain;
use super::error::OptimizerError;
use super::options::{Options, name_of, unknown};
use super::recipes::{RECIPES, Recipe, Setting};
use super::schedule::Schedule;
use super::transforms::{ClipByValue, DecayWeights, Moment, Scope};

/// An optimiser as described by a client, every option filled in.
#[derive(Debug, Clone)]
pub struct OptimizerSpec {
    recipe: &'static Recipe,
    schedule: Schedule,
    /// A number per entry of `recipe.settings`; 0 and 1 for flags.
    values: Vec<f64>,
    weight_decay: Option<f64>,
    clip_value: Option<f64>,
}

impl PartialEq for OptimizerSpec {
    fn eq(&self, other: &Self) -> bool {
        self.to_json() == other.to_json()
    }
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
        let recipe = RECIPES
            .iter()
            .find(|recipe| recipe.name == name)
            .ok_or_else(|| {
                let known: Vec<&str> = RECIPES.iter().map(|recipe| recipe.name).collect();
                unknown("optimizer", name, &known.join(", "))
            })?;
        let mut options = Options::new(name, values);
        let schedule = match options.value("learning_rate") {
            Some(value) => Schedule::from_json(value, recipe.learning_rate, &options)?,
            None => Schedule::Constant {
                learning_rate: recipe.learning_rate,
            },
        };
        let values = recipe
            .settings
            .iter()
            .map(|setting| match *setting {
                Setting::Number(name, default, low, high) => {
                    options.number(name, default, low, high)
                }
                Setting::Flag(name) => options.flag(name).map(|flag| f64::from(u8::from(flag))),
            })
            .collect::<Result<_, _>>()?;
        let weight_decay = match recipe.weight_decay {
            Some(default) => options
                .optional_number("weight_decay", 0.0, 1e3)?
                .or(Some(default).filter(|default| *default > 0.0)),
            None => None,
        };
        let clip_value = options.optional_number("clipvalue", 1e-30, 1e30)?;
        options.finish()?;
        Ok(OptimizerSpec {
            recipe,
            schedule,
            values,
            weight_decay,
            clip_value,
        })
    }

    pub fn to_json(&self) -> Value {
        let mut json = json!({"name": self.recipe.name, "learning_rate": self.schedule.to_json()});
        for (setting, &value) in self.recipe.settings.iter().zip(&self.values) {
            match *setting {
                Setting::Number(name, ..) => json[name] = json!(value),
                Setting::Flag(name) => json[name] = json!(value != 0.0),
            }
        }
        for (name, value) in [
            ("weight_decay", self.weight_decay),
            ("clipvalue", self.clip_value),
        ] {
            if let Some(value) = value {
                json[name] = json!(value);
            }
        }
        json
    }
}

/// An optimiser ready to update any cut of the flat parameter vector: elementwise throughout, so cuts do not matter.
#[derive(Debug)]
pub struct Optimizer {
    chain: Chain,
    schedule: Schedule,
    slots: Vec<(&'static str, f32)>,
}

impl Optimizer {
    pub fn build(spec: &OptimizerSpec) -> Result<Optimizer, OptimizerError> {
        let mut transforms = Vec::new();
        if let Some(limit) = spec.clip_value {
            let limit = limit as f32;
            transforms.push(Box::new(ClipByValue { limit }) as _);
        }
        transforms.extend((spec.recipe.transforms)(&spec.values));
        if let Some(decay) = spec.weight_decay {
            let decay = decay as f32;
            transforms.push(Box::new(DecayWeights { decay }) as _);
        }
        let chain = Chain::new(transforms);
        Ok(Optimizer {
            slots: chain.slots(),
            chain,
            schedule: spec.schedule.clone(),
        })
    }

    /// State vectors per parameter vector, each as long as the parameters.
    pub fn slots(&self) -> usize {
        self.slots.len()
    }

    /// The state of so many parameters before the first update.
    pub fn first_slots(&self, parameters: usize) -> Vec<Vec<f32>> {
        let slot = |(_, start): &(&str, f32)| vec![*start; parameters];
        self.slots.iter().map(slot).collect()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_description_is_written_back_with_every_option_filled_in() {
        let spec = OptimizerSpec::from_json(&json!("adamw")).unwrap();
        assert_eq!(
            spec.to_json(),
            json!({"name": "adamw", "learning_rate": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-7,
                "amsgrad": false, "weight_decay": 0.004})
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
            json!({"name": "adamm"}),
            "unknown optimizer \"adamm\"; known are sgd, adam, adamw, adamax, nadam",
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
            "unknown schedule \"cosine\"; known are constant, step, exponential_decay",
        );
        check(
            json!({"name": "sgd", "learning_rate": -1}),
            "sgd: option \"learning_rate\" cannot be -1",
        );
        check(json!(3), "the optimizer description is malformed");
    }

    #[test]
    fn any_cut_of_the_vector_gives_the_same_bits() {
        for recipe in RECIPES {
            let name = recipe.name;
            let mut description = json!({"name": name, "clipvalue": 0.5});
            for setting in recipe.settings {
                match *setting {
                    Setting::Flag(flag) => description[flag] = json!(true),
                    Setting::Number("momentum", ..) => description["momentum"] = json!(0.9),
                    Setting::Number(..) => {}
                }
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
            let mut slots = optimizer.first_slots(cut);
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

//! An optimiser from its description: `{"name": "adam", "learning_rate": 0.001}`.
//!
//! A learning rate is a number or a schedule (`schedule.rs`). Names, options and defaults are Keras'; which there are is
//! the table of `recipes.rs`, besides what every optimiser takes: clipping, gradients gathered over steps, averaged
//! weights.

use serde_json::{Map, Value, json};

use super::average::MovingAverage;
use super::error::OptimizerError;
use super::optimizer::Optimizer;
use super::options::{Options, name_of, unknown};
use super::recipes::{RECIPES, Recipe, Setting};
use super::schedule::Schedule;
use super::transforms::Scope;

/// An optimiser as described by a client, every option filled in.
#[derive(Debug, Clone)]
pub struct OptimizerSpec {
    pub(super) recipe: &'static Recipe,
    pub(super) schedule: Schedule,
    /// A number per entry of `recipe.settings`; 0 and 1 for flags.
    pub(super) values: Vec<f64>,
    pub(super) weight_decay: Option<f64>,
    pub(super) clip: Option<Clip>,
    /// Steps whose mean gradient makes one update.
    pub(super) accumulation: Option<u64>,
    pub(super) average: Option<MovingAverage>,
}

/// What is done to gradients that are too large. One kind at most, as Keras has it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Clip {
    Value(f64),
    Norm(f64),
    GlobalNorm(f64),
}

/// Momentum of the weights' average where none is given.
const EMA_MOMENTUM: f64 = 0.99;

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
        let clip = read_clip(&mut options)?;
        let accumulation = options.optional_count(
            "gradient_accumulation_steps",
            2,
            "give a whole number of steps from 2, or leave it out to update at every step",
        )?;
        let average = read_average(&mut options)?;
        options.finish()?;
        Ok(OptimizerSpec {
            recipe,
            schedule,
            values,
            weight_decay,
            clip,
            accumulation,
            average,
        })
    }

    /// Whether tables with sparse gradients may be trained by it: only the rows of a step are updated then, so everything
    /// that would change or count the other rows is refused.
    pub fn check_sparse(&self) -> Result<(), OptimizerError> {
        let json = self.to_json();
        let refuse = |option: &str, reason: &str| {
            Err(OptimizerError::BadOption {
                name: self.recipe.name.to_string(),
                option: option.to_string(),
                found: json[option].to_string(),
                hint: format!(
                    "the model has an Embedding with \"sparse\": true, and {reason}; leave it out, or leave out \"sparse\""
                ),
            })
        };
        if self.weight_decay.is_some_and(|decay| decay > 0.0) {
            return refuse("weight_decay", "decay changes all rows at every step");
        }
        match self.clip {
            Some(Clip::Norm(_)) => {
                return refuse("clipnorm", "norms of its tables are not computed");
            }
            Some(Clip::GlobalNorm(_)) => {
                return refuse("global_clipnorm", "norms of its tables are not computed");
            }
            Some(Clip::Value(_)) | None => {}
        }
        if self.accumulation.is_some() {
            return refuse(
                "gradient_accumulation_steps",
                "lists of rows are not gathered over steps",
            );
        }
        if self.average.is_some() {
            return refuse("use_ema", "averages change all rows at every step");
        }
        if Optimizer::build(self)?.scope() == Scope::WholeModel {
            return refuse(
                "name",
                "this optimizer needs norms of whole tables; take adam, say",
            );
        }
        Ok(())
    }

    pub fn to_json(&self) -> Value {
        let mut json = json!({"name": self.recipe.name, "learning_rate": self.schedule.to_json()});
        for (setting, &value) in self.recipe.settings.iter().zip(&self.values) {
            match *setting {
                Setting::Number(name, ..) => json[name] = json!(value),
                Setting::Flag(name) => json[name] = json!(value != 0.0),
            }
        }
        if let Some(decay) = self.weight_decay {
            json["weight_decay"] = json!(decay);
        }
        if let Some(clip) = self.clip {
            let (name, limit) = match clip {
                Clip::Value(limit) => ("clipvalue", limit),
                Clip::Norm(limit) => ("clipnorm", limit),
                Clip::GlobalNorm(limit) => ("global_clipnorm", limit),
            };
            json[name] = json!(limit);
        }
        if let Some(steps) = self.accumulation {
            json["gradient_accumulation_steps"] = json!(steps);
        }
        if let Some(average) = self.average {
            json["use_ema"] = json!(true);
            json["ema_momentum"] = json!(average.momentum);
            json["ema_overwrite_frequency"] = json!(average.overwrite_every);
        }
        json
    }
}

fn read_clip(options: &mut Options<'_>) -> Result<Option<Clip>, OptimizerError> {
    let kinds: [(&'static str, fn(f64) -> Clip); 3] = [
        ("clipvalue", Clip::Value),
        ("clipnorm", Clip::Norm),
        ("global_clipnorm", Clip::GlobalNorm),
    ];
    let mut found: Option<(&str, Clip)> = None;
    for (name, kind) in kinds {
        let Some(limit) = options.optional_number(name, 1e-30, 1e30)? else {
            continue;
        };
        if let Some((first, _)) = found {
            let hint = format!(
                "\"{first}\" is given too, and gradients are clipped in one way: leave one out"
            );
            return Err(options.bad(name, &json!(limit), hint));
        }
        found = Some((name, kind(limit)));
    }
    Ok(found.map(|(_, clip)| clip))
}

fn read_average(options: &mut Options<'_>) -> Result<Option<MovingAverage>, OptimizerError> {
    let used = options.flag("use_ema")?;
    for name in ["ema_momentum", "ema_overwrite_frequency"] {
        if let Some(given) = options.value(name).filter(|_| !used) {
            let hint = "give \"use_ema\": true too, or leave it out".to_string();
            return Err(options.bad(name, given, hint));
        }
    }
    let momentum = options.number("ema_momentum", EMA_MOMENTUM, 0.0, 1.0)?;
    let overwrite_every = options.optional_count(
        "ema_overwrite_frequency",
        1,
        "give a whole number of updates from 1, or leave it out to keep the weights as they are",
    )?;
    Ok(used.then_some(MovingAverage {
        momentum,
        overwrite_every,
    }))
}

#[cfg(test)]
mod tests {
    use super::super::Optimizer;
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
    fn what_every_optimizer_takes_is_written_back_as_it_was_read() {
        for options in [
            json!({"clipnorm": 1.5}),
            json!({"global_clipnorm": 0.5, "gradient_accumulation_steps": 4}),
            json!({"clipvalue": 0.5, "use_ema": true, "ema_momentum": 0.9, "ema_overwrite_frequency": 100}),
            json!({"use_ema": true, "ema_momentum": 0.99, "ema_overwrite_frequency": null}),
        ] {
            for recipe in RECIPES {
                let mut description = json!({"name": recipe.name});
                description
                    .as_object_mut()
                    .unwrap()
                    .extend(options.as_object().unwrap().clone());
                let spec = OptimizerSpec::from_json(&description).unwrap();
                let written = spec.to_json();
                for (name, value) in description.as_object().unwrap() {
                    assert_eq!(&written[name], value, "{description}");
                }
                assert_eq!(OptimizerSpec::from_json(&written).unwrap(), spec);
            }
        }
    }

    #[test]
    fn clipping_gathering_and_averaging_are_refused_with_a_remedy() {
        check(
            json!({"name": "sgd", "clipnorm": -1}),
            "sgd: option \"clipnorm\" cannot be -1; give a number from 1e-30 to 1e30",
        );
        check(
            json!({"name": "adam", "clipnorm": 1, "global_clipnorm": 2}),
            "adam: option \"global_clipnorm\" cannot be 2.0; \"clipnorm\" is given too, and gradients are clipped in one \
             way: leave one out",
        );
        check(
            json!({"name": "adam", "clipvalue": 1, "clipnorm": 2}),
            "adam: option \"clipnorm\" cannot be 2.0; \"clipvalue\" is given too",
        );
        for steps in [json!(0), json!(1), json!(2.5), json!("4")] {
            check(
                json!({"name": "adam", "gradient_accumulation_steps": steps}),
                &format!(
                    "adam: option \"gradient_accumulation_steps\" cannot be {steps}; give a whole number of steps from 2, or \
                     leave it out to update at every step"
                ),
            );
        }
        check(
            json!({"name": "adam", "ema_momentum": 0.5}),
            "adam: option \"ema_momentum\" cannot be 0.5; give \"use_ema\": true too, or leave it out",
        );
        check(
            json!({"name": "adam", "use_ema": true, "ema_momentum": 1.5}),
            "adam: option \"ema_momentum\" cannot be 1.5; give a number from 0 to 1",
        );
        check(
            json!({"name": "adam", "use_ema": true, "ema_overwrite_frequency": 0}),
            "adam: option \"ema_overwrite_frequency\" cannot be 0; give a whole number of updates from 1",
        );
        check(
            json!({"name": "lars", "eeta": 0.1}),
            "lars: unknown option \"eeta\"; known are name, learning_rate, momentum, nesterov, weight_decay, \
             trust_coefficient, epsilon",
        );
        check(
            json!({"name": "lars", "trust_coefficient": 0}),
            "lars: option \"trust_coefficient\" cannot be 0; give a number from 1e-30 to 1000",
        );
    }

    fn check(description: Value, expected: &str) {
        let message = OptimizerSpec::from_json(&description)
            .unwrap_err()
            .to_string();
        assert!(message.starts_with(expected), "{message}");
    }
}

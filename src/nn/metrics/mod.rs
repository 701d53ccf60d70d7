//! Metrics that add up over batches, lanes and servers.
//!
//! `recipes.rs` is the table of them; each is a function of one position of a row (`accuracy.rs`, `confusion.rs`,
//! `curves.rs`, `ranking.rs`, `regression.rs`). `state.rs` keeps what rows came to: sums without rounding, counts, scores
//! or ranks. States of parts merge to the very bits of the whole, however rows are cut. Does not know where rows come from.

mod accuracy;
mod bytes;
mod confusion;
mod curves;
mod exact_sum;
#[cfg(test)]
mod golden;
mod ranking;
mod recipes;
mod regression;
mod scores;
mod state;

use std::sync::Arc;

use serde_json::Value;

use super::error::SpecError;
use super::expression::Objective;
use super::losses::{Label, Loss};
use super::settings::{Values, description_of, name_and_options, shortened, text_of};
use recipes::{Form, Measure, Needs, RECIPES, Recipe};

pub use state::MetricState;

/// Most metrics of one job or evaluation.
const METRICS_MAX: usize = 64;

/// Most numbers of a position for which `r2_score` keeps its sums, 1.6 KiB each.
const R2_NUMBERS_MAX: usize = 1024;

/// What is measured: a metric with its options.
#[derive(Debug, Clone)]
pub struct Metric {
    recipe: &'static Recipe,
    values: Values,
    /// What a metric of the client's own is.
    own: Option<Arc<Objective>>,
    /// How many metrics of this name come before it.
    before: u8,
}

impl PartialEq for Metric {
    fn eq(&self, other: &Self) -> bool {
        self.is_same(other) && self.before == other.before
    }
}

impl Metric {
    /// The loss itself, which is in every history.
    pub fn loss() -> Metric {
        Metric::of(&RECIPES[0])
    }

    /// By name, with default options, or by the JSON text of an object.
    pub fn parse(text: &str) -> Result<Metric, SpecError> {
        Metric::read(&description_of("metric", text)?)
    }

    /// The shortest text that `parse` takes.
    pub fn text(&self) -> String {
        text_of(&self.to_json())
    }

    /// A name, or an object of `name` and options.
    pub fn read(description: &Value) -> Result<Metric, SpecError> {
        let (name, options) = name_and_options("metric", description)?;
        if name == recipes::OWN.names[0] {
            let own = Objective::read("metric", description)?;
            let mut known = RECIPES.iter().flat_map(|recipe| recipe.names);
            if known.any(|known| *known == own.title()) {
                return Err(SpecError::BadInput {
                    layer: "custom metric".to_string(),
                    problem: format!("its title {:?} is the name of another metric", own.title()),
                    hint: "give it a title of its own".to_string(),
                });
            }
            return Ok(Metric {
                own: Some(own),
                ..Metric::of(&recipes::OWN)
            });
        }
        let recipe = RECIPES
            .iter()
            .find(|recipe| recipe.names.contains(&name.as_str()))
            .ok_or_else(|| SpecError::UnknownName {
                what: "metric",
                found: shortened(&name),
                known: RECIPES
                    .iter()
                    .chain([&recipes::OWN])
                    .flat_map(|recipe| recipe.names)
                    .copied()
                    .collect::<Vec<_>>()
                    .join(", "),
            })?;
        Ok(Metric {
            values: Values::read("metric", &name, recipe.settings, &options)?,
            ..Metric::of(recipe)
        })
    }

    /// Several, each once and without the loss. The second of one name is called `precision_1`, as Keras does.
    pub fn parse_all(descriptions: &[String]) -> Result<Vec<Metric>, SpecError> {
        if descriptions.len() > METRICS_MAX {
            return Err(SpecError::Malformed {
                problem: format!("{} metrics are asked for", descriptions.len()),
                hint: format!("at most {METRICS_MAX} are allowed"),
            });
        }
        let mut metrics: Vec<Metric> = Vec::new();
        for description in descriptions {
            let mut metric = Metric::parse(description)?;
            if metric.is_loss() || metrics.iter().any(|known| known.is_same(&metric)) {
                continue;
            }
            let named = metrics.iter().filter(|known| known.key() == metric.key());
            metric.before = named.count() as u8;
            metrics.push(metric);
        }
        Ok(metrics)
    }

    fn of(recipe: &'static Recipe) -> Metric {
        Metric {
            recipe,
            values: Values::defaults(recipe.settings),
            own: None,
            before: 0,
        }
    }

    fn key(&self) -> &str {
        match &self.own {
            Some(own) => own.title(),
            None => self.recipe.names[0],
        }
    }

    fn is_same(&self, other: &Metric) -> bool {
        (self.key(), self.values, &self.own) == (other.key(), other.values, &other.own)
    }

    /// The shortest description that `read` takes.
    pub fn to_json(&self) -> Value {
        match &self.own {
            Some(own) => own.to_json(),
            None => self.values.describe(self.key(), self.recipe.settings),
        }
    }

    /// The name in histories: Keras' name or its short form, numbered from the second of that name on.
    pub fn name(&self) -> String {
        match self.before {
            0 => self.key().to_string(),
            before => format!("{}_{before}", self.key()),
        }
    }

    pub fn is_loss(&self) -> bool {
        matches!(self.recipe.measure, Measure::Loss)
    }

    /// Whether it means nothing for a loss over numbers.
    pub fn needs_classes(&self) -> bool {
        !matches!(self.recipe.needs, Needs::Nothing | Needs::Numbers)
    }

    /// Whether a larger value is better.
    pub fn rises(&self) -> bool {
        self.recipe.rises
    }

    /// Whether labels and answers are of a kind that it can measure.
    fn check(&self, loss: &Loss, form: &Form) -> Result<(), SpecError> {
        let bad = |problem: &str, hint: &str| {
            Err(SpecError::MetricMismatch {
                metric: self.key().to_string(),
                problem: problem.to_string(),
                hint: hint.to_string(),
            })
        };
        if form.label == Label::Sequence && !matches!(self.recipe.measure, Measure::Loss) {
            return bad(
                "it compares numbers place by place and the label is a sequence whose places among the steps are not known",
                "leave it out; the loss is measured in any case",
            );
        }
        if self.needs_classes() && !loss.has_classes() {
            return bad(
                "it needs a label of classes and the model's is numbers",
                "use \"mae\" or \"mse\"",
            );
        }
        match self.recipe.needs {
            Needs::Numbers if form.label == Label::Index => {
                return bad("it has no meaning for class indices", "use \"accuracy\"");
            }
            Needs::Marks if form.label != Label::Binary => {
                return bad(
                    "it needs one output, or a label of 0 or 1 for each, and the model answers one number per class",
                    "use \"accuracy\", or one sigmoid unit",
                );
            }
            Needs::OnePerClass if form.label == Label::Binary => {
                return bad(
                    "it needs one answer per class and the label is 0 or 1",
                    "use \"accuracy\" or \"binary_accuracy\"",
                );
            }
            _ => {}
        }
        if self.key() == "mean_io_u"
            && let Some(asked) = self.values.given(0)
            && asked != confusion::classes(form) as f64
        {
            return bad(
                &format!(
                    "\"num_classes\" is {asked} and the model answers {} classes",
                    confusion::classes(form)
                ),
                "give that number, or leave it out",
            );
        }
        if self.key() == "r2_score" && form.width > R2_NUMBERS_MAX {
            return bad(
                &format!("the model answers {} numbers", form.width),
                &format!("\"r2_score\" is kept for each, of at most {R2_NUMBERS_MAX}; use \"mse\""),
            );
        }
        if matches!(self.key(), "precision" | "recall")
            && let Some(class) = self.values.given(1)
            && class >= form.width as f64
        {
            return bad(
                &format!(
                    "\"class_id\" is {class} and the model answers {} numbers",
                    form.width
                ),
                "classes count from 0",
            );
        }
        Ok(())
    }
}

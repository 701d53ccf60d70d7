//! What watches a history column at the ends of epochs, with every default resolved: early stopping, and a learning rate
//! that falls on a plateau.

use super::TrainingError;
use super::early_stopping::StoppingRule;
use super::job::{TrainRequest, Validation};
use super::prepare::bad_option;
use crate::nn::Metric;
use crate::optim::PlateauRule;

/// Keras' defaults of `ReduceLROnPlateau`.
const PLATEAU_FACTOR: f64 = 0.1;
const PLATEAU_PATIENCE: u32 = 10;
const PLATEAU_MIN_DELTA: f64 = 1e-4;

pub(super) fn stopping_rule(
    request: &TrainRequest,
    metrics: &[Metric],
) -> Result<Option<StoppingRule>, TrainingError> {
    let Some(stopping) = &request.early_stopping else {
        return Ok(None);
    };
    let (monitor, upward) = monitored(
        request,
        metrics,
        &stopping.monitor,
        "early_stopping.monitor",
    )?;
    not_negative(stopping.min_delta, "early_stopping.min_delta")?;
    Ok(Some(StoppingRule {
        monitor,
        patience: stopping.patience,
        min_delta: stopping.min_delta,
        restore_best_weights: stopping.restore_best_weights,
        maximize: stopping.maximize.unwrap_or(upward),
    }))
}

pub(super) fn plateau_rule(
    request: &TrainRequest,
    metrics: &[Metric],
) -> Result<Option<PlateauRule>, TrainingError> {
    let Some(plateau) = &request.reduce_on_plateau else {
        return Ok(None);
    };
    let (monitor, upward) = monitored(
        request,
        metrics,
        &plateau.monitor,
        "reduce_on_plateau.monitor",
    )?;
    let factor = plateau.factor.unwrap_or(PLATEAU_FACTOR);
    if !(0.0..1.0).contains(&factor) {
        let hint = "give a number from 0 to below 1: it multiplies the learning rate";
        return Err(bad_option("reduce_on_plateau.factor", factor, hint));
    }
    let min_delta = plateau.min_delta.unwrap_or(PLATEAU_MIN_DELTA);
    not_negative(min_delta, "reduce_on_plateau.min_delta")?;
    not_negative(
        plateau.min_learning_rate,
        "reduce_on_plateau.min_learning_rate",
    )?;
    Ok(Some(PlateauRule {
        monitor,
        factor,
        patience: plateau.patience.unwrap_or(PLATEAU_PATIENCE),
        min_delta,
        cooldown: plateau.cooldown,
        min_learning_rate: plateau.min_learning_rate,
        maximize: plateau.maximize.unwrap_or(upward),
    }))
}

/// The history column that is asked for, and whether it is better when it is larger.
fn monitored(
    request: &TrainRequest,
    metrics: &[Metric],
    given: &str,
    option: &'static str,
) -> Result<(String, bool), TrainingError> {
    let validated = request.validation != Validation::None;
    let monitor = match given {
        "" => "val_loss",
        given => given,
    };
    let measures: Vec<(String, bool)> = std::iter::once(&Metric::loss())
        .chain(metrics)
        .map(|metric| (metric.name(), metric.rises()))
        .collect();
    let mut known: Vec<String> = Vec::new();
    for (name, _) in &measures {
        known.push(name.clone());
        if validated {
            known.push(format!("val_{name}"));
        }
    }
    if !known.iter().any(|known| known == monitor) {
        let known = known.join(", ");
        let hint = if validated {
            format!("monitor one of {known}")
        } else {
            format!("monitor one of {known}, or give validation rows")
        };
        return Err(bad_option(option, format!("{monitor:?}"), hint));
    }
    let measured = monitor.strip_prefix("val_").unwrap_or(monitor);
    let rises = measures
        .iter()
        .any(|(name, rises)| name == measured && *rises);
    Ok((monitor.to_owned(), rises))
}

fn not_negative(value: f64, option: &'static str) -> Result<(), TrainingError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(());
    }
    Err(bad_option(option, value, "give a number from 0 on"))
}

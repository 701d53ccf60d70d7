//! How each of a network's outputs is trained: from a request to losses, metrics and labels, and back from a resolved job.
//!
//! Names outputs in errors where there are several. Reads no rows.

use arrow::datatypes::{DataType, Schema};

use super::TrainingError;
use super::job::{OutputRequest, TrainRequest};
use super::label::label_width;
use super::prepare::{bad_model, bad_option};
use crate::catalog::{LabelColumn, ModelOutput};
use crate::nn::{
    Loss, Metric, Model, ModelSpec, Objectives, OutputObjective, SpecError, TargetKind,
};

/// An output as asked for, found to be in order as far as can be told without the source.
#[derive(Debug)]
pub(crate) struct CheckedOutput {
    pub(crate) objective: OutputObjective,
    pub(crate) label: String,
    /// Set once the source is known.
    pub(crate) label_type: DataType,
}

/// Every output's loss and metrics, in the order of the network's outputs; a loss told `from_logits` changes the network.
pub(crate) fn check_outputs(
    request: &TrainRequest,
    spec: ModelSpec,
) -> Result<(ModelSpec, Vec<CheckedOutput>), TrainingError> {
    let mut spec = spec;
    let asked = in_order(request, &spec)?;
    let mut checked = Vec::with_capacity(asked.len());
    for (number, asked) in asked.into_iter().enumerate() {
        let several = spec.outputs.len() > 1;
        let of_output = |reason: SpecError| match several {
            true => bad_model(format!("output {:?}: {reason}", asked.name)),
            false => bad_model(reason),
        };
        let given = match asked.loss.as_str() {
            "" => request.loss.as_str(),
            own => own,
        };
        let mut loss = Loss::parse(given).map_err(of_output)?;
        let metrics = Metric::parse_all(&asked.metrics).map_err(of_output)?;
        for metric in &metrics {
            if metric.needs_classes() && !loss.has_classes() {
                let of = match several {
                    true => format!(" of output {:?}", asked.name),
                    false => String::new(),
                };
                let received = format!("{:?} with loss {given:?}{of}", metric.name());
                let hint = "it needs a label of classes; use \"mae\" or \"mse\"";
                return Err(bad_option("metrics", received, hint));
            }
        }
        if let Some((of_probabilities, activation)) = loss.of_probabilities() {
            spec = spec
                .ending_in(number, activation, loss.name())
                .map_err(of_output)?;
            loss = of_probabilities;
        }
        let weight = asked.loss_weight.unwrap_or(1.0);
        // The gradient is weighted in float32, where large weights become infinite.
        if !((weight as f32).is_finite() && weight >= 0.0) {
            let received = format!("{weight:?} for output {:?}", asked.name);
            let hint = "weights are not negative and at most 3.4e38";
            return Err(bad_option("outputs.loss_weight", received, hint));
        }
        checked.push(CheckedOutput {
            objective: OutputObjective {
                name: asked.name,
                loss,
                weight,
                metrics,
            },
            label: asked.label,
            label_type: DataType::Null,
        });
    }
    if checked.iter().all(|output| output.objective.weight == 0.0) {
        let hint = "give at least one output a weight above 0";
        return Err(bad_option(
            "outputs.loss_weight",
            "0 for every output",
            hint,
        ));
    }
    refuse_equal_columns(&objectives_of(&checked))?;
    Ok((spec, checked))
}

/// What is asked of each of the network's outputs, in their order.
fn in_order(request: &TrainRequest, spec: &ModelSpec) -> Result<Vec<OutputRequest>, TrainingError> {
    let known = || {
        let names: Vec<String> = spec
            .outputs
            .iter()
            .map(|name| format!("{name:?}"))
            .collect();
        names.join(", ")
    };
    if request.outputs.is_empty() {
        let [name] = spec.outputs.as_slice() else {
            let received = format!("empty for a network with the outputs {}", known());
            let hint = "say for each how it is trained: its name, label, loss and metrics";
            return Err(bad_option("outputs", received, hint));
        };
        return Ok(vec![OutputRequest {
            name: name.clone(),
            label: request.label.clone(),
            loss: request.loss.clone(),
            loss_weight: None,
            metrics: request.metrics.clone(),
        }]);
    }
    for (option, given) in [
        ("label", !request.label.is_empty()),
        ("metrics", !request.metrics.is_empty()),
    ] {
        if given {
            let hint = "give it in each of `outputs` alone";
            return Err(bad_option(option, "given beside `outputs`", hint));
        }
    }
    if let Some(unknown) = request
        .outputs
        .iter()
        .find(|output| !spec.outputs.contains(&output.name))
    {
        let hint = format!("the network's outputs are {}", known());
        return Err(bad_option("outputs", format!("{:?}", unknown.name), hint));
    }
    let each = spec.outputs.iter().map(|name| {
        let mut asked = request.outputs.iter().filter(|asked| asked.name == *name);
        match (asked.next(), asked.next()) {
            (Some(asked), None) if asked.label.is_empty() => Err(bad_option(
                "outputs",
                format!("{name:?} without a label"),
                "name the column that it predicts",
            )),
            (Some(asked), None) => Ok(asked.clone()),
            (Some(_), Some(_)) => Err(bad_option(
                "outputs",
                format!("{name:?} twice"),
                "give each output once",
            )),
            (None, _) => Err(bad_option(
                "outputs",
                format!("nothing for {name:?}"),
                "give each of the network's outputs a label and a loss",
            )),
        }
    });
    each.collect()
}

/// Two measures under one name would overwrite each other: outputs "a" and "a_b" with metrics of fitting names.
fn refuse_equal_columns(objectives: &Objectives) -> Result<(), TrainingError> {
    let mut columns = objectives.columns();
    columns.sort();
    match columns.windows(2).find(|pair| pair[0].0 == pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(bad_option(
            "outputs",
            format!("two measures called {:?} in the history", pair[0].0),
            "name the layers of the outputs otherwise",
        )),
    }
}

pub(crate) fn objectives_of(outputs: &[CheckedOutput]) -> Objectives {
    let objectives = outputs.iter().map(|output| output.objective.clone());
    Objectives::new(objectives.collect())
}

/// As a resolved job or a manifest has them.
pub(crate) fn resolved_outputs(
    outputs: &[CheckedOutput],
    labels: Vec<LabelColumn>,
) -> Vec<ModelOutput> {
    let outputs = outputs.iter().zip(labels);
    outputs
        .map(|(output, label)| ModelOutput {
            name: output.objective.name.clone(),
            label,
            loss: output.objective.loss.text(),
            loss_weight: output.objective.weight,
            metric_names: output.objective.metrics.iter().map(Metric::text).collect(),
        })
        .collect()
}

/// What every worker makes of the outputs of a resolved job.
pub(crate) fn objectives(outputs: &[ModelOutput]) -> Result<Objectives, SpecError> {
    let outputs = outputs.iter().map(|output| {
        Ok(OutputObjective {
            name: output.name.clone(),
            loss: Loss::parse(&output.loss)?,
            weight: output.loss_weight,
            metrics: Metric::parse_all(&output.metric_names)?,
        })
    });
    Ok(Objectives::new(outputs.collect::<Result<_, SpecError>>()?))
}

/// Whether the network's outputs fit losses, metrics and labels.
pub(crate) fn check_model(
    model: &Model,
    outputs: &[CheckedOutput],
    labels: &[LabelColumn],
) -> Result<(), TrainingError> {
    for (number, (output, label)) in outputs.iter().zip(labels).enumerate() {
        let target = match label.classes.len() {
            0 => TargetKind::Numeric {
                width: label_width(&output.label_type),
            },
            classes => TargetKind::Classes { classes },
        };
        let fits = output.objective.loss.check(model, number, &target);
        fits.map_err(|reason| match outputs.len() {
            1 => bad_model(reason),
            _ => bad_model(format!("output {:?}: {reason}", output.objective.name)),
        })?;
    }
    objectives_of(outputs)
        .states(model, true)
        .map_err(bad_model)?;
    Ok(())
}

/// Every label is a column of the rows, of a type that its loss can use. Returns the types.
pub(crate) fn label_types(
    outputs: &[CheckedOutput],
    schema: &Schema,
    place: &str,
    available: impl Fn() -> String,
) -> Result<Vec<DataType>, TrainingError> {
    let each = outputs.iter().map(|output| {
        let Some((_, field)) = schema.column_with_name(&output.label) else {
            return Err(TrainingError::BadLabel {
                column: output.label.clone(),
                problem: format!("is no column of {place}"),
                hint: format!("columns are {}", available()),
            });
        };
        Ok(field.data_type().clone())
    });
    each.collect()
}

pub(crate) fn check_label_type(
    loss: &Loss,
    label: &str,
    data_type: &DataType,
) -> Result<(), TrainingError> {
    let logical = match data_type {
        DataType::Dictionary(_, value) => value.as_ref(),
        other => other,
    };
    let text = matches!(
        logical,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View
    );
    let boolean = logical == &DataType::Boolean;
    let listed = match data_type {
        DataType::FixedSizeList(item, size) if *size > 0 => Some(item.data_type()),
        _ => None,
    };
    let (fits, hint) = if loss.takes_classes() && listed.is_none() {
        (
            text || boolean || logical.is_integer(),
            "classes are text, booleans or integers",
        )
    } else {
        let number = listed.unwrap_or(data_type);
        (
            number.is_integer() || number.is_floating(),
            "this loss needs numbers, or fixed-size lists of them",
        )
    };
    if fits {
        return Ok(());
    }
    Err(TrainingError::BadLabel {
        column: label.to_owned(),
        problem: format!(
            "has type {data_type}, which loss {:?} cannot use",
            loss.name()
        ),
        hint: hint.to_owned(),
    })
}

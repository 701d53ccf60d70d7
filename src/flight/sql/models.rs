//! `CREATE MODEL` and `DROP MODEL`: a `Train` whose fields are the statement's options, waited for.

use std::sync::Arc;

use bytes::Bytes;
use futures::StreamExt;
use serde_json::{Map, Value, json};
use tonic::Status;

use crate::catalog::name::hint;
use crate::catalog::{CatalogError, JobBoard, JobId};
use crate::features::{CreateModel, Source};
use crate::flight::convert;
use crate::flight::error::FlightError;
use crate::flight::proto::{Packed, field_names, v1};
use crate::flight::service::VerbContext;
use crate::flight::verbs::jobs;
use crate::training::{LeftOut, NamedNetwork, TrainRequest};

/// Times that the rows are met when the statement does not say.
const EPOCHS: u32 = 10;
/// Rows of a minibatch when the statement does not say.
const BATCH_SIZE: u32 = 256;

/// Trains a model and waits for it; answers the rows that it was trained on. Dropped, it cancels the job.
pub(super) async fn create(context: &VerbContext, create: CreateModel) -> Result<u64, Status> {
    let services = &context.services;
    if create.if_not_exists {
        match services.catalog.models.manifest(&create.name, None).await {
            Ok(_) => return Ok(0),
            Err(CatalogError::UnknownModel { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    let (mut request, left_out) = request_of(create)?;
    services.training.complete(&mut request, left_out).await?;
    let id = services.training.submit(request).await?;
    let _cancels = CancelsOnDrop {
        jobs: Arc::clone(&services.catalog.jobs),
        id,
    };
    let mut changes = jobs::follow(context, id, false).await?;
    let mut last = None;
    while let Some(job) = changes.next().await {
        last = Some(job?);
    }
    let job = last.ok_or_else(|| FlightError::Internal {
        doing: "waiting for a job",
        reason: format!("nothing was heard of job {id}"),
    })?;
    if let Some(failure) = jobs::failure(&job) {
        return Err(failure);
    }
    // A job counts the rows of all epochs.
    Ok(job.rows / u64::from(job.epoch.max(1)))
}

pub(super) async fn remove(
    context: &VerbContext,
    name: &str,
    if_exists: bool,
) -> Result<u64, Status> {
    match context.services.catalog.models.remove(name).await {
        Err(CatalogError::UnknownModel { .. }) if if_exists => Ok(0),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(0),
    }
}

/// A job of which nobody waits for the end is not gone on with; one that has ended is not touched.
struct CancelsOnDrop {
    jobs: Arc<JobBoard>,
    id: JobId,
}

impl Drop for CancelsOnDrop {
    fn drop(&mut self) {
        self.jobs.cancel(self.id);
    }
}

/// The request that the options describe, and what they leave out.
fn request_of(create: CreateModel) -> Result<(TrainRequest, LeftOut), Status> {
    let mut fields = Map::new();
    let mut network = Some(NamedNetwork::Dense);
    let known: Vec<String> = field_names::<v1::Train>()
        .into_iter()
        .filter(|name| !["name", "source"].contains(&name.as_str()))
        .collect();
    for (option, value) in create.options {
        if !known.contains(&option) {
            let hint = match option.as_str() {
                "name" | "source" => "the statement itself says the name and the rows".to_owned(),
                "learning_rate" => {
                    "write optimizer = '{\"name\": \"adam\", \"learning_rate\": 0.01}'".to_owned()
                }
                _ => hint("option", &option, &known),
            };
            return Err(FlightError::UnknownOption { option, hint }.into());
        }
        if value.is_null() {
            continue;
        }
        if option == "model" {
            network = None;
            if let Value::String(name) = &value
                && !name.trim_start().starts_with('{')
            {
                network = Some(NamedNetwork::parse(name).ok_or_else(|| bad(&option, &value,
                    "give \"dense\" or \"linear\", or a network as JSON text (docs/model-spec.md)"))?);
                continue;
            }
        }
        let value = as_field(&option, value)?;
        fields.insert(option, value);
    }
    let left_out = LeftOut {
        pipeline: !fields.contains_key("pipeline"),
        network,
    };
    for (option, default) in [
        ("epochs", json!(EPOCHS)),
        ("batch_size", json!(BATCH_SIZE)),
        ("optimizer", json!({"name": "adam"})),
    ] {
        fields.entry(option).or_insert(default);
    }
    let body = Bytes::from(Value::Object(fields).to_string());
    let packed = Packed::open_named(&body, "volary.v1.Train", "options")?;
    let train = v1::Train {
        name: create.name,
        source: Some(v1::Source {
            rows: Some(match create.source {
                Source::Table(reference) => v1::source::Rows::Table(match reference.version {
                    Some(version) => format!("{}@{version}", reference.name),
                    None => reference.name,
                }),
                Source::Query(sql) => v1::source::Rows::Query(sql),
                Source::Path(_) | Source::Staged(_) => {
                    return Err(FlightError::Internal {
                        doing: "reading CREATE MODEL",
                        reason: "SQL names no paths".to_owned(),
                    }
                    .into());
                }
            }),
        }),
        ..packed.read::<v1::Train>()?
    };
    Ok((convert::train_request(train)?, left_out))
}

/// An option's value as the field of `Train` takes it: text may be JSON, or a plain name.
fn as_field(option: &str, value: Value) -> Result<Value, FlightError> {
    let Value::String(text) = &value else {
        return Ok(match option {
            // A list of names is a list; of objects there is JSON text alone.
            "optimizer" | "model" | "early_stopping" | "reduce_on_plateau" | "class_weight"
            | "checkpoints" | "validation_source" => {
                return Err(bad(option, &value, "give JSON text in single quotes"));
            }
            _ => value,
        });
    };
    let begins = |mark: char| text.trim_start().starts_with(mark);
    match option {
        "features" | "metrics" if begins('[') => json_of(option, text),
        "features" | "metrics" => Ok(json!([text])),
        "pipeline" | "outputs" => json_of(option, text),
        "optimizer" if !begins('{') => Ok(json!({"name": text})),
        "validation_source" if !begins('{') => {
            let first = text.split_whitespace().next().unwrap_or_default();
            let is_query = ["select", "with", "values"]
                .iter()
                .any(|word| first.eq_ignore_ascii_case(word));
            Ok(if is_query {
                json!({"query": text})
            } else {
                json!({"table": text})
            })
        }
        "optimizer" | "model" | "early_stopping" | "reduce_on_plateau" | "class_weight"
        | "checkpoints" | "validation_source" => json_of(option, text),
        _ => Ok(value),
    }
}

fn json_of(option: &str, text: &str) -> Result<Value, FlightError> {
    serde_json::from_str(text).map_err(|_| {
        bad(
            option,
            &Value::String(text.to_owned()),
            "it is not JSON; in SQL it stands in single quotes, its own text in double quotes",
        )
    })
}

fn bad(option: &str, received: &Value, hint: &'static str) -> FlightError {
    FlightError::BadOption {
        option: option.to_owned(),
        received: received.to_string().chars().take(200).collect(),
        hint,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::DatasetReference;

    fn read(options: Value) -> Result<(TrainRequest, LeftOut), Status> {
        let Value::Object(options) = options else {
            panic!("options are an object")
        };
        request_of(CreateModel {
            name: "census".to_owned(),
            if_not_exists: false,
            options,
            source: Source::Table(DatasetReference {
                name: "census".to_owned(),
                version: None,
            }),
        })
    }

    #[test]
    fn options_are_the_fields_of_train_with_names_and_json_text() {
        let (request, left_out) = read(json!({
            "label": "income", "epochs": 5, "metrics": "auc", "features": ["age", "sex"],
            "optimizer": "sgd", "early_stopping": "{\"patience\": 3}", "validation_source": "census_test",
            "class_weight": "{\"yes\": 2}", "shuffle": false
        }))
        .unwrap();
        assert_eq!(request.label, "income");
        assert_eq!((request.epochs, request.batch_size), (5, BATCH_SIZE));
        assert_eq!(request.metrics, ["auc"]);
        assert_eq!(request.features, ["age", "sex"]);
        assert_eq!(request.optimizer, json!({"name": "sgd"}));
        assert_eq!(request.early_stopping.unwrap().patience, 3);
        assert_eq!(request.class_weight["yes"], 2.0);
        assert!(!request.shuffle);
        assert_eq!(
            left_out,
            LeftOut {
                pipeline: true,
                network: Some(NamedNetwork::Dense)
            }
        );
        let (_, left_out) = read(json!({"model": "linear", "pipeline": "[]"})).unwrap();
        assert_eq!(
            left_out,
            LeftOut {
                pipeline: false,
                network: Some(NamedNetwork::Linear)
            }
        );
    }

    #[test]
    fn an_option_that_cannot_be_is_named_with_what_to_write() {
        for (options, words) in [
            (json!({"epoch": 5}), "did you mean \"epochs\""),
            (json!({"name": "x"}), "the statement itself"),
            (json!({"learning_rate": 0.1}), "optimizer ="),
            (json!({"epochs": -1}), "whole number from 0"),
            (json!({"model": "deep"}), "dense"),
            (json!({"pipeline": "standardize"}), "not JSON"),
        ] {
            let status = read(options.clone()).unwrap_err();
            assert_eq!(status.code(), tonic::Code::InvalidArgument);
            assert!(
                status.message().contains(words),
                "{options}: {}",
                status.message()
            );
        }
    }
}

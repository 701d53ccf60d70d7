//! One file per verb of Arrow Flight; each takes what came and answers with a message, a stream, or a status.

pub(super) mod cancel;
mod contract;
pub(super) mod do_action;
pub(super) mod do_exchange;
pub(super) mod do_get;
pub(super) mod do_put;
pub(super) mod get_flight_info;
pub(super) mod get_schema;
pub(super) mod handshake;
pub(super) mod jobs;
pub(super) mod list_actions;
pub(super) mod list_flights;
mod ours;
pub(super) mod poll_flight_info;
pub(super) mod renew;
pub(super) mod session;
pub(super) mod uploads;
pub(super) mod withdrawn;

use arrow_flight::FlightDescriptor;
use arrow_flight::flight_descriptor::DescriptorType;

use super::command::Command;
use super::convert::job_id;
use super::error::FlightError;
use super::proto::Form;
use crate::catalog::{DatasetReference, JobId};

pub use contract::Verbs;
pub(super) use ours::Ours;

/// What a descriptor names.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Target {
    Dataset(DatasetReference),
    Model { name: String, version: Option<u64> },
    History(JobId),
    Command(Command, Form),
}

const PATHS: &str = "use [dataset], [dataset@version], [\"models\", name], [\"models\", name, version] or \
                     [\"jobs\", id, \"history\"]";

impl Target {
    pub(super) fn of(descriptor: &FlightDescriptor) -> Result<Self, tonic::Status> {
        match descriptor.r#type() {
            DescriptorType::Cmd => {
                let (command, form) = Command::decode(&descriptor.cmd)?;
                Ok(Self::Command(command, form))
            }
            DescriptorType::Path => Self::of_path(&descriptor.path),
            // Old clients leave the type out.
            DescriptorType::Unknown if !descriptor.cmd.is_empty() => {
                let (command, form) = Command::decode(&descriptor.cmd)?;
                Ok(Self::Command(command, form))
            }
            DescriptorType::Unknown => Self::of_path(&descriptor.path),
        }
    }

    fn of_path(path: &[String]) -> Result<Self, tonic::Status> {
        let parts: Vec<&str> = path.iter().map(String::as_str).collect();
        let bad = || FlightError::BadPath {
            path: shown_path(path),
            expected: PATHS,
        };
        match parts.as_slice() {
            [] => Err(FlightError::NoDescriptor.into()),
            [dataset] => Ok(Self::Dataset(DatasetReference::parse(dataset)?)),
            ["models", name] => Ok(Self::Model {
                name: (*name).to_owned(),
                version: None,
            }),
            ["models", name, version] => Ok(Self::Model {
                name: (*name).to_owned(),
                version: Some(version.parse().map_err(|_| bad())?),
            }),
            ["jobs", id, "history"] => Ok(Self::History(job_id(id)?)),
            _ => Err(bad().into()),
        }
    }

    /// How an error calls it.
    pub(super) fn name(&self) -> String {
        match self {
            Self::Dataset(dataset) => format!("path [{:?}]", dataset.name),
            Self::Model { name, .. } => format!("path [\"models\", {name:?}]"),
            Self::History(id) => format!("path [\"jobs\", \"{id}\", \"history\"]"),
            Self::Command(command, _) => format!("command {}", command.name()),
        }
    }
}

fn shown_path(path: &[String]) -> String {
    let parts: Vec<String> = path
        .iter()
        .take(4)
        .map(|part| format!("{:?}", part.chars().take(60).collect::<String>()))
        .collect();
    let rest = if path.len() > 4 { ", ..." } else { "" };
    format!("[{}{rest}]", parts.join(", "))
}

/// `census@3`.
pub(super) fn reference_text(name: &str, version: i64) -> String {
    format!("{name}@{version}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_names_nothing_is_told_what_paths_there_are() {
        for path in [
            vec!["a", "b"],
            vec!["models", "a", "newest"],
            vec!["jobs", "not-an-id", "history"],
            vec!["models", "a", "1", "2"],
        ] {
            let descriptor =
                FlightDescriptor::new_path(path.iter().map(ToString::to_string).collect());
            assert!(Target::of(&descriptor).is_err(), "{path:?}");
        }
        let long = FlightDescriptor::new_path(vec!["x".repeat(10_000); 100]);
        let status = Target::of(&long).unwrap_err();
        assert!(status.message().len() < 1000, "{}", status.message());
    }

    #[test]
    fn a_model_path_may_name_a_version() {
        let path = ["models", "churn", "7"].map(ToOwned::to_owned).to_vec();
        assert_eq!(
            Target::of(&FlightDescriptor::new_path(path)).unwrap(),
            Target::Model {
                name: "churn".to_owned(),
                version: Some(7)
            }
        );
    }
}

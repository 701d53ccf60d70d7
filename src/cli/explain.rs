//! `volary explain`: a model's description to its plan, without a server.

use std::io::{Read as _, Write as _};

use clap::{Arg, ArgMatches, Command, value_parser};

use crate::nn::{Loss, ModelSpec, explain::explain};

use super::CliError;

pub(super) fn command() -> Command {
    Command::new("explain")
        .about("Print the plan of a model's description: operations, fused groups, FLOPs, bytes, memory")
        .arg(
            Arg::new("model")
                .value_name("MODEL.json")
                .required(true)
                .help("The description, as a client's `model.to_json()` writes it; \"-\" reads standard input"),
        )
        .arg(
            Arg::new("batch")
                .long("batch")
                .value_name("ROWS")
                .value_parser(value_parser!(u32).range(1..=1 << 24))
                .default_value("256")
                .help("Rows that go through the model at a time"),
        )
        .arg(
            Arg::new("loss")
                .long("loss")
                .value_name("LOSS")
                .help("Explain a training step with this loss too, such as binary_crossentropy"),
        )
}

pub(super) fn run(arguments: &ArgMatches) -> Result<(), CliError> {
    let path = arguments
        .get_one::<String>("model")
        .map_or("-", String::as_str);
    let bad = |reason: &dyn std::fmt::Display| CliError::Model {
        path: path.to_string(),
        reason: reason.to_string(),
    };
    let mut text = String::new();
    if path == "-" {
        std::io::stdin().read_to_string(&mut text)?;
    } else {
        text = std::fs::read_to_string(path).map_err(|error| bad(&error))?;
    }
    let json =
        serde_json::from_str(&text).map_err(|error| bad(&format!("it is no JSON: {error}")))?;
    let spec = ModelSpec::from_json(&json).map_err(|error| bad(&error))?;
    let loss = arguments.get_one::<String>("loss");
    let loss = loss
        .map(|name| Loss::parse(name))
        .transpose()
        .map_err(|error| bad(&error))?;
    let rows = arguments.get_one::<u32>("batch").copied().unwrap_or(256);
    let plan = explain(&spec, rows as usize, loss).map_err(|error| bad(&error))?;
    Ok(write!(std::io::stdout(), "{plan}")?)
}

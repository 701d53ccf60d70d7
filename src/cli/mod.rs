//! The command line: argument to call, result to text. Knows `config`, `node`, the thin client in `flight`, and
//! `nn` for what is said of a model without a server.

mod explain;
pub mod inspect;
pub mod serve;
pub mod table;

use std::io::Write as _;

use clap::{Arg, ArgAction, Command};

use crate::config::options;

/// Why a command failed, as it is printed after `error: `.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    #[error(transparent)]
    Node(#[from] crate::node::NodeError),
    #[error(transparent)]
    Client(#[from] crate::flight::client::ClientError),
    #[error("the answer cannot be shown: {0}; try `--json`")]
    Show(#[from] arrow::error::ArrowError),
    #[error("the model {path:?} cannot be explained: {reason}")]
    Model { path: String, reason: String },
    #[error("{0}")]
    Output(#[from] std::io::Error),
}

/// Runs the program; returns its exit code: 0 well, 1 failed, 2 wrong usage.
pub fn main() -> u8 {
    let matches = match command().try_get_matches() {
        Ok(matches) => matches,
        Err(error) => {
            // Help and version arrive here too; clap knows which stream and code each takes.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    let outcome = match matches.subcommand() {
        Some(("serve", arguments)) => serve::serve(arguments),
        Some(("explain", arguments)) => explain::run(arguments),
        Some((name, arguments)) => inspect::inspect(name, arguments),
        None => {
            let _ = command().print_help();
            return 0;
        }
    };
    match outcome {
        Ok(()) => 0,
        // The reader has seen enough (`volary sql ... | head`).
        Err(CliError::Output(error)) if error.kind() == std::io::ErrorKind::BrokenPipe => 0,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "error: {error}");
            // A setting that cannot be used is wrong usage.
            if matches!(error, CliError::Config(_)) {
                2
            } else {
                1
            }
        }
    }
}

/// The whole command line.
pub fn command() -> Command {
    Command::new("volary")
        .version(env!("CARGO_PKG_VERSION"))
        .about("An Apache Arrow Flight data-and-compute server")
        .after_help("Start a server with `volary serve`; all other commands but `explain` talk to a running one.")
        .subcommand_required(false)
        .disable_help_subcommand(true)
        .subcommand(
            Command::new("serve")
                .about("Run one server: with no options on the loopback address, with its store in ./volary-data")
                .args(options::arguments()),
        )
        .subcommand(explain::command())
        .subcommand(client_command("members", "List the servers of the cluster"))
        .subcommand(client_command("datasets", "List the datasets of the store"))
        .subcommand(client_command("models", "List the models of the store"))
        .subcommand(client_command("jobs", "List training and scoring jobs"))
        .subcommand(
            client_command("sql", "Run a query and print its rows").arg(
                Arg::new("query")
                    .value_name("QUERY")
                    .required(true)
                    .help("The SQL text: \"SELECT count(*) FROM census\""),
            ),
        )
}

fn client_command(name: &'static str, about: &'static str) -> Command {
    Command::new(name)
        .about(about)
        .arg(
            Arg::new("server")
                .long("server")
                .env("VOLARY_SERVER")
                .value_name("URL")
                .default_value("grpc://127.0.0.1:50051")
                .help("A server of the cluster; grpc+tls://HOST:PORT where it has TLS"),
        )
        .arg(file(
            "tls-root-certs",
            "VOLARY_TLS_ROOT_CERTS",
            "PEM file of the issuers whose servers are believed [default: those of the system]",
        ))
        .arg(file(
            "cert-chain",
            "VOLARY_CERT_CHAIN",
            "PEM file with a certificate to show to a server that asks for one, then those of its issuers",
        ))
        .arg(file(
            "private-key",
            "VOLARY_PRIVATE_KEY",
            "PEM file with the private key of --cert-chain",
        ))
        .arg(
            Arg::new("override-hostname")
                .long("override-hostname")
                .value_name("NAME")
                .help("The name that the server's certificate is for, where it is not the one in --server"),
        )
        .arg(
            Arg::new("disable-server-verification")
                .long("disable-server-verification")
                .action(ArgAction::SetTrue)
                .help("Believe any server: encrypted, and nobody knows for whom"),
        )
        .arg(
            Arg::new("json")
                .long("json")
                .action(ArgAction::SetTrue)
                .help("Print JSON, one object per line"),
        )
}

fn file(name: &'static str, variable: &'static str, help: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .env(variable)
        .value_name("FILE")
        .help(help)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_command_line_is_well_formed() {
        super::command().debug_assert();
    }
}

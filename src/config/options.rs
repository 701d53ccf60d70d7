//! The list of options: the one place where a setting is named, described and given its default.

use std::fmt::Write as _;

/// What a setting takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OptionKind {
    /// One value.
    Value,
    /// Several values: repeated or comma-separated flags, a comma-separated variable, a TOML array.
    List,
    /// `--name` alone on the command line; `true` or `false` elsewhere.
    Switch,
}

/// One setting of `volary serve`.
#[derive(Debug)]
pub struct ServerOption {
    /// Name of the flag and of the file key: `max-message-size`.
    pub name: &'static str,
    pub kind: OptionKind,
    /// What stands for the value in help: `HOST:PORT`.
    pub value_name: &'static str,
    /// The default as a value that can be given, or `None` when it is computed; then `default_meaning` says how.
    pub default: Option<&'static str>,
    pub default_meaning: &'static str,
    /// One or two sentences.
    pub help: &'static str,
}

impl ServerOption {
    /// Name of the environment variable: `VOLARY_MAX_MESSAGE_SIZE`.
    pub fn variable(&self) -> String {
        format!("VOLARY_{}", self.name.to_uppercase().replace('-', "_"))
    }

    fn default_text(&self) -> &'static str {
        self.default.unwrap_or(self.default_meaning)
    }
}

const fn value(
    name: &'static str,
    value_name: &'static str,
    default: Option<&'static str>,
    default_meaning: &'static str,
    help: &'static str,
) -> ServerOption {
    ServerOption {
        name,
        kind: OptionKind::Value,
        value_name,
        default,
        default_meaning,
        help,
    }
}

/// Every setting, in the order of help.
pub const OPTIONS: &[ServerOption] = &[
    value(
        "listen",
        "HOST:PORT",
        Some("127.0.0.1:50051"),
        "",
        "Address of the gRPC port: Flight, Flight SQL, health, reflection and the other servers. Port 0 takes a free one, \
         which the line `listening grpc=...` on standard output names.",
    ),
    value(
        "http",
        "HOST:PORT",
        Some("127.0.0.1:8080"),
        "",
        "Address of the HTTP port: `/livez`, `/readyz` and `/metrics` (Prometheus). Port 0 takes a free one.",
    ),
    value(
        "store",
        "DIR|URL",
        Some("./volary-data"),
        "",
        "Where datasets, models and jobs live: a directory or a `file://` URL. Servers of one cluster share one store.",
    ),
    ServerOption {
        name: "join",
        kind: OptionKind::List,
        value_name: "HOST:PORT,..",
        default: None,
        default_meaning: "none: a cluster of one",
        help: "Gossip addresses of any other servers of the cluster (the port number of their gRPC port unless they set \
               `gossip`). One that answers is enough.",
    },
    value(
        "name",
        "NAME",
        None,
        "the host's name and the gRPC port, `host-50051`",
        "Name of this server, unique in the cluster: 1 to 128 of A-Z a-z 0-9 _ - . \
         A server that starts again under its name replaces its former self.",
    ),
    value(
        "config",
        "FILE",
        None,
        "none",
        "A TOML file with these same names as keys. A flag outweighs a variable, a variable outweighs the file.",
    ),
    value(
        "advertise",
        "HOST:PORT",
        None,
        "the address of `listen`",
        "Address at which other servers and clients reach this server's gRPC port. Needed when `listen` is a wildcard \
         such as 0.0.0.0.",
    ),
    value(
        "endpoints",
        "proxy|direct",
        Some("proxy"),
        "",
        "Where clients read a dataset that `Read` cuts into several endpoints. With `proxy` from the server they asked, \
         which works behind any load balancer; with `direct` from all servers in turn, at the addresses they advertise, \
         which clients must be able to reach.",
    ),
    value(
        "gossip",
        "HOST:PORT",
        None,
        "UDP on the address and port number of `listen`",
        "UDP address on which servers tell each other who is alive, neither encrypted nor signed: keep it within the \
         cluster's network.",
    ),
    value(
        "log-format",
        "text|json",
        Some("text"),
        "",
        "Form of the log on standard error: lines for people, or one JSON object per line.",
    ),
    value(
        "log-level",
        "LEVEL",
        Some("info"),
        "",
        "error, warn, info, debug or trace; or directives per module such as `warn,volary=debug`.",
    ),
    ServerOption {
        name: "insecure",
        kind: OptionKind::Switch,
        value_name: "",
        default: Some("false"),
        default_meaning: "",
        help: "Accept addresses that other machines can reach although clients need no certificate \
               (`tls-client-ca`): whoever reaches the port can then read, write and delete everything in the store. \
               The HTTP port, which is never encrypted, needs it too where others can reach it.",
    },
    value(
        "tls-certificate",
        "FILE",
        None,
        "none: no TLS",
        "PEM file with this server's certificate, then those of its issuers. With it the gRPC port speaks TLS alone \
         (`grpc+tls://`), to clients and to the other servers, which all need one for the host they advertise. \
         A renewed file is taken up without a restart.",
    ),
    value(
        "tls-key",
        "FILE",
        None,
        "none",
        "PEM file with the private key of `tls-certificate`, under no password.",
    ),
    value(
        "tls-client-ca",
        "FILE",
        None,
        "none: clients show no certificate",
        "PEM file with the issuers of clients' certificates. With it only clients and servers that show a certificate of \
         theirs are let in, and addresses that other machines can reach are accepted.",
    ),
    value(
        "tls-peer-ca",
        "FILE",
        None,
        "`tls-client-ca` and the certificates in `tls-certificate`",
        "PEM file with the issuers of the other servers' certificates, which this server believes when it calls them.",
    ),
    value(
        "threads",
        "COUNT",
        None,
        "the cores of this machine",
        "Threads for computation: lanes trained at a time and partitions of a query.",
    ),
    value(
        "memory-limit",
        "SIZE",
        None,
        "a quarter of the machine's memory",
        "Memory that all queries of this server may hold together; sorts and joins spill to disk beyond it, the rest is \
         refused.",
    ),
    value(
        "training-cache",
        "SIZE",
        Some("1GiB"),
        "",
        "Memory for decoded training rows; each of the two jobs that run at once has half. Rows that fit are shuffled all \
         together; more are staged and read in windows that fit, in another order. So it enters the weights: its default \
         is the same on every machine, and all servers of a cluster should have the same one.",
    ),
    value(
        "read-cache",
        "SIZE",
        None,
        "an eighth of the machine's memory",
        "Memory for decoded rows of datasets that clients read again and again by DoGet; what is read once is not kept. \
         0 keeps none.",
    ),
    ServerOption {
        name: "allow-read",
        kind: OptionKind::List,
        value_name: "DIR,..",
        default: None,
        default_meaning: "none: no path may be read",
        help: "Directories whose Parquet files clients may train from and score by path.",
    },
    value(
        "max-message-size",
        "SIZE",
        Some("256MiB"),
        "",
        "Largest gRPC message that is taken; a larger one is refused.",
    ),
    value(
        "max-incoming-streams",
        "COUNT",
        None,
        "one for each 256 MiB of the machine's memory, at least 16",
        "Uploads and prediction streams open at a time; a further one is refused. Each may hold some 200 MiB and one \
         message.",
    ),
    value(
        "drain-timeout",
        "DURATION",
        Some("30s"),
        "",
        "How long running streams may take to finish after SIGTERM or Ctrl-C before they are cut. Jobs are not waited for: \
         they end at once as FAILED with UNAVAILABLE, and can be started again on another server.",
    ),
];

/// The option of that name.
pub fn option(name: &str) -> Option<&'static ServerOption> {
    OPTIONS.iter().find(|option| option.name == name)
}

/// The clap arguments of `volary serve`. Values arrive as text; [`super::resolved`] reads them.
pub fn arguments() -> Vec<clap::Arg> {
    OPTIONS
        .iter()
        .map(|option| {
            let argument = clap::Arg::new(option.name).long(option.name).help(format!(
                "{} [env: {}] [default: {}]",
                option.help,
                option.variable(),
                option.default_text()
            ));
            match option.kind {
                OptionKind::Switch => argument.action(clap::ArgAction::SetTrue),
                OptionKind::List => argument
                    .action(clap::ArgAction::Append)
                    .value_name(option.value_name),
                OptionKind::Value => argument
                    .action(clap::ArgAction::Set)
                    .value_name(option.value_name),
            }
        })
        .collect()
}

/// The text of `docs/configuration.md`.
pub fn configuration_page() -> String {
    let mut page = String::from(
        "# Configuration\n\n\
         <!-- Generated from src/config/options.rs; refresh with `VOLARY_UPDATE_DOCS=1 cargo test --release --test tidy`. -->\n\n\
         Every setting of `volary serve` can be given as a flag, as an environment variable or as a key of the TOML file \
         that `--config` names. A flag outweighs a variable, a variable outweighs the file, the file outweighs the default. \
         No setting is needed: `volary serve` alone is one server on the loopback address with its store in \
         `./volary-data`.\n\n\
         Sizes are written `256MiB`, `2GiB`, `64KB` or as a number of bytes; durations `30s`, `500ms`, `2m`. \
         Unknown keys and values that cannot be used stop the start with a message that names them.\n\n\
         | flag | variable | file key | default | meaning |\n|---|---|---|---|---|\n",
    );
    for option in OPTIONS {
        let flag = match option.kind {
            OptionKind::Switch => format!("--{}", option.name),
            _ => format!("--{} {}", option.name, option.value_name),
        };
        let default = match option.default {
            Some(default) => format!("`{default}`"),
            None => option.default_meaning.to_owned(),
        };
        let key = if option.name == "config" {
            String::from("–")
        } else {
            format!("`{}`", option.name)
        };
        let _ = writeln!(
            page,
            "| `{}` | `{}` | {key} | {default} | {} |",
            flag.replace('|', "\\|"),
            option.variable(),
            option.help
        );
    }
    page.push_str(
        "\nA file with some of them:\n\n```toml\n\
         listen = \"10.0.0.5:50051\"\nhttp = \"10.0.0.5:8080\"\ninsecure = true   # no certificates needed: only on a network you trust; docs/tls.md has the other way\n\
         store = \"/srv/volary\"\njoin = [\"10.0.0.6:50051\", \"10.0.0.7:50051\"]\nmemory-limit = \"8GiB\"\nthreads = 16\n```\n",
    );
    page
}

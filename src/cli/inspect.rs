//! `volary members | datasets | models | jobs | sql`: one question to a running server, shown as a table or as JSON.

use std::io::Write;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use futures::StreamExt;
use serde_json::json;

use super::CliError;
use super::table::{self, Column};
use crate::access::{ClientTlsConfig, PemFile};
use crate::flight::client::Client;

/// Rows drawn as one table; longer answers repeat the heading so that memory stays bounded.
const ROWS_PER_TABLE: usize = 10_000;

/// Runs the named command.
pub fn inspect(name: &str, arguments: &clap::ArgMatches) -> Result<(), CliError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let url = arguments
        .get_one::<String>("server")
        .map_or("", String::as_str);
    let as_json = arguments.get_flag("json");
    runtime.block_on(async {
        let mut client = Client::connect(url, tls(arguments)).await?;
        match name {
            "members" => list(&mut client, "ListMembers", MEMBERS, as_json).await,
            "datasets" => list(&mut client, "ListDatasets", DATASETS, as_json).await,
            "models" => list(&mut client, "ListModels", MODELS, as_json).await,
            "jobs" => list(&mut client, "ListJobs", JOBS, as_json).await,
            _ => {
                let query = arguments
                    .get_one::<String>("query")
                    .map_or("", String::as_str);
                sql(&mut client, query, as_json).await
            }
        }
    })
}

fn tls(arguments: &clap::ArgMatches) -> ClientTlsConfig {
    let file = |name: &str| {
        let path = arguments.get_one::<String>(name)?;
        Some(PemFile::new(format!("--{name}"), path))
    };
    ClientTlsConfig {
        root_certificates: file("tls-root-certs"),
        certificate: file("cert-chain"),
        key: file("private-key"),
        disable_server_verification: arguments.get_flag("disable-server-verification"),
        override_hostname: arguments.get_one("override-hostname").cloned(),
    }
}

const MEMBERS: &[Column] = &[
    ("name", |member| table::text(member, "name")),
    ("address", |member| table::text(member, "address")),
    ("state", |member| {
        table::text(member, "state").to_lowercase()
    }),
    ("version", |member| table::text(member, "version")),
    ("cores", |member| table::text(member, "cores")),
    ("memory", |member| {
        table::size(table::number(member, "memory_bytes"))
    }),
];

const DATASETS: &[Column] = &[
    ("name", |dataset| table::text(dataset, "name")),
    ("version", |dataset| {
        table::number(dataset, "version").to_string()
    }),
    ("rows", |dataset| table::number(dataset, "rows").to_string()),
    ("size", |dataset| {
        table::size(table::number(dataset, "bytes"))
    }),
    ("files", |dataset| {
        table::number(dataset, "files").to_string()
    }),
    ("committed", |dataset| table::time(dataset, "committed")),
];

const MODELS: &[Column] = &[
    ("name", |model| table::text(model, "name")),
    ("version", |model| table::text(model, "version")),
    ("label", |model| table::text(model, "label")),
    ("parameters", |model| {
        table::number(model, "parameters").to_string()
    }),
    ("metrics", table::metrics),
    ("dataset", |model| table::text(model, "dataset")),
    ("committed", |model| table::time(model, "committed")),
];

const JOBS: &[Column] = &[
    ("id", |job| table::text(job, "id")),
    ("kind", |job| table::text(job, "kind").to_lowercase()),
    ("state", |job| table::text(job, "state").to_lowercase()),
    ("name", |job| table::text(job, "name")),
    ("progress", |job| {
        format!("{:.0} %", 100.0 * table::number(job, "progress"))
    }),
    ("rows/s", |job| {
        format!("{:.0}", table::number(job, "rows_per_second"))
    }),
    ("metrics", table::metrics),
    ("created", |job| table::time(job, "created")),
    ("error", |job| table::text(&job["error"], "message")),
];

async fn list(
    client: &mut Client,
    action: &str,
    columns: &[Column],
    as_json: bool,
) -> Result<(), CliError> {
    let answers = client.action(action, &json!({})).await?;
    let mut out = std::io::stdout().lock();
    if as_json {
        for answer in &answers {
            writeln!(out, "{answer}")?;
        }
    } else {
        writeln!(out, "{}", table::draw(columns, &answers)?)?;
    }
    Ok(out.flush()?)
}

async fn sql(client: &mut Client, query: &str, as_json: bool) -> Result<(), CliError> {
    let mut answer = client.query(query).await?;
    let mut rows_held = 0;
    let mut held: Vec<RecordBatch> = Vec::new();
    let mut tables_drawn = 0;
    while let Some(batch) = answer.rows.next().await {
        let batch = batch?;
        if as_json {
            write_json(&batch)?;
            continue;
        }
        rows_held += batch.num_rows();
        held.push(batch);
        if rows_held >= ROWS_PER_TABLE {
            write_table(&held)?;
            tables_drawn += 1;
            rows_held = 0;
            held.clear();
        }
    }
    if !as_json && (!held.is_empty() || tables_drawn == 0) {
        if held.is_empty() {
            held.push(RecordBatch::new_empty(answer.schema));
        }
        write_table(&held)?;
    }
    Ok(())
}

fn write_table(batches: &[RecordBatch]) -> Result<(), CliError> {
    let text = arrow::util::pretty::pretty_format_batches(batches)?;
    let mut out = std::io::stdout().lock();
    writeln!(out, "{text}")?;
    Ok(out.flush()?)
}

fn write_json(batch: &RecordBatch) -> Result<(), CliError> {
    // Through memory, so that a closed pipe stays an I/O error and is not hidden in one of Arrow's.
    let mut writer = LineDelimitedWriter::new(Vec::new());
    writer.write(batch)?;
    writer.finish()?;
    let mut out = std::io::stdout().lock();
    out.write_all(&writer.into_inner())?;
    Ok(out.flush()?)
}

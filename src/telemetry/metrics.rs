//! Every metric: name, unit, labels, meaning. No metric is named elsewhere; other folders call the functions below.
//!
//! `docs/metrics.md` is generated from [`METRICS`]. Labels take few values: verbs, codes, states; never names that
//! clients choose, which would let them fill the memory of whoever scrapes.

use std::fmt::Write as _;
use std::sync::OnceLock;
use std::time::Duration;

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

/// How a metric moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Only grows.
    Counter,
    /// Grows and shrinks.
    Gauge,
    /// Counts values in buckets.
    Histogram,
}

/// One metric.
#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: MetricKind,
    pub unit: &'static str,
    pub labels: &'static [&'static str],
    pub meaning: &'static str,
}

macro_rules! metrics {
    ($($constant:ident: $kind:ident, $name:literal, $unit:literal, [$($label:literal),*], $meaning:literal;)*) => {
        $(const $constant: Metric = Metric {
            name: $name, kind: MetricKind::$kind, unit: $unit, labels: &[$($label),*], meaning: $meaning,
        };)*
        /// Every metric, in the order of the page.
        pub const METRICS: &[Metric] = &[$($constant),*];
    };
}

metrics! {
    UP: Gauge, "volary_server_info", "1", ["name", "version"], "Always 1; its labels say which server this is.";
    DRAINING: Gauge, "volary_server_draining", "0 or 1", [], "1 from the moment the server was asked to stop.";
    MEMBERS: Gauge, "volary_cluster_members", "servers", ["state"], "Servers of the cluster as this one sees them, by state (ready, draining, dead).";
    REQUESTS: Counter, "volary_requests_total", "requests", ["verb", "code"], "Finished Flight calls by verb (do_get, do_put, ...) and gRPC code (OK, NOT_FOUND, ...).";
    REQUEST_SECONDS: Histogram, "volary_request_duration_seconds", "seconds", ["verb"], "Time from the call to the end of its stream.";
    REQUESTS_RUNNING: Gauge, "volary_requests_running", "requests", ["verb"], "Flight calls whose streams are open now.";
    ROWS: Counter, "volary_rows_total", "rows", ["direction"], "Rows that came in from clients (in) and went out to them (out).";
    BYTES: Counter, "volary_bytes_total", "bytes", ["direction"], "Bytes of Arrow data that came in from clients (in) and went out to them (out).";
    JOBS_RUNNING: Gauge, "volary_jobs_running", "jobs", ["kind"], "Jobs (train, score) that this server drives now.";
    JOBS: Counter, "volary_jobs_total", "jobs", ["kind", "state"], "Jobs that this server drove to their end, by kind and final state (succeeded, failed, cancelled).";
    TRAINING_ROWS: Counter, "volary_training_rows_total", "rows", [], "Rows this server put through a training step, every epoch counted.";
    TRAINING_STEPS: Counter, "volary_training_steps_total", "steps", [], "Training steps this server took part in.";
    SCORED_ROWS: Counter, "volary_scored_rows_total", "rows", ["door"], "Rows answered by models, by the door they came through (exchange, job, sql, evaluate).";
}

/// Upper bounds of the duration buckets, in seconds: from a metadata call to a long upload.
const DURATION_BUCKETS: [f64; 12] = [
    0.001, 0.004, 0.016, 0.064, 0.25, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0, 4096.0,
];

static RECORDER: OnceLock<MetricsPage> = OnceLock::new();

/// What `/metrics` answers from. Cheap to clone.
#[derive(Clone)]
pub struct MetricsPage(PrometheusHandle);

impl std::fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("MetricsPage").finish_non_exhaustive()
    }
}

impl MetricsPage {
    /// Every metric that has a value, in the Prometheus text format.
    pub fn render(&self) -> String {
        self.0.render()
    }

    /// Moves recorded durations into their buckets; to be called every few seconds, or they pile up until a scrape.
    pub fn tidy_up(&self) {
        self.0.run_upkeep();
    }
}

/// Starts recording, once per process, and returns what renders the page. A second server of the process shares it.
pub fn install() -> MetricsPage {
    RECORDER
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new()
                .set_buckets_for_metric(
                    Matcher::Full(REQUEST_SECONDS.name.to_owned()),
                    &DURATION_BUCKETS,
                )
                .unwrap_or_else(|_| PrometheusBuilder::new())
                .build_recorder();
            let handle = recorder.handle();
            // Refused only where the host program records already; then its recorder has the numbers.
            let _ = metrics::set_global_recorder(recorder);
            for metric in METRICS {
                match metric.kind {
                    MetricKind::Counter => metrics::describe_counter!(metric.name, metric.meaning),
                    MetricKind::Gauge => metrics::describe_gauge!(metric.name, metric.meaning),
                    MetricKind::Histogram => {
                        metrics::describe_histogram!(metric.name, metric.meaning);
                    }
                }
            }
            MetricsPage(handle)
        })
        .clone()
}

/// Says which server this process is.
pub fn server_started(name: &str, version: &str) {
    gauge!(UP.name, "name" => name.to_owned(), "version" => version.to_owned()).set(1.0);
    gauge!(DRAINING.name).set(0.0);
}

/// The server was asked to stop.
pub fn server_draining() {
    gauge!(DRAINING.name).set(1.0);
}

/// The view of the cluster changed: number of servers by state.
pub fn cluster_members(ready: usize, draining: usize, dead: usize) {
    for (state, count) in [("ready", ready), ("draining", draining), ("dead", dead)] {
        #[expect(
            clippy::cast_precision_loss,
            reason = "a cluster has fewer than 2^52 servers"
        )]
        gauge!(MEMBERS.name, "state" => state).set(count as f64);
    }
}

/// One Flight call from its start to the end of its stream. Counted as `CANCELLED` when dropped without `finish`,
/// which is what a client that went away looks like.
#[derive(Debug)]
pub struct RequestTimer {
    verb: &'static str,
    started: std::time::Instant,
    finished: bool,
}

/// A call began. `verb` is the gRPC method in snake case.
pub fn request_started(verb: &'static str) -> RequestTimer {
    gauge!(REQUESTS_RUNNING.name, "verb" => verb).increment(1.0);
    RequestTimer {
        verb,
        started: std::time::Instant::now(),
        finished: false,
    }
}

impl RequestTimer {
    /// The call ended with this gRPC code by name (`OK`, `NOT_FOUND`).
    pub fn finish(mut self, code: &'static str) {
        self.finished = true;
        request_ended(self.verb, code, self.started.elapsed());
    }
}

impl Drop for RequestTimer {
    fn drop(&mut self) {
        gauge!(REQUESTS_RUNNING.name, "verb" => self.verb).decrement(1.0);
        if !self.finished {
            request_ended(self.verb, "CANCELLED", self.started.elapsed());
        }
    }
}

fn request_ended(verb: &'static str, code: &'static str, duration: Duration) {
    counter!(REQUESTS.name, "verb" => verb, "code" => code).increment(1);
    histogram!(REQUEST_SECONDS.name, "verb" => verb).record(duration.as_secs_f64());
}

/// A batch came in from a client.
pub fn batch_received(rows: u64, bytes: u64) {
    counter!(ROWS.name, "direction" => "in").increment(rows);
    counter!(BYTES.name, "direction" => "in").increment(bytes);
}

/// A batch went out to a client.
pub fn batch_sent(rows: u64, bytes: u64) {
    counter!(ROWS.name, "direction" => "out").increment(rows);
    counter!(BYTES.name, "direction" => "out").increment(bytes);
}

/// This server began to drive a job; `kind` is `train` or `score`.
pub fn job_started(kind: &'static str) {
    gauge!(JOBS_RUNNING.name, "kind" => kind).increment(1.0);
}

/// A job driven here ended; `state` is `succeeded`, `failed` or `cancelled`.
pub fn job_ended(kind: &'static str, state: &'static str) {
    gauge!(JOBS_RUNNING.name, "kind" => kind).decrement(1.0);
    counter!(JOBS.name, "kind" => kind, "state" => state).increment(1);
}

/// One training step of this server over so many rows.
pub fn training_step(rows: u64) {
    counter!(TRAINING_STEPS.name).increment(1);
    counter!(TRAINING_ROWS.name).increment(rows);
}

/// Rows were answered by a model; `door` is `exchange`, `job`, `sql` or `evaluate`.
pub fn rows_scored(door: &'static str, rows: u64) {
    counter!(SCORED_ROWS.name, "door" => door).increment(rows);
}

/// The text of `docs/metrics.md`.
pub fn metrics_page() -> String {
    let mut page = String::from(
        "# Metrics\n\n\
         <!-- Generated from src/telemetry/metrics.rs; refresh with `VOLARY_UPDATE_DOCS=1 cargo test --release --test tidy`. -->\n\n\
         `GET /metrics` on the HTTP port answers in the Prometheus text format. A metric appears once it has a value. \
         Labels never carry names that clients choose.\n\n\
         | metric | kind | unit | labels | meaning |\n|---|---|---|---|---|\n",
    );
    for metric in METRICS {
        let labels = if metric.labels.is_empty() {
            String::from("–")
        } else {
            metric
                .labels
                .iter()
                .map(|label| format!("`{label}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let _ = writeln!(
            page,
            "| `{}` | {} | {} | {labels} | {} |",
            metric.name,
            format!("{:?}", metric.kind).to_lowercase(),
            metric.unit,
            metric.meaning
        );
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_what_is_declared() {
        let handle = install();
        server_started("a", "1");
        server_draining();
        cluster_members(3, 0, 1);
        request_started("do_get").finish("OK");
        drop(request_started("do_put"));
        batch_received(10, 80);
        batch_sent(5, 40);
        job_started("train");
        job_ended("train", "succeeded");
        training_step(256);
        rows_scored("exchange", 7);
        let page = handle.render();
        for metric in METRICS {
            assert!(
                page.contains(&format!("# HELP {}", metric.name)),
                "{} is declared but no function records it",
                metric.name
            );
        }
        assert!(
            page.contains("volary_requests_total{verb=\"do_put\",code=\"CANCELLED\"} 1"),
            "{page}"
        );
        let known = METRICS.iter().map(|metric| metric.name);
        for line in page.lines().filter(|line| line.starts_with("# TYPE")) {
            let name = line.split(' ').nth(2).expect("a name");
            assert!(
                known.clone().any(|known| known == name),
                "{name} is not declared"
            );
        }
    }

    #[test]
    fn a_second_server_of_the_process_shares_the_recorder() {
        let (first, second) = (install(), install());
        cluster_members(1, 2, 3);
        assert!(first.render().contains("volary_cluster_members"));
        assert!(second.render().contains("volary_cluster_members"));
    }
}

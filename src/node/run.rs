//! Serve until asked to stop, then drain.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;

use super::admin::{self, Admin};
use super::assemble::{Assembly, assemble, store_probe};
use super::{Listener, NodeError};
use crate::cluster::{Member, MemberState};
use crate::config::NodeConfig;
use crate::flight;
use crate::support::shutdown::Shutdown;
use crate::telemetry::metrics::{self, MetricsPage};

/// Recorded durations move into their buckets this often when nobody scrapes.
const METRICS_UPKEEP: Duration = Duration::from_secs(5);
/// The HTTP port may take this long to end its last answers.
const HTTP_GRACE: Duration = Duration::from_secs(1);
/// After the drain, even one of no time, jobs may take this long to write their end and broken uploads to be deleted.
const STORE_GRACE: Duration = Duration::from_secs(10);

/// Runs one server on the bound ports until `shutdown` begins, and through the drain that follows: health off, new work
/// refused, jobs ended, running streams finished up to the drain timeout, goodbye to the cluster.
///
/// `announce` gets the line that names the ports, once the store is open and the ports answer.
pub async fn run(
    config: NodeConfig,
    listener: Listener,
    shutdown: Shutdown,
    announce: impl FnOnce(&str),
) -> Result<(), NodeError> {
    let began = Instant::now();
    let page = metrics::install();
    let Assembly {
        services,
        flight: flight_config,
        spill,
    } = assemble(&config, &listener, &shutdown).await?;
    let announcement = listener.announcement();
    let Listener {
        grpc,
        http,
        grpc_address,
        http_address,
        name,
        url,
        ..
    } = listener;
    metrics::server_started(&name, env!("CARGO_PKG_VERSION"));

    let cluster = Arc::clone(&services.cluster);
    let catalog = services.catalog.clone();
    let serving = Arc::new(AtomicBool::new(false));
    let (http_end, http_ended) = watch::channel(false);
    let admin = admin::router(Admin {
        serving: Arc::clone(&serving),
        shutdown: shutdown.clone(),
        store: store_probe(&catalog),
        metrics: page.clone(),
    });
    let mut http_server = AbortOnDropHandle::new(tokio::spawn(
        axum::serve(http, admin)
            .with_graceful_shutdown(ended(http_ended))
            .into_future(),
    ));
    let _lost = AbortOnDropHandle::new(tokio::spawn({
        let (training, shutdown) = (Arc::clone(&services.training), shutdown.clone());
        async move { training.keep_ending_lost(shutdown).await }
    }));
    let mut grpc_server =
        AbortOnDropHandle::new(tokio::spawn(flight::serve(grpc, services, flight_config)));
    let _members = AbortOnDropHandle::new(tokio::spawn(count_members(cluster.watch())));
    let _sweep = AbortOnDropHandle::new(tokio::spawn(
        Arc::clone(&catalog.uploads).keep_swept(shutdown.clone()),
    ));
    let _upkeep = AbortOnDropHandle::new(tokio::spawn(keep_up(page)));
    serving.store(true, Ordering::Release);
    announce(&announcement);
    tracing::info!(
        url,
        grpc = %grpc_address,
        http = %http_address,
        gossip = %cluster.gossip_address(),
        name,
        store = config.store,
        version = env!("CARGO_PKG_VERSION"),
        threads = config.threads,
        took = ?began.elapsed(),
        "ready"
    );

    let grpc_ended = tokio::select! {
        biased;
        () = shutdown.begun() => false,
        outcome = &mut grpc_server => match outcome {
            // An idle port may have ended of the shutdown before this task saw it begin.
            Ok(Ok(())) if shutdown.has_begun() => true,
            outcome => return Err(stopped("gRPC", outcome)),
        },
        outcome = &mut http_server => return Err(stopped("HTTP", outcome)),
    };

    let drain = Instant::now();
    tracing::info!(timeout = ?config.drain_timeout, "draining");
    metrics::server_draining();
    // A job may take hours: it ends now and says so, and is started again elsewhere.
    catalog.jobs.stop_all();
    let drained = async {
        cluster.drain().await;
        tokio::join!(catalog.jobs.settled(), shutdown.finished());
        if !grpc_ended {
            // Clients keep idle connections; only those that end by themselves are waited for here.
            let _ = tokio::time::timeout(HTTP_GRACE, &mut grpc_server).await;
        }
    };
    let finished = tokio::time::timeout(config.drain_timeout, drained).await;
    if finished.is_err() {
        tracing::warn!(timeout = ?config.drain_timeout, "streams cut at the drain timeout");
    }
    drop(grpc_server);
    cluster.stop().await;
    if tokio::time::timeout(STORE_GRACE, catalog.settled())
        .await
        .is_err()
    {
        tracing::warn!(timeout = ?STORE_GRACE, "jobs or broken uploads did not end; their files may be left");
    }
    let _ = http_end.send(true);
    let _ = tokio::time::timeout(HTTP_GRACE, http_server).await;
    drop(spill);
    tracing::info!(took = ?drain.elapsed(), "stopped");
    Ok(())
}

/// Resolves when the sender says so or is gone.
async fn ended(mut end: watch::Receiver<bool>) {
    let _ = end.wait_for(|end| *end).await;
}

async fn count_members(mut members: watch::Receiver<Vec<Member>>) {
    loop {
        let view = members.borrow_and_update().clone();
        let count = |state| view.iter().filter(|member| member.state == state).count();
        metrics::cluster_members(
            count(MemberState::Ready),
            count(MemberState::Draining),
            count(MemberState::Dead),
        );
        if members.changed().await.is_err() {
            return;
        }
    }
}

async fn keep_up(page: MetricsPage) {
    let mut ticks = tokio::time::interval(METRICS_UPKEEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        page.tidy_up();
    }
}

/// A port that ends before it was asked to.
fn stopped<E: std::fmt::Display>(
    what: &'static str,
    outcome: Result<Result<(), E>, tokio::task::JoinError>,
) -> NodeError {
    NodeError::Stopped {
        what,
        reason: match outcome {
            Ok(Ok(())) => String::from("it ended without being asked"),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Given;

    fn config(store: &std::path::Path) -> NodeConfig {
        let given = Given::default()
            .with("listen", "127.0.0.1:0")
            .with("http", "127.0.0.1:0")
            .with("store", store.to_str().expect("UTF-8"));
        NodeConfig::resolve(&given).expect("resolved")
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_server_is_announced_when_its_store_is_open_and_not_before() {
        let scratch = tempfile::tempdir().expect("scratch");
        let no_directory = scratch.path().join("file");
        std::fs::write(&no_directory, b"").expect("written");
        let bad = config(&no_directory);
        let listener = Listener::bind(&bad).await.expect("bound");
        let mut announced = Vec::new();
        let announce = |line: &str| announced.push(line.to_owned());
        let outcome = run(bad, listener, Shutdown::new(), announce).await;
        outcome.expect_err("a file is no store");
        assert!(announced.is_empty(), "{announced:?}");

        let good = config(&scratch.path().join("store"));
        let listener = Listener::bind(&good).await.expect("bound");
        let expected = listener.announcement();
        let shutdown = Shutdown::new();
        let announce = |line: &str| {
            announced.push(line.to_owned());
            shutdown.begin();
        };
        let outcome = run(good, listener, shutdown.clone(), announce).await;
        outcome.expect("served and drained");
        assert_eq!(announced, [expected]);
    }
}

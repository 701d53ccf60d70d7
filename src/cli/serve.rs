//! `volary serve`: settings to a running server, signals to its end.

use std::io::Write as _;
use std::time::Duration;

use super::CliError;
use crate::config::{Given, NodeConfig};
use crate::node::{self, Listener, NodeError};
use crate::support::shutdown::Shutdown;
use crate::telemetry;

/// After the drain, threads still inside a computation get this long before the process ends without them.
const THREADS_GRACE: Duration = Duration::from_secs(2);

/// Runs one server until SIGTERM or Ctrl-C and the drain that follows.
pub fn serve(arguments: &clap::ArgMatches) -> Result<(), CliError> {
    let given = Given::collect(arguments, |name| std::env::var(name).ok())?;
    let config = NodeConfig::resolve(&given)?;
    telemetry::tracing::install(&config.log);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .thread_name("server")
        // With one core a query would otherwise keep health checks and the other servers waiting.
        .worker_threads(crate::support::machine::cores().max(2))
        // Worker and blocking threads alike: the planner recurses to the depth of the query, and a stack that overflows
        // ends the process. The default of 2 MiB is too small for the depth that queries may have.
        .thread_stack_size(crate::support::machine::THREAD_STACK_BYTES)
        .enable_all()
        .build()?;
    let outcome = runtime.block_on(async {
        let shutdown = Shutdown::new();
        stop_on_signals(&shutdown)?;
        let listener = Listener::bind(&config).await?;
        // For whoever started us, perhaps with port 0: what to connect to, and that it can be connected to.
        let announce = |line: &str| {
            let _ = writeln!(std::io::stdout(), "{line}");
            let _ = std::io::stdout().flush();
        };
        node::run(config, listener, shutdown, announce).await?;
        Ok::<(), CliError>(())
    });
    runtime.shutdown_timeout(THREADS_GRACE);
    outcome
}

/// The first signal drains. A repeated SIGTERM changes nothing, as supervisors repeat it; Ctrl-C during the drain ends the
/// process at once, as an impatient person means it.
fn stop_on_signals(shutdown: &Shutdown) -> Result<(), NodeError> {
    use tokio::signal::unix::{SignalKind, signal};
    let failed = |source| NodeError::Signals { source };
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let shutdown = shutdown.clone();
    tokio::spawn(async move {
        loop {
            let (name, impatient) = tokio::select! {
                _ = terminate.recv() => ("SIGTERM", false),
                _ = interrupt.recv() => ("SIGINT", true),
            };
            if !shutdown.has_begun() {
                tracing::info!(signal = name, "asked to stop");
                shutdown.begin();
            } else if impatient {
                tracing::warn!(signal = name, "asked again; ending without the drain");
                std::process::exit(1);
            }
        }
    });
    Ok(())
}

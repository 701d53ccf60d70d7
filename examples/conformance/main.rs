//! Serves one of Arrow Flight's integration scenarios, by which Arrow's own clients are tested against every server.
//!
//! A scenario is a few fixed answers; here they are plugged in beneath the port that serves everybody else, so the port,
//! the codec, signed tickets and handles, sessions and the reading of commands are the server's own. Which layer answers
//! what is told in `docs/conformance.md`; `make conformance` runs the clients.
//!
//!     cargo run --release --example conformance -- poll_flight_info

mod auth;
mod exchange;
mod expiration;
mod flights;
mod ingestion;
mod round_trip;
mod session;
mod sql;
mod toy;

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use volary::flight::conformance::{FlightConfig, Verbs, serve_verbs};
use volary::support::shutdown::Shutdown;

const SCENARIOS: &[&str] = &[
    "alignment",
    "app_metadata_flight_info_endpoint",
    "auth:basic_proto",
    "do_exchange:echo",
    "expiration_time:cancel_flight_info",
    "expiration_time:do_get",
    "expiration_time:list_actions",
    "expiration_time:renew_flight_endpoint",
    "flight_sql",
    "flight_sql:extension",
    "flight_sql:ingestion",
    "location:reuse_connection",
    "middleware",
    "ordered",
    "poll_flight_info",
    "round_trip",
    "session_options",
];

/// One server needs no secret.
const KEY: [u8; 32] = *b"a key for the conformance server";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let scenario = std::env::args().nth(1).unwrap_or_default();
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let verbs = verbs_of(&scenario, address).ok_or_else(|| {
        format!(
            "there is no scenario {scenario:?}; name one of {}",
            SCENARIOS.join(", ")
        )
    })?;
    let shutdown = Shutdown::new();
    let interrupted = shutdown.clone();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            interrupted.begin();
        }
    });
    println!("serving {scenario} on {address}");
    let config = FlightConfig::new(KEY);
    serve_verbs(listener, verbs, &config, shutdown).await?;
    Ok(())
}

/// `address` is where the server can be reached, for answers that say it.
fn verbs_of(scenario: &str, address: SocketAddr) -> Option<Arc<dyn Verbs>> {
    Some(match scenario {
        "alignment" => Arc::new(flights::Alignment),
        "app_metadata_flight_info_endpoint" => Arc::new(flights::AppMetadata),
        "auth:basic_proto" => Arc::new(auth::BasicAuth),
        "do_exchange:echo" => Arc::new(exchange::Echo),
        "expiration_time:cancel_flight_info"
        | "expiration_time:do_get"
        | "expiration_time:list_actions"
        | "expiration_time:renew_flight_endpoint" => {
            Arc::new(expiration::ExpirationTime::default())
        }
        "flight_sql" | "flight_sql:extension" => Arc::new(sql::FlightSql),
        "flight_sql:ingestion" => Arc::new(ingestion::Ingestion),
        "location:reuse_connection" => Arc::new(flights::ReuseConnection),
        "middleware" => Arc::new(flights::Middleware),
        "ordered" => Arc::new(flights::Ordered),
        "poll_flight_info" => Arc::new(flights::Polling),
        "round_trip" => Arc::new(round_trip::RoundTrip::new(address)),
        "session_options" => Arc::new(session::SessionOptions),
        _ => return None,
    })
}

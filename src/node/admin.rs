//! The HTTP port: `/livez` (the process answers), `/readyz` (it takes work and reaches its store), `/metrics`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::future::BoxFuture;

use crate::support::shutdown::Shutdown;
use crate::telemetry::metrics::MetricsPage;

/// A store that takes longer than this to answer a small read is not reachable.
const STORE_TIMEOUT: Duration = Duration::from_secs(2);

/// Whether the store answers; the error is the reason.
pub type StoreProbe = Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the HTTP port answers from.
#[derive(Clone)]
pub struct Admin {
    /// Set once the gRPC port serves.
    pub serving: Arc<AtomicBool>,
    pub shutdown: Shutdown,
    pub store: StoreProbe,
    pub metrics: MetricsPage,
}

impl std::fmt::Debug for Admin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Admin")
            .field("serving", &self.serving)
            .finish_non_exhaustive()
    }
}

/// The pages.
pub fn router(admin: Admin) -> Router {
    Router::new()
        .route("/livez", get(async || "alive\n"))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(admin)
}

async fn ready(State(admin): State<Admin>) -> Response {
    let not_ready =
        |reason: String| (StatusCode::SERVICE_UNAVAILABLE, reason + "\n").into_response();
    if admin.shutdown.has_begun() {
        return not_ready(String::from("draining"));
    }
    if !admin.serving.load(Ordering::Acquire) {
        return not_ready(String::from("starting"));
    }
    match tokio::time::timeout(STORE_TIMEOUT, (admin.store)()).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(reason)) => not_ready(format!("the store cannot be reached: {reason}")),
        Err(_) => not_ready(format!("the store did not answer within {STORE_TIMEOUT:?}")),
    }
}

async fn metrics(State(admin): State<Admin>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        admin.metrics.render(),
    )
        .into_response()
}

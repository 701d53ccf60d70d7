//! The stop signal: asked for once, seen everywhere, finished when the last guard is gone.

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Shared by everything that must stop together. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    asked: CancellationToken,
    work: TaskTracker,
}

impl Shutdown {
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the drain. May be called more than once.
    pub fn begin(&self) {
        self.asked.cancel();
        self.work.close();
    }

    /// Whether the drain was asked for.
    pub fn has_begun(&self) -> bool {
        self.asked.is_cancelled()
    }

    /// Waits until the drain is asked for.
    pub async fn begun(&self) {
        self.asked.cancelled().await;
    }

    /// Counts as running work until dropped.
    pub fn guard(&self) -> tokio_util::task::task_tracker::TaskTrackerToken {
        self.work.token()
    }

    /// Waits until the drain was asked for and all work is finished.
    pub async fn finished(&self) {
        self.asked.cancelled().await;
        self.work.wait().await;
    }
}

//! Serve until asked to stop, then drain.

use super::{Listener, NodeError};
use crate::config::NodeConfig;
use crate::support::shutdown::Shutdown;

/// placeholder until the flight branch is merged
pub async fn run(
    _config: NodeConfig,
    _listener: Listener,
    _shutdown: Shutdown,
) -> Result<(), NodeError> {
    Ok(())
}

//! The threads that queries compute on: a runtime of their own, so that a plan which computes for seconds without a pause
//! keeps no other request waiting.
//!
//! A query whose reader is gone is stopped at its next batch.

use std::sync::Arc;

use datafusion::arrow::array::RecordBatch;
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

/// Batches computed ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// The runtime, found again in every session's configuration.
#[derive(Debug)]
pub(super) struct QueryThreads {
    /// Taken when the engine ends: a runtime must not be waited for where others run.
    runtime: Option<Runtime>,
}

impl QueryThreads {
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("query")
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }
}

impl Drop for QueryThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Runs a plan on the threads of its session. Dropping the stream stops it.
pub(super) fn execute(
    plan: Arc<dyn ExecutionPlan>,
    context: Arc<TaskContext>,
) -> Result<BoxStream<'static, Result<RecordBatch, DataFusionError>>, DataFusionError> {
    let threads = context.session_config().get_extension::<QueryThreads>();
    let Some(runtime) = threads
        .as_ref()
        .and_then(|threads| threads.runtime.as_ref())
    else {
        return Ok(execute_stream(plan, context)?.boxed());
    };
    let mut rows = {
        // Some operators spawn their partitions as soon as they are executed.
        let _inside = runtime.enter();
        execute_stream(plan, context)?
    };
    let (sender, mut receiver) = mpsc::channel(BATCHES_AHEAD);
    let computing = AbortOnDropHandle::new(runtime.spawn(async move {
        while let Some(batch) = rows.next().await {
            if sender.send(batch).await.is_err() {
                return;
            }
        }
    }));
    Ok(async_stream::stream! {
        // Kept, so that the threads outlive what runs on them.
        let _threads = threads;
        while let Some(batch) = receiver.recv().await {
            yield batch;
        }
        // A panic in an operator must not look like the end of the rows.
        if let Err(lost) = computing.await {
            yield Err(DataFusionError::Execution(format!("the query's thread was lost: {lost}")));
        }
    }
    .boxed())
}

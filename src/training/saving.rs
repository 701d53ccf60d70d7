//! A worker's side of checkpoints: its part is written beside the steps that follow, one at a time.

use std::sync::Arc;

use bytes::Bytes;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::checkpoint::{CheckpointRule, PartSink, Standing};
use super::news::WorkerNews;
use crate::tensor::archive::{self, NamedArray};

/// The parts of one worker, on their way to where they are kept.
#[derive(Debug)]
pub(crate) struct Saving {
    rule: CheckpointRule,
    sink: Arc<dyn PartSink>,
    news: mpsc::Sender<WorkerNews>,
    runtime: Handle,
    /// The epoch whose part is being written.
    under_way: Option<(u32, JoinHandle<()>)>,
}

impl Saving {
    pub(crate) fn new(
        rule: CheckpointRule,
        sink: Arc<dyn PartSink>,
        news: mpsc::Sender<WorkerNews>,
        runtime: Handle,
    ) -> Self {
        Self {
            rule,
            sink,
            news,
            runtime,
            under_way: None,
        }
    }

    pub(crate) fn rule(&self) -> CheckpointRule {
        self.rule
    }

    /// Writes a part and tells the coordinator of it, or of what was in the way: the job goes on either way.
    pub(crate) fn begin(&mut self, epoch: u32, part: Vec<NamedArray>, standing: Option<Standing>) {
        let (sink, news) = (Arc::clone(&self.sink), self.news.clone());
        let writing = self.runtime.spawn(async move {
            let encoded = tokio::task::spawn_blocking(move || archive::to_bytes(&part)).await;
            let written = match encoded {
                Ok(Ok(bytes)) => {
                    let written = sink.write(epoch, Bytes::from(bytes)).await;
                    written.map_err(|error| error.to_string())
                }
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            let told = WorkerNews::Saved {
                epoch,
                standing,
                problem: written.err(),
            };
            let _ = news.send(told).await;
        });
        self.under_way = Some((epoch, writing));
    }

    /// Waits until the last part is written.
    pub(crate) fn finish(&mut self) {
        let Some((epoch, under_way)) = self.under_way.take() else {
            return;
        };
        if let Err(error) = self.runtime.block_on(under_way) {
            let told = WorkerNews::Saved {
                epoch,
                standing: None,
                problem: Some(error.to_string()),
            };
            let _ = self.news.blocking_send(told);
        }
    }
}

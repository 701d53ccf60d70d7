//! The watch over a running job: what its workers say, whom they accuse, and what that comes to.
//!
//! When one worker ends, its neighbors see their streams close and accuse it, and are accused in turn; so last words are
//! waited for. Decides nothing about what is trained.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::StreamExt;
use futures::future::select_all;
use tokio::sync::mpsc;

use super::TrainingError;
use super::host::Running;
use super::keeping::Keeping;
use super::network::{TrainingPeer, WorkerEvent};
use super::news::{HistoryRow, WorkerNews};
use super::worker::Trained;
use crate::catalog::LiveJob;

/// How long after the first word of a lost server others may say what really happened: when one worker ends, its
/// neighbors see their streams close and accuse it before its own last word is here.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How long a model that is trained waits for what other servers still write of its last checkpoint.
const PARTS_WAIT: Duration = Duration::from_secs(30);

/// A remote worker's word.
pub(super) enum RemoteEvent {
    News(WorkerNews),
    /// Its event stream broke.
    Broken(TrainingError),
    Ended,
}

impl RemoteEvent {
    pub(super) fn of(event: Result<WorkerEvent, TrainingError>) -> Self {
        match event {
            Err(error) => Self::Broken(error),
            Ok(WorkerEvent(bytes)) => match serde_json::from_slice(&bytes) {
                Ok(news) => Self::News(news),
                Err(error) => Self::Broken(TrainingError::Internal {
                    reason: format!("a worker's word cannot be read: {error}"),
                }),
            },
        }
    }
}

/// Who may be lost, while the last words are awaited.
#[derive(Debug, Default)]
pub(super) struct Suspicion {
    /// Servers that others accuse, with the reason, in the order of accusation.
    accused: Vec<(String, String)>,
    /// Servers that spoke for themselves: they are alive.
    alive: BTreeSet<String>,
}

impl Suspicion {
    /// The server that was lost: the first one accused that has not spoken itself, or else the first one accused. Not this
    /// one (`own`), as long as there is another: a server that was cut off accuses it, too.
    fn verdict(&self, own: &str) -> Option<TrainingError> {
        let mut others = self.accused.iter().filter(|(server, _)| server != own);
        let silent = others
            .clone()
            .find(|(server, _)| !self.alive.contains(server));
        let other = silent.or_else(|| others.next());
        let (server, reason) = other.or_else(|| self.accused.first())?;
        Some(TrainingError::ServerLost {
            server: server.clone(),
            reason: reason.clone(),
        })
    }
}

/// The watch over a running job.
pub(super) struct Watch<'a> {
    pub(super) live: &'a LiveJob,
    pub(super) servers: &'a [TrainingPeer],
    pub(super) total_steps: u64,
    pub(super) suspicion: Suspicion,
    pub(super) keeping: Keeping<'a>,
}

impl Watch<'_> {
    /// The job to its end; after a failure, what is still said of checkpoints.
    pub(super) async fn until_over(
        mut self,
        mut local: Running,
        mut remote: impl futures::Stream<Item = (usize, RemoteEvent)> + Unpin,
        lost: Vec<impl Future<Output = String> + Unpin>,
    ) -> Result<Trained, TrainingError> {
        let outcome = self.until_done(&mut local, &mut remote, lost).await;
        if outcome.is_err() && self.keeping.keeps() {
            // The workers end by themselves when one has, each after the part that it is writing.
            let heard = self.hear_of_parts(&mut local.news, &mut remote);
            let _ = tokio::time::timeout(LAST_WORDS, heard).await;
        }
        outcome
    }

    async fn hear_of_parts(
        &mut self,
        local: &mut mpsc::Receiver<WorkerNews>,
        mut remote: impl futures::Stream<Item = (usize, RemoteEvent)> + Unpin,
    ) {
        let (mut local_open, mut remote_open) = (true, true);
        while local_open || remote_open {
            let told = tokio::select! {
                told = local.recv(), if local_open => {
                    local_open = told.is_some();
                    told.map(|news| (0, news))
                }
                told = remote.next(), if remote_open => {
                    remote_open = told.is_some();
                    match told {
                        Some((worker, RemoteEvent::News(news))) => Some((worker, news)),
                        _ => None,
                    }
                }
            };
            if let Some((
                worker,
                WorkerNews::Saved {
                    epoch,
                    standing,
                    problem,
                },
            )) = told
            {
                self.keeping
                    .part_written(worker, epoch, standing, problem)
                    .await;
            }
        }
    }

    async fn until_done(
        &mut self,
        local: &mut Running,
        mut remote: impl futures::Stream<Item = (usize, RemoteEvent)> + Unpin,
        lost: Vec<impl Future<Output = String> + Unpin>,
    ) -> Result<Trained, TrainingError> {
        let Running { news, outcome } = local;
        let nobody_else = lost.is_empty();
        let mut lost = Box::pin(async {
            if nobody_else {
                std::future::pending::<String>().await
            } else {
                select_all(lost).await.0
            }
        });
        let last_words = tokio::time::sleep(Duration::MAX);
        tokio::pin!(last_words);
        // How long a model that is trained waits for its last checkpoint.
        let patience = tokio::time::sleep(Duration::MAX);
        tokio::pin!(patience);
        let mut patient = false;
        let mut news_open = true;
        let mut trained = None;
        loop {
            if !news_open
                && !self.keeping.waits()
                && let Some(trained) = trained.take()
            {
                return Ok(trained);
            }
            let suspected = !self.suspicion.accused.is_empty();
            tokio::select! {
                biased;
                told = news.recv(), if news_open => match told {
                    // Its last word is the outcome, below.
                    Some(WorkerNews::Failed(_)) => {}
                    Some(told) => self.take_news(told).await?,
                    None => news_open = false,
                },
                ended = &mut *outcome, if trained.is_none() && !self.spoke_itself(0) => match ended {
                    Ok(Ok(done)) => trained = Some(done),
                    Ok(Err(error)) => self.suspect(0, error)?,
                    Err(_) => return Err(TrainingError::Internal {
                        reason: "this server's worker ended without a word".into(),
                    }),
                },
                Some((worker, event)) = remote.next(), if trained.is_none() || self.keeping.waits() => match event {
                    RemoteEvent::News(WorkerNews::Saved { epoch, standing, problem }) => {
                        self.keeping.part_written(worker, epoch, standing, problem).await;
                    }
                    // The model is trained: what becomes of a worker now is no matter but for its part.
                    RemoteEvent::Broken(_) | RemoteEvent::Ended | RemoteEvent::News(WorkerNews::Failed(_))
                        if trained.is_some() =>
                    {
                        self.keeping.expects_no_more_of(worker);
                    }
                    RemoteEvent::News(WorkerNews::Failed(failure)) => {
                        self.suspect(worker, failure.into())?;
                    }
                    RemoteEvent::News(WorkerNews::Finished) => {
                        self.suspicion.alive.insert(self.servers[worker].name.clone());
                    }
                    RemoteEvent::News(_) => {}
                    RemoteEvent::Broken(error) => return Err(self.broken(worker, error)),
                    RemoteEvent::Ended if self.spoke_itself(worker) => {}
                    RemoteEvent::Ended => {
                        return Err(self.lost(worker, "its event stream ended".into()));
                    }
                },
                server = &mut lost, if trained.is_none() => {
                    return Err(TrainingError::ServerLost {
                        server,
                        reason: "the cluster no longer sees it".into(),
                    });
                }
                () = &mut patience, if trained.is_some() && !news_open => self.keeping.give_up(),
                () = &mut last_words, if suspected && trained.is_none() => {
                    return Err(self.suspicion.verdict(&self.servers[0].name).unwrap_or(TrainingError::Cancelled));
                }
            }
            if trained.is_some() && !patient {
                patient = true;
                patience
                    .as_mut()
                    .reset(tokio::time::Instant::now() + PARTS_WAIT);
            }
            if !suspected && !self.suspicion.accused.is_empty() {
                last_words
                    .as_mut()
                    .reset(tokio::time::Instant::now() + LAST_WORDS);
            }
        }
    }

    fn spoke_itself(&self, worker: usize) -> bool {
        self.suspicion.alive.contains(&self.servers[worker].name)
    }

    /// A worker's own failure ends the job at once; its word of a lost neighbor is an accusation.
    fn suspect(&mut self, worker: usize, error: TrainingError) -> Result<(), TrainingError> {
        self.suspicion
            .alive
            .insert(self.servers[worker].name.clone());
        match error {
            TrainingError::ServerLost { server, reason } => {
                self.suspicion.accused.push((server, reason));
                Ok(())
            }
            // A worker that was told to stop says nothing of the cause.
            TrainingError::Cancelled => {
                let server = self.servers[worker].name.clone();
                self.suspicion
                    .accused
                    .push((server, "its worker was stopped".into()));
                Ok(())
            }
            own => Err(own),
        }
    }

    /// A broken event stream that names the lost server already is passed on as it is.
    fn broken(&self, worker: usize, error: TrainingError) -> TrainingError {
        match error {
            lost @ TrainingError::ServerLost { .. } => lost,
            TrainingError::Internal { reason } => self.lost(worker, reason),
            other => self.lost(worker, other.to_string()),
        }
    }

    fn lost(&self, worker: usize, reason: String) -> TrainingError {
        TrainingError::ServerLost {
            server: self.servers[worker].name.clone(),
            reason,
        }
    }

    async fn take_news(&mut self, news: WorkerNews) -> Result<(), TrainingError> {
        match news {
            WorkerNews::Progress {
                epoch,
                step,
                rows,
                rows_per_second,
                loss,
            } => self.live.update(|status| {
                status.epoch = epoch;
                status.step = step;
                status.rows = rows;
                status.rows_per_second = rows_per_second;
                status.progress = step as f64 / self.total_steps.max(1) as f64;
                if let Some(loss) = loss {
                    status.metrics.insert("loss".into(), loss);
                }
            }),
            WorkerNews::Epoch {
                epoch,
                step,
                rows,
                row,
            } => {
                self.live.update(|status| {
                    status.epoch = epoch;
                    status.step = step;
                    status.rows = rows;
                    status.progress = step as f64 / self.total_steps.max(1) as f64;
                    status.metrics.extend(known(&row));
                    if let Some(Some(rate)) = row.get("rows_per_second") {
                        status.rows_per_second = *rate;
                    }
                });
                self.live.record(row);
                self.live.save_soon().await?;
            }
            WorkerNews::Saved {
                epoch,
                standing,
                problem,
            } => self.keeping.part_written(0, epoch, standing, problem).await,
            WorkerNews::Accepted
            | WorkerNews::Loaded
            | WorkerNews::Finished
            | WorkerNews::Failed(_) => {}
        }
        Ok(())
    }
}

/// Columns that have a value.
pub(super) fn known(row: &HistoryRow) -> impl Iterator<Item = (String, f64)> {
    row.iter()
        .filter_map(|(name, value)| value.map(|value| (name.clone(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_was_cut_off_is_named_though_it_accuses_the_coordinator_with_its_last_word() {
        let word = |server: &str| (server.to_owned(), "its gradient stream closed".to_owned());
        let accused = vec![word("server-1"), word("server-2")];
        let all = ["server-1", "server-2", "server-3"].map(str::to_owned);
        let suspicion = Suspicion {
            accused,
            alive: all.into(),
        };
        for (own, lost) in [("server-1", "server-2"), ("server-3", "server-1")] {
            let verdict = suspicion.verdict(own).unwrap();
            let told =
                matches!(&verdict, TrainingError::ServerLost { server, .. } if server == lost);
            assert!(told, "{verdict}");
        }
        let alone = Suspicion {
            accused: vec![word("server-1")],
            ..Suspicion::default()
        };
        assert!(alone.verdict("server-1").is_some());
        assert!(Suspicion::default().verdict("server-1").is_none());
    }
}

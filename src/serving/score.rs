//! Rows in, a new dataset of answers out.
//!
//! Everything that can be checked is checked before the job exists; then rows stream from the source through the model
//! into one upload, which is committed at the end or not at all. Memory is bounded by the pieces in flight
//! (see `ordered.rs`) and by what the writer buffers.

use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::datatypes::SchemaRef;
use futures::StreamExt;
use tokio::time::MissedTickBehavior;

use super::ordered::{Piece, in_order};
use super::{ScoringSession, ServingError};
use crate::catalog::job::{JobOutcome, LiveJob};
use crate::catalog::{
    CatalogError, Dataset, DatasetWriter, Datasets, JobError, JobId, JobKind, JobState, JobTerms,
    WriteMode,
};
use crate::features::{Query, QueryEngine, Source};
use crate::support::admission::Place;
use crate::support::fault::Faulty;

/// How often watchers see the progress of a job, at least; the promise is twice a second.
const PROGRESS_EVERY: Duration = Duration::from_millis(250);

/// Most jobs of one server that score at once; the others wait QUEUED, first come, first served.
pub(super) const RUNNING_MAX: usize = 4;

/// Most jobs that wait for their turn. Each holds its loaded model and its plan, and no writer.
pub(super) const QUEUED_MAX: usize = 64;

/// What to score and where to write it.
#[derive(Debug, Clone, PartialEq)]
pub struct ScoreRequest {
    pub model: String,
    pub version: Option<u64>,
    pub source: Source,
    pub into: String,
    pub mode: WriteMode,
    pub keep: Vec<String>,
    pub terms: JobTerms,
}

impl super::Serving {
    /// Starts a scoring job after checking everything that can be checked at once: the model, the source and its plan,
    /// the columns, `keep`, and that `into` may be written in this mode. A refused request leaves no job; so does one too
    /// many while others wait.
    pub async fn score(
        self: &Arc<Self>,
        queries: &Arc<QueryEngine>,
        request: ScoreRequest,
    ) -> Result<JobId, ServingError> {
        let place = self
            .admission()
            .admit()
            .map_err(|full| ServingError::TooManyJobs {
                waiting: full.waiting,
            })?;
        let model = self.model(&request.model, request.version).await?;
        let query = queries.open(&request.source).await?;
        let session = model.session(&query.schema(), &request.keep)?;
        let catalog = self.catalog();
        let answers = Answers {
            datasets: Arc::clone(&catalog.datasets),
            into: request.into,
            schema: session.schema(),
            mode: request.mode,
        };
        // Whether they may be written is asked now; the writer proper is opened when the job runs.
        answers.write().await?.abort().await;
        let job = catalog
            .jobs
            .create(JobKind::Score, &answers.into, 0, request.terms)
            .await?;
        let id = job.id;
        let workers = self.config().threads;
        tokio::spawn(drive(job, session, query, answers, workers, place));
        Ok(id)
    }
}

/// Where the answers go.
struct Answers {
    datasets: Arc<Datasets>,
    into: String,
    schema: SchemaRef,
    mode: WriteMode,
}

impl Answers {
    async fn write(&self) -> Result<DatasetWriter, CatalogError> {
        let schema = Arc::clone(&self.schema);
        self.datasets.write(&self.into, schema, self.mode).await
    }
}

/// How scoring ended other than well.
enum Halt {
    Cancelled,
    Failed(ServingError),
}

impl<E: Into<ServingError>> From<E> for Halt {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

/// Runs the job to its end, whatever that is, and writes the end down.
async fn drive(
    job: LiveJob,
    session: ScoringSession,
    query: Query,
    answers: Answers,
    workers: usize,
    place: Place,
) {
    let turn = tokio::select! {
        biased;
        () = job.cancelled.cancelled() => Err(Halt::Cancelled),
        turn = place.turn() => Ok(turn),
    };
    let ended = match turn {
        Ok(_turn) => score_now(&job, session, query, &answers, workers).await,
        Err(halt) => Err(halt),
    };
    let outcome = match ended {
        Ok(dataset) => {
            job.update(|status| status.progress = 1.0);
            Ok(u64::try_from(dataset.version).ok())
        }
        Err(Halt::Cancelled) => Err(JobOutcome::Cancelled),
        Err(Halt::Failed(error)) => {
            tracing::warn!(job = %job.id, %error, "scoring failed");
            Err(JobOutcome::Failed(JobError {
                code: error.fault().name().to_owned(),
                message: error.to_string(),
            }))
        }
    };
    job.finish(outcome).await;
}

/// Says that the job runs, and runs it to the commit of its answers.
async fn score_now(
    job: &LiveJob,
    session: ScoringSession,
    query: Query,
    answers: &Answers,
    workers: usize,
) -> Result<Dataset, Halt> {
    let manifest = session.model().manifest();
    let (model, version) = (manifest.name.clone(), manifest.version);
    job.update(|status| {
        status.state = JobState::Running;
        status.servers = vec![status.coordinator.clone()];
        status
            .notes
            .push(format!("scored with model {model:?} version {version}"));
    });
    job.save().await?;
    let mut writer = answers.write().await?;
    match write_answers(job, session, query, &mut writer, workers).await {
        Ok(()) => Ok(writer.commit().await?),
        Err(halt) => {
            writer.abort().await;
            Err(halt)
        }
    }
}

/// Streams every row through the model into the upload.
async fn write_answers(
    job: &LiveJob,
    session: ScoringSession,
    query: Query,
    writer: &mut DatasetWriter,
    workers: usize,
) -> Result<(), Halt> {
    let mut progress = Progress::begin(query.rows_expected());
    let rows = tokio::select! {
        biased;
        () = job.cancelled.cancelled() => return Err(Halt::Cancelled),
        rows = query.execute() => rows?,
    };
    let mut pieces = pin!(in_order(rows, workers, move |batch, first_row| {
        session.score_from(batch, first_row)
    }));
    let mut tick = tokio::time::interval(PROGRESS_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            biased;
            () = job.cancelled.cancelled() => return Err(Halt::Cancelled),
            _ = tick.tick() => progress.tell(job),
            piece = pieces.next() => match piece {
                Some(piece) => {
                    let Piece { rows, answer } = piece?;
                    writer.write(answer).await?;
                    progress.rows += rows;
                }
                None => break,
            },
        }
    }
    progress.tell(job);
    if job.cancelled.is_cancelled() {
        return Err(Halt::Cancelled);
    }
    Ok(())
}

/// Rows written, against the clock and against what is expected.
struct Progress {
    rows: u64,
    expected: Option<u64>,
    began: Instant,
}

impl Progress {
    fn begin(expected: Option<u64>) -> Self {
        Self {
            rows: 0,
            expected,
            began: Instant::now(),
        }
    }

    fn tell(&self, job: &LiveJob) {
        let seconds = self.began.elapsed().as_secs_f64();
        job.update(|status| {
            status.rows = self.rows;
            status.progress = share_done(self.rows, self.expected);
            if seconds > 0.0 {
                status.rows_per_second = self.rows as f64 / seconds;
            }
        });
    }
}

/// 0 to 1, and 1 only when the version is committed. A source that cannot tell its length stays at 0.
fn share_done(rows: u64, expected: Option<u64>) -> f64 {
    const BEFORE_COMMIT: f64 = 0.99;
    match expected {
        Some(expected) if expected > 0 => (rows as f64 / expected as f64).min(BEFORE_COMMIT),
        _ => 0.0,
    }
}

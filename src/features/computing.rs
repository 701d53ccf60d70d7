//! The threads that queries compute on: a runtime of their own, so that a plan which computes for seconds without a pause
//! keeps no other request waiting.
//!
//! A query whose reader is gone stops at its next pause. Operators that multiply rows would make none for a long time:
//! they are made to pause, and a nested loop that finds nothing looks up while it filters.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Schema};
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::error::DataFusionError;
use datafusion::execution::TaskContext;
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::coop::CooperativeExec;
use datafusion::physical_plan::joins::utils::JoinFilter;
use datafusion::physical_plan::joins::{
    CrossJoinExec, HashJoinExec, NestedLoopJoinExec, NestedLoopJoinExecBuilder, SortMergeJoinExec,
};
use datafusion::physical_plan::unnest::UnnestExec;
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use futures::StreamExt;
use futures::stream::BoxStream;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::support::machine::THREAD_STACK_BYTES;

/// Batches computed ahead of the reader.
const BATCHES_AHEAD: usize = 2;

/// Statements planned beside each other; the others wait. More than there are cores: one that takes long, of a table of
/// ten thousand columns, must not keep a short one waiting.
const PLANS_MAX: usize = 16;

/// The runtime, found again in every session's configuration.
#[derive(Debug)]
pub(super) struct QueryThreads {
    /// Taken when the engine ends: a runtime must not be waited for where others run.
    runtime: Option<Runtime>,
    plans: Arc<Semaphore>,
}

impl QueryThreads {
    pub(super) fn start(threads: usize) -> std::io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_name("query")
            .thread_stack_size(THREAD_STACK_BYTES)
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
            plans: Arc::new(Semaphore::new(PLANS_MAX)),
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

/// Plans on a thread of its own: planning computes without a pause too, and recurses. Dropped, it stops at its next pause.
pub(super) async fn plan<T: Send + 'static>(
    threads: Option<&QueryThreads>,
    planning: impl Future<Output = T> + Send + 'static,
) -> T {
    let Some((threads, runtime)) =
        threads.and_then(|threads| Some((threads, threads.runtime.as_ref()?)))
    else {
        return planning.await;
    };
    let turn = Arc::clone(&threads.plans).acquire_owned().await;
    let stop = CancellationToken::new();
    let (stopped, handle) = (stop.clone(), runtime.handle().clone());
    let _stop = stop.drop_guard();
    let planned = runtime.spawn_blocking(move || {
        let _turn = turn;
        handle.block_on(stopped.run_until_cancelled_owned(planning))
    });
    match planned.await {
        Ok(Some(planned)) => planned,
        Ok(None) => unreachable!("nobody stops it while its answer is awaited"),
        // As if it had panicked here.
        Err(lost) => match lost.try_into_panic() {
            Ok(panic) => std::panic::resume_unwind(panic),
            // The runtime has ended with its server, and whoever waits ends too.
            Err(_) => std::future::pending().await,
        },
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
    let stop = Arc::new(AtomicBool::new(false));
    let plan = with_pauses(plan, &stop)?;
    let stop = StopOnDrop(stop);
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
        let _stop = stop;
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

/// Tells a query's filters that nobody waits for them any more.
struct StopOnDrop(Arc<AtomicBool>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The plan with a pause now and then in every operator that makes many rows of few.
///
/// The sources of a plan pause by themselves, but between two of their batches a join may multiply rows for minutes.
fn with_pauses(
    plan: Arc<dyn ExecutionPlan>,
    stop: &Arc<AtomicBool>,
) -> Result<Arc<dyn ExecutionPlan>, DataFusionError> {
    plan.transform_up(|node| {
        if let Some(join) = node.downcast_ref::<NestedLoopJoinExec>() {
            let filter = join.filter().map(|filter| {
                let watched = Watched {
                    expression: Arc::clone(filter.expression()),
                    stop: Arc::clone(stop),
                };
                let columns = filter.column_indices().to_vec();
                JoinFilter::new(Arc::new(watched), columns, Arc::clone(filter.schema()))
            });
            let join = NestedLoopJoinExecBuilder::from(join)
                .with_filter(filter)
                .build()?;
            return Ok(Transformed::yes(pausing(Arc::new(join))));
        }
        let multiplies = node.downcast_ref::<CrossJoinExec>().is_some()
            || node.downcast_ref::<HashJoinExec>().is_some()
            || node.downcast_ref::<SortMergeJoinExec>().is_some()
            || node.downcast_ref::<UnnestExec>().is_some();
        Ok(if multiplies {
            Transformed::yes(pausing(node))
        } else {
            Transformed::no(node)
        })
    })
    .data()
}

fn pausing(node: Arc<dyn ExecutionPlan>) -> Arc<dyn ExecutionPlan> {
    Arc::new(CooperativeExec::new(node))
}

/// A filter that fails once nobody waits for its query.
#[derive(Debug)]
struct Watched {
    expression: Arc<dyn PhysicalExpr>,
    stop: Arc<AtomicBool>,
}

impl PartialEq for Watched {
    fn eq(&self, other: &Self) -> bool {
        self.expression.eq(&other.expression)
    }
}

impl Eq for Watched {}

impl Hash for Watched {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.expression.hash(state);
    }
}

impl std::fmt::Display for Watched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.expression.fmt(f)
    }
}

impl PhysicalExpr for Watched {
    fn data_type(&self, schema: &Schema) -> Result<DataType, DataFusionError> {
        self.expression.data_type(schema)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool, DataFusionError> {
        self.expression.nullable(schema)
    }

    fn evaluate(&self, batch: &RecordBatch) -> Result<ColumnarValue, DataFusionError> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(DataFusionError::Execution(
                "nobody waits for this query any more".to_owned(),
            ));
        }
        self.expression.evaluate(batch)
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.expression]
    }

    fn with_new_children(
        self: Arc<Self>,
        mut children: Vec<Arc<dyn PhysicalExpr>>,
    ) -> Result<Arc<dyn PhysicalExpr>, DataFusionError> {
        let expression = children
            .pop()
            .unwrap_or_else(|| Arc::clone(&self.expression));
        Ok(Arc::new(Self {
            expression,
            stop: Arc::clone(&self.stop),
        }))
    }

    fn fmt_sql(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.expression.fmt_sql(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use datafusion::arrow::array::BooleanArray;
    use datafusion::physical_plan::displayable;
    use datafusion::physical_plan::expressions::{Column, lit};
    use datafusion::prelude::SessionContext;

    async fn planned(sql: &str) -> Arc<dyn ExecutionPlan> {
        let session = SessionContext::new();
        let query = session.sql(sql).await.unwrap();
        query.create_physical_plan().await.unwrap()
    }

    fn paused(plan: &Arc<dyn ExecutionPlan>, stop: &Arc<AtomicBool>) -> String {
        let plan = with_pauses(Arc::clone(plan), stop).unwrap();
        displayable(plan.as_ref()).indent(false).to_string()
    }

    #[tokio::test]
    async fn every_operator_that_makes_many_rows_of_few_is_made_to_pause_and_no_other() {
        const A: &str = "(VALUES (1), (2)) a(x)";
        const B: &str = "(VALUES (2), (3)) b(y)";
        for (sql, operator) in [
            (format!("SELECT * FROM {A} CROSS JOIN {B}"), "CrossJoinExec"),
            (
                format!("SELECT * FROM {A} JOIN {B} ON x = y"),
                "HashJoinExec",
            ),
            (
                format!("SELECT * FROM {A} JOIN {B} ON x < y"),
                "NestedLoopJoinExec",
            ),
            (String::from("SELECT unnest([1, 2, 3])"), "UnnestExec"),
        ] {
            let plan = planned(&sql).await;
            let told = paused(&plan, &Arc::default());
            let lines: Vec<&str> = told.lines().map(str::trim).collect();
            let at = lines.iter().position(|line| line.starts_with(operator));
            let at = at.unwrap_or_else(|| panic!("no {operator} in\n{told}"));
            assert!(
                at > 0 && lines[at - 1].starts_with("CooperativeExec"),
                "{told}"
            );
        }
        let plain = planned(&format!("SELECT x + 1 FROM {A} WHERE x > 1 ORDER BY x")).await;
        let before = displayable(plain.as_ref()).indent(false).to_string();
        assert_eq!(paused(&plain, &Arc::default()), before);
    }

    #[tokio::test]
    async fn a_nested_loop_answers_as_before_until_nobody_waits_and_then_fails() {
        const SQL: &str =
            "SELECT count(*) FROM (VALUES (1), (2)) a(x) JOIN (VALUES (2), (3)) b(y) ON x < y";
        let stop = Arc::new(AtomicBool::new(false));
        let context = SessionContext::new().task_ctx();
        let watched = with_pauses(planned(SQL).await, &stop).unwrap();
        let counted = datafusion::physical_plan::collect(watched, Arc::clone(&context)).await;
        let expected =
            datafusion::physical_plan::collect(planned(SQL).await, Arc::clone(&context)).await;
        assert_eq!(counted.unwrap(), expected.unwrap());

        stop.store(true, Ordering::Relaxed);
        let watched = with_pauses(planned(SQL).await, &stop).unwrap();
        let stopped = datafusion::physical_plan::collect(watched, context).await;
        let text = stopped.unwrap_err().to_string();
        assert!(text.contains("nobody waits for this query"), "{text}");
    }

    #[test]
    fn a_watched_filter_is_the_filter_itself_to_whoever_rewrites_plans() {
        let stop = Arc::new(AtomicBool::new(false));
        let watched = |expression: Arc<dyn PhysicalExpr>| {
            Arc::new(Watched {
                expression,
                stop: Arc::clone(&stop),
            })
        };
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("is_good", 0));
        let one = watched(Arc::clone(&column));
        assert_eq!(one, watched(column));
        assert_ne!(one, watched(lit(true)));
        assert_eq!(one.to_string(), "is_good@0");
        let schema = Schema::new(vec![datafusion::arrow::datatypes::Field::new(
            "is_good",
            DataType::Boolean,
            true,
        )]);
        assert_eq!(one.data_type(&schema).unwrap(), DataType::Boolean);
        assert!(one.nullable(&schema).unwrap());

        // Rewritten, it still listens.
        let rewritten = Arc::clone(&one).with_new_children(vec![lit(true)]).unwrap();
        let rows = BooleanArray::from(vec![true, false]);
        let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(rows)]).unwrap();
        assert!(rewritten.evaluate(&batch).is_ok() && one.evaluate(&batch).is_ok());
        stop.store(true, Ordering::Relaxed);
        assert!(rewritten.evaluate(&batch).is_err() && one.evaluate(&batch).is_err());
    }

    #[tokio::test]
    async fn a_plan_that_takes_long_keeps_neither_its_caller_nor_another_plan_waiting() {
        let threads = QueryThreads::start(1).unwrap();
        let (done, wait) = std::sync::mpsc::channel();
        // The first computes until the second is over; on one thread, none would ever be.
        let long = plan(Some(&threads), async move { wait.recv().unwrap() });
        let short = plan(Some(&threads), async move { done.send("over").unwrap() });
        let (told, ()) = tokio::join!(long, short);
        assert_eq!(told, "over");
    }

    #[tokio::test]
    async fn a_plan_that_nobody_waits_for_stops_at_its_next_pause_and_gives_its_turn_back() {
        let threads = QueryThreads::start(1).unwrap();
        let (begun, has_begun) = tokio::sync::oneshot::channel();
        let (held, dropped) = tokio::sync::oneshot::channel::<()>();
        let endless = plan(Some(&threads), async move {
            let _held = held;
            begun.send(()).unwrap();
            std::future::pending::<()>().await;
        });
        tokio::select! {
            () = endless => unreachable!("it has no end"),
            begun = has_begun => begun.unwrap(),
        }
        assert!(dropped.await.is_err(), "what it held is let go");
        let all = u32::try_from(PLANS_MAX).unwrap();
        let _turns = threads.plans.acquire_many(all).await.unwrap();
    }
}

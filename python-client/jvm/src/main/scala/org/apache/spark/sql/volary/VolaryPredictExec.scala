package org.apache.spark.sql.volary

import org.apache.spark.rdd.RDD
import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{Attribute, AttributeSet, SortOrder}
import org.apache.spark.sql.catalyst.plans.physical.Partitioning
import org.apache.spark.sql.execution.{SparkPlan, UnaryExecNode}
import org.apache.spark.sql.execution.metric.{SQLMetric, SQLMetrics}
import org.apache.spark.sql.vectorized.{ColumnarBatch, ColumnVector}

/** Asks the cluster, partition by partition, and puts the answers beside the columns that Spark holds already.
  *
  * Above what makes columns it hands on columns, above anything else rows.
  */
private[volary] final case class VolaryPredictExec(scoring: Scoring, inputs: Seq[Attribute], answers: Seq[Attribute], child: SparkPlan)
    extends UnaryExecNode {
  override def output: Seq[Attribute] = child.output ++ answers
  override def producedAttributes: AttributeSet = AttributeSet(answers)
  @transient override lazy val references: AttributeSet = AttributeSet(inputs)
  override def outputPartitioning: Partitioning = child.outputPartitioning
  override def outputOrdering: Seq[SortOrder] = child.outputOrdering
  override def supportsColumnar: Boolean = child.supportsColumnar
  override def nodeName: String = s"VolaryPredict ${scoring.name}"
  override protected def stringArgs: Iterator[Any] = Iterator(inputs, answers)
  override protected def withNewChildInternal(newChild: SparkPlan): VolaryPredictExec = copy(child = newChild)

  // The operator that reads the columns is compiled for their classes.
  override def vectorTypes: Option[Seq[String]] =
    Some(plan.vectorTypes(child.vectorTypes) ++ Seq.fill(answers.size)(classOf[ColumnVector].getName))

  override lazy val metrics: Map[String, SQLMetric] = Map(
    "numOutputRows" -> SQLMetrics.createMetric(sparkContext, "number of output rows"),
    "sent" -> SQLMetrics.createSizeMetric(sparkContext, "data sent"),
    "waited" -> SQLMetrics.createNanoTimingMetric(sparkContext, "time waiting for answers")
  )

  override protected def doExecuteColumnar(): RDD[ColumnarBatch] = {
    val task = scoringTask
    child.executeColumnar().mapPartitionsInternal(task.columns)
  }

  override protected def doExecute(): RDD[InternalRow] = {
    val task = scoringTask
    child.execute().mapPartitionsInternal(task.rows)
  }

  private def plan = ScoringPlan(scoring, inputs, child.output)

  private def scoringTask: ScoringTask =
    ScoringTask(
      plan,
      output,
      // Spark means no limit by 0 and less.
      if (conf.arrowMaxRecordsPerBatch > 0) conf.arrowMaxRecordsPerBatch else Int.MaxValue,
      longMetric("numOutputRows"),
      longMetric("sent"),
      longMetric("waited")
    )
}

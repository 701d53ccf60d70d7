package org.apache.spark.sql.volary

import org.apache.spark.sql.catalyst.expressions.{Attribute, AttributeSet}
import org.apache.spark.sql.catalyst.plans.logical.{LogicalPlan, UnaryNode}
import org.apache.spark.sql.execution.{SparkPlan, SparkStrategy}

/** A model's answers beside the child's columns: row for row, in the same order, the same for the same row. */
private[volary] final case class VolaryPredict(scoring: Scoring, inputs: Seq[Attribute], answers: Seq[Attribute], child: LogicalPlan)
    extends UnaryNode {
  override def output: Seq[Attribute] = child.output ++ answers
  override def producedAttributes: AttributeSet = AttributeSet(answers)
  // Columns that nobody reads are not fetched, by Spark's own rule, which asks for these.
  @transient override lazy val references: AttributeSet = AttributeSet(inputs)
  override def maxRows: Option[Long] = child.maxRows
  override def maxRowsPerPartition: Option[Long] = child.maxRowsPerPartition

  override protected def stringArgs: Iterator[Any] = Iterator(scoring, inputs, answers)
  override protected def withNewChildInternal(newChild: LogicalPlan): VolaryPredict = copy(child = newChild)
}

/** Makes the operator of the node. */
private[volary] object VolaryStrategy extends SparkStrategy {
  override def apply(plan: LogicalPlan): Seq[SparkPlan] = plan match {
    case VolaryPredict(scoring, inputs, answers, child) => VolaryPredictExec(scoring, inputs, answers, planLater(child)) :: Nil
    case _                                              => Nil
  }
}

package org.apache.spark.sql.volary

import org.apache.spark.sql.catalyst.expressions.{And, IntegerLiteral, Literal, PredicateHelper}
import org.apache.spark.sql.catalyst.optimizer.{ColumnPruning, PushDownPredicates}
import org.apache.spark.sql.catalyst.plans.logical.{Filter, LocalLimit, LogicalPlan, Project}
import org.apache.spark.sql.catalyst.rules.Rule

/** Asks about no row, and for no answer, that nobody wants: filters and limits go below the node, and a node whose answers
  * are not read goes away.
  *
  * Spark's own rules push through the nodes that they know. All this is safe because each row stays, in its place, and
  * its answers depend on nothing but itself.
  */
private[volary] object VolaryOptimization extends Rule[LogicalPlan] with PredicateHelper {

  override def apply(plan: LogicalPlan): LogicalPlan = {
    val moved = plan.transformDown {
      case filter @ Filter(condition, predict: VolaryPredict) =>
        // What follows a predicate that is not deterministic is evaluated for the rows that it lets through, and stays.
        val (first, rest) = splitConjunctivePredicates(condition).span(_.deterministic)
        val (below, above) = first.partition(each => each.references.subsetOf(predict.child.outputSet) && each.references.nonEmpty)
        if (below.isEmpty) filter
        else {
          val asked = predict.copy(child = Filter(below.reduce(And), predict.child))
          (above ++ rest).reduceOption(And).map(Filter(_, asked)).getOrElse(asked)
        }
      case limit @ LocalLimit(IntegerLiteral(rows), below) => limit.copy(child = limited(below, rows))
      case project @ Project(_, predict: VolaryPredict) if project.references.intersect(predict.producedAttributes).isEmpty =>
        project.copy(child = predict.child)
    }
    // What came to lie below goes on from there, to the files if it can.
    if (moved.fastEquals(plan)) plan else ColumnPruning(PushDownPredicates(moved))
  }

  private def limited(plan: LogicalPlan, rows: Int): LogicalPlan = plan match {
    case project: Project                                                => project.withNewChildren(Seq(limited(project.child, rows)))
    case predict: VolaryPredict if predict.maxRowsPerPartition.forall(_ > rows) =>
      predict.copy(child = LocalLimit(Literal(rows), predict.child))
    case other => other
  }
}

package org.apache.spark.sql.volary

import org.apache.spark.sql.catalyst.expressions.Attribute
import org.apache.spark.sql.vectorized.ColumnVector

/** Which of the child's columns are copied, and where each of them is read from again. Decided once, on the driver. */
private[volary] final case class ScoringPlan(scoring: Scoring, inputs: Seq[Attribute], child: Seq[Attribute]) {
  import ScoringPlan._

  /** What the model reads. */
  val sent: Seq[Source] = scoring.inputs.zip(inputs).map { case (input, attribute) =>
    Source(input.name, child.indexWhere(_.exprId == attribute.exprId), attribute.dataType)
  }

  private val places: Map[Int, Int] =
    sent.zipWithIndex.collect { case (source, at) if ArrowColumns.isCopiedWhole(source.kind) => source.place -> at }.toMap

  /** Whether everything that stays can be copied cheaply, so that the next batch is read before this one is answered. */
  val ahead: Boolean = child.indices.forall(place => places.contains(place) || ArrowColumns.isCheap(child(place).dataType))

  /** What is copied for that, beside what the model reads. */
  val copied: Seq[Source] =
    if (ahead) child.indices.filterNot(places.contains).map(place => Source(child(place).name, place, child(place).dataType)) else Nil

  /** Where each of the child's columns is read from. */
  val kept: Seq[Kept] = child.indices.map { place =>
    places.get(place).map(Sent(_)).getOrElse(if (ahead) Copied(copied.indexWhere(_.place == place)) else Lent(place))
  }

  /** The class of each of them, for which the operator that reads them is compiled. */
  def vectorTypes(lent: Option[Seq[String]]): Seq[String] = kept.zip(child).map {
    case (Lent(place), _)                                            => lent.map(_(place)).getOrElse(classOf[ColumnVector].getName)
    case (_, each) if ArrowColumns.isCopiedWhole(each.dataType)       => classOf[CopiedColumn].getName
    case _                                                           => classOf[ColumnVector].getName
  }
}

private[volary] object ScoringPlan {
  sealed trait Kept

  /** Among the columns that are sent, as they are the same there. */
  final case class Sent(at: Int) extends Kept

  /** Among those that are copied for it. */
  final case class Copied(at: Int) extends Kept

  /** In the child's own batch. */
  final case class Lent(place: Int) extends Kept
}

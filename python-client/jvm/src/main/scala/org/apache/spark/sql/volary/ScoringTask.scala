package org.apache.spark.sql.volary

import scala.collection.mutable.ArrayBuffer
import scala.jdk.CollectionConverters._

import org.apache.spark.sql.catalyst.InternalRow
import org.apache.spark.sql.catalyst.expressions.{Attribute, JoinedRow, UnsafeProjection, UnsafeRow}
import org.apache.spark.sql.execution.metric.SQLMetric
import org.apache.spark.sql.vectorized.ColumnarBatch

/** What a task does with a partition: rows as columns, or rows as rows. */
private[volary] final case class ScoringTask(
    plan: ScoringPlan,
    output: Seq[Attribute],
    batchRows: Int,
    rowsOut: SQLMetric,
    bytesSent: SQLMetric,
    waited: SQLMetric
) {
  import ScoringTask._

  /** Each batch again, with the answers behind its columns.
    *
    * The child uses its batch again for the next one. So the columns are copied, where that is cheap, and the next batch is
    * read while the server computes; where it is not, the next one is not touched until this one has gone on.
    */
  def columns(batches: Iterator[ColumnarBatch]): Iterator[ColumnarBatch] = {
    val filled = batches.filter(_.numRows > 0)
    if (filled.isEmpty) return Iterator.empty
    val asking = new Asking(plan, bytesSent, waited)
    val slots = Seq.fill(if (plan.ahead) 2 else 1)(asking.owned(asking.columns(plan.sent)) -> asking.owned(asking.columns(plan.copied)))
    val portions = filled.zipWithIndex.map { case (batch, number) =>
      val (sent, copied) = slots(number % slots.size)
      sent.copy(batch)
      copied.copy(batch)
      val kept = plan.kept.map {
        case ScoringPlan.Sent(at)    => sent.column(at)
        case ScoringPlan.Copied(at)  => copied.column(at)
        case ScoringPlan.Lent(place) => batch.column(place)
      }
      new Portion(sent, kept.toArray, batch.numRows)
    }
    asking.answered(portions, plan.ahead).map { case (portion, answers) =>
      rowsOut += portion.rows
      new ColumnarBatch(portion.kept ++ answers, portion.rows)
    }
  }

  /** Each row again, with the answers behind its columns. */
  def rows(incoming: Iterator[InternalRow]): Iterator[InternalRow] = {
    if (!incoming.hasNext) return Iterator.empty
    val asking = new Asking(plan, bytesSent, waited)
    val slots = Seq.fill(2)(asking.owned(asking.columns(plan.sent)))
    val portions = Iterator.from(0).takeWhile(_ => incoming.hasNext).map { number =>
      val sent = slots(number % slots.size)
      sent.reset()
      val kept = ArrayBuffer.empty[InternalRow]
      var bytes = 0L
      while (incoming.hasNext && (kept.isEmpty || (kept.size < batchRows && bytes + sent.denseBytes < PortionBytes))) {
        val row = incoming.next().copy()
        row match {
          case unsafe: UnsafeRow => bytes += unsafe.getSizeInBytes
          case _                 => ()
        }
        sent.write(row)
        kept += row
      }
      sent.finish()
      new Portion(sent, kept, kept.size)
    }
    val both = new JoinedRow
    val projection = UnsafeProjection.create(output, output)
    asking.answered(portions, ahead = true).flatMap { case (portion, answers) =>
      rowsOut += portion.rows
      val answered = new ColumnarBatch(answers, portion.rows).rowIterator.asScala
      portion.kept.iterator.zip(answered).map { case (row, answer) => projection(both(row, answer)) }
    }
  }
}

private[volary] object ScoringTask {

  /** Of rows, so much is kept until it is answered, and sent in one message: a server reads the next while it computes. */
  private val PortionBytes = 8L << 20
}

/** Some rows of a partition: what is sent of them, and what stands before their answers. */
private[volary] final class Portion[K](val sent: ArrowColumns, val kept: K, val rows: Int)

package org.apache.spark.sql.volary

import scala.collection.mutable.ArrayBuffer
import scala.jdk.CollectionConverters._

import org.apache.arrow.util.AutoCloseables
import org.apache.arrow.vector.VectorSchemaRoot
import org.apache.arrow.vector.util.VectorSchemaRootAppender

import org.apache.spark.TaskContext
import org.apache.spark.sql.execution.metric.SQLMetric
import org.apache.spark.sql.util.ArrowUtils
import org.apache.spark.sql.vectorized.ColumnVector

/** A task's stream to a server and the memory for it, which end with the task, however it ends. */
private[volary] final class Asking(plan: ScoringPlan, bytesSent: SQLMetric, waited: SQLMetric) {
  import Asking._

  private val scoring = plan.scoring
  private val context = TaskContext.get()
  private val allocator = ArrowUtils.rootAllocator.newChildAllocator(s"answers for task ${context.taskAttemptId()}", 0, Long.MaxValue)
  private val exchange =
    new Exchange(scoring, context.partitionId() + context.attemptNumber(), ArrowColumns.schema(plan.sent), allocator)
  private val resources = ArrayBuffer.empty[AutoCloseable]

  /** Answers that came in pieces. */
  private var assembled = Option.empty[VectorSchemaRoot]
  private var closed = false

  context.addTaskInterruptListener((_, _) => exchange.cancel())
  context.addTaskCompletionListener[Unit] { _ =>
    exchange.cancel()
    close()
  }

  /** The thread that reads may be another than the task's, and still at it when the task has ended. */
  private def close(): Unit = synchronized {
    closed = true
    // Each of them, whatever the others say.
    AutoCloseables.close((exchange +: (resources ++ assembled) :+ allocator).asJava)
  }

  /** What is closed with the task. */
  def owned[R <: AutoCloseable](resource: R): R = {
    resources += resource
    resource
  }

  def columns(sources: Seq[Source]): ArrowColumns = new ArrowColumns(sources, allocator)

  /** Each portion with its answers, which are valid until the next is asked for.
    *
    * @param ahead whether a further portion is made, and sent, before this one's answers are read. It may use the memory
    *              of the portion before this one.
    */
  def answered[K](portions: Iterator[Portion[K]], ahead: Boolean): Iterator[(Portion[K], Array[ColumnVector])] =
    new Iterator[(Portion[K], Array[ColumnVector])] {
      private var following = Option.empty[Portion[K]]
      private var underWay = false
      private var finished = false

      override def hasNext: Boolean = following.isDefined || !finished && open {
        finished = !portions.hasNext
        if (finished) waiting(exchange.finish())
        !finished
      }

      override def next(): (Portion[K], Array[ColumnVector]) = open {
        val portion = following.getOrElse(portions.next())
        // The first is answered before another is sent: its rows may have to go to another server.
        val asked = if (underWay) None else Some(ask(portion))
        following = None
        underWay = false
        if (ahead && portions.hasNext) {
          following = Some(portions.next())
          underWay = following.exists(_.sent.bytes <= MessageBytes) && exchange.ready
          if (underWay) following.foreach(each => send(each.sent.root))
        }
        val answers = asked.getOrElse(receive())
        (portion, AnswerColumns.of(answers, scoring.answers, scoring.threshold))
      }
    }

  private def open[T](work: => T): T = synchronized {
    context.killTaskIfInterrupted()
    if (closed) throw new IllegalStateException("the task has ended")
    work
  }

  private def ask(portion: Portion[_]): VectorSchemaRoot = {
    val rows = portion.sent.root
    if (portion.sent.bytes <= MessageBytes) ask(rows)
    else {
      // Servers refuse messages over a limit, so the rows go in pieces, and what comes back is put together.
      val pieceRows = math.max(1, (rows.getRowCount * MessageBytes / portion.sent.bytes).toInt)
      assembled.foreach(_.close())
      assembled = None
      for (start <- 0 until rows.getRowCount by pieceRows) {
        val piece = rows.slice(start, math.min(pieceRows, rows.getRowCount - start))
        try {
          val answers = ask(piece)
          if (assembled.isEmpty) assembled = Some(VectorSchemaRoot.create(answers.getSchema, allocator))
          VectorSchemaRootAppender.append(assembled.get, answers)
        } finally piece.close()
      }
      assembled.get
    }
  }

  private def ask(rows: VectorSchemaRoot): VectorSchemaRoot =
    if (exchange.begun) {
      send(rows)
      receive()
    } else {
      bytesSent += bytes(rows)
      waiting(exchange.begin(rows))
    }

  private def send(rows: VectorSchemaRoot): Unit = {
    bytesSent += bytes(rows)
    waiting(exchange.send(rows))
  }

  private def receive(): VectorSchemaRoot = waiting(exchange.receive())

  private def bytes(rows: VectorSchemaRoot): Long = rows.getFieldVectors.asScala.map(_.getBufferSize.toLong).sum

  /** An exchange that was ended because its task was is the task's end, and no fault. */
  private def waiting[T](work: => T): T = {
    val start = System.nanoTime
    try work
    catch {
      case error: VolaryException =>
        context.killTaskIfInterrupted()
        throw error
    } finally waited += System.nanoTime - start
  }
}

private[volary] object Asking {

  /** A message: far below a server's limit (256 MiB as it comes), far above what a batch usually has. */
  private val MessageBytes = 32L << 20
}

package org.apache.spark.sql.volary

import java.nio.charset.StandardCharsets.UTF_8

import scala.util.control.NonFatal

import io.grpc.{ManagedChannel, Status}
import org.apache.arrow.flight.{FlightClient, FlightDescriptor, FlightGrpcUtils, FlightRuntimeException, FlightStream, GivenUp}
import org.apache.arrow.memory.BufferAllocator
import org.apache.arrow.vector.{VectorLoader, VectorSchemaRoot, VectorUnloader}
import org.apache.arrow.vector.types.pojo.Schema

/** One partition's conversation with a server: rows there, as many answers back, in their order.
  *
  * The server is the one whose turn it is, or the next that can be reached; once one has answered, it stays. This knows
  * Arrow and Flight, and nothing of Spark.
  */
private[volary] final class Exchange(scoring: Scoring, turn: Int, schema: Schema, allocator: BufferAllocator) extends AutoCloseable {
  private val leaving = VectorSchemaRoot.create(schema, allocator)
  private val loader = new VectorLoader(leaving)
  @volatile private var call: Option[Call] = None
  @volatile private var cancelled = false

  /** Sends the first rows and reads the answers for them, from the first server that can be reached. */
  def begin(rows: VectorSchemaRoot): VectorSchemaRoot = {
    val first = turn % scoring.servers.size
    val order = scoring.servers.drop(first) ++ scoring.servers.take(first)
    var unheard: Option[VolaryException] = None
    val answers = order.iterator.takeWhile(_ => !cancelled).flatMap { server =>
      try {
        call = Some(new Call(server))
        if (cancelled) cancel() // whoever said so may have found no call
        send(rows)
        Some(receive())
      } catch {
        case error: VolaryException if error.code == Status.Code.UNAVAILABLE =>
          unheard = unheard.orElse(Some(error))
          hangUp()
          None
      }
    }
    answers.nextOption().getOrElse(throw unheard.getOrElse(new VolaryException(Status.Code.CANCELLED, "the task was ended", null)))
  }

  def begun: Boolean = call.isDefined

  /** Whether rows would leave at once. */
  def ready: Boolean = call.get.ready

  /** Sends rows, whose memory stays as it is until they are answered. */
  def send(rows: VectorSchemaRoot): Unit = {
    val message = new VectorUnloader(rows).getRecordBatch
    try loader.load(message)
    finally message.close()
    try call.get.send()
    finally leaving.clear()
  }

  /** The answers to the oldest rows that have none yet; valid until the next are read. */
  def receive(): VectorSchemaRoot = call.get.receive()

  /** Says that these were all rows, and hears that the server has no more to say. */
  def finish(): Unit = call.foreach(_.finish())

  /** Ends the call from another thread: whoever waits for answers is told. */
  def cancel(): Unit = {
    cancelled = true
    call.foreach(_.cancel())
  }

  /** Ends the call, if it has not ended, and frees what it holds. */
  override def close(): Unit = {
    hangUp()
    leaving.close()
  }

  private def hangUp(): Unit = {
    call.foreach(_.close())
    call = None
  }

  private final class Call(server: String) {
    private val progress = new Progress
    private val channel: ManagedChannel = Connection.to(server, scoring, progress)
    private val client: FlightClient = FlightGrpcUtils.createFlightClient(allocator, channel)
    private val exchange = client.doExchange(FlightDescriptor.command(scoring.command.getBytes(UTF_8)))
    private val stream: FlightStream = exchange.getReader
    private val unanswered = scala.collection.mutable.Queue.empty[Int]
    private var started = false

    def ready: Boolean = exchange.getWriter.isReady

    def send(): Unit = translated {
      if (!started) {
        if (!progress.awaitStream()) throw progress.told(new IllegalStateException("the call ended before it began"), server)
        started = true
        exchange.getWriter.start(leaving)
      }
      unanswered.enqueue(leaving.getRowCount)
      exchange.getWriter.putNext()
    }

    def receive(): VectorSchemaRoot = translated {
      val wanted = unanswered.dequeue()
      if (!stream.next()) {
        throw new VolaryException(Status.Code.INTERNAL, s"the server ended its answers before $wanted rows that are left; ask again", null)
      }
      val answers = stream.getRoot
      if (answers.getRowCount != wanted) {
        throw new VolaryException(
          Status.Code.INTERNAL,
          s"the server answered ${answers.getRowCount} rows for $wanted; ask again",
          null
        )
      }
      answers
    }

    def finish(): Unit = translated {
      exchange.getWriter.completed()
      if (stream.next()) {
        throw new VolaryException(Status.Code.INTERNAL, "the server answered more rows than it was asked for; ask again", null)
      }
    }

    def cancel(): Unit = stream.cancel("the task was ended", null)

    def close(): Unit = Uninterrupted {
      cancel() // nothing, where the call has ended
      progress.awaitEnd()
      GivenUp(stream)
      try stream.close()
      catch { case NonFatal(_) => () } // how a call ends that is given up says nothing
      client.close()
    }

    private def translated[T](work: => T): T =
      try work
      catch {
        case error: FlightRuntimeException => throw progress.told(error, server)
        // A server that refuses ends the call under the hands of whoever writes.
        case error: IllegalStateException if progress.failed => throw progress.told(error, server)
      }
  }
}

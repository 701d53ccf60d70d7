package org.apache.arrow.flight

/** Ends a stream that nothing will come from any more.
  *
  * Closing reads a stream to its end, and a thread that is interrupted while it reads may have taken that end away: then
  * closing waits for ever. Only Flight's own package can say that the end was reached.
  */
object GivenUp {
  def apply(stream: FlightStream): Unit = stream.completed.complete(null)
}

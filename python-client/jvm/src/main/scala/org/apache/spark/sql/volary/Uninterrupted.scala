package org.apache.spark.sql.volary

/** Work that is done whole, however often the thread that wants it is interrupted meanwhile, as that of a task which is killed is.
  *
  * What frees a stream waits for its end; an interrupt there would leave its memory behind.
  */
private[volary] object Uninterrupted {
  def apply(work: => Unit): Unit = {
    @volatile var failed = Option.empty[Throwable]
    val thread = new Thread(
      () =>
        try work
        catch { case error: Throwable => failed = Some(error) },
      "closing an exchange"
    )
    thread.setDaemon(true)
    thread.start()
    var interrupted = false
    while (thread.isAlive) {
      try thread.join()
      catch { case _: InterruptedException => interrupted = true }
    }
    if (interrupted) Thread.currentThread.interrupt()
    failed.foreach(throw _)
  }
}

package org.apache.spark.sql.volary

import java.io.ByteArrayInputStream
import java.net.URI
import java.nio.charset.StandardCharsets.UTF_8
import java.util.concurrent.CountDownLatch

import io.grpc._
import io.grpc.ForwardingClientCall.SimpleForwardingClientCall
import io.grpc.ForwardingClientCallListener.SimpleForwardingClientCallListener
import io.grpc.netty.{GrpcSslContexts, NettyChannelBuilder}
import io.grpc.stub.MetadataUtils
import io.netty.handler.ssl.SslContext
import io.netty.handler.ssl.util.InsecureTrustManagerFactory

/** The way to a server: its address, certificates and headers. */
private[volary] object Connection {

  def to(server: String, scoring: Scoring, progress: Progress): ManagedChannel = {
    val address = new URI(server)
    // Trying again is for whoever has the rows still. What comes in is read on Netty's threads: there is a queue behind, and no work before it.
    val builder = NettyChannelBuilder.forAddress(address.getHost, address.getPort).maxInboundMessageSize(Int.MaxValue).disableRetry().directExecutor()
    if (address.getScheme == "grpc+tls") builder.sslContext(context(scoring.tls)) else builder.usePlaintext()
    scoring.tls.hostname.foreach(builder.overrideAuthority(_))
    builder.intercept(MetadataUtils.newAttachHeadersInterceptor(metadata(scoring.headers)), progress).build()
  }

  private def context(tls: Tls): SslContext = {
    def pem(text: String) = new ByteArrayInputStream(text.getBytes(UTF_8))
    val builder = GrpcSslContexts.forClient()
    if (!tls.verify) builder.trustManager(InsecureTrustManagerFactory.INSTANCE)
    else tls.roots.foreach(roots => builder.trustManager(pem(roots)))
    for (certificate <- tls.certificate; key <- tls.key) builder.keyManager(pem(certificate), pem(PrivateKeys.pkcs8(key)))
    builder.build()
  }

  private def metadata(headers: Seq[(String, String)]): Metadata = {
    val metadata = new Metadata
    for ((name, value) <- headers) {
      if (name.endsWith(Metadata.BINARY_HEADER_SUFFIX)) metadata.put(Metadata.Key.of(name, Metadata.BINARY_BYTE_MARSHALLER), value.getBytes(UTF_8))
      else metadata.put(Metadata.Key.of(name, Metadata.ASCII_STRING_MARSHALLER), value)
    }
    metadata
  }
}

/** How a call goes: when it has its stream, and how it ended, in gRPC's code and the server's own words, since Flight's
  * client knows fewer codes than gRPC.
  */
private[volary] final class Progress extends ClientInterceptor {
  private val begun = new CountDownLatch(1)
  private val ended = new CountDownLatch(1)
  @volatile private var status = Option.empty[Status]

  /** Waits until there is a stream to write to, or none is to be had; tells which. Flight's writer would ask for it again and
    * again, and gRPC never frees what is written to a call that ended before it had one.
    */
  def awaitStream(): Boolean = {
    begun.await()
    status.isEmpty
  }

  /** Waits until the call has ended, and nothing comes from it any more. */
  def awaitEnd(): Unit = ended.await()

  /** Whether the call ended with an error. */
  def failed: Boolean = status.exists(!_.isOk)

  /** The error of the call. */
  def told(error: RuntimeException, server: String): VolaryException = {
    val ending = status.filterNot(_.isOk).getOrElse(Status.fromThrowable(error))
    val words = Option(ending.getDescription).orElse(Option(error.getMessage)).getOrElse("the call failed")
    val causes = Iterator.iterate(ending.getCause)(_.getCause).takeWhile(_ != null).flatMap(each => Option(each.getMessage)).toSeq
    // Who cannot be reached has no words of its own: the server is named, and the last of the reasons.
    val text = if (ending.getCode == Status.Code.UNAVAILABLE && causes.nonEmpty) s"$server cannot be reached: ${causes.last}" else words
    new VolaryException(ending.getCode, text, error)
  }

  override def interceptCall[Q, A](method: MethodDescriptor[Q, A], options: CallOptions, next: Channel): ClientCall[Q, A] =
    new SimpleForwardingClientCall[Q, A](next.newCall(method, options)) {
      override def start(listener: ClientCall.Listener[A], headers: Metadata): Unit =
        super.start(
          new SimpleForwardingClientCallListener[A](listener) {
            override def onReady(): Unit = {
              super.onReady()
              begun.countDown()
            }
            override def onClose(ending: Status, trailers: Metadata): Unit = {
              status = Some(ending)
              super.onClose(ending, trailers)
              begun.countDown()
              ended.countDown()
            }
          },
          headers
        )
    }
}

/** An error of the server's, under the name that the Python package has for it. */
private[volary] final class VolaryException(val code: Status.Code, text: String, cause: Throwable)
    extends RuntimeException(s"volary.errors.${VolaryException.name(code)}: $text", cause)

private[volary] object VolaryException {

  /** INVALID_ARGUMENT is an InvalidArgumentError. */
  private def name(code: Status.Code): String = code.name.split("_").map(_.toLowerCase.capitalize).mkString + "Error"
}

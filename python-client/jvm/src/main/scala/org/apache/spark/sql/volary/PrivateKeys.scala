package org.apache.spark.sql.volary

import java.nio.charset.StandardCharsets.US_ASCII
import java.util.Base64

/** Private keys in the one form that Netty reads, PKCS #8, from those in which tools write them, too: RSA's own (PKCS #1,
  * RFC 8017) and that of elliptic curves (SEC 1, RFC 5915). Each is wrapped with the name of its algorithm (RFC 5958).
  */
private[volary] object PrivateKeys {

  /** A key in PEM as PKCS #8 in PEM; what is neither of the two forms is left as it is. */
  def pkcs8(pem: String): String =
    key(pem, "RSA PRIVATE KEY")
      .map(wrapped(_, RsaAlgorithm))
      .orElse(key(pem, "EC PRIVATE KEY").flatMap(der => curve(der).map(name => wrapped(der, element(0x30, EcAlgorithm ++ name)))))
      .map(der => s"-----BEGIN PRIVATE KEY-----\n${Base64.getMimeEncoder(64, "\n".getBytes(US_ASCII)).encodeToString(der)}\n-----END PRIVATE KEY-----\n")
      .getOrElse(pem)

  // DER (X.690): object identifiers 1.2.840.113549.1.1.1 with its null, in a sequence, and 1.2.840.10045.2.1.
  private val RsaAlgorithm = bytes(0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00)
  private val EcAlgorithm = bytes(0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01)

  private def wrapped(der: Array[Byte], algorithm: Array[Byte]): Array[Byte] =
    element(0x30, bytes(0x02, 0x01, 0x00) ++ algorithm ++ element(0x04, der))

  /** The name of a key's curve, which SEC 1 has in its element [0]. */
  private def curve(der: Array[Byte]): Option[Array[Byte]] =
    elements(content(der)).collectFirst { case each if (each(0) & 0xff) == 0xa0 => content(each) }

  private def key(pem: String, kind: String): Option[Array[Byte]] = {
    val (begin, end) = (pem.indexOf(s"-----BEGIN $kind-----"), pem.indexOf(s"-----END $kind-----"))
    // Headers within mean that it is encrypted.
    val text = if (begin < 0 || end < begin) "" else pem.substring(begin, end).linesIterator.drop(1).mkString
    if (text.isEmpty || text.contains(":")) None else Some(Base64.getMimeDecoder.decode(text))
  }

  private def elements(der: Array[Byte]): Iterator[Array[Byte]] =
    Iterator.unfold(der)(rest => Option.when(rest.nonEmpty)(rest.splitAt(start(rest) + length(rest))))

  private def content(element: Array[Byte]): Array[Byte] = element.slice(start(element), start(element) + length(element))

  /** Where an element's content starts: behind a length of one byte, or one that says how many bytes have the length. */
  private def start(element: Array[Byte]): Int = if (element(1) >= 0) 2 else 2 + (element(1) & 0x7f)

  private def length(element: Array[Byte]): Int =
    if (element(1) >= 0) element(1).toInt else element.slice(2, start(element)).foldLeft(0)((sum, each) => (sum << 8) | (each & 0xff))

  private def element(tag: Int, content: Array[Byte]): Array[Byte] = {
    val size = content.length
    val length = if (size < 0x80) bytes(size) else if (size < 0x100) bytes(0x81, size) else bytes(0x82, size >> 8, size & 0xff)
    bytes(tag) ++ length ++ content
  }

  private def bytes(values: Int*): Array[Byte] = values.map(_.toByte).toArray
}

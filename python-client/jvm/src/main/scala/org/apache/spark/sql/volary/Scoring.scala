package org.apache.spark.sql.volary

import java.nio.charset.StandardCharsets.UTF_8

import scala.jdk.CollectionConverters._

import com.fasterxml.jackson.databind.{JsonNode, ObjectMapper}

import org.apache.spark.sql.types.{DataType, StructType}
import org.apache.spark.unsafe.types.UTF8String

/** What is asked of a cluster, as the Python package writes it in JSON and as it travels to the executors.
  *
  * It knows nothing of plans; its text names the model alone, since headers and keys are nobody's business.
  */
private[volary] final case class Scoring(
    name: String,
    command: String,
    servers: Seq[String],
    headers: Seq[(String, String)],
    tls: Tls,
    inputs: Seq[Input],
    answers: Seq[Answer],
    threshold: Option[Threshold]
) {
  override def toString: String = name
}

/** A column that the model reads: its place among the DataFrame's, and what the model calls it. */
private[volary] final case class Input(place: Int, name: String)

/** A column that the model answers, and the one that is made of it. `AnswerColumns` knows the kinds. */
private[volary] final case class Answer(source: String, kind: String, name: String, dataType: DataType)

/** Where the second of two classes begins; the classes as the prediction's column holds them. */
private[volary] final case class Threshold(value: Double, first: Any, second: Any)

/** Certificates in PEM. */
private[volary] final case class Tls(
    roots: Option[String],
    certificate: Option[String],
    key: Option[String],
    verify: Boolean,
    hostname: Option[String]
)

private[volary] object Scoring {
  private val mapper = new ObjectMapper

  def of(json: String): Scoring = {
    val given = mapper.readTree(json.getBytes(UTF_8))
    val columns = DataType.fromJson(given.required("schema").asText).asInstanceOf[StructType]
    val tls = given.required("tls")
    Scoring(
      name = given.required("name").asText,
      command = given.required("command").asText,
      servers = elements(given, "servers").map(_.asText),
      headers = elements(given, "headers").map(pair => pair.get(0).asText -> pair.get(1).asText),
      tls = Tls(
        text(tls, "tls_root_certs"),
        text(tls, "cert_chain"),
        text(tls, "private_key"),
        !tls.path("disable_server_verification").asBoolean,
        text(tls, "override_hostname")
      ),
      inputs = elements(given, "inputs").map(each => Input(each.required("place").asInt, each.required("name").asText)),
      answers = elements(given, "answers").zip(columns).map { case (each, column) =>
        Answer(each.required("source").asText, each.required("kind").asText, column.name, column.dataType)
      },
      threshold = Option(given.get("threshold")).filterNot(_.isNull).map { each =>
        Threshold(each.required("value").asDouble, value(each.required("first")), value(each.required("second")))
      }
    )
  }

  private def elements(node: JsonNode, name: String): Seq[JsonNode] = node.required(name).elements.asScala.toSeq

  private def text(node: JsonNode, name: String): Option[String] = Option(node.get(name)).map(_.asText)

  private def value(node: JsonNode): Any =
    if (node.isBoolean) node.asBoolean else if (node.isNumber) node.asDouble else UTF8String.fromString(node.asText)
}

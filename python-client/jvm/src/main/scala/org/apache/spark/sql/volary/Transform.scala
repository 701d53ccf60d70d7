package org.apache.spark.sql.volary

import java.util.Properties

import org.apache.spark.sql.catalyst.expressions.{Alias, AttributeReference}
import org.apache.spark.sql.catalyst.plans.logical.Project
import org.apache.spark.sql.classic.{DataFrame, Dataset, SparkSession}

/** What the Python package calls. */
object Transform {

  /** The Spark that this was compiled for. */
  def sparkVersion: String = {
    val told = new Properties
    val stream = getClass.getResourceAsStream("/volary-spark.properties")
    try told.load(stream)
    finally stream.close()
    told.getProperty("spark.version")
  }

  /** Every column of `frame`, then the answers; the same rows in the same order. `json` is a [[Scoring]]. */
  def transform(frame: DataFrame, json: String): DataFrame = {
    val scoring = Scoring.of(json)
    register(frame.sparkSession)
    val plan = frame.queryExecution.analyzed
    val answers = scoring.answers.map(each => AttributeReference(each.name, each.dataType)())
    val asked = VolaryPredict(scoring, scoring.inputs.map(each => plan.output(each.place)), answers, plan)
    // Where one DataFrame is joined with itself, Spark renames what a projection names anew, and no node that it does not know.
    Dataset.ofRows(frame.sparkSession, Project(plan.output ++ answers.map(each => Alias(each, each.name)()), asked))
  }

  /** This session plans the node from now on; its clones do, too. */
  private def register(session: SparkSession): Unit = synchronized {
    val methods = session.experimental
    if (!methods.extraStrategies.contains(VolaryStrategy)) {
      methods.extraStrategies = methods.extraStrategies :+ VolaryStrategy
      methods.extraOptimizations = methods.extraOptimizations :+ VolaryOptimization
    }
  }
}

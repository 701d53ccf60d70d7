package org.apache.spark.sql.volary

import org.apache.spark.sql.SparkSessionExtensions

/** For `spark.sql.extensions`: every session of the application knows the operator, also one in which `transform` was never called. */
final class VolaryExtensions extends (SparkSessionExtensions => Unit) {
  override def apply(extensions: SparkSessionExtensions): Unit = {
    extensions.injectPlannerStrategy(_ => VolaryStrategy)
    extensions.injectOptimizerRule(_ => VolaryOptimization)
  }
}

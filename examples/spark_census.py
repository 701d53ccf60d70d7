"""The census from PySpark: write a DataFrame, train a network as a pyspark.ml stage, search over it, score with it.

Run it after a build: `python examples/spark_census.py` (two servers on this machine; `pip install 'volary[spark]'` and a JDK, 17 or
later), or `python examples/spark_census.py --url grpc://HOST:PORT` (a cluster that runs already), `--quick` (two epochs).
"""

import argparse
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path

from pyspark.ml.evaluation import BinaryClassificationEvaluator
from pyspark.ml.tuning import ParamGridBuilder, TrainValidationSplit
from pyspark.sql import SparkSession, functions

import volary
from census import CATEGORIES, HERE, NUMBERS, step
from cluster import Cluster
from volary import features, layers
from volary.spark import VolaryEstimator, VolaryModel, predict_udf, read_dataframe, write_dataframe


def main():
    """Find a cluster or start one, start Spark, then do the job."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs in place of six")
    parser.add_argument("--url", help="a running cluster; without it two servers are started here")
    options = parser.parse_args()
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        if options.url is None:
            cluster = stack.enter_context(Cluster(servers=2, store=folder / "store", logs=folder))
            servers = [server.url for server in cluster.servers]
        else:
            servers = [options.url]
        builder = SparkSession.builder.master("local[2]").appName("census").config("spark.ui.enabled", "false")
        spark = builder.config("spark.log.level", "ERROR").config("spark.ui.showConsoleProgress", "false").getOrCreate()
        stack.callback(spark.stop)
        run(spark, servers, folder, epochs=2 if options.quick else 6)


def run(spark, servers, folder, epochs):
    """The job: write, read, train, search, save, score."""
    with step("Read the census into Spark and write it to the cluster, partitions side by side"):
        train = spark.read.parquet(str(HERE / "data" / "census_train.parquet")).repartition(4)
        test = spark.read.parquet(str(HERE / "data" / "census_test.parquet"))
        written = write_dataframe(train, "spark_census", server=servers, mode="overwrite")
        print(f"   {written.reference}: {written.rows:,} rows")

    with step("Read it back, one partition for each endpoint"):
        people = read_dataframe(spark, "spark_census", server=servers, columns=["education", "income"])
        rich = functions.avg((people.income == ">50K").cast("double")).alias("rich")
        people.groupBy("education").agg(functions.count("*").alias("people"), rich).orderBy(
            "rich", ascending=False
        ).show(5)

    estimator = VolaryEstimator(
        volary.Sequential(
            [layers.Dense(64, activation="relu"), layers.Dropout(0.2), layers.Dense(1, activation="sigmoid")]
        ),
        loss="binary_crossentropy",
        server=servers,
        modelName="spark_census",
        featuresCol=NUMBERS + CATEGORIES,
        labelCol="income",
        pipeline=[
            features.Impute(NUMBERS, "median"),
            features.Log1p(["capital_gain", "capital_loss"]),
            features.Standardize(NUMBERS),
            features.Impute(CATEGORIES, "constant", fill_value="missing"),
            features.OneHot(CATEGORIES),
        ],
        maxEpoch=epochs,
        batchSize=256,
        learningRate=1e-3,
        seed=7,
    )
    evaluator = BinaryClassificationEvaluator(rawPredictionCol="probability", labelCol="rich")
    labelled = test.withColumn("rich", (test.income == ">50K").cast("double"))

    with step("Train the network as a stage of pyspark.ml, with a tenth of the rows held out"):
        model = estimator.copy().setValidation(0.1, metrics=["auc"]).fit(train)
        print("   AUC after each epoch:", [round(auc, 4) for auc in model.history["val_auc"]])

    with step("Score people the network has never met"):
        scored = model.transform(labelled)
        scored.select("age", "occupation", "income", "prediction", "probability").show(5, truncate=False)
        auc = evaluator.evaluate(scored)
        print(f"   AUC by Spark's own evaluator: {auc:.4f}")

    with step("Search for a learning rate; the fits share one upload of the rows"):
        rows = train.withColumn("rich", (train.income == ">50K").cast("double"))
        grid = ParamGridBuilder().addGrid(estimator.learningRate, [1e-5, 1e-3]).build()
        search = TrainValidationSplit(estimator=estimator, estimatorParamMaps=grid, evaluator=evaluator, seed=7)
        print("   AUC of each:", [round(each, 4) for each in search.fit(rows).validationMetrics])

    with step("Save the stage and load it again; the network stays on the cluster"):
        model.save(str(folder / "model"))
        again = VolaryModel.load(str(folder / "model"))
        print(f"   {again!r}")

    with step("Ask the same model in Spark SQL"):
        spark.udf.register(
            "chance", predict_udf(f"spark_census@{again.getModelVersion()}", output="probability", server=servers)
        )
        test.createOrReplaceTempView("people")
        answered = (
            f"SELECT age div 10 * 10 AS decade, chance(struct({', '.join(NUMBERS + CATEGORIES)})) AS chance FROM people"
        )
        spark.sql(
            f"SELECT decade, count(*) AS people, avg(chance) AS rich FROM ({answered}) GROUP BY decade ORDER BY decade"
        ).show()
    assert auc >= 0.89, f"AUC {auc:.4f} is below 0.89"


if __name__ == "__main__":
    main()

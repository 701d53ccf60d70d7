"""The whole of Volary on real data: who earned more than $50,000 in the US census of 1994?

Run it with `make demo`, or by hand after a build: `python examples/census.py` (three servers on this machine),
`python examples/census.py --url grpc://HOST:PORT` (a cluster that runs already), `--quick` (two epochs).
"""

import argparse
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
from sklearn.metrics import roc_auc_score

import volary
from cluster import Cluster
from volary import features, layers

HERE = Path(__file__).resolve().parent
OUT = HERE.parent / "demo-out"
NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = [
    "workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country",
]  # fmt: skip


@contextmanager
def step(what):
    """Say what is done, and how long it took."""
    print(f"\n== {what}", flush=True)
    began = time.perf_counter()
    yield
    print(f"   {time.perf_counter() - began:.2f} s", flush=True)


def main():
    """Find a cluster or start one, then do the job on it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two epochs in place of ten")
    parser.add_argument("--url", help="a running cluster; without it three servers are started here")
    options = parser.parse_args()
    OUT.mkdir(exist_ok=True)
    with ExitStack() as stack:
        with step("Start three servers that share one store" if options.url is None else f"Connect to {options.url}"):
            url = options.url or stack.enter_context(Cluster(servers=3, store=OUT / "store", logs=OUT)).url
            client = stack.enter_context(volary.connect(url))
            print(client.members())
        run(client, epochs=2 if options.quick else 10)


def run(client, epochs):
    """The job: put, look, train, evaluate, predict, score, ask."""
    with step("Read the census into pandas and stream it to the cluster"):
        train = pd.read_parquet(HERE / "data" / "census_train.parquet")
        test = pd.read_parquet(HERE / "data" / "census_test.parquet")
        client.put("census", train, mode="overwrite")
        client.put("census_test", test, mode="overwrite")
        print(client.datasets())

    with step("Look at it with SQL"):
        rich = "avg(CASE WHEN income = '>50K' THEN 1.0 ELSE 0.0 END) AS rich"
        query = (
            f"SELECT education, count(*) AS people, {rich} FROM census GROUP BY education ORDER BY rich DESC LIMIT 5"
        )
        print(client.sql(query).to_pandas().to_string(index=False))

    with step("Fit a feature pipeline and train a network on all three servers"):
        pipeline = volary.Pipeline([
            features.Impute(NUMBERS, "median"),
            features.Log1p(["capital_gain", "capital_loss"]),
            features.Standardize(NUMBERS),
            features.Impute(CATEGORIES, "constant", fill_value="missing"),
            features.OneHot(CATEGORIES),
        ])  # fmt: skip
        model = volary.Sequential([
            layers.Dense(128, activation="relu"),
            layers.Dropout(0.2),
            layers.Dense(64, activation="relu"),
            layers.Dense(1, activation="sigmoid"),
        ])  # fmt: skip
        model.compile(optimizer=volary.optimizers.Adam(1e-3), loss="binary_crossentropy", metrics=["auc", "accuracy"])
        history = model.fit(
            client.table("census"), label="income", features=NUMBERS + CATEGORIES, pipeline=pipeline,
            epochs=epochs, batch_size=256, validation_split=0.1, seed=7, name="census",
        )  # fmt: skip
        print(model.summary())

    with step("Evaluate on people the network has never met"):
        scores = model.evaluate(client.table("census_test"))
        print(f"   AUC {scores['auc']:.4f} (at least 0.90), accuracy {scores['accuracy']:.4f} (at least 0.85)")

    with step("Stream the test DataFrame through the model"):
        answers = client.model("census").predict(test.drop(columns="income"))
        print(pd.concat([test[["age", "occupation", "income"]], answers], axis=1).head().to_string(index=False))
        auc = roc_auc_score(test["income"] == ">50K", answers["probability"])
        print(f"   AUC of these answers by scikit-learn: {auc:.4f}")

    with step("Score the test table where it lies, into a new table"):
        scored = client.score("census", table="census_test", into="scored", keep=["age", "income"], mode="overwrite")
        pq.write_table(scored.to_arrow(), OUT / "scored.parquet")
        print(f"   {scored.rows:,} rows; a copy is in {OUT / 'scored.parquet'}")

    with step("Ask the model in SQL"):
        person = ", ".join(f"'{name}', {name}" for name in NUMBERS + CATEGORIES)
        people = f"SELECT age / 10 * 10 AS decade, predict('census', named_struct({person})) AS answer FROM census_test"
        by_decade = f"SELECT decade, count(*) AS people, avg(answer.probability) AS rich FROM ({people}) GROUP BY 1"
        print(client.sql(f"{by_decade} ORDER BY decade").to_pandas().to_string(index=False))

    history.plot(OUT / "training.png")
    print(f"\nThe curves are in {OUT / 'training.png'}")
    assert abs(scores["auc"] - auc) < 1e-3, "the servers and scikit-learn disagree"
    assert auc >= 0.90, f"AUC {auc:.4f} is below 0.90"
    assert scores["accuracy"] >= 0.85, f"accuracy {scores['accuracy']:.4f} is below 0.85"


if __name__ == "__main__":
    main()

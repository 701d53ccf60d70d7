"""What the scikit-learn estimators ask of a server, and what they leave behind; beside a recording server."""

from __future__ import annotations

import os
import signal
import warnings

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

pytest.importorskip("sklearn", reason="volary[sklearn]")
from sklearn.base import clone

import volary
from recording import HISTORY, job
from volary import errors
from volary.sklearn import VolaryClassifier, VolaryRegressor, connecting

X = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0], [0.0, 1.0]])
Y = np.array(["no", "yes", "yes", "no"])


@pytest.fixture
def uploads(trained, client):
    """The datasets that there were when a training was asked for."""
    seen: list[dict[str, pa.Table]] = []

    def train(body):
        seen.append({name: versions[-1] for name, versions in trained.datasets.items()})
        return [job("QUEUED")]

    trained.answers["Train"] = train
    trained.paths["jobs", "0190-job", "history"] = HISTORY
    trained.inputs = ["features"]
    return seen


def only(uploads: list[dict[str, pa.Table]]) -> pa.Table:
    [[table]] = [list(each.values()) for each in uploads]
    return table


def test_equal_rows_of_one_step_are_one_row_of_their_weight_in_the_order_of_values(trained, uploads):
    VolaryClassifier(random_state=0).fit(X, Y)
    table = only(uploads)
    assert table.schema.field("features").type == pa.list_(pa.float32(), 2)
    assert table.select(["features", "label"]).to_pylist() == [
        {"features": [0.0, 1.0], "label": "no"},
        {"features": [2.0, 3.0], "label": "yes"},
        {"features": [4.0, 5.0], "label": "yes"},
    ]
    # Their mean is 1, and the first counts twice.
    assert np.allclose(table["weight"].to_numpy(), [1.5, 0.75, 0.75])
    [asked] = trained.asked("Train")
    assert (asked["label"], asked["features"], asked["sampleWeight"]) == ("label", ["features"], "weight")
    assert (asked["batchSize"], asked["epochs"]) == (3, 100)
    assert asked["earlyStopping"]["monitor"] == "loss"
    assert asked["name"].startswith("sklearn-VolaryClassifier-")
    assert trained.datasets == {}


def test_rows_of_several_steps_are_sent_as_they_are(trained, uploads):
    frame = pd.DataFrame(X, columns=["age", "label"])
    target = pd.Series([1, 2, 3, 4], name="price")
    regressor = VolaryRegressor(batch_size=3, alpha=0.6, tol=None, model_name="own", random_state=0).fit(frame, target)
    table = only(uploads)
    assert table.schema.names == ["age", "label", "price"]
    assert table["age"].to_pylist() == X[:, 0].tolist()
    [asked] = trained.asked("Train")
    assert (asked["name"], asked["label"], asked["features"]) == ("own", "price", ["age", "label"])
    assert asked["batchSize"] == 3
    assert "sampleWeight" not in asked
    assert "earlyStopping" not in asked
    # As MLPRegressor: alpha is divided by twice the rows of a step.
    dense = [layer["config"] for layer in asked["model"]["layers"] if layer["layer"] == "Dense"]
    assert [config["kernel_regularizer"]["l2"] for config in dense] == pytest.approx([0.1, 0.1])
    assert (regressor.loss_curve_, regressor.n_iter_, regressor.model_version_) == ([0.5, 0.4], 2, 3)
    assert regressor.server_ == trained.url


def test_held_out_rows_have_each_class_in_its_share_and_the_best_epoch_is_kept(trained, uploads):
    features = np.arange(40.0).reshape(40, 1)
    labels = np.repeat([1, 2], [30, 10])
    VolaryClassifier(early_stopping=True, validation_fraction=0.2, n_iter_no_change=4, random_state=0).fit(
        features, labels
    )
    training, held_out = (pa.table(each)["label"].to_pylist() for each in uploads[0].values())
    assert (len(training), len(held_out), held_out.count(2)) == (32, 8, 2)
    [asked] = trained.asked("Train")
    assert asked["earlyStopping"] == {
        "monitor": "val_loss",
        "patience": 4,
        "minDelta": 1e-4,
        "restoreBestWeights": True,
    }


def test_row_and_class_weights_multiply_and_rows_of_no_weight_are_not_sent(uploads, trained):
    weights = [1.0, 1.0, 0.0, 1.0]
    VolaryClassifier(class_weight={"no": 1, "yes": 6}, random_state=0).fit(X, Y, sample_weight=weights)
    assert only(uploads)["weight"].to_numpy() == pytest.approx([0.5, 1.5])  # two rows of 1, and one of 6: mean 1
    with pytest.raises(ValueError, match=r"^Sample weights must contain at least one non-zero number\.$"):
        VolaryClassifier().fit(X, Y, sample_weight=np.zeros(4))
    with pytest.raises(ValueError, match=r"one class alone: 'no'$"):
        VolaryClassifier().fit(X, Y, sample_weight=[1, 0, 0, 1])


def test_an_interrupted_or_failed_fit_leaves_no_rows_no_job_and_no_fitted_estimator(trained, uploads):
    def watch(body):
        yield job("RUNNING")
        if not trained.asked("CancelJob"):
            os.kill(os.getpid(), signal.SIGINT)
        while not trained.asked("CancelJob"):
            yield job("RUNNING")
        yield job("CANCELLED")

    trained.answers["CancelJob"] = [{}]
    trained.answers["WatchJob"] = watch
    classifier = VolaryClassifier()
    with pytest.raises(KeyboardInterrupt):
        classifier.fit(X, Y)
    assert len(trained.asked("CancelJob")) == 1
    trained.answers["WatchJob"] = [job("FAILED", error={"code": "OUT_OF_RANGE", "message": "the loss is infinite"})]
    with pytest.raises(errors.OutOfRangeError, match=r"^the loss is infinite$"):
        classifier.fit(X, Y)
    assert trained.datasets == {}
    assert not classifier.__sklearn_is_fitted__()


def test_an_estimator_finds_its_cluster(trained, client, uploads, monkeypatch):
    assert connecting.client_of(None) is client
    assert connecting.client_of(trained.url) is client
    assert connecting.client_of(None, "grpc://127.0.0.1:9").url == "grpc://127.0.0.1:9"
    client.close()
    monkeypatch.setattr(connecting, "_taken_over", None)
    assert connecting.client_of(None).url == connecting.DEFAULT_SERVER
    monkeypatch.setenv("VOLARY_SERVER", trained.url)
    other = connecting.client_of(None)
    assert other.url == trained.url
    assert connecting.client_of(None) is other
    connecting.take_over("grpc://127.0.0.1:8")
    assert connecting.client_of(None).url == "grpc://127.0.0.1:8"
    with pytest.raises(RuntimeError, match="there is no connection"):
        volary.client.newest_client()


def test_parameters_are_scikit_learns_own_and_show_themselves(uploads):
    classifier = VolaryClassifier("grpc://there:1", hidden_layer_sizes=[8], alpha=0.5)
    assert repr(classifier) == "VolaryClassifier(alpha=0.5, hidden_layer_sizes=[8], server='grpc://there:1')"
    assert clone(classifier).get_params() == classifier.get_params()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert "VolaryClassifier" in classifier._repr_html_()
    for kind in (VolaryClassifier, VolaryRegressor):
        documented = kind.__doc__
        assert documented is not None
        assert [name for name in kind().get_params() if f"\n    {name} : " not in documented] == []

"""scikit-learn's own checks of both estimators, and the stories of its users, against a real server.

The server's store is in memory where the system has a place for that: a hundred small trainings are a thousand small epochs, and
the server writes each epoch down durably, which a disk takes ten times as long for as the training.
"""

from __future__ import annotations

import copy
import pickle
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn", reason="volary[sklearn]")
from sklearn.base import clone
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_iris, make_classification
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV, cross_val_score, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

import volary
from census_data import CATEGORIES, NUMBERS
from cluster import Server
from volary import errors, layers
from volary.sklearn import SERVER_VARIABLE, VolaryClassifier, VolaryRegressor


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    memory = Path("/dev/shm")
    store = tempfile.mkdtemp(dir=memory) if memory.is_dir() else tmp_path_factory.mktemp("store")
    server = Server("sklearn", store, tmp_path_factory.mktemp("logs"))
    try:
        yield server
    finally:
        server.stop()
        shutil.rmtree(store, ignore_errors=True)


@pytest.fixture(scope="module")
def connection(server):
    with volary.connect(server.url) as client:
        yield client


@pytest.fixture(autouse=True)
def nothing_is_left_but_models(connection):
    """Every test leaves the cluster without the rows that it brought."""
    volary.client._newest = connection  # another file's fixture may have connected since
    yield
    assert [each.name for each in connection.datasets()] == []


@pytest.fixture
def iris():
    X, y = load_iris(return_X_y=True, as_frame=True)
    return X, y.map({0: "setosa", 1: "versicolor", 2: "virginica"}).rename("species")


@parametrize_with_checks([VolaryClassifier(), VolaryRegressor()])
def test_scikit_learns_checks(estimator, check, monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    check(estimator)


def test_a_classifier_learns_and_its_model_answers_everybody_by_name(connection, iris):
    X, y = iris
    train_X, test_X, train_y, test_y = train_test_split(X, y, random_state=1, stratify=y)
    scaled = StandardScaler().set_output(transform="pandas").fit(train_X)
    classifier = VolaryClassifier(learning_rate=0.01, random_state=1).fit(scaled.transform(train_X), train_y)
    assert classifier.score(scaled.transform(test_X), test_y) > 0.9
    assert classifier.classes_.tolist() == ["setosa", "versicolor", "virginica"]
    assert classifier.loss_curve_ == classifier.history_["loss"]
    assert len(classifier.loss_curve_) == classifier.n_iter_ <= 100
    assert classifier.loss_curve_[-1] < classifier.loss_curve_[0]

    described = classifier.model_.describe()
    assert (described.label, described.classes) == ("species", tuple(classifier.classes_))
    assert described.inputs == tuple(X.columns)
    assert classifier.job_.status().state == "SUCCEEDED"
    # Another client asks for the columns by their names, and hears the labels themselves.
    answers = connection.model(classifier.model_name_).predict(scaled.transform(test_X))
    assert answers["prediction"].tolist() == classifier.predict(scaled.transform(test_X)).tolist()


def test_a_grid_search_tries_networks_in_two_processes(connection, iris):
    X, y = iris
    pipeline = make_pipeline(
        StandardScaler(), VolaryClassifier(epochs=30, learning_rate=0.05, random_state=1, model_name="searched")
    )
    grid = {"volaryclassifier__hidden_layer_sizes": [(), (16,)], "volaryclassifier__alpha": [0.0001, 1.0]}
    search = GridSearchCV(pipeline, grid, cv=3, n_jobs=2, error_score="raise").fit(X, y)
    assert search.best_score_ > 0.9
    assert search.predict(X[:1].reset_index(drop=True)).tolist() == ["setosa"]
    # Twelve fits and the last one with the best parameters are versions of the one model.
    assert [(each.name, each.version) for each in connection.models() if each.name == "searched"] == [("searched", 13)]
    again = GridSearchCV(pipeline, grid, cv=3, error_score="raise").fit(X, y)
    assert np.array_equal(again.cv_results_["mean_test_score"], search.cv_results_["mean_test_score"])
    search.best_estimator_[-1].drop_model()
    with pytest.raises(errors.NotFoundError, match="searched"):
        search.predict(X)


def test_a_column_transformer_feeds_numbers_and_categories(connection, census):
    train, test = (each.sample(2000, random_state=1) for each in census)
    columns = ColumnTransformer(
        [("numbers", StandardScaler(), NUMBERS), ("rest", OneHotEncoder(handle_unknown="ignore", sparse_output=False), CATEGORIES)]
    )  # fmt: skip
    pipeline = make_pipeline(columns, VolaryClassifier(epochs=15, early_stopping=True, random_state=3))
    scores = cross_val_score(pipeline, train[NUMBERS + CATEGORIES], train["income"], cv=3, scoring="roc_auc")
    assert scores.min() > 0.85
    pipeline.fit(train[NUMBERS + CATEGORIES], train["income"])
    probability = pipeline.predict_proba(test[NUMBERS + CATEGORIES])[:, 1]
    assert roc_auc_score(test["income"] == ">50K", probability) > 0.85
    assert "val_loss" in pipeline[-1].history_


def test_a_regressor_learns_one_number_and_several(connection):
    X, y = load_diabetes(return_X_y=True)
    X, y = StandardScaler().fit_transform(X), (y - y.mean()) / y.std()
    regressor = VolaryRegressor(epochs=60, learning_rate=0.005, batch_size=64, random_state=0)
    assert cross_val_score(regressor, X, y, cv=3).min() > 0.3
    both = clone(regressor).fit(X, np.column_stack([y, -2 * y]))
    assert both.predict(X).shape == (len(X), 2)
    assert both.score(X, np.column_stack([y, -2 * y])) > 0.4


def test_the_same_numbers_train_the_same_bits_and_others_do_not(connection):
    X, y = make_classification(400, random_state=0)
    one, same, other = (VolaryClassifier(epochs=5, random_state=seed).fit(X, y).predict_proba(X) for seed in (1, 1, 2))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


@pytest.mark.parametrize("kind", [np.int64, np.int8, bool, float, str, object])
def test_labels_of_every_kind_come_back_as_they_were(connection, kind):
    X = np.repeat([[0.0, 1.0], [1.0, 0.0]], 20, axis=0)
    y = np.repeat(["no", "yes"] if kind in (str, object) else [0, 1], 20).astype(kind)
    classifier = VolaryClassifier(epochs=40, learning_rate=0.05, random_state=0).fit(X, y)
    assert classifier.predict(X).dtype == y.dtype
    assert classifier.predict(X).tolist() == y.tolist()


def test_numbers_below_zero_and_beyond_ten_are_classes_in_their_order(connection):
    X = np.eye(4).repeat(10, axis=0)
    y = np.repeat([10, -5, 9, 2], 10)
    classifier = VolaryClassifier(epochs=60, learning_rate=0.05, random_state=0).fit(X, y)
    assert classifier.classes_.tolist() == [-5, 2, 9, 10]
    assert np.array_equal(classifier.predict(X), y)


def test_weights_of_rows_and_of_classes_count(connection):
    X, y = make_classification(300, weights=[0.9], flip_y=0.2, class_sep=0.5, random_state=0)
    plain = VolaryClassifier(epochs=30, learning_rate=0.01, random_state=0)
    balanced = clone(plain).set_params(class_weight="balanced")
    often = {name: (each.fit(X, y).predict(X) == 1).mean() for name, each in (("plain", plain), ("balanced", balanced))}
    assert often["balanced"] > often["plain"]
    as_dict = clone(plain).set_params(class_weight={0: 0.0001, 1: 100}).fit(X, y)
    assert (as_dict.predict(X) == 1).mean() > 0.95
    with pytest.raises(ValueError, match="class_weight is 'even'"):
        clone(plain).set_params(class_weight="even").fit(X, y)


def test_a_network_of_ones_own_is_trained_and_left_as_it_was(connection, iris):
    X, y = iris
    network = volary.Sequential(
        [
            layers.BatchNormalization(),
            layers.Dense(16, activation="gelu"),
            layers.Dropout(0.1),
            layers.Dense(3, activation="softmax"),
        ],
        name="own",
    )
    adam = volary.optimizers.Adam(0.01)
    classifier = VolaryClassifier(network=network, epochs=60, batch_size=16, optimizer=adam, random_state=0)
    assert clone(classifier).fit(X, y).score(X, y) > 0.9
    assert classifier.fit(X, y).score(X, y) > 0.9
    assert network.job is None
    assert [layer["layer"] for layer in classifier.model_.describe().spec["layers"]].count("Dropout") == 1


def test_a_network_for_two_classes_ends_in_a_sigmoid_or_a_softmax_and_has_one_output(connection):
    X, y = make_classification(300, random_state=0)
    for ending in (layers.Dense(1, activation="sigmoid"), layers.Dense(2, activation="softmax")):
        network = volary.Sequential([layers.Dense(8, activation="relu"), ending])
        classifier = VolaryClassifier(network=network, epochs=30, learning_rate=0.01, random_state=0).fit(X, y)
        assert classifier.predict_proba(X).shape == (300, 2)
        assert classifier.score(X, y) > 0.85
    tensor = volary.Input()
    both = volary.Model(outputs=[layers.Dense(1, name="one")(tensor), layers.Dense(1, name="two")(tensor)])
    with pytest.raises(ValueError, match=r"^network has the outputs one, two; give one of one output here, and"):
        VolaryRegressor(network=both).fit(X, y)


def test_a_fitted_estimator_is_pickled_without_its_connection_and_finds_it_again(connection, server, iris, monkeypatch):
    X, y = iris
    classifier = VolaryClassifier(epochs=5, random_state=0).fit(X, y)
    packed = pickle.dumps(classifier)
    monkeypatch.setattr(volary.client, "_newest", None)
    assert np.array_equal(pickle.loads(packed).predict_proba(X), classifier.predict_proba(X))
    with volary.Client(server.url) as client:
        given = VolaryClassifier(client, epochs=5, random_state=0)
        assert clone(given).server is client
        assert copy.deepcopy(client) is client
        assert np.array_equal(pickle.loads(pickle.dumps(given)).fit(X, y).predict_proba(X), classifier.predict_proba(X))
    monkeypatch.setattr(volary.sklearn.connecting, "_taken_over", None)
    monkeypatch.setenv(SERVER_VARIABLE, server.url)
    assert VolaryClassifier(epochs=1).fit(X, y).server_ == server.url


def test_refits_are_versions_of_one_model_which_is_dropped_with_all_of_them(connection, iris):
    X, y = iris
    classifier = VolaryClassifier(epochs=2)
    with pytest.raises(NotFittedError):
        classifier.drop_model()
    first = classifier.fit(X, y).model_name_
    assert classifier.fit(X, y).model_name_ == first
    assert classifier.model_version_ == 2
    assert clone(classifier).fit(X, y).model_name_ != first
    classifier.drop_model()
    assert first not in [each.name for each in connection.models()]


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"epochs": 0}, r"^epochs is 0; give a whole number from 1 to 1000000$"),
        ({"batch_size": "some"}, r"^batch_size is 'some'; give a whole number from 1 on, or \"auto\"$"),
        ({"batch_size": 0}, r"^batch_size is 0; give a whole number from 1 to "),
        ({"hidden_layer_sizes": (8, 0)}, r"^hidden_layer_sizes is \(8, 0\); give whole numbers from 1 on$"),
        ({"alpha": "much"}, r"^alpha is 'much'; give a number from 0 on$"),
        ({"alpha": -1.0}, r"^alpha is -1.0; give a number from 0 on$"),
        ({"optimizer": "adamant"}, r"^optimizer is 'adamant'; give one of volary.optimizers, or a name: sgd, adam"),
        ({"validation_fraction": 1.5, "early_stopping": True}, r"^validation_fraction is 1.5; give a number between"),
        ({"activation": "rellu"}, "rellu"),
        ({"model_name": "a b"}, "a b"),
    ],
)
def test_what_cannot_be_is_refused_by_name_and_leaves_nothing(connection, iris, parameters, message):
    before = len(connection.models())
    with pytest.raises(ValueError, match=message):
        VolaryClassifier(**parameters).fit(*iris)
    assert len(connection.models()) == before


def test_numbers_beyond_float32_and_absent_servers_are_told(connection):
    with pytest.raises(ValueError, match=r"^Input X contains infinity or a value too large for dtype\('float32'\)\.$"):
        VolaryRegressor().fit([[1e300], [1.0]], [1.0, 2.0])
    with pytest.raises(ValueError, match=r"^Input y contains infinity or a value too large for dtype\('float32'\)\.$"):
        VolaryRegressor().fit([[1.0], [2.0]], [1e300, 2.0])
    with pytest.raises(errors.UnavailableError):
        VolaryRegressor("grpc://127.0.0.1:1").fit([[1.0], [2.0]], [1.0, 2.0])
    with pytest.raises(TypeError, match=r"^server is of type int; give an address, a volary.Client, or None$"):
        VolaryRegressor(1).fit([[1.0], [2.0]], [1.0, 2.0])


def test_probabilities_are_as_good_as_those_of_scikit_learns_own(connection):
    X, y = make_classification(3000, n_features=12, n_informative=6, random_state=5)
    X = pd.DataFrame(StandardScaler().fit_transform(X)).add_prefix("f")
    train, test = X[:2000], X[2000:]
    ours = VolaryClassifier(epochs=20, learning_rate=0.005, random_state=0).fit(train, y[:2000])
    linear = LogisticRegression().fit(train, y[:2000])
    assert roc_auc_score(y[2000:], ours.predict_proba(test)[:, 1]) > roc_auc_score(
        y[2000:], linear.predict_proba(test)[:, 1]
    )

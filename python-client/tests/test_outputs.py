"""Several outputs: what compile and fit make of dicts and lists, and what they refuse by the output's name."""

from __future__ import annotations

import pytest

from volary import Input, Model, errors, layers, losses, metrics
from volary.model.outputs import compiled, request_of


def two_outputs() -> Model:
    numbers = Input(["x", "y"])
    return Model(numbers, [layers.Dense(1, name="level")(numbers), layers.Dense(3, name="kind")(numbers)])


def test_dicts_and_lists_say_the_same():
    by_name = compiled(
        ["level", "kind"],
        {"kind": losses.Huber(2.0), "level": "mse"},
        {"kind": 0.3, "level": 1},
        {"kind": metrics.AUC},
    )
    in_order = compiled(["level", "kind"], ["mse", losses.Huber(2.0)], [1, 0.3], [None, [metrics.AUC]])
    assert by_name == in_order
    assert request_of(by_name, {"kind": "k", "level": "l"}) == {
        "outputs": [
            {"name": "level", "label": "l", "loss": "mse", "metrics": [], "lossWeight": 1.0},
            {
                "name": "kind",
                "label": "k",
                "loss": {"name": "huber", "delta": 2.0},
                "metrics": ["auc"],
                "lossWeight": 0.3,
            },
        ]
    }
    assert request_of(by_name, ["l", "k"]) == request_of(in_order, {"level": "l", "kind": "k"})


def test_one_loss_and_a_described_one_hold_for_every_output():
    for given, expected in [("mae", "mae"), ({"name": "huber", "delta": 3}, {"name": "huber", "delta": 3})]:
        assert [each.loss for each in compiled(["a", "b"], given, None, ())] == [expected] * 2
    # An output may be called "name": then a dict with that key is by output.
    assert [each.loss for each in compiled(["name", "b"], {"name": "mse", "b": "mae"}, None, ())] == ["mse", "mae"]


def test_a_model_of_one_output_asks_as_before():
    for loss, label in [("mse", "y"), (["mse"], ["y"]), ({"answer": "mse"}, {"answer": "y"})]:
        training = compiled(["answer"], loss, None, ["mae"])
        assert request_of(training, label) == {"label": "y", "loss": "mse", "metrics": ["mae"]}
    weighted = request_of(compiled(["answer"], "mse", [2.0], ()), "y")
    assert weighted["outputs"][0]["lossWeight"] == 2.0


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"loss": {"level": "mse"}}, "loss says nothing of output 'kind'"),
        (
            {"loss": {"level": "mse", "sort": "mse"}},
            "loss names 'sort', which is no output; the outputs are 'level', 'kind'",
        ),
        ({"loss": ["mse"]}, "loss has 1 entries; give one for each output"),
        ({"loss": {"level": "mse", "kind": 3}}, "loss of output 'kind' is of type int"),
        ({"loss_weights": {"level": 1}}, "loss_weights says nothing of output 'kind'"),
        ({"loss_weights": [1, -1]}, "loss_weights of output 'kind' is -1"),
        ({"loss_weights": [1, "much"]}, "loss_weights of output 'kind' is 'much'"),
        ({"metrics": ["mae"]}, "metrics has 1 entries; give a dict by output"),
        ({"metrics": {"sort": ["mae"]}}, "metrics names 'sort'"),
        ({"metrics": {"kind": [3]}}, "a metric of output 'kind' is of type int"),
    ],
)
def test_what_does_not_fit_the_outputs_is_refused_by_name(given, message):
    with pytest.raises((errors.InvalidArgumentError, TypeError), match=message):
        two_outputs().compile(**given)


def test_labels_and_class_weights_are_refused_by_name_before_anything_is_uploaded():
    model = two_outputs()
    assert model.output_names == ["level", "kind"]
    model.compile(loss="mse")
    with pytest.raises(errors.InvalidArgumentError, match="label is 'y' and the model has 2 outputs"):
        request_of(model._training, "y")
    with pytest.raises(errors.InvalidArgumentError, match="label says nothing of output 'kind'"):
        request_of(model._training, {"level": "y"})
    with pytest.raises(errors.InvalidArgumentError, match="class_weight is given and the model has 2 outputs"):
        model.fit({"x": [1], "y": [2]}, ["x", "y"], class_weight={1: 2.0})
    with pytest.raises(TypeError, match="label of output 'kind' is of type int"):
        request_of(model._training, ["y", 3])

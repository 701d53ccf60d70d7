"""Activations with arguments and along axes, ReLU, LeakyReLU, ELU, PReLU, Softmax with masks."""

import numpy as np
from cases import case, keras, write

mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
random = np.random.default_rng(11)


def away(*kinks, shape=(3, 8)):
    """Numbers of both signs, none of them near a kink."""
    numbers = random.standard_normal(shape) * 2
    for kink in kinks:
        near = np.abs(numbers - kink) < 0.1
        numbers[near] = kink + np.where(numbers[near] < kink, -0.1, 0.1)
    return numbers.astype("float32")


def function(name, arguments, x):
    """The Activation layer with arguments; `keras.layers.Activation` takes them in a function."""
    chosen = getattr(keras.activations, name)
    return case(
        f"{name} with arguments {arguments}",
        "Activation",
        {"activation": {"name": name, **arguments}},
        x,
        layer=lambda: keras.layers.Activation(lambda x: chosen(x, **arguments)),
        differences=name not in ("threshold", "hard_shrink"),
    )


class SoftmaxOverSteps(keras.layers.Softmax):
    """The mask of the steps for every number of a step: Keras' own call refuses a mask of fewer extents."""

    def call(self, inputs, mask=None):
        return super().call(inputs, mask=None if mask is None else mask[..., None])


def softmax_with_mask(name, config):
    return case(name, "Softmax", config, (2, 3, 4), masks=[mask], layer=lambda: SoftmaxOverSteps(**config))


write(
    "activation",
    [
        function("relu", {"negative_slope": 0.1}, away(0)),
        function("relu", {"max_value": 1.5}, away(0, 1.5)),
        function("relu", {"threshold": -0.5}, away(-0.5)),
        function("relu", {"negative_slope": 0.1, "max_value": 1.5, "threshold": 0.5}, away(0.5, 1.5)),
        function("leaky_relu", {"negative_slope": 0.4}, away(0)),
        function("elu", {"alpha": 0.5}, away(0)),
        function("celu", {"alpha": 0.5}, away(0)),
        function("hard_shrink", {"threshold": 1.0}, away(-1, 1)),
        function("soft_shrink", {"threshold": 1.0}, away(-1, 1)),
        function("threshold", {"threshold": 0.5, "default_value": -2.0}, away(0.5)),
        function("squareplus", {"b": 2.0}, (3, 8)),
        function("gelu", {"approximate": True}, (3, 8)),
        function("softmax", {"axis": 1}, (2, 3, 4)),
        function("log_softmax", {"axis": -2}, (2, 3, 4)),
        function("glu", {}, (2, 3, 4)),
        function("glu", {"axis": 1}, (2, 4, 3)),
        case("relu layer", "ReLU", {}, away(0)),
        case(
            "relu layer with everything",
            "ReLU",
            {"max_value": 2.0, "negative_slope": 0.2, "threshold": 0.5},
            away(0.5, 2),
            differences=False,
        ),
        case("relu layer to six", "ReLU", {"max_value": 6.0}, away(0)),
        case("relu layer keeps the mask", "ReLU", {}, away(0, shape=(2, 3, 4)), masks=[mask]),
        case("leaky relu layer", "LeakyReLU", {}, away(0)),
        case("leaky relu layer with a slope", "LeakyReLU", {"negative_slope": 0.1}, away(0)),
        case("elu layer", "ELU", {}, away(0)),
        case("elu layer with alpha", "ELU", {"alpha": 0.3}, away(0)),
        case("prelu", "PReLU", {}, away(0, shape=(2, 3, 4))),
        case("prelu shared over steps", "PReLU", {"shared_axes": [1]}, away(0, shape=(2, 3, 4))),
        case(
            "prelu shared over an image",
            "PReLU",
            {"shared_axes": [1, 2], "alpha_initializer": "ones"},
            away(0, shape=(2, 3, 2, 4)),
        ),
        case("softmax layer", "Softmax", {}, (3, 5)),
        case("softmax layer over steps", "Softmax", {"axis": 1}, (2, 3, 4)),
        case("softmax layer over two axes", "Softmax", {"axis": [1, 3]}, (2, 3, 2, 4)),
        case("softmax layer over an image", "Softmax", {"axis": [-3, -2]}, (2, 3, 2, 4)),
        case("softmax layer with a whole mask", "Softmax", {}, (2, 3), masks=[mask]),
        softmax_with_mask("softmax layer over steps with a mask", {"axis": 1}),
        softmax_with_mask("softmax layer over all with a mask", {"axis": [1, 2]}),
    ],
)

"""Highway and MaxoutDense, which Keras 3 has not: layers in plain operations, held to slow loops in float64 before they count."""

import numpy as np
from cases import case, keras, write

mask = np.array([[1, 1, 0], [1, 0, 0]], bool)


class Highway(keras.layers.Layer):
    """t h + (1 - t) x, as the paper writes it."""

    def __init__(self, activation="linear", use_bias=True):
        super().__init__()
        self.activation, self.use_bias, self.supports_masking = keras.activations.get(activation), use_bias, True

    def build(self, shape):
        width = shape[-1]
        self.kernel = self.add_weight(shape=(width, width), name="kernel")
        self.transform_kernel = self.add_weight(shape=(width, width), name="transform_kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(width,), name="bias")
            self.transform_bias = self.add_weight(shape=(width,), name="transform_bias")

    def call(self, x):
        h, t = x @ self.kernel, x @ self.transform_kernel
        if self.use_bias:
            h, t = h + self.bias, t + self.transform_bias
        t = keras.ops.sigmoid(t)
        return t * self.activation(h) + (1 - t) * x

    def slow(self, row):
        """One row, number by number; tanh or nothing for the activation."""
        (kernel, gate, *biases), width = [weight.numpy().astype("float64") for weight in self.weights], len(row)
        answer = []
        for column in range(width):
            h = sum(row[i] * kernel[i, column] for i in range(width))
            t = sum(row[i] * gate[i, column] for i in range(width))
            if biases:
                h, t = h + biases[0][column], t + biases[1][column]
            h = np.tanh(h) if self.activation is keras.activations.tanh else h
            t = 1 / (1 + np.exp(-t))
            answer.append(t * h + (1 - t) * row[column])
        return answer


class MaxoutDense(keras.layers.Layer):
    """The greatest of several dense layers."""

    def __init__(self, output_dim, nb_feature=4, use_bias=True):
        super().__init__()
        self.output_dim, self.nb_feature, self.use_bias, self.supports_masking = output_dim, nb_feature, use_bias, True

    def build(self, shape):
        self.kernel = self.add_weight(shape=(self.nb_feature, shape[-1], self.output_dim), name="kernel")
        if self.use_bias:
            self.bias = self.add_weight(shape=(self.nb_feature, self.output_dim), name="bias")

    def call(self, x):
        each = [x @ self.kernel[k] + (self.bias[k] if self.use_bias else 0) for k in range(self.nb_feature)]
        return keras.ops.max(keras.ops.stack(each), axis=0)

    def slow(self, row):
        """One row, number by number."""
        kernel, *biases = [weight.numpy().astype("float64") for weight in self.weights]
        return [
            max(
                sum(row[i] * kernel[k, i, column] for i in range(len(row))) + (biases[0][k, column] if biases else 0)
                for k in range(self.nb_feature)
            )
            for column in range(self.output_dim)
        ]


def held(name, kind, config, shape, **arguments):
    """A case whose answer is that of the slow loop."""
    made = kind(**config)
    described, stored = case(name, kind.__name__, config, shape, layer=lambda: made, **arguments)
    rows = stored[f"{name}/input_0"].reshape(-1, shape[-1])
    slow = np.array([made.slow(row) for row in rows.astype("float64")])
    found = stored[f"{name}/output_0"].reshape(slow.shape)
    assert np.abs(found - slow).max() < 1e-5, f"{name}: {np.abs(found - slow).max()}"
    return described, stored


write(
    "gated",
    [
        held("highway", Highway, {}, (3, 4)),
        held("highway with tanh", Highway, {"activation": "tanh"}, (3, 4)),
        held("highway without bias", Highway, {"use_bias": False, "activation": "tanh"}, (3, 4)),
        held("highway of steps", Highway, {"activation": "tanh"}, (2, 3, 4), masks=[mask]),
        held("maxout", MaxoutDense, {"output_dim": 3}, (3, 5)),
        held("maxout of two without bias", MaxoutDense, {"output_dim": 3, "nb_feature": 2, "use_bias": False}, (3, 5)),
        held("maxout of steps", MaxoutDense, {"output_dim": 2, "nb_feature": 3}, (2, 3, 4), masks=[mask]),
    ],
)

"""Networks over the columns of a table: gates, tables of classes, what is wide beside what is deep.

    python tests/golden/architectures/tables.py
"""

import numpy as np

from parity import ROWS, Architecture, Task, record

NUMBERS = 6
JOBS, TOWNS = 8, 12


def highway_network(library):
    """Srivastava et al. (2015): gates let numbers by."""
    layers = library.layers
    numbers = library.Input("numbers", (NUMBERS,))
    x = layers.Dense(16, activation="relu")(numbers)
    for _ in range(5):
        x = layers.Highway(activation="relu")(x)
    return library.Model(numbers, layers.Dense(JOBS, activation="softmax")(x))


def wide_and_deep(library):
    """Cheng et al. (2016): pairs of classes go to the answer at once, single ones through a deep network."""
    layers = library.layers
    numbers = library.Input("numbers", (NUMBERS,))
    job = library.Input("job", (1,), "int32")
    town = library.Input("town", (1,), "int32")
    pair = library.Input("pair", (1,), "int32")
    wide = layers.Flatten()(layers.Embedding(JOBS * TOWNS, 1)(pair))
    read = [layers.Embedding(JOBS, 4)(job), layers.Embedding(TOWNS, 4)(town)]
    x = layers.Concatenate()([numbers, *[layers.Flatten()(each) for each in read]])
    for units in (32, 16, 8):
        x = layers.Dense(units, activation="relu")(x)
    x = layers.Add()([wide, layers.Dense(1)(x)])
    return library.Model([numbers, job, town, pair], layers.Activation("sigmoid")(x))


def residual_perceptron(library):
    """Dense layers around which their input goes, normalized in batches, with a leaky ReLU and one that learns its slope."""
    layers = library.layers
    numbers = library.Input("numbers", (NUMBERS,))
    x = layers.Dense(24)(numbers)
    for _ in range(2):
        inner = layers.Dense(24, kernel_initializer="he_uniform")(
            layers.LeakyReLU(0.2)(layers.BatchNormalization(momentum=0.9)(x))
        )
        x = layers.Add()([x, layers.PReLU()(inner)])
    return library.Model(numbers, layers.Dense(1)(x))


def people(random):
    numbers = random.standard_normal((ROWS, NUMBERS)).astype("float32")
    job, town = (random.integers(0, count, (ROWS, 1)).astype("int32") for count in (JOBS, TOWNS))
    return numbers, job, town


def job_of_numbers(random):
    numbers, _, _ = people(random)
    weights = random.standard_normal((NUMBERS, JOBS))
    label = np.argmax(np.tanh(numbers) @ weights, axis=1)
    return Task({"numbers": numbers}, label, "sparse_categorical_crossentropy")


def income(random):
    numbers, job, town = people(random)
    pair = (job * TOWNS + town).astype("int32")
    label = (numbers[:, :1] + 0.3 * job - 0.2 * town > 0).astype("float32")
    inputs = {"numbers": numbers, "job": job, "town": town, "pair": pair}
    return Task(inputs, label, "binary_crossentropy")


def product(random):
    numbers, _, _ = people(random)
    return Task(
        {"numbers": numbers},
        numbers[:, :1] * numbers[:, 1:2] + numbers[:, 2:3],
        "mean_absolute_error",
    )


if __name__ == "__main__":
    record(
        "tables",
        [
            Architecture(highway_network, job_of_numbers, lambda o: o.SGD(0.1, momentum=0.9)),
            Architecture(wide_and_deep, income, lambda o: o.Ftrl(0.5)),
            Architecture(residual_perceptron, product, lambda o: o.Lion(3e-3)),
        ],
    )

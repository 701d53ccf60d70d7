"""The loss that Keras tells in training and in evaluation of a model with regularisers, add_loss and a frozen layer, and of
one whose layer answers its states too.

    python tests/golden/penalties/make.py
"""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import torch
from keras import layers, ops, regularizers
from safetensors.numpy import save_file

HERE = Path(__file__).parent
ROWS = 7
random = np.random.default_rng(53)
torch.set_num_threads(1)
arrays = {}


class Squares(layers.Layer):
    """x^2, whose sum over a row's numbers is added to the loss of the row."""

    def call(self, x):
        squares = ops.square(x)
        self.add_loss(ops.mean(ops.sum(squares, axis=-1)))
        return squares


numbers = keras.Input((4,))
hidden = layers.Dense(
    5,
    activation="tanh",
    kernel_regularizer=regularizers.L2(0.02),
    bias_regularizer=regularizers.L1(0.03),
    activity_regularizer=regularizers.L1L2(0.01, 0.02),
    name="hidden",
)(numbers)
squares = Squares(name="squares")(hidden)
frozen = layers.Dense(
    3,
    kernel_regularizer=regularizers.L2(0.5),
    activity_regularizer=regularizers.L2(0.05),
    trainable=False,
    name="frozen",
)(squares)
answer = layers.Dense(1, kernel_regularizer=regularizers.L1(0.04), name="answer")(frozen)

steps = layers.Reshape((2, 2))(numbers)
along, *states = layers.LSTM(
    3, return_state=True, activity_regularizer=regularizers.L2(0.1), name="along"
)(steps)
last = layers.Dense(1, name="last")(layers.Concatenate()([along, *states]))


def tell(name, answer, weights):
    """The losses of a model whose layers' arrays have these names."""
    model = keras.Model(numbers, answer)
    for layer, names in weights.items():
        for ours, weight in zip(names, model.get_layer(layer).weights, strict=True):
            weight.assign(0.5 * random.standard_normal(weight.shape))
            arrays[f"{name}/weights/{layer}/{ours}"] = weight.numpy().copy()
    x = random.standard_normal((ROWS, 4)).astype("float32")
    y = random.standard_normal((ROWS, 1)).astype("float32")
    # A rate of nothing: training tells the loss of the weights as they are.
    model.compile(optimizer=keras.optimizers.SGD(0.0), loss="mse", metrics=["mse"])
    trained = model.train_on_batch(x, y, return_dict=True)
    evaluated = model.evaluate(x, y, batch_size=ROWS, verbose=0, return_dict=True)
    told = [trained["loss"], evaluated["loss"], evaluated["mse"]]
    arrays[f"{name}/x"], arrays[f"{name}/y"] = x, y
    arrays[f"{name}/losses"] = np.array(told, "float32")
    print(name, told)


dense = ["kernel", "bias"]
tell("layers", answer, {"hidden": dense, "frozen": dense, "answer": dense})
tell("states", last, {"along": ["kernel", "recurrent_kernel", "bias"], "last": dense})
save_file(arrays, HERE / "penalties.safetensors")
(HERE / "penalties.safetensors").chmod(0o644)
print(f"keras {keras.__version__}, torch {torch.__version__}")

"""How an architecture is recorded: 20 training steps of Keras, and the network as the Python client describes it.

An architecture is one function of a library, written once and called for both: for Keras it makes the network that is trained,
for the client its description. A group of them is a script beside this file. Run one from the repository root:

    python tests/golden/architectures/images.py
"""

import json
import os
import re
import sys
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[2] / "python-client/src"))

import keras
import numpy as np
import torch
import volary
from safetensors.numpy import save_file
from volary.model.losses import Loss, described

STEPS = 20
BATCH_SIZE = 8
BATCHES = 5  # met in turn
ROWS = BATCH_SIZE * BATCHES

# A network is recorded only where rounding does not matter: its losses in float32 are compared with those in float64 from
# first weights that differ by ten roundings. Where a ReLU's input passes 0 by so little, a loss can jump by 1e-3.
NOISE = 1e-6
STABLE = 3e-5


class Highway(keras.layers.Layer):
    """Keras 3 has none: t h + (1 - t) x (Srivastava et al., 2015)."""

    def __init__(self, activation=None, **options):
        super().__init__(**options)
        self.activation = keras.activations.get(activation)

    def build(self, shape):
        width = shape[-1]
        self.kernel = self.add_weight((width, width), name="kernel")
        self.transform_kernel = self.add_weight((width, width), name="transform_kernel")
        self.bias = self.add_weight((width,), "zeros", name="bias")
        self.transform_bias = self.add_weight((width,), keras.initializers.Constant(-2.0), name="transform_bias")

    def call(self, x):
        gate = keras.ops.sigmoid(x @ self.transform_kernel + self.transform_bias)
        return gate * self.activation(x @ self.kernel + self.bias) + (1 - gate) * x


class Named:
    """The layers of a library, named alike in the order they are made: `conv2d`, `conv2d_1`, ..."""

    def __init__(self, *modules):
        self.modules, self.counts = modules, {}

    def __getattr__(self, kind):
        made = next(getattr(each, kind) for each in self.modules if hasattr(each, kind))
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=.)(?=[A-Z][a-z])", "_", kind).lower()

        def make(*arguments, **options):
            number = self.counts[snake] = self.counts.get(snake, -1) + 1
            name = f"{snake}_{number}" if number else snake
            return made(*arguments, name=name, **options)

        return make


class Keras:
    Model, Layer, optimizers, ops = keras.Model, keras.layers.Layer, keras.optimizers, keras.ops
    l2 = staticmethod(keras.regularizers.L2)

    def __init__(self):
        self.layers = Named(keras.layers, sys.modules[__name__])

    def Input(self, name, shape, dtype="float32"):
        return keras.Input(shape, dtype=dtype, name=name)

    def per_row(self, loss):
        """What `add_loss` takes of a number for each row: Keras adds one number to the mean over the rows."""
        return keras.ops.mean(loss)

    def loss(self, task):
        return task.loss if isinstance(task.loss, str) else task.loss(self)


class Volary:
    Model, Layer, optimizers, ops = volary.Model, volary.layers.Layer, volary.optimizers, volary.ops

    def __init__(self):
        self.layers = Named(volary.layers)

    def Input(self, name, shape, dtype="float32"):
        return volary.Input([name], dtype, name, shape=shape)

    def l2(self, factor):
        return {"name": "l2", "l2": factor}

    def per_row(self, loss):
        return loss

    def loss(self, task):
        """As it is sent: a name, or the program of a function over labels in the shape of the answer."""
        if isinstance(task.loss, str):
            return task.loss
        return described("loss", task.loss(self), Loss, (None, *task.target.shape[1:]))


@dataclass
class Task:
    """What a network is trained for: rows for its inputs in the order it has them, their labels, and the loss.

    The loss is a name, or makes the function (y_true, y_pred) of a library.
    """

    inputs: dict[str, np.ndarray]
    target: np.ndarray
    loss: str | Callable


@dataclass
class Architecture:
    build: Callable
    task: Callable
    optimizer: Callable


def record(group: str, architectures: list[Architecture]) -> None:
    """Writes `<group>.json` and `<group>.safetensors`."""
    arrays, described = {}, []
    for each in architectures:
        name = each.build.__name__
        random = np.random.default_rng(zlib.crc32(name.encode()))
        task = each.task(random)
        ours = Volary()
        network = each.build(ours)
        network.name = name
        described.append(
            {
                "name": name,
                "description": network.to_json(),
                "loss": ours.loss(task),
                "optimizer": each.optimizer(ours.optimizers).to_json(),
            }
        )
        keras.config.set_floatx("float32")
        keras.utils.set_random_seed(zlib.crc32(name.encode()))
        model = each.build(Keras())
        first = {path: weight.numpy() for path, weight in named(model)}
        losses = train(model, each, task)
        keras.config.set_floatx("float64")
        double = each.build(Keras())
        for path, weight in named(double):
            noise = NOISE * random.standard_normal(weight.shape)
            weight.assign(first[path] * (1 + noise))
        certain = train(double, each, task)
        apart = np.abs(losses / certain - 1).max()
        print(
            f"{name}: {model.count_params()} parameters, loss {losses[0]:.5f} to {losses[-1]:.5f},",
            f"at most {apart:.1e} from float64 nearby",
        )
        assert apart < STABLE, "choose another learning rate: rounding matters"
        kept = {**task.inputs, "target": task.target, "losses": losses, **first}
        kept |= {f"{path}/last": weight.numpy() for path, weight in named(model) if not weight.trainable}
        for key, values in kept.items():
            arrays[f"{name}/{key}"] = np.ascontiguousarray(values, dtype="float32")
    path = HERE / f"{group}.safetensors"
    save_file(arrays, path)
    path.chmod(0o644)
    lines = ",\n".join(json.dumps(each) for each in described)
    (HERE / f"{group}.json").write_text(f"[\n{lines}\n]\n")
    print(f"keras {keras.__version__}, torch {torch.__version__}")


def named(model):
    """Every weight with our name of it, as `bidirectional/forward/kernel`."""
    for layer in model.layers:
        for weight in layer.weights:
            if "seed" in weight.path:
                continue
            path = weight.path[weight.path.index(f"{layer.name}/") :].split("/")
            inner = [each for each in path[1:] if not each.endswith("_cell")]
            if isinstance(layer, keras.layers.TimeDistributed):
                inner = inner[1:]  # without the name of the layer inside
            inner = [re.sub("^(forward|backward)_.*", r"\1", each) for each in inner]
            yield "/".join([layer.name, *inner]), weight


def train(model, architecture: Architecture, task: Task) -> np.ndarray:
    """The loss of each step."""
    model.compile(architecture.optimizer(keras.optimizers), Keras().loss(task))
    losses = []
    for step in range(STEPS):
        start = step % BATCHES * BATCH_SIZE
        rows = slice(start, start + BATCH_SIZE)
        given = [values[rows] for values in task.inputs.values()]
        given = given if len(given) > 1 else given[0]
        model.reset_metrics()
        losses.append(float(model.train_on_batch(given, task.target[rows])))
    return np.array(losses)

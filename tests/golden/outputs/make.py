"""Models of several outputs in Keras: 20 steps of two heads, and the losses and gradients of masked sequences.

    python tests/golden/outputs/make.py
"""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import torch
from keras import layers
from safetensors.numpy import save_file

HERE = Path(__file__).parent
STEPS, ROWS, WIDTH = 20, 32, 6
random = np.random.default_rng(31)
torch.set_num_threads(1)
arrays = {}


def keep_weights(name, model, names):
    """Every array of some layers, by our names."""
    for layer, expected in names.items():
        for ours, weight in zip(expected, model.get_layer(layer).weights, strict=True):
            arrays[f"{name}/{layer}/{ours}"] = weight.numpy().copy()


def heads():
    """A regression and a classification over one trunk, trained by Keras itself, rows weighted."""
    numbers = keras.Input((WIDTH,))
    trunk = layers.Dense(16, activation="tanh", name="trunk")(numbers)
    level = layers.Dense(1, name="level")(trunk)
    kind = layers.Dense(3, activation="softmax", name="kind")(trunk)
    model = keras.Model(numbers, [level, kind])
    model.compile(
        optimizer=keras.optimizers.Adam(1e-2),
        loss={"level": "mse", "kind": "sparse_categorical_crossentropy"},
        loss_weights={"level": 1.0, "kind": 0.3},
    )
    names = {each: ["kernel", "bias"] for each in ("trunk", "level", "kind")}
    for weight in model.trainable_weights:
        weight.assign(weight.numpy() + 0.1 * random.standard_normal(weight.shape))
    keep_weights("heads/first", model, names)
    x = random.standard_normal((STEPS * ROWS, WIDTH)).astype("float32")
    level = (x[:, 0] * x[:, 1] + x[:, 2]).astype("float32")
    kind = np.digitize(x[:, 3] + 0.3 * x[:, 4], [-0.5, 0.5]).astype("float32")
    weights = (0.5 + random.random(len(x))).astype("float32")
    losses = []
    for step in range(STEPS):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        model.reset_metrics()
        told = model.train_on_batch(
            x[rows],
            [level[rows], kind[rows]],
            sample_weight=[weights[rows], weights[rows]],
            return_dict=True,
        )
        losses.append([told["loss"], told["level_loss"], told["kind_loss"]])
    keep_weights("heads/last", model, names)
    arrays["heads/x"], arrays["heads/weights"] = x, weights
    arrays["heads/target"] = np.stack([level, kind], axis=1)
    arrays["heads/losses"] = np.array(losses, "float32")


def masked():
    """Two answers at every step of masked sequences. Our loss is a mean over rows of means over each row's own steps, so
    Keras is given one row at a time; a batch whose rows keep equally many steps is given to it whole too."""
    steps = keras.Input((4, 2))
    seen = layers.Masking(name="masking")(steps)
    along = layers.GRU(3, return_sequences=True, name="along")(seen)
    level = layers.Dense(2, name="level")(along)
    kind = layers.Dense(3, activation="softmax", name="kind")(along)
    model = keras.Model(steps, [level, kind])
    names = {
        "along": ["kernel", "recurrent_kernel", "bias"],
        "level": ["kernel", "bias"],
        "kind": ["kernel", "bias"],
    }
    for weight in model.weights:
        if "seed" not in weight.path:
            weight.assign(weight.numpy() + 0.3 * random.standard_normal(weight.shape))
    keep_weights("masked", model, names)
    squared = keras.losses.MeanSquaredError()
    of_class = keras.losses.SparseCategoricalCrossentropy()
    for name, kept in {"ragged": [4, 1, 2, 3, 0], "even": [2, 2, 2]}.items():
        x = random.standard_normal((len(kept), 4, 2)).astype("float32")
        for row, count in enumerate(kept):
            x[row, count:] = 0.0
        numbers = random.standard_normal((len(kept), 4, 2)).astype("float32")
        classes = random.integers(0, 3, (len(kept), 4)).astype("float32")
        weights = (0.5 + random.random(len(kept))).astype("float32")
        sums = [0.0, 0.0]
        for row in range(len(kept)):
            one = slice(row, row + 1)
            answers = model(torch.tensor(x[one]))
            sums[0] += float(weights[row]) * squared(torch.tensor(numbers[one]), answers[0])
            sums[1] += float(weights[row]) * of_class(torch.tensor(classes[one]), answers[1])
        means = [each / len(kept) for each in sums]
        if name == "even":
            answers = model(torch.tensor(x))
            each = torch.tensor(weights)[:, None].repeat(1, 4)
            whole = [
                squared(torch.tensor(numbers), answers[0], each.clone()),
                of_class(torch.tensor(classes), answers[1], each.clone()),
            ]
            for one_by_one, together in zip(means, whole, strict=True):
                assert abs(one_by_one.item() - together.item()) < 1e-6
        total = means[0] + 0.3 * means[1]
        model.zero_grad()
        total.backward()
        arrays[f"{name}/x"], arrays[f"{name}/weights"] = x, weights
        target = [numbers.reshape(len(kept), -1), classes]
        arrays[f"{name}/target"] = np.concatenate(target, axis=1)
        arrays[f"{name}/losses"] = np.array(
            [total.item(), means[0].item(), means[1].item()], "float32"
        )
        for layer, expected in names.items():
            for ours, weight in zip(expected, model.get_layer(layer).weights):
                slope = weight.value.grad.detach().numpy()
                arrays[f"{name}/{layer}/{ours}/gradient"] = np.ascontiguousarray(slope).copy()


heads()
masked()
save_file(arrays, HERE / "outputs.safetensors")
(HERE / "outputs.safetensors").chmod(0o644)
print(f"keras {keras.__version__}, torch {torch.__version__}: {len(arrays)} arrays")

"""LSTM and GRU of Keras and their gradients: what src/tensor/kernels/recurrent/ is compared with.

Run from the repository root. Versions: see README.md beside this file.
"""

import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from safetensors.numpy import save_file

ROWS, STEPS, INPUTS, UNITS = 3, 6, 4, 5

random = np.random.default_rng(7)
arrays = {}


def record(name, layer, mask=None):
    """Answers of all steps for random weights, and the gradients of their sum weighted by `weights`."""
    x = random.standard_normal((ROWS, STEPS, INPUTS)).astype("float32")
    weights = random.standard_normal((ROWS, STEPS, UNITS)).astype("float32")
    layer.build(x.shape)
    layer.set_weights([random.standard_normal(each.shape).astype("float32") * 0.6 for each in layer.weights])
    given = torch.tensor(x, requires_grad=True)
    answer = layer(given, mask=None if mask is None else torch.tensor(mask))
    (answer * torch.tensor(weights)).sum().backward()
    arrays[f"{name}/x"] = x
    arrays[f"{name}/weights"] = weights
    arrays[f"{name}/answer"] = answer.detach().numpy()
    arrays[f"{name}/dx"] = given.grad.numpy()
    if mask is not None:
        arrays[f"{name}/mask"] = mask.astype("float32")
    for part, variable in zip(["kernel", "recurrent", "bias"], layer.trainable_weights, strict=True):
        arrays[f"{name}/{part}"] = variable.value.detach().numpy()
        arrays[f"{name}/d{part}"] = variable.value.grad.numpy()


# Keras gives zeros before a row's first kept step, which is the state carried over from a first state of zeros.
mask = np.array([[1, 1, 1, 1, 1, 1], [1, 1, 0, 1, 0, 0], [0, 0, 1, 1, 1, 0]], dtype=bool)
record("lstm", keras.layers.LSTM(UNITS, return_sequences=True))
record("lstm masked", keras.layers.LSTM(UNITS, return_sequences=True), mask)
record("gru", keras.layers.GRU(UNITS, return_sequences=True))
record("gru masked", keras.layers.GRU(UNITS, return_sequences=True), mask)
path = Path(__file__).parent / "recurrent.safetensors"
save_file({name: np.ascontiguousarray(array) for name, array in arrays.items()}, path)
path.chmod(0o644)
print(f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(arrays)} arrays")

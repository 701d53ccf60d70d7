"""One step of small models for each loss and activation, and 20 updates of each optimiser, in PyTorch.

Run from the repository root. Versions: see README.md beside this file.
"""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file
from torch.nn import functional

torch.manual_seed(11)
ROWS, EPSILON = 13, 1e-7
out = {}


def clip(p):
    return p.clamp(EPSILON, 1 - EPSILON)


def binary(p, t):
    p = clip(p)
    return -(t * p.log() + (1 - t) * (1 - p).log()).mean(dim=1)


def share(p):
    return clip(p / p.sum(dim=1, keepdim=True))


LOSSES = {
    "mean_squared_error": lambda y, t: ((y - t) ** 2).mean(dim=1),
    "mean_absolute_error": lambda y, t: (y - t).abs().mean(dim=1),
    "binary_crossentropy": binary,
    "categorical_crossentropy": lambda y, t: -(t * share(y).log()).sum(dim=1),
    "sparse_categorical_crossentropy": lambda y, t: functional.nll_loss(share(y).log(), t[:, 0].long(), reduction="none"),
}
ACTIVATIONS = {
    "linear": lambda x: x,
    "relu": torch.relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "gelu": functional.gelu,
    "gelu_approximate": lambda x: functional.gelu(x, approximate="tanh"),
    "softmax": lambda x: torch.softmax(x, dim=1),
}
# name, loss, hidden activation, last activation, outputs
CASES = [
    ("a", "mean_squared_error", "gelu", "linear", 2),
    ("b", "mean_absolute_error", "tanh", "linear", 2),
    ("c", "binary_crossentropy", "relu", "sigmoid", 1),
    ("d", "binary_crossentropy", "gelu_approximate", "sigmoid", 3),
    ("e", "binary_crossentropy", "sigmoid", "linear", 1),
    ("f", "categorical_crossentropy", "relu", "softmax", 4),
    ("g", "sparse_categorical_crossentropy", "softmax", "softmax", 4),
    ("h", "sparse_categorical_crossentropy", "tanh", "sigmoid", 4),
    ("i", "mean_squared_error", "relu", "softmax", 3),
]
for name, loss, hidden, last, width in CASES:
    x = torch.randn(ROWS, 5, dtype=torch.float64)
    indices = torch.randint(0, 7, (ROWS, 2))
    weights = torch.rand(ROWS, dtype=torch.float64) + 0.5
    target = torch.randn(ROWS, width, dtype=torch.float64)
    if loss == "binary_crossentropy":
        target = (target > 0).double()
    if loss == "categorical_crossentropy":
        target = torch.softmax(target, dim=1)
    if loss == "sparse_categorical_crossentropy":
        target = torch.randint(0, width, (ROWS, 1)).double()
    parameters = {
        "embedding/embeddings": torch.randn(7, 3, dtype=torch.float64),
        "hidden/kernel": torch.randn(11, 8, dtype=torch.float64) * 0.4,
        "hidden/bias": torch.randn(8, dtype=torch.float64) * 0.1,
        "norm/gamma": torch.rand(8, dtype=torch.float64) + 0.5,
        "norm/beta": torch.randn(8, dtype=torch.float64) * 0.1,
        "last/kernel": torch.randn(8, width, dtype=torch.float64) * 0.4,
        "last/bias": torch.randn(width, dtype=torch.float64) * 0.1 + (0.5 if last == "linear" else 0.0),
    }
    for value in parameters.values():
        value.requires_grad_(True)
    moving = [torch.randn(8, dtype=torch.float64) * 0.1, torch.rand(8, dtype=torch.float64) + 0.5]

    def forward(training):
        rows = parameters["embedding/embeddings"][indices].reshape(ROWS, 6)
        h = torch.cat([x, rows], dim=1) @ parameters["hidden/kernel"] + parameters["hidden/bias"]
        h = ACTIVATIONS[hidden](h)
        mean, variance = (h.mean(dim=0), h.var(dim=0, unbiased=False)) if training else moving
        n = (h - mean) / (variance + 1e-3).sqrt() * parameters["norm/gamma"] + parameters["norm/beta"]
        return ACTIVATIONS[last](n @ parameters["last/kernel"] + parameters["last/bias"]), mean, variance

    y, mean, variance = forward(True)
    rows_loss = LOSSES[loss](y, target)
    ((weights * rows_loss).sum() / 40).backward()
    arrays = {
        "x": x, "indices": indices, "weights": weights, "target": target, "predictions": y,
        "loss_sum": (weights * rows_loss).sum().reshape(1), "inference": forward(False)[0],
        "moving_mean": moving[0], "moving_variance": moving[1],
        "new_moving_mean": moving[0] * 0.99 + mean * 0.01, "new_moving_variance": moving[1] * 0.99 + variance * 0.01,
    }
    for key, value in parameters.items():
        arrays[f"parameter/{key}"], arrays[f"gradient/{key}"] = value, value.grad
    out.update({f"case_{name}/{key}": np.ascontiguousarray(value.detach().numpy().astype("float32")) for key, value in arrays.items()})

STEPS, LEARNING_RATE = 20, 0.01
start = torch.randn(37, dtype=torch.float64)
gradients = torch.randn(STEPS, 37, dtype=torch.float64) * 10 ** torch.linspace(-6, 1, 37, dtype=torch.float64)
RECIPES = {
    "sgd": lambda p: torch.optim.SGD(p, lr=LEARNING_RATE),
    "momentum": lambda p: torch.optim.SGD(p, lr=LEARNING_RATE, momentum=0.9),
    "nesterov": lambda p: torch.optim.SGD(p, lr=LEARNING_RATE, momentum=0.9, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=LEARNING_RATE, eps=EPSILON),
    "adamw": lambda p: torch.optim.AdamW(p, lr=LEARNING_RATE, eps=EPSILON, weight_decay=0.004),
}
out["optimizer/start"] = start.numpy().astype("float32")
out["optimizer/gradients"] = gradients.numpy().astype("float32")
for name, make in RECIPES.items():
    parameter = torch.nn.Parameter(start.clone())
    optimizer = make([parameter])
    for step in range(STEPS):
        parameter.grad = gradients[step].clone()
        if "adam" in name:  # Keras' place of epsilon; see census_mlp.py
            optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - 0.999 ** (step + 1))
        optimizer.step()
    out[f"optimizer/end/{name}"] = parameter.detach().numpy().astype("float32")
save_file(out, Path(__file__).with_suffix(".safetensors"))

"""Losses of Keras, row by row, and their gradients: what src/nn/loss.rs is compared with.

Run from the repository root. Versions: see README.md beside this file.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from safetensors.numpy import save_file

ROWS = 12

random = np.random.default_rng(5)


def numbers(width):
    return random.standard_normal((ROWS, width)) * 2


def positive(width):
    return random.gamma(2.0, 1.0, (ROWS, width)) + 0.05


def shares(width):
    return random.dirichlet(np.ones(width), ROWS)


def signs(width):
    return random.integers(0, 2, (ROWS, width)) * 2.0 - 1.0


def zeros_and_ones(width):
    return random.integers(0, 2, (ROWS, width)) * 1.0


#: Our name, Keras' loss, what answers and labels are drawn from, and how many there are to a row.
CASES = [
    ("mean_squared_error", keras.losses.MeanSquaredError, numbers, numbers, 3),
    ("mean_absolute_error", keras.losses.MeanAbsoluteError, numbers, numbers, 3),
    ("mean_absolute_percentage_error", keras.losses.MeanAbsolutePercentageError, numbers, numbers, 2),
    ("mean_squared_logarithmic_error", keras.losses.MeanSquaredLogarithmicError, positive, positive, 2),
    ("mean_squared_logarithmic_error", keras.losses.MeanSquaredLogarithmicError, numbers, numbers, 2),
    ("huber", keras.losses.Huber, numbers, numbers, 3),
    ("log_cosh", keras.losses.LogCosh, numbers, numbers, 3),
    ("poisson", keras.losses.Poisson, positive, positive, 1),
    ("kl_divergence", keras.losses.KLDivergence, shares, shares, 4),
    ("cosine_similarity", keras.losses.CosineSimilarity, numbers, numbers, 4),
    ("hinge", keras.losses.Hinge, numbers, signs, 1),
    ("hinge", keras.losses.Hinge, numbers, zeros_and_ones, 2),
    ("squared_hinge", keras.losses.SquaredHinge, numbers, signs, 2),
]

arrays, names = {}, []
for number, (name, kind, answers, labels, width) in enumerate(CASES):
    y = torch.tensor(answers(width), dtype=torch.float32, requires_grad=True)
    t = torch.tensor(labels(width), dtype=torch.float32)
    rows = kind(reduction=None)(t, y)
    rows.sum().backward()
    for what, value in (("answer", y), ("label", t), ("loss", rows), ("gradient", y.grad)):
        arrays[f"{number}/{what}"] = np.ascontiguousarray(value.detach().numpy())
    names.append({"loss": name, "width": width})
here = Path(__file__).parent
save_file(arrays, here / "losses.safetensors")
(here / "losses.json").write_text(json.dumps(names, indent=1) + "\n")
print(f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(names)} losses")

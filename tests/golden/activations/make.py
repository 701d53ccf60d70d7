"""Activations of Keras and their gradients: what src/nn/layers/activation.rs is compared with.

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

NAMES = [
    "linear", "relu", "sigmoid", "tanh", "softmax", "gelu", "elu", "celu", "selu", "relu6", "leaky_relu", "silu", "swish", "mish",
    "softplus", "softsign", "exponential", "hard_sigmoid", "hard_silu", "hard_swish", "hard_tanh", "hard_shrink", "soft_shrink",
    "tanh_shrink", "log_sigmoid", "log_softmax", "squareplus", "sparse_plus", "sparse_sigmoid", "sparsemax",
]  # fmt: skip



def sparsemax(x):
    """The paper's (Martins and Astudillo, 2016, algorithm 1); Keras 3.15 takes the sum of running sums for the sum, so that
    its answers do not add up to 1."""
    ordered, _ = torch.sort(x.double(), dim=-1, descending=True)
    sums = torch.cumsum(ordered, dim=-1)
    places = torch.arange(1, x.shape[-1] + 1)
    count = (1 + places * ordered > sums).sum(dim=-1, keepdim=True)
    threshold = (torch.gather(sums, -1, count - 1) - 1) / count
    return torch.relu(x.double() - threshold).float()


random = np.random.default_rng(3)
# Small and large numbers of both signs, none of them on a kink.
x = np.concatenate([random.standard_normal((20, 6)), random.standard_normal((12, 6)) * 4]).astype("float32")
weights = random.standard_normal(x.shape).astype("float32")
arrays = {"x": x, "weights": weights}
for name in NAMES:
    given = torch.tensor(x, requires_grad=True)
    answer = sparsemax(given) if name == "sparsemax" else keras.activations.get(name)(given)
    (answer * torch.tensor(weights)).sum().backward()
    arrays[f"{name}/answer"] = np.ascontiguousarray(answer.detach().numpy())
    arrays[f"{name}/gradient"] = np.ascontiguousarray(given.grad.numpy())
here = Path(__file__).parent
save_file(arrays, here / "activations.safetensors")
(here / "activations.json").write_text(json.dumps(NAMES) + "\n")
print(f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(NAMES)} activations")

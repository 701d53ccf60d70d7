"""The census MLP's first 50 steps in PyTorch: what src/training/golden.rs compares with.

Run from the repository root. Versions: see README.md beside this file.
"""

import math
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.numpy import save_file

ROOT = Path(__file__).resolve().parents[3]
STEPS, ROWS, LEARNING_RATE, BETAS, EPSILON = 50, 256, 1e-3, (0.9, 0.999), 1e-7
NUMBERS = ["age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week"]
CATEGORIES = ["workclass", "education", "marital_status", "occupation", "relationship", "race", "sex", "native_country"]

torch.manual_seed(7)
torch.set_num_threads(1)

frame = pd.read_parquet(ROOT / "examples/data/census_train.parquet")
order = np.random.default_rng(7).permutation(len(frame))[: STEPS * ROWS]
numbers = frame[NUMBERS].astype("float64")
numbers = ((numbers - numbers.mean()) / numbers.std(ddof=0)).to_numpy("float32")[order]
# One column per category, missing being one: 102 columns after the 6 numbers. Kept as the column's index.
codes, width = [], len(NUMBERS)
for name in CATEGORIES:
    values, levels = pd.factorize(frame[name].fillna("missing"), sort=True)
    codes.append(values[order] + width)
    width += len(levels)
assert width == 108, width
codes = np.stack(codes, axis=1)
features = np.zeros((len(order), width), "float32")
features[:, : len(NUMBERS)] = numbers
np.put_along_axis(features, codes, 1.0, axis=1)
label = (frame["income"].str.strip(" .") == ">50K").to_numpy("float32")[order]

sizes = [width, 128, 64, 1]
layers = [torch.nn.Linear(i, o) for i, o in zip(sizes, sizes[1:])]
first = {}
for index, layer in enumerate(layers):
    first[f"first/dense_{index}/kernel"] = layer.weight.detach().T.contiguous().numpy().copy()
    first[f"first/dense_{index}/bias"] = layer.bias.detach().numpy().copy()
model = torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])
optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, betas=BETAS, eps=EPSILON)
losses = []
for step in range(STEPS):
    rows = slice(step * ROWS, (step + 1) * ROWS)
    x, y = torch.from_numpy(features[rows]), torch.from_numpy(label[rows, None])
    loss = torch.nn.functional.binary_cross_entropy_with_logits(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    # Keras adds epsilon to sqrt(v), PyTorch to sqrt(v / (1 - b2^t)): this makes them one.
    optimizer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - BETAS[1] ** (step + 1))
    optimizer.step()
    losses.append(loss.item())
last = {}
for index, layer in enumerate(layers):
    last[f"last/dense_{index}/kernel"] = layer.weight.detach().T.contiguous().numpy()
    last[f"last/dense_{index}/bias"] = layer.bias.detach().numpy()
save_file(
    {"numbers": numbers, "codes": codes.astype("float32"), "label": label, "losses": np.array(losses, "float32"), **first, **last},
    Path(__file__).with_suffix(".safetensors"),
)
print(f"loss {losses[0]:.6f} to {losses[-1]:.6f}")

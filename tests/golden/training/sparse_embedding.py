"""20 steps of a sparse embedding in PyTorch, with SparseAdam and with SGD: what src/training/golden.rs compares with.

Run from the repository root. Versions: see README.md beside this file.
"""

import math
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

STEPS, ROWS, LOOKUPS, TABLE, WIDTH, BETAS, EPSILON = 20, 64, 6, 2000, 4, (0.9, 0.999), 1e-7

torch.manual_seed(11)
torch.set_num_threads(1)
random = np.random.default_rng(11)
# A few rows in every step, many in few or none, as words are.
indices = np.minimum(random.zipf(1.3, (STEPS * ROWS, LOOKUPS)) - 1, TABLE - 1)
indices = np.where(random.random(indices.shape) < 0.3, random.integers(0, TABLE, indices.shape), indices)
label = (indices.sum(axis=1) % 3 == 0).astype("float32")
stored = {"indices": indices.astype("float32"), "label": label}

first_table = torch.randn(TABLE, WIDTH) * 0.5
first_layer = torch.nn.Linear(LOOKUPS * WIDTH, 1)
for name in ("adam", "sgd"):
    table = torch.nn.Embedding(TABLE, WIDTH, sparse=True, _weight=first_table.clone())
    layer = torch.nn.Linear(LOOKUPS * WIDTH, 1)
    layer.load_state_dict(first_layer.state_dict())
    if name == "adam":
        of_table = torch.optim.SparseAdam(table.parameters(), lr=0.02, betas=BETAS, eps=EPSILON)
        of_layer = torch.optim.Adam(layer.parameters(), lr=0.02, betas=BETAS, eps=EPSILON)
    else:
        of_table = torch.optim.SGD(table.parameters(), lr=0.5)
        of_layer = torch.optim.SGD(layer.parameters(), lr=0.5)
    losses = []
    for step in range(STEPS):
        rows = slice(step * ROWS, (step + 1) * ROWS)
        answer = layer(table(torch.from_numpy(indices[rows])).flatten(1))
        target = torch.from_numpy(label[rows, None])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(answer, target)
        of_table.zero_grad()
        of_layer.zero_grad()
        loss.backward()
        assert table.weight.grad.is_sparse
        if name == "adam":
            # Adam adds epsilon to sqrt(v / (1 - b2^t)), Keras and SparseAdam to sqrt(v): this makes them one.
            of_layer.param_groups[0]["eps"] = EPSILON / math.sqrt(1 - BETAS[1] ** (step + 1))
        of_table.step()
        of_layer.step()
        losses.append(loss.item())
    stored[f"{name}/losses"] = np.array(losses, "float32")
    stored[f"{name}/words/embeddings"] = table.weight.detach().numpy()
    stored[f"{name}/answer/kernel"] = layer.weight.detach().T.contiguous().numpy()
    stored[f"{name}/answer/bias"] = layer.bias.detach().numpy()
    print(f"{name}: loss {losses[0]:.6f} to {losses[-1]:.6f}, {len(np.unique(indices))} rows of {TABLE} met")
stored["first/words/embeddings"] = first_table.numpy()
stored["first/answer/kernel"] = first_layer.weight.detach().T.contiguous().numpy()
stored["first/answer/bias"] = first_layer.bias.detach().numpy()
save_file(stored, Path(__file__).with_suffix(".safetensors"))

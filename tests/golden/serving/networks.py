"""Answers of small networks with fixed weights, computed by PyTorch in float64: what serving must agree with.

    python tests/golden/serving/networks.py

Writes `networks.safetensors`: for each network its weights ("<network>/<layer>/<array>"), the feature columns
("feature/<name>") and its outputs ("answer/<network>"). Read by `src/serving/network.rs`.
"""

from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file

ROWS = 777  # neither a multiple of a block nor of a chunk
HERE = Path(__file__).parent
rng = np.random.default_rng(20261122)


def normal(*shape: int, scale: float = 1.0) -> np.ndarray:
    return (rng.standard_normal(shape) * scale).astype(np.float32)


features = {
    "age": normal(ROWS),
    "hours": normal(ROWS),
    "job": np.eye(5, dtype=np.float32)[rng.integers(0, 5, ROWS)],
    "town": rng.integers(0, 7, ROWS).astype(np.float32),  # an Int32 column in the test
}
dense = np.column_stack([features["age"], features["hours"], features["job"]])


def double(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(array).double()


arrays: dict[str, np.ndarray] = {f"feature/{name}": value for name, value in features.items()}


def layer(network: str, name: str, inputs: int, outputs: int) -> tuple[torch.Tensor, torch.Tensor]:
    kernel, bias = normal(inputs, outputs, scale=inputs**-0.5), normal(outputs, scale=0.1)
    arrays[f"{network}/{name}/kernel"], arrays[f"{network}/{name}/bias"] = kernel, bias
    return double(kernel), double(bias)


def run(network: str, outputs: int, activation) -> None:
    """Dense 16 with ReLU, then a Dense with the activation, over age, hours and job."""
    kernel, bias = layer(network, "hidden", 7, 16)
    hidden = torch.relu(double(dense) @ kernel + bias)
    kernel, bias = layer(network, "answer", 16, outputs)
    answer = activation(hidden @ kernel + bias)
    arrays[f"answer/{network}"] = answer.float().numpy()


run("regressor", 1, lambda values: values)
run("pair", 2, lambda values: values)
run("sigmoid", 1, torch.sigmoid)
run("softmax", 3, lambda values: torch.softmax(values, dim=1))

# An embedding of `town` beside the dense columns: two inputs, one of them of integers.
table = normal(7, 4)
arrays["embedding/places/embeddings"] = table
kernel, bias = layer("embedding", "answer", 11, 1)
looked_up = double(table)[torch.from_numpy(features["town"]).long()]
joined = torch.cat([looked_up, double(dense)], dim=1)
arrays["answer/embedding"] = torch.sigmoid(joined @ kernel + bias).float().numpy()

save_file({name: np.ascontiguousarray(value) for name, value in arrays.items()}, HERE / "networks.safetensors")

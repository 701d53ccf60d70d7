"""The census-size MLP (108-128-64-1, Adam) in PyTorch: the peer of `benches/training_step.rs` and of a training job.

    python benches/peers/torch_mlp.py BATCH SECONDS [--compile] [--threads 2]

The data lie in memory as one tensor and each step slices its minibatch, without a loader: the fastest plain loop.
Prints one line of JSON.
"""

import argparse
import json
import time

import torch

parser = argparse.ArgumentParser()
parser.add_argument("batch", type=int)
parser.add_argument("seconds", type=float)
parser.add_argument("--compile", action="store_true", help="torch.compile for the forward and backward pass")
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()

torch.set_num_threads(options.threads)
torch.manual_seed(1)
model = torch.nn.Sequential(
    torch.nn.Linear(108, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_of = torch.nn.BCEWithLogitsLoss()
features = torch.randn(16, options.batch, 108)
target = torch.randint(0, 2, (16, options.batch, 1)).float()


def loss(rows, wanted):
    return loss_of(model(rows), wanted)


if options.compile:
    loss = torch.compile(loss)


def steps(until):
    """Steps until the clock says so."""
    count = 0
    while time.perf_counter() < until:
        for _ in range(8):
            optimizer.zero_grad()
            loss(features[count % 16], target[count % 16]).backward()
            optimizer.step()
            count += 1
    return count


steps(time.perf_counter() + 0.5)  # threads, allocator and compiler warm
start = time.perf_counter()
count = steps(start + options.seconds)
elapsed = time.perf_counter() - start
print(json.dumps({"value": count * options.batch / elapsed, "version": f"torch {torch.__version__}"}))

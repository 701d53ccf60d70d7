"""The workloads of `benches/workloads.py` in PyTorch: the peer of `benches/engine.rs` and of a training job.

    python benches/peers/torch_engine.py WORKLOAD BATCH SECONDS [--compile] [--predict] [--threads 2]

Adam with its defaults, the loss on logits. The data lie in memory as one tensor and each step slices its minibatch, without a loader:
the fastest plain loop. Convolutions run in the memory format that is faster here, channels last. Prints one line of JSON.
"""

import argparse
import json
import time

import torch
from torch import nn
from torch.nn import functional

BATCHES = 16


def mlp(*widths):
    layers = []
    for inputs, outputs in zip(widths[:-2], widths[1:-1], strict=True):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-2], widths[-1]))


class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(64 * 12 * 12, 128), nn.ReLU(), nn.Linear(128, 10),
        )  # fmt: skip

    def forward(self, x):
        return self.layers(x)


class Block(nn.Module):
    def __init__(self, inputs, filters, strides):
        super().__init__()
        self.first, self.norm = (
            nn.Conv2d(inputs, filters, 3, strides, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.second, self.norm_2 = (
            nn.Conv2d(filters, filters, 3, 1, 1, bias=False),
            nn.BatchNorm2d(filters),
        )
        self.shortcut = nn.Sequential()
        if strides != 1:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, filters, 1, strides, bias=False),
                nn.BatchNorm2d(filters),
            )

    def forward(self, x):
        y = functional.relu(self.norm(self.first(x)))
        return functional.relu(self.norm_2(self.second(y)) + self.shortcut(x))


class ResNet20(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = (
            nn.Conv2d(3, 16, 3, 1, 1, bias=False),
            nn.BatchNorm2d(16),
        )
        blocks, inputs = [], 16
        for stage, filters in enumerate((16, 32, 64)):
            for block in range(3):
                blocks.append(Block(inputs, filters, 2 if stage > 0 and block == 0 else 1))
                inputs = filters
        self.blocks, self.last = nn.Sequential(*blocks), nn.Linear(64, 10)

    def forward(self, x):
        x = functional.relu(self.norm(self.first(x)))
        return self.last(self.blocks(x).mean((2, 3)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.cells, self.last = kind(32, 64, batch_first=True), nn.Linear(64, 1)

    def forward(self, x):
        return self.last(self.cells(x)[0][:, -1])


class Transformer(nn.Module):
    def __init__(self):
        super().__init__()
        self.block = nn.TransformerEncoderLayer(128, 4, 512, dropout=0.0, batch_first=True)
        self.last = nn.Linear(128, 10)

    def forward(self, x):
        return self.last(self.block(x).mean(1))


class Bag(nn.Module):
    def __init__(self, sparse):
        super().__init__()
        self.table = nn.EmbeddingBag(1_000_000, 32, mode="mean", sparse=sparse)
        self.last = nn.Linear(32, 1)

    def forward(self, x):
        return self.last(self.table(x))


parser = argparse.ArgumentParser()
parser.add_argument("workload")
parser.add_argument("batch", type=int)
parser.add_argument("seconds", type=float)
parser.add_argument(
    "--compile",
    action="store_true",
    help="torch.compile for the forward and backward pass",
)
parser.add_argument("--predict", action="store_true")
parser.add_argument(
    "--sparse",
    action="store_true",
    help="sparse gradients of the embedding bag, with SparseAdam",
)
parser.add_argument("--threads", type=int, default=2)
options = parser.parse_args()
torch.set_num_threads(options.threads)
torch.manual_seed(1)
rows = (BATCHES, options.batch)
images = ("cnn", "resnet20")
if options.workload in ("census", "mlp", "small_mlp"):
    widths = {
        "census": (108, 128, 64, 1),
        "mlp": (784, 512, 256, 10),
        "small_mlp": (64, 128, 64, 10),
    }[options.workload]
    model, features = mlp(*widths), torch.randn(*rows, widths[0])
elif options.workload in images:
    model = Cnn() if options.workload == "cnn" else ResNet20()
    shape = (1, 28, 28) if options.workload == "cnn" else (3, 32, 32)
    model = model.to(memory_format=torch.channels_last)
    features = torch.randn(BATCHES * options.batch, *shape).to(memory_format=torch.channels_last).view(*rows, *shape)
elif options.workload in ("lstm", "gru"):
    model, features = (
        Recurrent(nn.LSTM if options.workload == "lstm" else nn.GRU),
        torch.randn(*rows, 50, 32),
    )
elif options.workload == "transformer":
    model, features = Transformer(), torch.randn(*rows, 64, 128)
elif options.workload == "embedding_bag":
    model, features = Bag(options.sparse), torch.randint(0, 1_000_000, (*rows, 26))
else:
    raise SystemExit(f"{options.workload} is no workload of benches/workloads.py")
if options.workload in ("census", "embedding_bag"):
    target, loss_of = torch.randint(0, 2, (*rows, 1)).float(), nn.BCEWithLogitsLoss()
elif options.workload in ("lstm", "gru"):
    target, loss_of = torch.randn(*rows, 1), nn.MSELoss()
else:
    target, loss_of = torch.randint(0, 10, rows), nn.CrossEntropyLoss()

if options.sparse:
    dense = torch.optim.Adam(model.last.parameters(), lr=1e-3)
    optimizers = [torch.optim.SparseAdam(model.table.parameters(), lr=1e-3), dense]
else:
    optimizers = [torch.optim.Adam(model.parameters(), lr=1e-3)]


def loss(rows, wanted):
    return loss_of(model(rows), wanted)


if options.predict:
    model.eval()
    predict = torch.compile(model) if options.compile else model
elif options.compile:
    loss = torch.compile(loss)


def step(number):
    if options.predict:
        with torch.inference_mode():
            predict(features[number % BATCHES])
        return
    for each in optimizers:
        each.zero_grad()
    loss(features[number % BATCHES], target[number % BATCHES]).backward()
    for each in optimizers:
        each.step()


def steps(until):
    """Steps until the clock says so."""
    count = 0
    while time.perf_counter() < until:
        step(count)
        count += 1
    return count


steps(time.perf_counter() + 1.0)  # threads, allocator and compiler warm
start = time.perf_counter()
count = steps(start + options.seconds)
elapsed = time.perf_counter() - start
print(
    json.dumps(
        {
            "value": count * options.batch / elapsed,
            "version": f"torch {torch.__version__}",
        }
    )
)

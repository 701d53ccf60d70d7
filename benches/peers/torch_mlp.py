"""The census-size MLP in PyTorch, eager: the peer of benches/training_step.rs. Arguments: batch size, seconds, threads."""

import sys
import time

import torch

batch, seconds, threads = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2
torch.set_num_threads(threads)
torch.manual_seed(1)
model = torch.nn.Sequential(
    torch.nn.Linear(108, 128), torch.nn.ReLU(), torch.nn.Linear(128, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1)
)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
loss_of = torch.nn.BCEWithLogitsLoss()
features = torch.randn(16, batch, 108)
target = torch.randint(0, 2, (16, batch, 1)).float()


def steps(until):
    count, best = 0, float("inf")
    while time.perf_counter() < until:
        window = time.perf_counter()
        for _ in range(8):
            optimizer.zero_grad()
            loss_of(model(features[count % 16]), target[count % 16]).backward()
            optimizer.step()
            count += 1
        best = min(best, time.perf_counter() - window)
    return count, 8 * batch / best


steps(time.perf_counter() + 0.5)
start = time.perf_counter()
ran = time.thread_time()
count, best = steps(start + seconds)
ran = time.thread_time() - ran
elapsed = time.perf_counter() - start
print(f"{count * batch / elapsed:.0f} samples/s, best {best:.0f}, {count * batch / ran:.0f} per processor second of the main thread, at batch {batch} on {threads} threads (torch {torch.__version__})")

"""What the peer measurements share: interleaved pairs, medians, and a word on the machine."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import platform
import statistics
import time
from collections.abc import Callable


def arguments(description: str, **defaults: int) -> argparse.Namespace:
    """Numbers that may be given on the command line."""
    parser = argparse.ArgumentParser(description=description)
    for name, default in defaults.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    return parser.parse_args()


def machine(*packages: str) -> None:
    """Say where and with what this ran."""
    with open("/proc/cpuinfo") as lines:
        model = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
        )
    print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {model}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    print(
        "Python " + platform.python_version(),
        *(f"{name} {importlib.metadata.version(name)}" for name in packages),
        sep=", ",
    )


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def compare(
    title: str, amount: float, unit: str, pairs: int, ours: Callable[[], object], theirs: Callable[[], object]
) -> float:
    """Run both in turns, print every pair, answer the median of ours over theirs (above 1: we are faster)."""
    ratios, mine, peer = [], [], []
    print(f"\n{title}")
    for number in range(pairs):
        # Who goes first alternates, so that a warm cache favours neither.
        order = (ours, theirs) if number % 2 == 0 else (theirs, ours)
        times = {work: seconds(work) for work in order}
        mine.append(amount / times[ours])
        peer.append(amount / times[theirs])
        ratios.append(times[theirs] / times[ours])
        print(f"  {mine[-1]:10.3f} {unit}  peer {peer[-1]:10.3f} {unit}  ratio {ratios[-1]:.2f}", flush=True)
    median = statistics.median(ratios)
    print(
        f"  median {statistics.median(mine):.3f} {unit}, peer {statistics.median(peer):.3f} {unit}, "
        f"ratio {median:.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
        flush=True,
    )
    return median

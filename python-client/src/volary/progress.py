"""A job's progress while it runs: a live bar where tqdm is installed and somebody watches, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any, Self

from .listing import Job, number_text

__all__ = ["Progress", "metrics_text"]


def metrics_text(metrics: dict[str, float]) -> str:
    """Loss first, the rest as the server ordered it; what is not a metric left out.

    >>> metrics_text({"auc": 0.9, "loss": 0.25, "epoch": 1})
    'loss 0.2500  auc 0.9000'
    """
    names = [name for name in metrics if name not in NOT_METRICS]
    names.sort(key=lambda name: (name.startswith("val_"), not name.endswith("loss"), name))
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in names)


# History columns that say where and how fast, not how well.
NOT_METRICS = frozenset({"epoch", "step", "steps", "rows", "rows_per_second", "seconds", "learning_rate", "lr"})


class Progress:
    """Shows a job's states one after another.

    `verbose`: 0 nothing; 1 a bar (lines where standard error is no terminal); 2 one line per epoch.
    """

    def __init__(self, title: str, verbose: int = 1) -> None:
        self._title = title
        self._verbose = verbose
        self._epoch = 0
        self._tenth = -1
        self._noted: set[str] = set()
        self._bar: Any = None
        if verbose == 1 and (sys.stderr.isatty() or "ipykernel" in sys.modules):
            try:
                from tqdm.auto import tqdm
            except ImportError:
                return
            self._bar = tqdm(
                total=100.0, desc=title, dynamic_ncols=True, bar_format="{desc} |{bar}| {n:3.0f}% {elapsed}{postfix}"
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()

    def show(self, job: Job) -> None:
        """One more state of the job."""
        if self._verbose == 0:
            return
        for note in job.notes:
            if note not in self._noted:
                self._noted.add(note)
                self._line(f"note: {note}")
        speed = f"{number_text(job.rows_per_second)} rows/s" if job.rows_per_second else ""
        words = "  ".join(word for word in (metrics_text(job.metrics), speed) if word)
        if job.epoch > self._epoch:
            self._epoch = job.epoch
            self._line(f"epoch {job.epoch:>{len(str(job.epochs))}}/{job.epochs}  {words}")
        elif self._bar is None and not job.epochs and int(job.progress * 10) > self._tenth:
            self._tenth = int(job.progress * 10)
            self._line(f"{self._title}: {job.progress:4.0%}  {job.rows:,} rows  {speed}")
        if self._bar is not None:
            if job.epochs:
                self._bar.set_description_str(
                    f"{self._title} {min(job.epoch + 1, job.epochs)}/{job.epochs}", refresh=False
                )
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.n = round(100 * job.progress, 1)
            self._bar.refresh()

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

"""A job's progress while it runs: a live bar where somebody watches, plain lines elsewhere.

In a notebook the bar is HTML of our own, which needs no widgets and stays in the saved notebook as it ended; in a terminal
it is tqdm's, where that is installed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from html import escape
from types import TracebackType
from typing import Any, Self

from .listing import NOT_METRICS, Job, number_text

__all__ = ["Progress", "metrics_in_order", "metrics_text"]


def metrics_text(metrics: dict[str, float]) -> str:
    """Loss first, the rest as the server ordered it; what is not a metric left out.

    >>> metrics_text({"auc": 0.9, "loss": 0.25, "epoch": 1})
    'loss 0.2500  auc 0.9000'
    """
    return "  ".join(f"{name} {metrics[name]:.4f}" for name in metrics_in_order(metrics))


def metrics_in_order(names: Iterable[str]) -> list[str]:
    """Training before validation, and loss before the rest; what is not a metric left out."""
    metrics = [name for name in names if name not in NOT_METRICS]
    return sorted(metrics, key=lambda name: (name.startswith("val_"), not name.endswith("loss"), name))


# Seconds between two drawings of a notebook's bar: a page that is sent more than it can draw falls behind.
_BETWEEN_DRAWINGS = 0.1


class Progress:
    """Shows a job's states one after another.

    `verbose`: 0 nothing; 1 a bar (lines where nobody watches); 2 one line per epoch.
    """

    def __init__(self, title: str, verbose: int = 1) -> None:
        self._title = title
        self._verbose = verbose
        self._epoch = 0
        self._tenth = -1
        self._noted: set[str] = set()
        self._bar: Any = None
        self._page: _NotebookBar | None = None
        if verbose == 1 and _in_notebook():
            self._page = _NotebookBar(title)
        elif verbose == 1 and sys.stderr.isatty():
            try:
                from tqdm import tqdm
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
        if self._page is not None:
            self._page.end("interrupted" if kind is KeyboardInterrupt else "")

    def show(self, job: Job) -> None:
        """One more state of the job."""
        if self._verbose == 0:
            return
        speed = f"{number_text(job.rows_per_second)} rows/s" if job.rows_per_second else ""
        words = "  ".join(word for word in (metrics_text(job.metrics), speed) if word)
        title = f"{self._title} {min(job.epoch + 1, job.epochs)}/{job.epochs}" if job.epochs else self._title
        if self._page is not None:
            self._page.show(title, job, words)
            return
        for note in job.notes:
            if note not in self._noted:
                self._noted.add(note)
                self._line(f"note: {note}")
        if job.epoch > self._epoch:
            self._epoch = job.epoch
            self._line(f"epoch {job.epoch:>{len(str(job.epochs))}}/{job.epochs}  {words}")
        elif self._bar is None and not job.epochs and int(job.progress * 10) > self._tenth:
            self._tenth = int(job.progress * 10)
            self._line(f"{self._title}: {job.progress:4.0%}  {job.rows:,} rows  {speed}")
        if self._bar is not None:
            self._bar.set_description_str(title, refresh=False)
            self._bar.set_postfix_str(words, refresh=False)
            self._bar.n = round(100 * job.progress, 1)
            self._bar.refresh()

    def say(self, text: str) -> None:
        """A sentence to whoever watches."""
        if self._page is not None:
            self._page.say(text)
        elif self._verbose:
            self._line(text)

    def _line(self, text: str) -> None:
        if self._bar is not None:
            self._bar.write(text, file=sys.stderr)
        else:
            # A notebook draws standard error as a fault.
            print(text, file=sys.stdout if _in_notebook() else sys.stderr, flush=True)


class _NotebookBar:
    """One piece of a notebook's output that is drawn again and again."""

    def __init__(self, title: str) -> None:
        from IPython.display import display

        self._began = time.monotonic()
        self._drawn = 0.0
        self._title, self._words, self._state, self._said = title, "", "", ""
        self._share = 0.0
        self._notes: tuple[str, ...] = ()
        self._handle = display(self, display_id=True)

    def show(self, title: str, job: Job, words: str) -> None:
        """The job's state."""
        self._title, self._words, self._notes, self._share = title, words, job.notes, job.progress
        self._state = job.state.lower() if job.done else ""
        if time.monotonic() - self._drawn >= _BETWEEN_DRAWINGS:
            self._draw()

    def say(self, text: str) -> None:
        """A sentence below the bar."""
        self._said = text
        self._draw()

    def end(self, state: str) -> None:
        """The last drawing, which stays; `state` says how it came to its end where the job does not."""
        self._state = self._state or state
        self._draw()

    def _draw(self) -> None:
        self._drawn = time.monotonic()
        if self._handle is not None:
            self._handle.update(self)

    def __repr__(self) -> str:
        words = [self._title, f"{self._share:.0%}", self._elapsed(), self._state, self._words, self._said]
        return "  ".join(word for word in (*words, *self._notes) if word)

    def _elapsed(self) -> str:
        minutes, seconds = divmod(int(time.monotonic() - self._began), 60)
        return f"{minutes:02d}:{seconds:02d}"

    def _repr_html_(self) -> str:
        small = "".join(
            f'<div style="opacity:0.65">{escape(text)}</div>' for text in (self._said, *self._notes) if text
        )
        after = "  ".join(word for word in (f"{self._share:.0%}", self._elapsed(), self._state) if word)
        return (
            f'<div>{escape(self._title)} <progress max="100" value="{100 * self._share:.1f}" '
            f'style="width:14em;vertical-align:middle"></progress> {escape(after)}'
            f' <span style="font-family:monospace;white-space:pre-wrap">  {escape(self._words)}</span></div>{small}'
        )


def _in_notebook() -> bool:
    """Whether this is the kernel of a notebook: Jupyter, Colab, VS Code and others."""
    if "ipykernel" not in sys.modules:
        return False
    from IPython import get_ipython

    return hasattr(get_ipython(), "kernel")

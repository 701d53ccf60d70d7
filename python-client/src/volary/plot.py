"""Training curves. Needs matplotlib (``pip install volary[plot]``)."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs import History

__all__ = ["plot_history"]

# A colour-blind-safe set (Okabe and Ito, 2008).
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK = "#333333"


def plot_history(history: History, path: str | os.PathLike[str] | None = None) -> Any:
    """Two panels, loss and metrics; training dashed, validation solid, its last value at the end of the line."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    names = [name for name in history.metrics() if any(value is not None for value in history.history[name])]
    losses = [name for name in names if name.removeprefix("val_") == "loss"]
    others = [name for name in names if name not in losses]
    figure = Figure(figsize=(10.0, 4.0), dpi=150, layout="constrained")
    panels = figure.subplots(1, 2) if others else [figure.subplots()]
    for axes, title, shown in zip(panels, ("Loss", "Metrics"), (losses, others), strict=False):
        bases = list(dict.fromkeys(name.removeprefix("val_") for name in shown))
        for name in shown:
            validation = name.startswith("val_")
            color = _COLORS[bases.index(name.removeprefix("val_")) % len(_COLORS)]
            values = history.history[name]
            axes.plot(
                history.epoch,
                values,
                color=color,
                linestyle="-" if validation or f"val_{name}" not in shown else (0, (4, 2)),
                linewidth=2.0,
                marker="o" if len(values) <= 30 else None,
                markersize=3.5,
                label=("validation " if validation else "training ") + name.removeprefix("val_"),
            )
            # Where both are drawn the validation's value is the one to read, and two numbers would overlap.
            if f"val_{name}" not in shown and values and values[-1] is not None:
                axes.annotate(
                    f"{values[-1]:.3f}",
                    (history.epoch[-1], values[-1]),
                    xytext=(6, 0),
                    textcoords="offset points",
                    color=color,
                    fontsize=8,
                    va="center",
                )
        axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold")
        axes.set_xlabel("epoch", color=_INK)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.08)
        axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
        axes.tick_params(colors=_INK, length=0)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.spines["bottom"].set_color("#BBBBBB")
        if shown:
            axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    if path is not None:
        figure.savefig(path)
    return figure

"""Pictures of trainings and of answers. Needs matplotlib (``pip install volary[plot]``).

Every function answers a matplotlib figure, which a notebook shows, and saves it where it is given a path.
"""

from __future__ import annotations

import functools
import io
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .jobs import History

__all__ = ["plot_confusion_matrix", "plot_history", "plot_predictions", "plot_roc"]

# A colour-blind-safe set (Okabe and Ito, 2008).
_COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
_INK = "#333333"
_Path = str | os.PathLike[str] | None


def plot_history(history: History | Mapping[str, Sequence[float | None]], path: _Path = None) -> Any:
    """Two panels, loss and metrics; training dashed, validation solid, its last value at the end of the line.

    Args:
        history: What ``fit`` answers, or a dict of lists, such as ``history_`` of an estimator of :mod:`volary.sklearn`.
        path: Where to save the picture; the ending tells the kind.
    """
    from matplotlib.ticker import MaxNLocator

    from .listing import NOT_METRICS

    columns = history if isinstance(history, Mapping) else history.history
    names = [name for name in columns if name not in NOT_METRICS and any(each is not None for each in columns[name])]
    epochs = (
        list(range(1, len(next(iter(columns.values()), ())) + 1)) if isinstance(history, Mapping) else history.epoch
    )
    losses = [name for name in names if name.removeprefix("val_") == "loss"]
    others = [name for name in names if name not in losses]
    figure = _figure(10.0 if others else 5.5, 4.0)
    panels = figure.subplots(1, 2) if others else [figure.subplots()]
    for axes, title, shown in zip(panels, ("Loss", "Metrics"), (losses, others), strict=False):
        bases = list(dict.fromkeys(name.removeprefix("val_") for name in shown))
        for name in shown:
            validation = name.startswith("val_")
            color = _COLORS[bases.index(name.removeprefix("val_")) % len(_COLORS)]
            values = columns[name]
            axes.plot(
                epochs,
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
                    (epochs[-1], values[-1]),
                    xytext=(6, 0),
                    textcoords="offset points",
                    color=color,
                    fontsize=8,
                    va="center",
                )
        _dress(axes, title, "epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.margins(x=0.08)
        if shown:
            axes.legend(frameon=False, fontsize=9, labelcolor=_INK)
    return _saved(figure, path)


def plot_confusion_matrix(actual: Any, predicted: Any, classes: Sequence[Any] | None = None, path: _Path = None) -> Any:
    """How many rows of each class were told as which: counts, and shares of the class as the depth of the colour.

    Args:
        actual: The labels.
        predicted: What a model told of the same rows, in their order.
        classes: All classes in the order wanted; those that are there, sorted, when left out.
        path: Where to save the picture.
    """
    import numpy as np

    truth, told = _columns("actual", actual, "predicted", predicted)
    known = np.unique(np.concatenate([truth, told])).tolist() if classes is None else list(classes)
    place = {name: at for at, name in enumerate(known)}
    if unknown := sorted({str(each) for each in (*truth.tolist(), *told.tolist()) if each not in place}):
        raise ValueError(f"there are rows of the class {unknown[0]!r}, which is not among the classes {known}")
    counts = np.zeros((len(known), len(known)), dtype=int)
    np.add.at(counts, ([place[each] for each in truth.tolist()], [place[each] for each in told.tolist()]), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = max(4.0, 1.6 + 0.55 * len(known))
    figure = _figure(side + 0.8, side)
    axes = figure.subplots()
    axes.imshow(shares, cmap=_shades(), vmin=0, vmax=1)
    if len(known) <= 25:  # numbers that can still be read
        for row, column in np.ndindex(counts.shape):
            text = f"{counts[row, column]:,}" + (f"\n{shares[row, column]:.0%}" if len(known) <= 8 else "")
            color = "white" if shares[row, column] > 0.55 else _INK
            axes.text(column, row, text, ha="center", va="center", color=color, fontsize=9 if len(known) <= 8 else 7)
    correct = float(np.trace(counts)) / max(1, int(counts.sum()))
    _dress(axes, f"{correct:.1%} of {counts.sum():,} rows right", "predicted")
    axes.set_ylabel("actual", color=_INK)
    names = [str(each) for each in known]
    long = max(map(len, names), default=0) * len(names) > 40
    axes.set_xticks(range(len(names)), names, rotation=45 if long else 0, ha="right" if long else "center")
    axes.set_yticks(range(len(names)), names)
    axes.grid(visible=False)
    axes.spines["bottom"].set_visible(False)
    return _saved(figure, path)


def plot_roc(actual: Any, score: Any, positive: Any = None, path: _Path = None) -> Any:
    """The share of one class that is found against the share of the others that is taken for it, at every threshold.

    Args:
        actual: Labels of two classes.
        score: A number for each row, larger where the class is likelier: the column ``probability`` of a model's answer.
        positive: The class looked for; the second of the two, sorted, when left out, which is what ``probability`` is of.
        path: Where to save the picture.
    """
    import numpy as np

    truth, scores = _columns("actual", actual, "score", score)
    classes = np.unique(truth).tolist()
    if len(classes) != 2:
        raise ValueError(f"actual has {len(classes)} classes; a curve is of two")
    positive = classes[1] if positive is None else positive
    if positive not in classes:
        raise ValueError(f"positive is {positive!r}; actual has {classes[0]!r} and {classes[1]!r}")
    order = np.argsort(-scores.astype(float), kind="stable")
    hits = (truth == positive)[order]
    # One point for each threshold: rows of one score come together.
    ends = np.append(np.flatnonzero(np.diff(scores.astype(float)[order])), len(order) - 1)
    found = np.append(0.0, np.cumsum(hits)[ends] / hits.sum())
    taken = np.append(0.0, np.cumsum(~hits)[ends] / (~hits).sum())
    area = float(np.trapezoid(found, taken) if hasattr(np, "trapezoid") else np.trapz(found, taken))
    figure = _figure(5.0, 4.6)
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="#BBBBBB", linewidth=1.0, linestyle=(0, (4, 2)))
    axes.plot(taken, found, color=_COLORS[0], linewidth=2.0)
    axes.fill_between(taken, found, color=_COLORS[0], alpha=0.08, linewidth=0)
    _dress(axes, f"{positive}: area under the curve {area:.3f}", "others taken for it")
    axes.set_ylabel("found", color=_INK)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    axes.set_aspect("equal")
    return _saved(figure, path)


def plot_predictions(actual: Any, predicted: Any, path: _Path = None) -> Any:
    """Numbers that were predicted against those that were so; what is right lies on the line.

    Args:
        actual: The labels.
        predicted: What a model told of the same rows, in their order.
        path: Where to save the picture.
    """
    import numpy as np

    truth, told = (each.astype(float) for each in _columns("actual", actual, "predicted", predicted))
    low, high = float(min(truth.min(), told.min())), float(max(truth.max(), told.max()))
    around = 0.04 * (high - low or 1.0)
    figure = _figure(5.0, 4.6)
    axes = figure.subplots()
    axes.plot([low, high], [low, high], color="#BBBBBB", linewidth=1.0, linestyle=(0, (4, 2)))
    if len(truth) <= 5000:
        axes.plot(truth, told, "o", color=_COLORS[0], markersize=4, alpha=0.5, markeredgewidth=0)
    else:  # more points than can be told apart: how many lie where
        axes.hexbin(truth, told, gridsize=60, bins="log", mincnt=1, cmap=_shades(0.15))
    error = float(np.mean(np.abs(told - truth)))
    _dress(axes, f"{len(truth):,} rows, off by {error:.4g} on average", "actual")
    axes.set_ylabel("predicted", color=_INK)
    axes.set_xlim(low - around, high + around)
    axes.set_ylim(low - around, high + around)
    axes.set_aspect("equal")
    return _saved(figure, path)


def _columns(first: str, one: Any, second: str, other: Any) -> tuple[Any, Any]:
    """Two columns of the same rows as arrays."""
    import numpy as np

    columns = [np.asarray(each.to_pylist() if hasattr(each, "to_pylist") else each) for each in (one, other)]
    for name, column in zip((first, second), columns, strict=True):
        if column.ndim != 1 or not len(column):
            raise ValueError(f"{name} has the shape {column.shape}; give one value for each row, and at least one row")
    if len(columns[0]) != len(columns[1]):
        raise ValueError(
            f"{first} has {len(columns[0])} rows and {second} {len(columns[1])}; give those of the same rows"
        )
    return columns[0], columns[1]


@functools.cache
def _figure_class() -> type[Any]:
    from matplotlib.figure import Figure

    class Picture(Figure):
        """A figure that a notebook shows without pyplot, which would keep it in memory for ever."""

        def _repr_png_(self) -> bytes:
            written = io.BytesIO()
            self.savefig(written, format="png")
            return written.getvalue()

    return Picture


def _figure(width: float, height: float) -> Any:
    return _figure_class()(figsize=(width, height), dpi=150, layout="constrained")


def _shades(lightest: float = 0.0) -> Any:
    """From nearly white to the first colour."""
    from matplotlib.colors import LinearSegmentedColormap

    full = tuple(int(_COLORS[0][at : at + 2], 16) / 255 for at in (1, 3, 5))
    pale = tuple(0.97 + (each - 0.97) * lightest for each in full)
    return LinearSegmentedColormap.from_list("volary", [pale, full])


def _dress(axes: Any, title: str, below: str) -> None:
    """What all pictures have in common."""
    axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold")
    axes.set_xlabel(below, color=_INK)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.tick_params(colors=_INK, length=0)
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color("#BBBBBB")


def _saved(figure: Any, path: _Path) -> Any:
    if path is not None:
        figure.savefig(path)
    return figure

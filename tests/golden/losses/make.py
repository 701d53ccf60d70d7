"""Losses of Keras, row by row, and their gradients: what src/nn/losses is compared with.

Keras has no quantile and no rank hinge; theirs are written out below. Run from the repository root. Versions: see
README.md beside this file.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from keras import losses
from safetensors.numpy import save_file

ROWS = 12

random = np.random.default_rng(5)


def numbers(*extents):
    return random.standard_normal((ROWS, *extents)) * 2


def positive(*extents):
    return random.gamma(2.0, 1.0, (ROWS, *extents)) + 0.05


def shares(*extents):
    return random.dirichlet(np.ones(extents[-1]), (ROWS, *extents[:-1]))


def probabilities(*extents):
    return random.uniform(0.02, 0.98, (ROWS, *extents))


def signs(*extents):
    return random.integers(0, 2, (ROWS, *extents)) * 2.0 - 1.0


def zeros_and_ones(*extents):
    return random.integers(0, 2, (ROWS, *extents)) * 1.0


def one_hot(*extents):
    return np.eye(extents[-1])[random.integers(0, extents[-1], (ROWS, *extents[:-1]))]


def indices(*extents):
    return random.integers(0, extents[-1], (ROWS, *extents[:-1])) * 1.0


def some_void(void):
    """Indices of which some are the class to ignore."""

    def draw(*extents):
        drawn = indices(*extents)
        return np.where(random.random(drawn.shape) < 0.4, void, drawn)

    return draw


def first_is_right(*extents):
    return np.broadcast_to(np.reshape([1.0, 0.0] * (int(np.prod(extents)) // 2), extents), (ROWS, *extents))


def quantile(quantile):
    """Koenker and Bassett's check function; the mean over the innermost extent."""

    def loss(t, y):
        return torch.mean(torch.where(t > y, quantile * (t - y), (quantile - 1) * (t - y)), dim=-1)

    return loss


def rank_hinge(margin):
    """Analytics Zoo's RankHinge: max(0, negative - positive + margin), the first of two neighbours being positive."""

    def loss(_, y):
        pairs = y.reshape(ROWS, -1, 2)
        return torch.clamp(pairs[..., 1] - pairs[..., 0] + margin, min=0)

    return loss


#: Our description, Keras' loss, what it is told, what answers and labels are drawn from, the extents of a row, and the
#: activation that the answer comes out of.
CASES = [
    ("mean_squared_error", losses.MeanSquaredError, {}, numbers, numbers, [3], None),
    ("mean_absolute_error", losses.MeanAbsoluteError, {}, numbers, numbers, [3], None),
    ("mean_absolute_percentage_error", losses.MeanAbsolutePercentageError, {}, numbers, numbers, [2], None),
    ("mean_squared_logarithmic_error", losses.MeanSquaredLogarithmicError, {}, positive, positive, [2], None),
    ("mean_squared_logarithmic_error", losses.MeanSquaredLogarithmicError, {}, numbers, numbers, [2], None),
    ("huber", losses.Huber, {}, numbers, numbers, [3], None),
    ("huber", losses.Huber, {"delta": 0.4}, numbers, numbers, [3], None),
    ("huber", losses.Huber, {"delta": 3.0}, numbers, numbers, [5, 2], None),
    ("log_cosh", losses.LogCosh, {}, numbers, numbers, [3], None),
    ("poisson", losses.Poisson, {}, positive, positive, [1], None),
    ("kl_divergence", losses.KLDivergence, {}, shares, shares, [4], None),
    ("cosine_similarity", losses.CosineSimilarity, {}, numbers, numbers, [4], None),
    ("hinge", losses.Hinge, {}, numbers, signs, [1], None),
    ("hinge", losses.Hinge, {}, numbers, zeros_and_ones, [2], None),
    ("squared_hinge", losses.SquaredHinge, {}, numbers, signs, [2], None),
    ("categorical_hinge", losses.CategoricalHinge, {}, numbers, one_hot, [5], None),
    ("categorical_hinge", losses.CategoricalHinge, {}, numbers, one_hot, [3, 2], None),
    ("quantile", quantile, {"quantile": 0.9}, numbers, numbers, [3], None),
    ("quantile", quantile, {"quantile": 0.25}, numbers, numbers, [4, 1], None),
    ("rank_hinge", rank_hinge, {"margin": 1.0}, numbers, first_is_right, [2], None),
    ("rank_hinge", rank_hinge, {"margin": 0.3}, numbers, first_is_right, [2, 1], None),
    ("rank_hinge", rank_hinge, {"margin": 2.0}, numbers, first_is_right, [6], None),
    ("dice", losses.Dice, {}, probabilities, zeros_and_ones, [7], None),
    ("dice", losses.Dice, {}, probabilities, zeros_and_ones, [3, 4, 1], None),
    ("tversky", losses.Tversky, {}, probabilities, zeros_and_ones, [7], None),
    ("tversky", losses.Tversky, {"alpha": 0.7, "beta": 0.2}, probabilities, zeros_and_ones, [4, 3], None),
    # A sequence: the mean over its positions.
    ("mean_squared_error", losses.MeanSquaredError, {}, numbers, numbers, [4, 3], None),
    ("mean_absolute_percentage_error", losses.MeanAbsolutePercentageError, {}, numbers, positive, [3, 2], None),
    ("cosine_similarity", losses.CosineSimilarity, {}, numbers, numbers, [2, 2, 3], None),
    ("kl_divergence", losses.KLDivergence, {}, shares, shares, [3, 4], None),
]
for extents in ([1], [3], [4, 2]):
    for options in ({}, {"label_smoothing": 0.2}):
        CASES += [
            ("binary_crossentropy", losses.BinaryCrossentropy, options, probabilities, zeros_and_ones, extents, None),
            ("binary_crossentropy", losses.BinaryCrossentropy, options, numbers, probabilities, extents, "sigmoid"),
            (
                "binary_crossentropy",
                losses.BinaryCrossentropy,
                {**options, "from_logits": True},
                numbers,
                zeros_and_ones,
                extents,
                None,
            ),
        ]
    for options in (
        {},
        {"gamma": 1.5, "label_smoothing": 0.1},
        {"apply_class_balancing": True, "alpha": 0.3, "gamma": 3.0},
        {"gamma": 0.0},
        {"gamma": 1.0},
    ):
        focal = losses.BinaryFocalCrossentropy
        CASES += [
            ("binary_focal_crossentropy", focal, options, probabilities, zeros_and_ones, extents, None),
            ("binary_focal_crossentropy", focal, options, numbers, zeros_and_ones, extents, "sigmoid"),
            (
                "binary_focal_crossentropy",
                focal,
                {**options, "from_logits": True},
                numbers,
                zeros_and_ones,
                extents,
                None,
            ),
        ]
for extents in ([4], [3, 5]):
    for options in ({}, {"label_smoothing": 0.2}):
        categorical = losses.CategoricalCrossentropy
        focal = losses.CategoricalFocalCrossentropy
        CASES += [
            ("categorical_crossentropy", categorical, options, probabilities, one_hot, extents, None),
            ("categorical_crossentropy", categorical, options, numbers, shares, extents, "softmax"),
            ("categorical_crossentropy", categorical, {**options, "from_logits": True}, numbers, shares, extents, None),
            ("categorical_focal_crossentropy", focal, options, probabilities, one_hot, extents, None),
            (
                "categorical_focal_crossentropy",
                focal,
                {**options, "alpha": 0.4, "gamma": 2.5},
                numbers,
                one_hot,
                extents,
                "softmax",
            ),
            (
                "categorical_focal_crossentropy",
                focal,
                {**options, "from_logits": True},
                numbers,
                one_hot,
                extents,
                None,
            ),
        ]
    sparse = losses.SparseCategoricalCrossentropy
    robust = losses.CategoricalGeneralizedCrossEntropy
    CASES += [
        ("sparse_categorical_crossentropy", sparse, {}, probabilities, indices, extents, None),
        ("sparse_categorical_crossentropy", sparse, {}, numbers, indices, extents, "softmax"),
        ("sparse_categorical_crossentropy", sparse, {"from_logits": True}, numbers, indices, extents, None),
        ("sparse_categorical_crossentropy", sparse, {"ignore_class": -1}, shares, some_void(-1), extents, None),
        ("sparse_categorical_crossentropy", sparse, {"ignore_class": 255}, numbers, some_void(255), extents, "softmax"),
        ("sparse_categorical_crossentropy", sparse, {"ignore_class": 2}, shares, indices, extents, None),
        (
            "sparse_categorical_crossentropy",
            sparse,
            {"ignore_class": 0, "from_logits": True},
            numbers,
            indices,
            extents,
            None,
        ),
        ("categorical_generalized_cross_entropy", robust, {}, shares, indices, extents, None),
        ("categorical_generalized_cross_entropy", robust, {"q": 0.7}, numbers, indices, extents, "softmax"),
    ]



def sequences(*extents):
    """Labels of up to half as many classes as there are steps, equal neighbours among them, filled up with zeros."""
    steps, classes = extents
    drawn = np.zeros((ROWS, steps))
    for row in range(ROWS):
        length = row % (steps // 2 + 1)
        drawn[row, :length] = random.integers(1, classes, length)
    return drawn


def ctc():
    """Keras' CTC in float64: in float32, in which Keras asks PyTorch for it, gradients are off in their fifth digit."""

    def loss(t, y):
        log_p = torch.log_softmax(y.double(), dim=-1).transpose(0, 1)
        steps, lengths = torch.full((ROWS,), y.shape[1]), (t != 0).sum(dim=1)
        rows = torch.nn.functional.ctc_loss(log_p, t.long(), steps, lengths, reduction="none")
        assert torch.allclose(rows.float(), losses.CTC(reduction=None)(t, y), rtol=1e-5)
        return rows.float()

    return loss


CASES += [
    ("ctc", ctc, {}, numbers, sequences, [6, 3], None),
    ("ctc", ctc, {}, numbers, sequences, [20, 5], None),
]

ACTIVATIONS = {None: lambda x: x, "sigmoid": torch.sigmoid, "softmax": lambda x: torch.softmax(x, dim=-1)}

arrays, names = {}, []
for number, (name, kind, options, answers, labels, extents, through) in enumerate(CASES):
    x = torch.tensor(answers(*extents), dtype=torch.float32, requires_grad=True)
    t = torch.tensor(labels(*extents), dtype=torch.float32)
    y = ACTIVATIONS[through](x)
    if kind in (losses.Dice, losses.Tversky):
        # Keras' default takes the whole batch as one; ours takes each row.
        loss = kind(**options, axis=tuple(range(1, 1 + len(extents))), reduction=None)
    elif isinstance(kind, type):
        loss = kind(**options, reduction=None)
    else:
        loss = kind(**options)
    # The mean over what is left of a row is what sum_over_batch_size makes of it.
    rows = loss(t, y).reshape(ROWS, -1).mean(dim=1)
    rows.sum().backward()
    for what, value in (("given", x), ("answer", y), ("label", t), ("loss", rows), ("gradient", x.grad)):
        arrays[f"{number}/{what}"] = np.ascontiguousarray(value.detach().numpy())
    names.append({"loss": {"name": name, **options}, "extents": extents, "through": through})
here = Path(__file__).parent
save_file(arrays, here / "losses.safetensors")
(here / "losses.safetensors").chmod(0o644)
(here / "losses.json").write_text(json.dumps(names, indent=1) + "\n")
print(f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(names)} losses")

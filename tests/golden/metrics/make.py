"""Metrics of Keras and scikit-learn over 300 rows: what src/nn/metrics is compared with.

Hit ratio and NDCG, which neither has as Analytics Zoo defines them, are written out below. Run from the repository root.
Versions: see README.md beside this file.
"""

import json
import math
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import sklearn
import sklearn.metrics as sk
from keras import metrics
from safetensors.numpy import save_file

ROWS = 300

random = np.random.default_rng(11)


def numbers(*extents):
    return random.standard_normal((ROWS, *extents)) * 2


def positive(*extents):
    return random.gamma(2.0, 1.0, (ROWS, *extents)) + 0.05


def marks(*extents):
    return random.integers(0, 2, (ROWS, *extents)) * 1.0


def rare(*extents):
    return (random.random((ROWS, *extents)) < 0.2) * 1.0


def scores(*extents):
    return random.random((ROWS, *extents))


def coarse(*extents):
    """Scores with many ties, in binary fractions."""
    return random.integers(0, 65, (ROWS, *extents)) / 64


def shares(*extents):
    return random.dirichlet(np.ones(extents[-1]), (ROWS, *extents[:-1]))


def one_hot(*extents):
    return np.eye(extents[-1])[random.integers(0, extents[-1], (ROWS, *extents[:-1]))]


def indices(*extents):
    return random.integers(0, extents[-1], (ROWS, *extents[:-1])) * 1.0


def weights():
    return random.integers(0, 5, ROWS) / 4


def of_keras(metric):
    def value(t, y, w):
        metric.update_state(t, y, sample_weight=w)
        return float(metric.result())

    return value


def flat(function, **options):
    """A function of scikit-learn over all numbers of all rows."""

    def value(t, y, w):
        given = {} if w is None else {"sample_weight": np.repeat(w, y.size // len(w))}
        return float(function(t.ravel(), y.ravel(), **given, **options))

    return value


def of_classes(metric):
    """A metric of Keras that takes class indices for both."""

    def value(t, y, w):
        metric.update_state(t.ravel(), np.argmax(y, axis=-1).ravel())
        return float(metric.result())

    return value


def precision_recall_area():
    # A threshold between each two of the scores that `coarse` draws, so that Keras' bins hold one score each.
    thresholds = [(k + 0.5) / 64 for k in range(64)]
    return metrics.AUC(curve="PR", thresholds=thresholds)


def of_index(function, threshold):
    def value(t, y, _):
        said = np.eye(y.shape[-1])[t.astype(int)]
        return float(function(said.ravel(), (y > threshold).ravel()))

    return value


def of_ranks(gain, k, neg_num):
    """The rank of the one item of each group that is labelled 1 is one more than how many others score higher."""

    def value(t, y, _):
        groups = list(zip(t.reshape(-1, neg_num + 1), y.reshape(-1, neg_num + 1), strict=True))
        total = 0.0
        for label, score in groups:
            [right] = np.flatnonzero(label)
            rank = 1 + int(np.sum(score > score[right]))
            total += gain(rank) if rank <= k else 0.0
        return total / len(groups)

    return value


def hit(_):
    return 1.0


def discounted(rank):
    return math.log(2) / math.log(rank + 1)


def one_of(size):
    def draw(*extents):
        groups = ROWS * int(np.prod(extents)) // size
        return np.eye(size)[random.integers(0, size, groups)].reshape(ROWS, *extents)

    return draw


BINARY, SHARES, SPARSE = "binary_crossentropy", "categorical_crossentropy", "sparse_categorical_crossentropy"
#: Our description, the loss, what computes it, what answers and labels are drawn from, the extents of a row, row weights.
CASES = [
    ("accuracy", BINARY, of_keras(metrics.BinaryAccuracy()), scores, marks, [1], None),
    ("accuracy", BINARY, of_keras(metrics.BinaryAccuracy()), scores, marks, [3], weights),
    ("accuracy", SHARES, of_keras(metrics.CategoricalAccuracy()), shares, one_hot, [4], None),
    ("accuracy", SPARSE, of_keras(metrics.SparseCategoricalAccuracy()), shares, indices, [4], weights),
    ("accuracy", SPARSE, of_keras(metrics.SparseCategoricalAccuracy()), shares, indices, [3, 4], None),
    ({"name": "binary_accuracy", "threshold": 0.3}, BINARY, of_keras(metrics.BinaryAccuracy(threshold=0.3)), scores,
     marks, [2], None),
    ("binary_accuracy", BINARY, of_keras(metrics.BinaryAccuracy()), scores, marks, [2, 3], None),
    ("categorical_accuracy", SHARES, of_keras(metrics.CategoricalAccuracy()), shares, one_hot, [2, 4], None),
    ("sparse_categorical_accuracy", SPARSE, of_keras(metrics.SparseCategoricalAccuracy()), shares, indices, [5], None),
    ({"name": "top_k_categorical_accuracy", "k": 2}, SHARES, of_keras(metrics.TopKCategoricalAccuracy(k=2)), shares,
     one_hot, [6], None),
    ("top_k_categorical_accuracy", SHARES, of_keras(metrics.TopKCategoricalAccuracy()), shares, one_hot, [9], None),
    ({"name": "sparse_top_k_categorical_accuracy", "k": 3}, SPARSE,
     of_keras(metrics.SparseTopKCategoricalAccuracy(k=3)), coarse, indices, [9], weights),
    ("auc", BINARY, flat(sk.roc_auc_score), scores, rare, [1], None),
    ("auc", BINARY, flat(sk.roc_auc_score), coarse, rare, [1], weights),
    ("auc", BINARY, flat(sk.roc_auc_score), coarse, rare, [3], weights),
    ({"name": "auc", "curve": "PR"}, BINARY, of_keras(precision_recall_area()), coarse, rare, [1], None),
    ({"name": "auc", "curve": "PR"}, BINARY, of_keras(precision_recall_area()), coarse, marks, [1], weights),
    ("average_precision", BINARY, flat(sk.average_precision_score), scores, rare, [1], None),
    ("average_precision", BINARY, flat(sk.average_precision_score), coarse, rare, [2], weights),
    ("precision", BINARY, of_keras(metrics.Precision()), scores, rare, [1], None),
    ({"name": "precision", "thresholds": 0.7}, BINARY, of_keras(metrics.Precision(thresholds=0.7)), scores, rare, [3],
     weights),
    ({"name": "precision", "class_id": 1}, SHARES, of_keras(metrics.Precision(class_id=1)), shares, one_hot, [3], None),
    ({"name": "precision", "thresholds": 0.4}, SPARSE, of_index(sk.precision_score, 0.4), shares, indices, [3], None),
    ("recall", BINARY, of_keras(metrics.Recall()), scores, rare, [1], None),
    ({"name": "recall", "thresholds": 0.2}, BINARY, of_keras(metrics.Recall(thresholds=0.2)), scores, rare, [3],
     weights),
    ({"name": "recall", "class_id": 2, "thresholds": 0.3}, SHARES,
     of_keras(metrics.Recall(class_id=2, thresholds=0.3)), shares, one_hot, [3], None),
    ({"name": "recall", "thresholds": 0.4}, SPARSE, of_index(sk.recall_score, 0.4), shares, indices, [3], None),
    ("f1_score", BINARY, lambda t, y, w: float(sk.f1_score(t.ravel(), y.ravel() > 0.5)), scores, rare, [1], None),
    ("f1_score", SHARES, of_keras(metrics.F1Score(average="macro")), shares, one_hot, [4], None),
    ({"name": "f1_score", "average": "micro"}, SHARES, of_keras(metrics.F1Score(average="micro")), shares, one_hot, [4],
     weights),
    ({"name": "f1_score", "average": "weighted", "threshold": 0.35}, BINARY,
     of_keras(metrics.F1Score(average="weighted", threshold=0.35)), scores, rare, [4], None),
    ({"name": "f1_score", "average": "weighted"}, SPARSE,
     lambda t, y, w: float(sk.f1_score(t, np.argmax(y, axis=-1), average="weighted")), shares, indices, [5], None),
    ("mean_io_u", SPARSE, of_classes(metrics.MeanIoU(num_classes=4)), shares, indices, [3, 4], None),
    ({"name": "mean_io_u", "num_classes": 4, "ignore_class": 2}, SPARSE,
     of_classes(metrics.MeanIoU(num_classes=4, ignore_class=2)), shares, indices, [4], None),
    ("mean_io_u", SHARES, of_keras(metrics.OneHotMeanIoU(num_classes=3)), shares, one_hot, [3], None),
    ("mean_io_u", "dice", of_keras(metrics.BinaryIoU(target_class_ids=(0, 1), threshold=0.5)), scores, rare, [4, 3],
     None),
    ({"name": "hit_ratio", "k": 3, "neg_num": 9}, BINARY, of_ranks(hit, 3, 9), scores, one_of(10), [1], None),
    ({"name": "hit_ratio", "k": 2, "neg_num": 4}, BINARY, of_ranks(hit, 2, 4), coarse, one_of(5), [5], None),
    ({"name": "ndcg", "k": 5, "neg_num": 9}, BINARY, of_ranks(discounted, 5, 9), scores, one_of(10), [1], None),
    ({"name": "ndcg", "k": 10, "neg_num": 99}, BINARY, of_ranks(discounted, 10, 99), scores, one_of(100), [1], None),
    ("mae", "mse", of_keras(metrics.MeanAbsoluteError()), numbers, numbers, [3], weights),
    ("mse", "mse", of_keras(metrics.MeanSquaredError()), numbers, numbers, [2, 3], None),
    ("rmse", "mse", of_keras(metrics.RootMeanSquaredError()), numbers, numbers, [2], weights),
    ("mape", "mse", of_keras(metrics.MeanAbsolutePercentageError()), numbers, positive, [2], None),
    ("msle", "mse", of_keras(metrics.MeanSquaredLogarithmicError()), numbers, positive, [2], None),
    ("log_cosh", "mse", of_keras(metrics.LogCoshError()), numbers, numbers, [1], None),
    ("cosine_similarity", "mse", of_keras(metrics.CosineSimilarity()), numbers, numbers, [4], weights),
    ("r2_score", "mse", of_keras(metrics.R2Score()), numbers, numbers, [1], None),
    ("r2_score", "mse", lambda t, y, w: float(sk.r2_score(t, y, sample_weight=w)), numbers, numbers, [3], weights),
]  # fmt: skip

arrays, names = {}, []
for number, (name, loss, compute, answers, labels, extents, weigh) in enumerate(CASES):
    y, t = answers(*extents).astype("float32"), labels(*extents).astype("float32")
    w = None if weigh is None else weigh().astype("float32")
    arrays |= {f"{number}/answer": y, f"{number}/label": t}
    if w is not None:
        arrays[f"{number}/weights"] = w
    names.append({"metric": name, "loss": loss, "extents": extents, "value": compute(t, y, w)})
arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
here = Path(__file__).parent
save_file(arrays, here / "metrics.safetensors")
(here / "metrics.safetensors").chmod(0o644)
(here / "metrics.json").write_text(json.dumps(names, indent=1) + "\n")
print(f"keras {keras.__version__}, scikit-learn {sklearn.__version__}, numpy {np.__version__}: {len(names)} metrics")

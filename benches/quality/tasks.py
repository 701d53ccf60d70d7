"""What is learned: rows, network, loss, and by which numbers it is judged. The same for both libraries, in numpy and pyarrow alone."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from . import models

DATA = Path(__file__).resolve().parents[2] / "examples/data"
#: The key of a training's last loss among the numbers that a run answers; the others are those of `evaluate` on the test rows.
TRAINING_LOSS = "training_loss"


@dataclass(frozen=True)
class Score:
    """One number by which a task is judged.

    Attributes:
        key: Which of a run's numbers it is, to be multiplied by `factor`.
        reached: Of Volary's mean and Keras', whether the bar is met.
    """

    title: str
    key: str
    bar: str
    reached: Callable[[float, float], bool]
    factor: float = 1.0
    digits: int = 2
    naive: float | None = None


@dataclass(frozen=True)
class Task:
    """Something to learn. `train` and `test` are pairs of inputs and labels, a row for each first index."""

    name: str
    title: str
    model: Callable[[Any], Any]
    train: tuple[np.ndarray, np.ndarray]
    test: tuple[np.ndarray, np.ndarray]
    loss: Callable[[Any], Any]
    scores: tuple[Score, ...]
    epochs: int
    metrics: Callable[[Any], list] = lambda library: []
    batch_size: int = 64
    learning_rate: float = 1e-3
    decays: bool = False

    def compiled(self, library):
        """The network with its loss and optimiser: Adam, at one rate or at one that falls to 0 along a cosine."""
        rate = self.learning_rate
        if self.decays:
            steps = self.epochs * -(-len(self.train[0]) // self.batch_size)
            rate = library.optimizers.schedules.CosineDecay(rate, steps)
        model = self.model(library)
        model.compile(optimizer=library.optimizers.Adam(rate), loss=self.loss(library), metrics=self.metrics(library))
        return model


# -- digits -----------------------------------------------------------------------------------------------------------


def digits(part):
    """Images `(rows, 28, 28, 1)` of bytes, and their labels."""
    table = pq.read_table(DATA / f"digits_{part}.parquet")
    pixels = table["pixels"].combine_chunks().flatten().to_numpy()
    return pixels.reshape(-1, *models.IMAGE), table["label"].to_numpy()


def classified_digits(name, title, model, bar, reached, **options):
    return Task(
        name, title, model, digits("train"), digits("test"), loss=lambda library: "sparse_categorical_crossentropy",
        metrics=lambda library: ["accuracy"], scores=(Score("test accuracy, %", "accuracy", bar, reached, 100.0),), **options,
    )  # fmt: skip


def within_two_points(ours, theirs):
    return ours >= theirs - 2.0


def lenet():
    return classified_digits(
        "lenet", "digits, LeNet-size CNN with dropout", models.lenet, "97.5 or more", lambda ours, _: ours >= 97.5, epochs=10
    )


def resnet_20():
    return classified_digits(
        "resnet_20", "digits, ResNet-20", models.resnet_20, "within 2 points", within_two_points, epochs=4, decays=True
    )


def autoencoder():
    """Each image is its own label, as dots from 0 to 1."""

    def paired(part):
        images, _ = digits(part)
        return images, images.reshape(len(images), -1).astype(np.float32) / 255

    def close(ours, theirs):
        return ours <= 1.02 * theirs

    return Task(
        "autoencoder", "digits, variational autoencoder", models.variational_autoencoder, paired("train"), paired("test"),
        loss=models.reconstruction, metrics=lambda library: [models.reconstruction(library)],
        scores=(
            Score("negative ELBO on training rows, nats", TRAINING_LOSS, "within 2 %", close),
            Score("test reconstruction, nats", "summed_crossentropy", "within 2 %", close),
        ),
        epochs=20,
    )  # fmt: skip


# -- movie reviews ----------------------------------------------------------------------------------------------------

WORDS, LENGTH = 10_000, 500
PADDING, UNKNOWN, FIRST_WORD = 0, 1, 2


def reviews(file):
    """The last words of each review as numbers, the most frequent words of the training reviews first; the folds 8 and 9 are the test.

    The end of a review says what its writer makes of the film, so a long one loses its beginning.
    """
    table = pq.read_table(file, columns=["fold", "text", "positive"])
    texts = [re.findall(r"[a-z']+|[!?]", text.lower()) for text in table["text"].to_pylist()]
    training = table["fold"].to_numpy() < 8
    counts = Counter(word for text, kept in zip(texts, training, strict=True) if kept for word in text)
    frequent = sorted(counts, key=lambda word: (-counts[word], word))[: WORDS - FIRST_WORD]
    numbers = {word: number for number, word in enumerate(frequent, FIRST_WORD)}
    rows = np.full((len(texts), LENGTH), PADDING, np.int32)
    for row, text in zip(rows, texts, strict=True):
        last = [numbers.get(word, UNKNOWN) for word in text[-LENGTH:]]
        row[: len(last)] = last
    positive = table["positive"].to_numpy().astype(np.int32)
    return (rows[training], positive[training]), (rows[~training], positive[~training])


def classified_reviews(name, title, model, file, **options):
    train, test = reviews(file)
    return Task(
        name, title, partial(model, words=WORDS, length=LENGTH), train, test, loss=lambda library: "binary_crossentropy",
        metrics=lambda library: ["accuracy"],
        scores=(Score("test accuracy, %", "accuracy", "within 2 points", within_two_points, 100.0),), **options,
    )  # fmt: skip


def text_cnn(file):
    return classified_reviews("text_cnn", "movie reviews, text CNN", models.text_cnn, file, epochs=12, batch_size=32, learning_rate=2e-3, decays=True)


def mean_of_words(file):
    return classified_reviews(
        "mean_of_words", "movie reviews, mean of embeddings", models.mean_of_words, file, epochs=30, batch_size=32, learning_rate=2e-3
    )


# -- taxi -------------------------------------------------------------------------------------------------------------

DAY, WEEK = 48, 7 * 48


def taxi():
    """Passengers in a half hour, a day ahead.

    A window has the last 48 half hours that are known a day before. Beside each value stands what came a day after it a week
    earlier (the weekly seasonal-naive forecast of the same half hour of the next day), and where in day and week that half hour
    lies. Training and test are the first 80 % and the rest, by the half hour to be forecast; mean and deviation are those of the
    first. The naive forecast is judged on the same half hours.
    """
    values = pq.read_table(DATA / "nyc_taxi.parquet")["value"].to_numpy().astype(np.float64)
    cut = len(values) * 8 // 10
    mean, deviation = values[:cut].mean(), values[:cut].std()
    scaled = (values - mean) / deviation
    half_hours = np.arange(len(values))
    turns = [2 * np.pi * half_hours / period for period in (DAY, WEEK)]
    clock = np.stack([wave(turn) for turn in turns for wave in (np.sin, np.cos)], axis=1)
    targets = np.arange(WEEK + DAY, len(values))
    known = targets[:, None] - DAY + np.arange(-DAY + 1, 1)
    ahead = known + DAY
    windows = np.concatenate([scaled[known, None], scaled[ahead - WEEK, None], clock[ahead]], axis=-1).astype(np.float32)
    wanted = scaled[targets].astype(np.float32)
    early = targets < cut
    naive = np.abs(values[targets] - values[targets - WEEK])[~early].mean()
    score = Score(
        "test mean absolute error, passengers", "mae", "below naive", lambda ours, _: ours < naive, deviation, digits=0, naive=naive
    )
    return Task(
        "taxi", "NYC taxi, LSTM forecaster a day ahead", partial(models.forecaster, steps=DAY, channels=windows.shape[-1]),
        (windows[early], wanted[early]), (windows[~early], wanted[~early]), loss=lambda library: "mean_absolute_error",
        metrics=lambda library: ["mae"], scores=(score,), epochs=6, learning_rate=2e-3, decays=True,
    )  # fmt: skip


SHIPPED = {"lenet": lenet, "resnet_20": resnet_20, "taxi": taxi, "autoencoder": autoencoder}
OF_REVIEWS = {"text_cnn": text_cnn, "mean_of_words": mean_of_words}

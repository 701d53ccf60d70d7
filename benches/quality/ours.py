"""A task learned by the servers, through the Python client as a user has it."""

import numpy as np
import pyarrow as pa
import volary

from .tasks import TRAINING_LOSS


class Volary:
    """The library as `models.py` wants it."""

    Input, Model, Sequential = volary.Input, volary.Model, volary.Sequential
    layers, ops, optimizers = volary.layers, volary.ops, volary.optimizers

    @staticmethod
    def noise(like, training):
        """The servers make it 0 where the model answers."""
        return volary.ops.random_normal(like.shape)

    @staticmethod
    def per_row(loss):
        return loss


def table(inputs, labels):
    """Rows as the servers take them: the numbers of a row, or its words, are a list."""
    return pa.table({"inputs": _column(inputs), "label": _column(labels)})


def _column(rows):
    if rows.ndim == 1:
        return pa.array(rows)
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(rows).reshape(-1)), rows[0].size)


def learn(client, task, seed):
    """Trains one model and measures it on the test rows: the numbers that `Score.key` names."""
    for part, rows in (("train", task.train), ("test", task.test)):
        name = f"{task.name}_{part}"
        if name not in [dataset.name for dataset in client.datasets()]:
            client.put(name, table(*rows))
    model = task.compiled(Volary)
    history = model.fit(
        client.table(f"{task.name}_train"), "label", batch_size=task.batch_size, epochs=task.epochs, seed=seed, name=task.name, verbose=0
    )
    numbers = model.evaluate(client.table(f"{task.name}_test"))
    return {**numbers, TRAINING_LOSS: history.history["loss"][-1]}

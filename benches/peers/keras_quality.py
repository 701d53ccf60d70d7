"""A task of `benches/quality` learned by Keras on PyTorch: the peer of `quality`.

    python benches/peers/keras_quality.py TASK SEED [--reviews FILE] [--threads 1]

One thread by default: the steps are small, and more threads spend their time waiting for each other where others compute too.
Prints one line of JSON.
"""

import argparse
import json
import os
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import keras
import numpy as np
import torch
from quality.tasks import OF_REVIEWS, SHIPPED, TRAINING_LOSS


class Keras:
    """The library as `quality/models.py` wants it."""

    Input, Model, Sequential = keras.Input, keras.Model, keras.Sequential
    layers, ops, optimizers = keras.layers, keras.ops, keras.optimizers

    @staticmethod
    def noise(like, training):
        return keras.random.normal(keras.ops.shape(like)) if training else keras.ops.zeros_like(like)

    @staticmethod
    def per_row(loss):
        """Keras adds what it is given to the mean loss."""
        return keras.ops.mean(loss)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("task", choices=[*SHIPPED, *OF_REVIEWS])
    parser.add_argument("seed", type=int)
    parser.add_argument("--reviews", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    keras.utils.set_random_seed(options.seed)
    task = SHIPPED[options.task]() if options.task in SHIPPED else OF_REVIEWS[options.task](options.reviews)
    model = task.compiled(Keras)
    history = model.fit(*task.train, batch_size=task.batch_size, epochs=task.epochs, verbose=0)
    numbers = model.evaluate(*task.test, batch_size=500, verbose=0, return_dict=True)
    numbers[TRAINING_LOSS] = history.history["loss"][-1]
    version = f"keras {keras.__version__} on torch {torch.__version__}, numpy {np.__version__}"
    print(json.dumps({"value": {key: float(value) for key, value in numbers.items()}, "version": version}))


if __name__ == "__main__":
    main()

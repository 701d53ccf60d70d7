"""Optimisers and schedules of Keras (and PyTorch's one-cycle): what src/optim/golden.rs compares with.

Run from the repository root. Versions: see README.md beside this file.
"""

import json
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from safetensors.numpy import save_file

STEPS, NUMBERS, LEARNING_RATE = 20, 37, 0.01
SCHEDULE_STEPS = 120

#: A description as a training job has it, and Keras' class.
OPTIMIZERS = [
    ({"name": "sgd"}, keras.optimizers.SGD),
    ({"name": "sgd", "momentum": 0.9, "weight_decay": 0.1}, keras.optimizers.SGD),
    ({"name": "sgd", "momentum": 0.9, "nesterov": True, "clipvalue": 0.5}, keras.optimizers.SGD),
    ({"name": "adam"}, keras.optimizers.Adam),
    ({"name": "adam", "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-4, "amsgrad": True}, keras.optimizers.Adam),
    ({"name": "adamw"}, keras.optimizers.AdamW),
    ({"name": "adamw", "weight_decay": 0.3, "clipvalue": 0.1}, keras.optimizers.AdamW),
    ({"name": "adamax"}, keras.optimizers.Adamax),
    ({"name": "adamax", "beta_1": 0.7, "beta_2": 0.9, "weight_decay": 0.05}, keras.optimizers.Adamax),
    ({"name": "nadam"}, keras.optimizers.Nadam),
    ({"name": "nadam", "beta_1": 0.7, "beta_2": 0.9, "epsilon": 1e-3}, keras.optimizers.Nadam),
    ({"name": "adagrad"}, keras.optimizers.Adagrad),
    ({"name": "adagrad", "initial_accumulator_value": 1.5, "epsilon": 1e-3}, keras.optimizers.Adagrad),
    ({"name": "adadelta"}, keras.optimizers.Adadelta),
    ({"name": "adadelta", "rho": 0.7, "epsilon": 1e-3}, keras.optimizers.Adadelta),
    ({"name": "rmsprop"}, keras.optimizers.RMSprop),
    ({"name": "rmsprop", "rho": 0.7, "momentum": 0.8}, keras.optimizers.RMSprop),
    # A larger epsilon: the variance of a first gradient is a difference of nearly equal numbers.
    ({"name": "rmsprop", "momentum": 0.8, "centered": True, "epsilon": 1e-2}, keras.optimizers.RMSprop),
    ({"name": "ftrl"}, keras.optimizers.Ftrl),
    (
        {
            "name": "ftrl", "learning_rate_power": -0.7, "initial_accumulator_value": 0.5, "l1_regularization_strength": 0.01,
            "l2_regularization_strength": 0.1, "l2_shrinkage_regularization_strength": 0.2, "beta": 0.3,
        },
        keras.optimizers.Ftrl,
    ),
    ({"name": "lion"}, keras.optimizers.Lion),
    ({"name": "lion", "beta_1": 0.7, "beta_2": 0.8, "weight_decay": 0.1}, keras.optimizers.Lion),
]  # fmt: skip

SCHEDULES = [
    ({"name": "exponential_decay", "initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}, "ExponentialDecay"),
    (
        {"name": "exponential_decay", "initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
        "ExponentialDecay",
    ),
    ({"name": "inverse_time_decay", "initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5}, "InverseTimeDecay"),
    (
        {"name": "inverse_time_decay", "initial_learning_rate": 0.1, "decay_steps": 7, "decay_rate": 0.5, "staircase": True},
        "InverseTimeDecay",
    ),
    ({"name": "polynomial_decay", "initial_learning_rate": 0.1, "decay_steps": 30}, "PolynomialDecay"),
    (
        {
            "name": "polynomial_decay", "initial_learning_rate": 0.1, "decay_steps": 30, "end_learning_rate": 0.01,
            "power": 2.0, "cycle": True,
        },
        "PolynomialDecay",
    ),
    ({"name": "cosine_decay", "initial_learning_rate": 0.1, "decay_steps": 50}, "CosineDecay"),
    (
        {
            "name": "cosine_decay", "initial_learning_rate": 0.02, "decay_steps": 50, "alpha": 0.1, "warmup_target": 0.2,
            "warmup_steps": 9,
        },
        "CosineDecay",
    ),
    ({"name": "cosine_decay_restarts", "initial_learning_rate": 0.1, "first_decay_steps": 11}, "CosineDecayRestarts"),
    (
        {
            "name": "cosine_decay_restarts", "initial_learning_rate": 0.1, "first_decay_steps": 13, "t_mul": 1.0, "m_mul": 0.7,
            "alpha": 0.1,
        },
        "CosineDecayRestarts",
    ),
    ({"name": "piecewise_constant_decay", "boundaries": [3, 40], "values": [0.1, 0.05, 0.001]}, "PiecewiseConstantDecay"),
]  # fmt: skip

random = np.random.default_rng(11)
start = random.standard_normal(NUMBERS).astype("float32")
# From very small to large gradients.
gradients = (random.standard_normal((STEPS, NUMBERS)) * np.logspace(-4, 1, NUMBERS)).astype("float32")
arrays = {"start": start, "gradients": gradients}
cases = {"optimizers": [], "schedules": []}
for number, (description, kind) in enumerate(OPTIMIZERS):
    options = {key: value for key, value in description.items() if key != "name"}
    optimizer = kind(learning_rate=LEARNING_RATE, **options)
    variable = keras.Variable(start)
    optimizer.build([variable])
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(gradient)], [variable])
    arrays[f"optimizer/{number}"] = keras.ops.convert_to_numpy(variable).astype("float32")
    cases["optimizers"].append(description)
for description, kind in SCHEDULES:
    options = {key: value for key, value in description.items() if key != "name"}
    schedule = getattr(keras.optimizers.schedules, kind)(**options)
    arrays[f"schedule/{len(cases['schedules'])}"] = np.array([float(schedule(step)) for step in range(SCHEDULE_STEPS)], "float32")
    cases["schedules"].append(description)

# PyTorch's one-cycle schedule.
description = {"name": "one_cycle", "max_learning_rate": 0.1, "total_steps": 100, "share_up": 0.3}
optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1)
cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=100, pct_start=0.3, cycle_momentum=False)
rates = []
for _ in range(100):
    rates.append(optimizer.param_groups[0]["lr"])
    optimizer.step()
    if len(rates) < 100:
        cycle.step()
arrays[f"schedule/{len(cases['schedules'])}"] = np.array(rates, "float32")
cases["schedules"].append(description)

here = Path(__file__).parent
save_file(arrays, here / "optimizers.safetensors")
(here / "optimizers.json").write_text(json.dumps(cases, indent=1) + "\n")
print(f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(arrays)} arrays")

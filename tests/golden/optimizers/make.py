"""Optimisers, schedules and plateaus of Keras (and PyTorch's one-cycle, and LARS): what src/optim/golden.rs compares with.

Run from the repository root. Versions: see README.md beside this file.
"""

import json
import math
import os
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"

import keras
import numpy as np
import torch
from safetensors.numpy import save_file

STEPS, NUMBERS, LEARNING_RATE = 20, 37, 0.01
#: The numbers as the variables of a model: norms are taken of each.
LENGTHS = [5, 8, 24]
SCHEDULE_STEPS = 120


class Lars:
    """You, Gitman and Ginsburg, Large Batch Training of Convolutional Networks (2017), algorithm 1, as a plain loop in
    float64: Keras and PyTorch have none. The rate of a variable is ``trust_coefficient * |w| / (|g| + weight_decay * |w|)``,
    1 where a norm is 0."""

    def __init__(self, learning_rate, momentum=0.9, nesterov=False, weight_decay=0.0, trust_coefficient=0.001, epsilon=0.0):
        self.learning_rate, self.momentum, self.nesterov = learning_rate, momentum, nesterov
        self.weight_decay, self.trust, self.epsilon = weight_decay, trust_coefficient, epsilon

    def build(self, variables):
        self.values = [keras.ops.convert_to_numpy(variable).astype("float64") for variable in variables]
        self.velocities = [np.zeros_like(value) for value in self.values]

    def apply(self, gradients, variables):
        for index, (gradient, variable) in enumerate(zip(gradients, variables, strict=True)):
            w, g = self.values[index], keras.ops.convert_to_numpy(gradient).astype("float64")
            w_norm, g_norm = math.sqrt(sum(x * x for x in w)), math.sqrt(sum(x * x for x in g))
            rate = 1.0
            if w_norm > 0 and g_norm > 0:
                rate = self.trust * w_norm / (g_norm + self.weight_decay * w_norm + self.epsilon)
            step = self.learning_rate * rate * (g + self.weight_decay * w)
            self.velocities[index] = v = self.momentum * self.velocities[index] + step
            self.values[index] = w - (self.momentum * v + step if self.nesterov else v)
            variable.assign(self.values[index].astype("float32"))


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
    ({"name": "sgd", "clipnorm": 0.5}, keras.optimizers.SGD),
    ({"name": "sgd", "momentum": 0.9, "global_clipnorm": 0.5}, keras.optimizers.SGD),
    ({"name": "adam", "clipnorm": 2.0}, keras.optimizers.Adam),
    ({"name": "rmsprop", "global_clipnorm": 20.0, "weight_decay": 0.1}, keras.optimizers.RMSprop),
    ({"name": "ftrl", "clipnorm": 1.0}, keras.optimizers.Ftrl),
    ({"name": "lamb"}, keras.optimizers.Lamb),
    ({"name": "lamb", "beta_1": 0.8, "beta_2": 0.95, "epsilon": 1e-3, "weight_decay": 0.3}, keras.optimizers.Lamb),
    ({"name": "lamb", "global_clipnorm": 3.0}, keras.optimizers.Lamb),
    ({"name": "lars"}, Lars),
    ({"name": "lars", "learning_rate": 0.5, "momentum": 0.8, "weight_decay": 0.05, "trust_coefficient": 0.1}, Lars),
    ({"name": "lars", "learning_rate": 0.5, "nesterov": True, "trust_coefficient": 0.01, "epsilon": 0.1}, Lars),
    # 20 steps: six updates, and two gradients that are never used.
    ({"name": "adam", "gradient_accumulation_steps": 3}, keras.optimizers.Adam),
    ({"name": "sgd", "momentum": 0.9, "gradient_accumulation_steps": 4, "clipnorm": 0.5}, keras.optimizers.SGD),
    (
        {
            "name": "nadam", "gradient_accumulation_steps": 2,
            "learning_rate": {"name": "exponential_decay", "initial_learning_rate": 0.1, "decay_steps": 5, "decay_rate": 0.5},
        },
        keras.optimizers.Nadam,
    ),
    ({"name": "adam", "use_ema": True}, keras.optimizers.Adam),
    ({"name": "sgd", "momentum": 0.9, "use_ema": True, "ema_momentum": 0.7, "ema_overwrite_frequency": 6}, keras.optimizers.SGD),
    ({"name": "lamb", "use_ema": True, "ema_momentum": 0.5, "ema_overwrite_frequency": 4}, keras.optimizers.Lamb),
    (
        {
            "name": "adamw", "gradient_accumulation_steps": 3, "use_ema": True, "ema_momentum": 0.8,
            "ema_overwrite_frequency": 2,
        },
        keras.optimizers.AdamW,
    ),
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

#: Options of Keras' ReduceLROnPlateau, and what is monitored.
PLATEAUS = [
    ({"factor": 0.5, "patience": 2}, [1.0, 0.9, 0.95, 0.92, 0.91, 0.89, 0.9, 0.9, 0.9, 0.9, 0.9, 0.5, 0.6, 0.6]),
    ({"factor": 0.1, "patience": 1, "min_lr": 0.002}, [1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5]),
    ({"factor": 0.5, "patience": 1, "cooldown": 2}, [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.5]),
    ({"factor": 0.3, "patience": 2, "min_delta": 0.1}, [1.0, 0.95, 0.91, 0.85, 0.8, 0.76, 0.7, 0.65, 0.6, 0.55]),
    ({"factor": 0.5, "patience": 2, "mode": "max"}, [0.5, 0.6, 0.7, 0.6, 0.5, 0.8, 0.7, 0.7, 0.7, 0.7]),
    ({"factor": 0.5, "patience": 0}, [1.0, 0.5, 0.6, 0.4, 0.7]),
]

random = np.random.default_rng(11)
start = random.standard_normal(NUMBERS).astype("float32")
# From very small to large gradients.
gradients = (random.standard_normal((STEPS, NUMBERS)) * np.logspace(-4, 1, NUMBERS)).astype("float32")
arrays = {"start": start, "gradients": gradients}
cases = {"arrays": LENGTHS, "optimizers": [], "schedules": [], "plateaus": []}
cuts = np.cumsum(LENGTHS)[:-1]


def keras_schedule(description):
    options = {key: value for key, value in description.items() if key != "name"}
    kind = {description["name"]: kind for description, kind in SCHEDULES}[description["name"]]
    return getattr(keras.optimizers.schedules, kind)(**options)


for number, (description, kind) in enumerate(OPTIMIZERS):
    options = {"learning_rate": LEARNING_RATE} | {key: value for key, value in description.items() if key != "name"}
    if isinstance(options["learning_rate"], dict):
        options["learning_rate"] = keras_schedule(options["learning_rate"])
    optimizer = kind(**options)
    variables = [keras.Variable(part) for part in np.split(start, cuts)]
    optimizer.build(variables)
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(part) for part in np.split(gradient, cuts)], variables)
    values = lambda variables: np.concatenate([keras.ops.convert_to_numpy(each) for each in variables]).astype("float32")
    arrays[f"optimizer/{number}"] = values(variables)
    if description.get("use_ema"):
        # What a model is given in the end.
        optimizer.finalize_variable_values(variables)
        arrays[f"average/{number}"] = values(variables)
    cases["optimizers"].append(description)
for description, _ in SCHEDULES:
    schedule = keras_schedule(description)
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

for options, monitored in PLATEAUS:
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(LEARNING_RATE), loss="mse")
    callback = keras.callbacks.ReduceLROnPlateau(**{"monitor": "val_loss", **options})
    callback.set_model(model)
    callback.on_train_begin()
    rates = []
    for epoch, value in enumerate(monitored):
        # The rate of the epoch that ends with this value.
        rates.append(float(model.optimizer.learning_rate))
        callback.on_epoch_end(epoch, {"val_loss": value})
    cases["plateaus"].append({"options": options, "monitored": monitored, "rates": rates})

here = Path(__file__).parent
save_file(arrays, here / "optimizers.safetensors")
(here / "optimizers.json").write_text(json.dumps(cases, indent=1) + "\n")
print(f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(arrays)} arrays")

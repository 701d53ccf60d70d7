"""How golden cases of layers are made: one Keras layer, its inputs, its weights, its answer and all gradients.

A group is a script of its own beside this file; it lists `case`s and calls `write`. Run one from the repository root:

    python tests/golden/layers/core.py
"""

import json
import os
import zlib
from pathlib import Path

os.environ["KERAS_BACKEND"] = "torch"
os.environ["CUDA_VISIBLE_DEVICES"] = ""

import keras
import numpy as np
import torch
from safetensors.numpy import save_file

HERE = Path(__file__).parent
# First weights are Keras' own; with this they are the same in every run.
keras.utils.set_random_seed(1)


def case(
    name,
    kind,
    config,
    *inputs,
    integers=(),
    masks=None,
    training=False,
    call=None,
    layer=None,
    together=None,
    names=None,
    differences=True,
    counted=False,
    seed=0,
):
    """One golden case.

    `inputs` are shapes with the rows first, or arrays; those listed in `integers` are int32. `config` is both Keras' and ours
    unless `layer` makes the Keras layer. `masks` are boolean arrays, one (or None) per input. `call` has further arguments of
    the Keras call. `together` says whether inputs go to Keras as one list (by default when there are several). `names` maps a Keras
    weight (the n-th of `layer.weights`, by its name) to our array's name. `differences=False` leaves central differences
    out, for functions with kinks near the inputs. With `counted` only the steps that the output's mask counts have a gradient.
    """
    random = np.random.default_rng(zlib.crc32(name.encode()) + seed)
    arrays = [
        each
        if isinstance(each, np.ndarray)
        else random.standard_normal(each).astype("float32")
        for each in inputs
    ]
    tensors = [
        torch.tensor(each.astype("int32"))
        if i in integers
        else torch.tensor(each.astype("float32"), requires_grad=True)
        for i, each in enumerate(arrays)
    ]
    built = layer() if layer is not None else getattr(keras.layers, kind)(**config)
    arguments = dict(call or {})
    if training:
        arguments["training"] = True
    given = (
        tensors if (len(tensors) > 1 if together is None else together) else tensors[0]
    )
    def run():
        # Some layers take the masks off their inputs.
        for tensor, mask in zip(tensors, masks or (), strict=masks is not None):
            if mask is not None:
                keras.src.backend.set_keras_mask(tensor, torch.tensor(mask))
        return (
            built(given, **arguments)
            if isinstance(given, list) or len(tensors) == 1
            else built(*tensors, **arguments)
        )

    run()
    for weight in built.weights:
        moved = weight.numpy() + 0.3 * random.standard_normal(weight.shape)
        weight.assign(np.abs(moved) + 0.1 if "variance" in weight.path else moved)
    before = {id(weight): weight.numpy().copy() for weight in built.weights}
    answers = run()
    outputs = [
        each for each in (answers if isinstance(answers, (list, tuple)) else [answers])
    ]
    weights = [
        random.standard_normal(tuple(each.shape)).astype("float32") for each in outputs
    ]
    mask = getattr(outputs[0], "_keras_mask", None)
    if counted:
        weights[0] = weights[0] * mask.numpy()[..., None].astype("float32")
    sum(
        (output * torch.tensor(each)).sum()
        for output, each in zip(outputs, weights, strict=True)
    ).backward()

    stored = {}

    def keep(key, value):
        stored[f"{name}/{key}"] = np.ascontiguousarray(
            np.asarray(value, dtype="float32")
        )

    described = {
        "name": name,
        "layer": kind,
        "config": config,
        "inputs": [
            {"shape": list(a.shape), "integer": i in integers}
            for i, a in enumerate(arrays)
        ],
        "masks": None if masks is None else [each is not None for each in masks],
        "arrays": [],
        "statistics": [],
        "outputs": len(outputs),
        "answer": list(outputs[0].shape),
        "mask": mask is not None,
        "training": training,
        "differences": differences,
    }
    for i, (array, tensor) in enumerate(zip(arrays, tensors, strict=True)):
        keep(f"input_{i}", array)
        if i not in integers:
            keep(
                f"input_{i}/gradient",
                np.zeros_like(array) if tensor.grad is None else tensor.grad.numpy(),
            )
        if masks is not None and masks[i] is not None:
            keep(f"mask_{i}", masks[i])
    counts = {}
    for position, weight in enumerate(built.weights):
        if "seed" in weight.path:
            continue
        ours = names[position] if names is not None else weight.name
        counts[ours] = counts.get(ours, 0) + 1
        assert counts[ours] == 1, f"{name}: two weights are named {ours}; give names="
        described["arrays" if weight.trainable else "statistics"].append(ours)
        keep(ours, before[id(weight)])
        if weight.trainable:
            gradient = weight.value.grad
            keep(
                f"{ours}/gradient",
                np.zeros(weight.shape)
                if gradient is None
                else gradient.detach().numpy(),
            )
        else:
            keep(f"{ours}/after", weight.numpy())
    for i, (output, each) in enumerate(zip(outputs, weights, strict=True)):
        keep(f"output_{i}", output.detach().numpy())
        keep(f"output_{i}/weights", each)
    if mask is not None:
        keep("output_mask", mask.detach().numpy())
    return described, stored


def write(group, cases):
    """Write a group's two files beside this one."""
    arrays = {}
    for _, stored in cases:
        arrays.update(stored)
    assert len({described["name"] for described, _ in cases}) == len(cases), (
        "names of cases must differ"
    )
    save_file(arrays, HERE / f"{group}.safetensors")
    (HERE / f"{group}.safetensors").chmod(0o644)
    lines = ",\n".join(json.dumps(described) for described, _ in cases)
    (HERE / f"{group}.json").write_text(f"[\n{lines}\n]\n")
    print(
        f"keras {keras.__version__}, torch {torch.__version__}, numpy {np.__version__}: {len(cases)} cases of {group}"
    )

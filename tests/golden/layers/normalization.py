"""BatchNormalization in training and prediction with masks, and the normalizations of each row, over any axes."""

import numpy as np
from cases import case, keras, write

mask = np.array([[1, 1, 0], [1, 0, 0]], bool)


def both(name, config, *inputs, **arguments):
    """In training, where the statistics move, and in prediction."""
    return [
        case(f"{name}, training {training}", "BatchNormalization", config, *inputs, training=training, **arguments)
        for training in (False, True)
    ]


def over_steps(kind, base):
    """Over axis 1 of three, which Keras 3.15 on PyTorch takes for the innermost and fails: turned there and back."""

    class Turned(base):
        def build(self, shape):
            super().build((shape[0], shape[2], shape[1]))

        def call(self, inputs):
            return keras.ops.swapaxes(super().call(keras.ops.swapaxes(inputs, 1, 2)), 1, 2)

    return case(f"{kind} over steps", kind, {"axis": 1}, (2, 3, 4), layer=Turned)


write(
    "normalization",
    [
        *both("batch", {}, (5, 4)),
        *both("batch of steps", {"momentum": 0.7, "epsilon": 0.1}, (3, 4, 2)),
        *both("batch without beta", {"center": False}, (5, 4)),
        *both("batch without gamma", {"scale": False}, (5, 4)),
        *both("batch over channels first", {"axis": 1}, (3, 2, 4, 3)),
        *both("batch over a middle axis", {"axis": -2}, (3, 2, 4, 3)),
        *both("batch with a mask", {}, (2, 3, 4), masks=[mask]),
        *both("batch with a mask over steps", {"axis": 1}, (2, 3, 4), masks=[mask]),
        case("layer", "LayerNormalization", {}, (3, 5)),
        case("layer of steps", "LayerNormalization", {"epsilon": 0.1}, (2, 3, 4), masks=[mask]),
        case("layer without beta", "LayerNormalization", {"center": False}, (3, 5)),
        case("layer without gamma", "LayerNormalization", {"scale": False}, (3, 5)),
        case("layer without both", "LayerNormalization", {"scale": False, "center": False}, (3, 5)),
        over_steps("LayerNormalization", keras.layers.LayerNormalization),
        case("layer over two axes", "LayerNormalization", {"axis": [-2, -1]}, (2, 3, 4)),
        case("layer over all axes", "LayerNormalization", {"axis": [1, 2]}, (2, 3, 4)),
        case("layer over two axes apart", "LayerNormalization", {"axis": [1, 3]}, (2, 3, 2, 4)),
        case("layer with rms scaling", "LayerNormalization", {"rms_scaling": True}, (2, 3, 4)),
        case("group", "GroupNormalization", {"groups": 2}, (2, 3, 4)),
        case("group of a vector", "GroupNormalization", {"groups": 2, "epsilon": 0.1}, (2, 6)),
        case("group of an image", "GroupNormalization", {"groups": 2, "center": False}, (2, 2, 3, 4)),
        case("group over channels first", "GroupNormalization", {"groups": 2, "axis": 1, "scale": False}, (2, 4, 2, 3)),
        case("group over a middle axis", "GroupNormalization", {"groups": 2, "axis": -2}, (2, 2, 4, 3)),
        case("group per channel", "GroupNormalization", {"groups": -1}, (2, 3, 4), masks=[mask]),
        case("rms", "RMSNormalization", {}, (3, 5)),
        case("rms with an epsilon", "RMSNormalization", {"epsilon": 0.1}, (2, 3, 4), masks=[mask]),
        over_steps("RMSNormalization", keras.layers.RMSNormalization),
        case("rms over two axes", "RMSNormalization", {"axis": [-2, -1]}, (2, 3, 4)),
        case("unit", "UnitNormalization", {}, (2, 3, 4), masks=[mask]),
        case("unit over steps", "UnitNormalization", {"axis": 1}, (2, 3, 4)),
        case("unit over two axes", "UnitNormalization", {"axis": [1, 2]}, (2, 3, 4)),
    ],
)

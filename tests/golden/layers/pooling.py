"""Pooling: windows, all of the spatial axes, and as many windows as asked for."""

import numpy as np
from cases import case, write

first = {"data_format": "channels_first"}
mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0]], bool)
rows = {1: (2, 7, 3), 2: (2, 7, 5, 3), 3: (2, 5, 4, 6, 2)}
cases = []


def add(name, kind, config, shape, **options):
    # The greatest number has kinks; differences are taken for means alone.
    cases.append(
        case(name, kind, config, shape, differences="Max" not in kind, **options)
    )


for kind in ("MaxPooling", "AveragePooling"):
    for axes, shape in rows.items():
        layer = f"{kind}{axes}D"
        add(f"{layer} of 2", layer, {"pool_size": 2}, shape)
        add(
            f"{layer} same, one number of padding too many behind",
            layer,
            {"pool_size": 2, "strides": 1, "padding": "same"},
            shape,
        )
        add(
            f"{layer} same, as much before as behind",
            layer,
            {"pool_size": 3, "strides": 1, "padding": "same"},
            shape,
        )
        add(
            f"{layer} same, strides",
            layer,
            {
                "pool_size": [4, 3, 5][:axes],
                "strides": [3, 2, 2][:axes],
                "padding": "same",
            },
            shape,
        )
        add(
            f"{layer} channels first, windows overlap",
            layer,
            {"pool_size": 3, "strides": 2} | first,
            (2, 2, 7, 6, 5)[: axes + 2],
        )
    add(
        f"{kind}2D, windows apart",
        f"{kind}2D",
        {"pool_size": [2, 1], "strides": [3, 4]},
        (2, 9, 7, 2),
    )
    add(
        f"{kind}2D channels first, same",
        f"{kind}2D",
        {"pool_size": [2, 3], "strides": [2, 1], "padding": "same"} | first,
        (2, 3, 5, 4),
    )
add("MaxPool2D", "MaxPool2D", {}, (2, 4, 5, 2))
add("AvgPool1D", "AvgPool1D", {"pool_size": 3}, (2, 7, 2))
add("a window of one", "MaxPooling1D", {"pool_size": 1}, (2, 3, 2))

for kind in ("GlobalMaxPooling", "GlobalAveragePooling"):
    for axes, shape in rows.items():
        layer = f"{kind}{axes}D"
        add(layer, layer, {}, shape)
        add(f"{layer} keepdims", layer, {"keepdims": True}, shape)
        add(f"{layer} channels first", layer, first, shape)
        add(
            f"{layer} channels first, keepdims",
            layer,
            first | {"keepdims": True},
            shape,
        )
add("GlobalMaxPool1D", "GlobalMaxPool1D", {}, (2, 4, 3))
add("GlobalAvgPool2D", "GlobalAvgPool2D", {}, (2, 4, 3, 2))
add(
    "GlobalAveragePooling1D mask", "GlobalAveragePooling1D", {}, (2, 4, 3), masks=[mask]
)
add(
    "GlobalAveragePooling1D mask, channels first, keepdims",
    "GlobalAveragePooling1D",
    first | {"keepdims": True},
    (2, 3, 4),
    masks=[mask],
)
add("GlobalMaxPooling1D mask", "GlobalMaxPooling1D", {}, (2, 4, 3), masks=[mask])

for kind in ("AdaptiveMaxPooling", "AdaptiveAveragePooling"):
    for axes, shape in rows.items():
        layer = f"{kind}{axes}D"
        add(f"{layer} of 3", layer, {"output_size": 3}, shape)
        add(
            f"{layer} to more, channels first",
            layer,
            {"output_size": [8, 2, 7][:axes]} | first,
            shape,
        )
    add(f"{kind}2D even", f"{kind}2D", {"output_size": [3, 2]}, (2, 6, 8, 3))

write("pooling", cases)

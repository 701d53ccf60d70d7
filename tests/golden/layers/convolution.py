"""Conv1D, Conv2D, Conv3D: padding, strides, dilation, groups, order of channels."""

import numpy as np
from cases import case, write

write(
    "convolution",
    [
        case("conv1d", "Conv1D", {"filters": 3, "kernel_size": 3}, (2, 7, 4)),
        case(
            "conv1d same, even kernel",
            "Conv1D",
            {"filters": 3, "kernel_size": 4, "padding": "same", "activation": "tanh"},
            (2, 7, 2),
        ),
        case(
            "conv1d same, strides",
            "Conv1D",
            {"filters": 2, "kernel_size": [4], "strides": [3], "padding": "same"},
            (2, 11, 3),
        ),
        case(
            "conv1d same, strides beyond the kernel",
            "Conv1D",
            {"filters": 2, "kernel_size": 2, "strides": 5, "padding": "same"},
            (2, 12, 3),
        ),
        case(
            "conv1d causal, dilation",
            "Conv1D",
            {
                "filters": 3,
                "kernel_size": 3,
                "padding": "causal",
                "dilation_rate": 2,
                "use_bias": False,
            },
            (2, 7, 2),
        ),
        case(
            "conv1d causal, strides",
            "Conv1D",
            {"filters": 3, "kernel_size": 4, "padding": "causal", "strides": 2},
            (2, 9, 2),
        ),
        case(
            "conv1d channels first, groups, softmax",
            "Conv1D",
            {
                "filters": 6,
                "kernel_size": 2,
                "data_format": "channels_first",
                "groups": 2,
                "activation": "softmax",
                "use_bias": False,  # a softmax over the steps takes no notice of a bias
            },
            (2, 4, 6),
        ),
        case(
            "conv1d ends the mask",
            "Conv1D",
            {"filters": 2, "kernel_size": 2},
            (2, 3, 5),
            masks=[np.array([[1, 1, 0], [1, 0, 0]], bool)],
        ),
        case(
            "conv2d",
            "Conv2D",
            {"filters": 5, "kernel_size": 3, "activation": "sigmoid"},
            (2, 6, 7, 3),
        ),
        case(
            "conv2d pointwise", "Conv2D", {"filters": 5, "kernel_size": 1}, (2, 4, 3, 3)
        ),
        case(
            "conv2d same, even kernel, strides",
            "Conv2D",
            {
                "filters": 4,
                "kernel_size": [4, 3],
                "strides": [2, 3],
                "padding": "same",
            },
            (2, 7, 8, 3),
        ),
        case(
            "conv2d same, odd extents, even kernel",
            "Conv2D",
            {"filters": 4, "kernel_size": [2, 5], "padding": "same"},
            (2, 5, 3, 2),
        ),
        case(
            "conv2d same, dilation",
            "Conv2D",
            {
                "filters": 3,
                "kernel_size": [3, 2],
                "dilation_rate": [2, 3],
                "padding": "same",
                "use_bias": False,
            },
            (2, 7, 5, 2),
        ),
        case(
            "conv2d valid, dilation",
            "Conv2D",
            {"filters": 3, "kernel_size": 3, "dilation_rate": 2},
            (2, 7, 6, 2),
        ),
        case(
            "conv2d groups, strides",
            "Conv2D",
            {"filters": 6, "kernel_size": 3, "groups": 3, "strides": 2},
            (2, 7, 7, 6),
        ),
        case(
            "conv2d channels first, same",
            "Conv2D",
            {
                "filters": 4,
                "kernel_size": [3, 2],
                "data_format": "channels_first",
                "padding": "same",
                "activation": "softplus",
            },
            (2, 3, 5, 4),
        ),
        case(
            "convolution2d is conv2d",
            "Convolution2D",
            {"filters": 2, "kernel_size": 2},
            (2, 3, 4, 2),
        ),
        case(
            "conv3d",
            "Conv3D",
            {"filters": 3, "kernel_size": [2, 3, 2], "strides": [1, 2, 1]},
            (2, 4, 5, 3, 2),
        ),
        case(
            "conv3d same, groups, channels first",
            "Conv3D",
            {
                "filters": 4,
                "kernel_size": 2,
                "padding": "same",
                "groups": 2,
                "data_format": "channels_first",
            },
            (2, 2, 3, 4, 3),
        ),
        case(
            "conv3d same, strides, even kernel",
            "Conv3D",
            {
                "filters": 2,
                "kernel_size": [4, 2, 3],
                "strides": 2,
                "padding": "same",
            },
            (2, 5, 4, 3, 2),
        ),
        case(
            "conv3d dilation",
            "Conv3D",
            {"filters": 2, "kernel_size": 2, "dilation_rate": [1, 2, 3]},
            (2, 3, 4, 5, 2),
        ),
    ],
)

"""Depthwise, separable, transposed and locally connected convolutions."""

import itertools

import numpy as np
from cases import case, keras, torch, write

first = {"data_format": "channels_first"}


class LocallyConnected(keras.layers.Layer):
    """Keras 2's layer, which Keras 3 has no more, one place after the other."""

    def __init__(
        self,
        filters,
        kernel_size,
        strides=1,
        data_format="channels_last",
        activation=None,
        use_bias=True,
    ):
        super().__init__()
        self.filters, self.size, self.strides = filters, kernel_size, strides
        self.channels_first = data_format == "channels_first"
        self.activation = keras.activations.get(activation)
        self.use_bias = use_bias

    def build(self, shape):
        rank = len(shape) - 2
        self.size = (self.size,) * rank if isinstance(self.size, int) else self.size
        self.strides = (
            (self.strides,) * rank if isinstance(self.strides, int) else self.strides
        )
        spatial = shape[2:] if self.channels_first else shape[1:-1]
        channels = shape[1] if self.channels_first else shape[-1]
        self.out = [
            (n - k) // s + 1
            for n, k, s in zip(spatial, self.size, self.strides, strict=True)
        ]
        kernel = (
            int(np.prod(self.out)),
            int(np.prod(self.size)) * channels,
            self.filters,
        )
        self.kernel = self.add_weight(name="kernel", shape=kernel)
        if self.use_bias:
            self.bias = self.add_weight(name="bias", shape=(*self.out, self.filters))

    def call(self, x):
        places = []
        for number, place in enumerate(itertools.product(*map(range, self.out))):
            window = tuple(
                slice(o * s, o * s + k)
                for o, s, k in zip(place, self.strides, self.size, strict=True)
            )
            part = (
                x[(slice(None), slice(None), *window)]
                if self.channels_first
                else x[(slice(None), *window)]
            )
            total = part.reshape(len(x), -1) @ self.kernel[number]
            places.append(total + self.bias[place] if self.use_bias else total)
        y = torch.stack(places, 1).reshape(len(x), *self.out, self.filters)
        return self.activation(torch.movedim(y, -1, 1) if self.channels_first else y)


def local(name, kind, config, shape):
    return case(name, kind, config, shape, layer=lambda: LocallyConnected(**config))


write(
    "separable",
    [
        case("depthwise 1d", "DepthwiseConv1D", {"kernel_size": 3}, (2, 7, 4)),
        case(
            "depthwise 1d same, multiplier, strides, channels first",
            "DepthwiseConv1D",
            {"kernel_size": 4, "depth_multiplier": 2, "strides": 2, "padding": "same"}
            | first,
            (2, 3, 9),
        ),
        case(
            "depthwise of one channel",
            "DepthwiseConv1D",
            {"kernel_size": 2, "depth_multiplier": 3},
            (2, 5, 1),
        ),
        case(
            "depthwise 2d, multiplier",
            "DepthwiseConv2D",
            {"kernel_size": [3, 2], "depth_multiplier": 3, "activation": "relu6"},
            (2, 5, 6, 2),
            differences=False,
        ),
        case(
            "depthwise 2d same, strides",
            "DepthwiseConv2D",
            {"kernel_size": 4, "strides": [2, 3], "padding": "same", "use_bias": False},
            (2, 7, 8, 3),
        ),
        case(
            "depthwise 2d dilation",
            "DepthwiseConv2D",
            {"kernel_size": 3, "dilation_rate": 2, "padding": "same"},
            (2, 5, 6, 3),
        ),
        case(
            "separable 1d, multiplier",
            "SeparableConv1D",
            {
                "filters": 5,
                "kernel_size": 3,
                "depth_multiplier": 2,
                "activation": "tanh",
            },
            (2, 7, 3),
        ),
        case(
            "separable 1d same, dilation, channels first",
            "SeparableConv1D",
            {"filters": 2, "kernel_size": 2, "padding": "same", "dilation_rate": 3}
            | first,
            (2, 3, 6),
        ),
        case(
            "separable 2d",
            "SeparableConv2D",
            {"filters": 4, "kernel_size": [2, 3]},
            (2, 5, 6, 3),
        ),
        case(
            "separable 2d same, strides, channels first",
            "SeparableConvolution2D",
            {
                "filters": 4,
                "kernel_size": 3,
                "strides": 2,
                "padding": "same",
                "depth_multiplier": 2,
                "use_bias": False,
            }
            | first,
            (2, 2, 6, 5),
        ),
        case(
            "transposed 1d",
            "Conv1DTranspose",
            {"filters": 3, "kernel_size": 3},
            (2, 5, 4),
        ),
        case(
            "transposed 1d, strides beyond the kernel",
            "Conv1DTranspose",
            {"filters": 3, "kernel_size": 2, "strides": 4},
            (2, 5, 2),
        ),
        case(
            "transposed 1d, output padding",
            "Conv1DTranspose",
            {"filters": 3, "kernel_size": 3, "strides": 3, "output_padding": 1},
            (2, 4, 2),
        ),
        *[
            case(
                f"transposed 1d same, kernel {kernel}, strides {strides}, output padding {padding}",
                "Conv1DTranspose",
                {
                    "filters": 2,
                    "kernel_size": kernel,
                    "strides": strides,
                    "padding": "same",
                    "output_padding": padding,
                },
                (2, 5, 3),
            )
            for kernel, strides, padding in [
                (1, 1, None),
                (1, 3, None),
                (2, 1, None),
                (3, 1, 0),
                (4, 1, None),
                (2, 2, None),
                (3, 2, None),
                (4, 2, None),
                (5, 3, None),
                (2, 4, None),
                (3, 2, 0),
                (3, 2, 1),
                (4, 2, 0),
                (4, 3, 2),
            ]
        ],
        case(
            "transposed 1d same, dilation, channels first",
            "Conv1DTranspose",
            {"filters": 2, "kernel_size": 3, "padding": "same", "dilation_rate": 2}
            | first,
            (2, 3, 5),
        ),
        case(
            "transposed 2d same, strides",
            "Conv2DTranspose",
            {
                "filters": 4,
                "kernel_size": 3,
                "strides": 2,
                "padding": "same",
                "activation": "sigmoid",
            },
            (2, 4, 3, 2),
        ),
        case(
            "transposed 2d, mixed, channels first",
            "Convolution2DTranspose",
            {
                "filters": 2,
                "kernel_size": [2, 3],
                "strides": [3, 2],
                "output_padding": [1, 0],
                "use_bias": False,
            }
            | first,
            (2, 3, 4, 3),
        ),
        case(
            "transposed 2d dilation",
            "Conv2DTranspose",
            {"filters": 2, "kernel_size": [3, 2], "dilation_rate": [2, 3]},
            (2, 4, 3, 2),
        ),
        case(
            "transposed 3d same",
            "Conv3DTranspose",
            {
                "filters": 2,
                "kernel_size": [2, 3, 3],
                "strides": [2, 1, 2],
                "padding": "same",
            },
            (2, 2, 3, 2, 3),
        ),
        case(
            "transposed 3d",
            "Conv3DTranspose",
            {"filters": 2, "kernel_size": 2} | first,
            (2, 3, 2, 3, 2),
        ),
        local(
            "locally connected 1d",
            "LocallyConnected1D",
            {"filters": 4, "kernel_size": 3},
            (2, 7, 2),
        ),
        local(
            "locally connected 1d, strides, channels first",
            "LocallyConnected1D",
            {"filters": 3, "kernel_size": 2, "strides": 2, "activation": "tanh"}
            | first,
            (2, 3, 8),
        ),
        local(
            "locally connected 2d",
            "LocallyConnected2D",
            {"filters": 3, "kernel_size": [2, 3], "strides": [1, 2]},
            (2, 4, 7, 2),
        ),
        local(
            "locally connected 2d, channels first",
            "LocallyConnected2D",
            {"filters": 2, "kernel_size": 2, "use_bias": False} | first,
            (2, 3, 4, 3),
        ),
    ],
)

"""Reshape, Permute, RepeatVector, Masking, Cropping, ZeroPadding, UpSampling: every option and both channel orders."""

import numpy as np
from cases import case, write

FIRST = {"data_format": "channels_first"}
mask = np.array([[1, 1, 0], [1, 0, 0]], bool)
steps = np.random.default_rng(3).standard_normal((2, 3, 4)).astype("float32")
steps[0, 2] = steps[1, 1:] = 0.5
steps[1, 0, :2] = 0.5
zeros = np.where(steps == 0.5, 0, steps).astype("float32")
write(
    "shaping",
    [
        case("reshape", "Reshape", {"target_shape": [3, 2, 2]}, (2, 12)),
        case("reshape what is left", "Reshape", {"target_shape": [2, -1]}, (2, 3, 4)),
        case("reshape forgets the mask", "Reshape", {"target_shape": [3, 2, 2]}, (2, 3, 4), masks=[mask]),
        case("permute", "Permute", {"dims": [2, 1]}, (2, 3, 4)),
        case("permute three", "Permute", {"dims": [3, 1, 2]}, (2, 3, 4, 5)),
        case("repeat vector", "RepeatVector", {"n": 3}, (2, 4)),
        case("masking", "Masking", {"mask_value": 0.5}, steps, differences=False),
        case("masking of zeros", "Masking", {}, zeros, differences=False),
        case("masking of images", "Masking", {}, zeros.reshape(1, 2, 3, 4), differences=False),
        case("masking replaces a mask", "Masking", {"mask_value": 0.5}, steps, masks=[mask], differences=False),
        case("cropping 1d", "Cropping1D", {}, (2, 5, 3)),
        case("cropping 1d by a number", "Cropping1D", {"cropping": 2}, (2, 5, 3)),
        case("cropping 1d by a pair", "Cropping1D", {"cropping": [0, 2]}, (2, 5, 3)),
        case("cropping 2d", "Cropping2D", {}, (2, 4, 5, 3)),
        case("cropping 2d by a number", "Cropping2D", {"cropping": 1}, (2, 4, 5, 3)),
        case("cropping 2d by two", "Cropping2D", {"cropping": [1, 2], **FIRST}, (2, 3, 4, 5)),
        case("cropping 2d by pairs", "Cropping2D", {"cropping": [[0, 1], [2, 0]]}, (2, 4, 5, 3)),
        case("cropping 3d", "Cropping3D", {}, (2, 3, 4, 5, 2)),
        case("cropping 3d by pairs", "Cropping3D", {"cropping": [[0, 1], [2, 0], [1, 1]], **FIRST}, (2, 2, 3, 4, 5)),
        case("padding 1d", "ZeroPadding1D", {}, (2, 3, 4)),
        case("padding 1d by a pair", "ZeroPadding1D", {"padding": [0, 2], **FIRST}, (2, 3, 4)),
        case("padding 2d", "ZeroPadding2D", {}, (2, 2, 3, 2)),
        case("padding 2d by pairs", "ZeroPadding2D", {"padding": [[0, 1], [2, 0]]}, (2, 2, 3, 2)),
        case("padding 2d by two", "ZeroPadding2D", {"padding": [1, 2], **FIRST}, (2, 2, 3, 2)),
        case("padding 3d", "ZeroPadding3D", {}, (2, 2, 1, 3, 2)),
        case("padding 3d by pairs", "ZeroPadding3D", {"padding": [[0, 1], [2, 0], [1, 1]], **FIRST}, (2, 2, 1, 3, 2)),
        case("upsampling 1d", "UpSampling1D", {}, (2, 3, 4)),
        case("upsampling 1d by 3", "UpSampling1D", {"size": 3}, (2, 3, 4)),
        case("upsampling 2d", "UpSampling2D", {}, (2, 2, 3, 2)),
        case("upsampling 2d by two", "UpSampling2D", {"size": [1, 3], **FIRST}, (2, 2, 3, 2)),
        case("upsampling 2d bilinear", "UpSampling2D", {"interpolation": "bilinear"}, (2, 3, 4, 2)),
        case("upsampling 2d bilinear by two", "UpSampling2D", {"size": [3, 4], "interpolation": "bilinear", **FIRST}, (2, 2, 3, 1)),
        case("upsampling 3d", "UpSampling3D", {}, (2, 2, 1, 3, 2)),
        case("upsampling 3d by three", "UpSampling3D", {"size": [1, 3, 2], **FIRST}, (2, 2, 1, 3, 2)),
    ],
)

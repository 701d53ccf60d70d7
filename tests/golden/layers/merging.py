"""Add, Subtract, Multiply, Average, Maximum, Minimum, Dot, Concatenate: broadcasting, axes, masks."""

import numpy as np
from cases import case, write

first = np.array([[1, 1, 0], [1, 0, 0]], bool)
second = np.array([[1, 0, 0], [1, 1, 0]], bool)
NAMES = ["Add", "Subtract", "Multiply", "Average", "Maximum", "Minimum"]
cases = []
for name in NAMES:
    word = name.lower()
    cases += [
        case(f"{word} of two", name, {}, (3, 4), (3, 4)),
        case(f"{word} broadcasts", name, {}, (2, 3, 4), (2, 1, 4)),
        case(f"{word} aligns ranks", name, {}, (2, 3, 4), (2, 4)),
        case(f"{word} with masks", name, {}, (2, 3, 4), (2, 3, 4), masks=[first, second]),
        case(f"{word} with the first masked", name, {}, (2, 3, 4), (2, 3, 4), masks=[first, None]),
        case(f"{word} with the second masked", name, {}, (2, 3, 4), (2, 3, 4), masks=[None, second]),
    ]
    if name != "Subtract":
        cases += [
            case(f"{word} of three", name, {}, (2, 3, 4), (2, 3, 1), (2, 1, 4)),
            case(f"{word} of three with masks", name, {}, *[(2, 3, 4)] * 3, masks=[first, None, second]),
        ]
cases += [
    case("dot", "Dot", {"axes": 1}, (3, 4), (3, 4)),
    case("dot innermost", "Dot", {"axes": -1}, (2, 3, 4), (2, 5, 4)),
    case("dot pair", "Dot", {"axes": [1, 2]}, (2, 3, 4), (2, 5, 3)),
    case("dot of a vector and a matrix", "Dot", {"axes": [1, 2]}, (2, 3), (2, 5, 3)),
    case("dot of a matrix and a vector", "Dot", {"axes": [2, 1]}, (2, 5, 3), (2, 3)),
    case("dot of four extents", "Dot", {"axes": [2, 1]}, (2, 3, 4, 5), (2, 4, 2, 3)),
    case("dot normalized", "Dot", {"axes": [1, 2], "normalize": True}, (2, 3, 4), (2, 5, 3)),
    case("dot forgets masks", "Dot", {"axes": 2}, (2, 3, 4), (2, 3, 4), masks=[first, second]),
    case("concatenate innermost", "Concatenate", {}, (2, 3, 4), (2, 3, 1), (2, 3, 2)),
    case("concatenate steps", "Concatenate", {"axis": 1}, (2, 3, 4), (2, 2, 4)),
    case("concatenate an inner axis", "Concatenate", {"axis": -2}, (2, 3, 1, 4), (2, 3, 2, 4)),
    case("concatenate masks", "Concatenate", {}, (2, 3, 4), (2, 3, 1), masks=[first, second]),
    case("concatenate one mask", "Concatenate", {}, (2, 3, 4), (2, 3, 1), masks=[first, None]),
    case("concatenate masks along steps", "Concatenate", {"axis": 1}, (2, 3, 4), (2, 3, 4), masks=[first, second]),
    case("concatenate a mask and none along steps", "Concatenate", {"axis": 1}, (2, 2, 4), (2, 3, 4), masks=[None, first]),
]
write("merging", cases)

"""The models that `make bench engine` trains, as the server reads them. `benches/peers/torch_engine.py` has the same in PyTorch.

python benches/workloads.py NAME > workload.json
"""

import json
import sys


class Sketch:
    """Layers one after another, with names made here; `at` goes on from an earlier one."""

    def __init__(self):
        self.layers = []
        self.last = None

    def add(self, layer, inputs=None, **config):
        """One more layer on the last one, or on `inputs`; gives its name."""
        name = f"{layer.lower()}_{len(self.layers)}"
        taken = inputs if inputs is not None else [] if layer == "Input" else [self.last]
        self.layers.append({"name": name, "layer": layer, "config": config, "inputs": taken})
        self.last = name
        return name

    def model(self):
        return {
            "format_version": 1,
            "name": "bench",
            "layers": self.layers,
            "outputs": [self.last],
        }


def workload(sketch, inputs, loss, target_width=1, classes=None):
    return {
        "model": sketch.model(),
        "inputs": inputs,
        "loss": loss,
        "target_width": target_width,
        "classes": classes,
    }


def numbers(width):
    return [{"name": "x", "width": width}]


def mlp(*widths, last="softmax"):
    """A dense network with ReLU between: widths of input, hidden layers and output."""
    sketch = Sketch()
    sketch.add("Input")
    for units in widths[1:-1]:
        sketch.add("Dense", units=units, activation="relu")
    sketch.add("Dense", units=widths[-1], activation=last)
    if last == "sigmoid":
        return workload(sketch, numbers(widths[0]), "binary_crossentropy", classes=2)
    return workload(
        sketch,
        numbers(widths[0]),
        "sparse_categorical_crossentropy",
        classes=widths[-1],
    )


def cnn():
    """A LeNet-size network on 28x28: convolutions of 32 and 64, pool, dense 128."""
    sketch = Sketch()
    sketch.add("Input", shape=[28, 28, 1])
    sketch.add("Conv2D", filters=32, kernel_size=3, activation="relu")
    sketch.add("Conv2D", filters=64, kernel_size=3, activation="relu")
    sketch.add("MaxPooling2D", pool_size=2)
    sketch.add("Flatten")
    sketch.add("Dense", units=128, activation="relu")
    sketch.add("Dense", units=10, activation="softmax")
    return workload(sketch, numbers(784), "sparse_categorical_crossentropy", classes=10)


def resnet20():
    """ResNet-20 on 32x32x3 (He et al., 2016), shortcuts of 1x1 convolutions where the shape changes."""
    sketch = Sketch()
    sketch.add("Input", shape=[32, 32, 3])

    def normalized(filters, size=3, strides=1, source=None, relu=True):
        sketch.add("Conv2D", filters=filters, kernel_size=size, strides=strides, padding="same", use_bias=False,
                   inputs=None if source is None else [source])  # fmt: skip
        sketch.add("BatchNormalization", epsilon=1e-5, momentum=0.9)
        return sketch.add("Activation", activation="relu") if relu else sketch.last

    last = normalized(16)
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage > 0 and block == 0 else 1
            normalized(filters, strides=strides, source=last)
            branch = normalized(filters, relu=False)
            shortcut = normalized(filters, 1, strides, source=last, relu=False) if strides == 2 else last
            sketch.add("Add", inputs=[branch, shortcut])
            last = sketch.add("Activation", activation="relu")
    sketch.add("GlobalAveragePooling2D")
    sketch.add("Dense", units=10, activation="softmax")
    return workload(sketch, numbers(3072), "sparse_categorical_crossentropy", classes=10)


def recurrent(layer):
    """One recurrent layer of 64 units over 50 steps of 32 numbers, and a number from its last state."""
    sketch = Sketch()
    sketch.add("Input", shape=[50, 32])
    sketch.add(layer, units=64)
    sketch.add("Dense", units=1)
    return workload(sketch, numbers(1600), "mse")


def transformer():
    """One encoder block, d 128, 64 steps, 4 heads, feed-forward 512, after-normalised, and ten classes from its mean."""
    sketch = Sketch()
    start = sketch.add("Input", shape=[64, 128])
    attended = sketch.add("MultiHeadAttention", inputs=[start, start], num_heads=4, key_dim=32)
    sketch.add("Add", inputs=[start, attended])
    middle = sketch.add("LayerNormalization", epsilon=1e-5)
    sketch.add("Dense", units=512, activation="relu")
    fed = sketch.add("Dense", units=128)
    sketch.add("Add", inputs=[middle, fed])
    sketch.add("LayerNormalization", epsilon=1e-5)
    sketch.add("GlobalAveragePooling1D")
    sketch.add("Dense", units=10, activation="softmax")
    return workload(sketch, numbers(64 * 128), "sparse_categorical_crossentropy", classes=10)


def embedding_bag():
    """26 rows of a table of a million by 32, their mean, and one logit; the table's gradient is a list of rows."""
    sketch = Sketch()
    sketch.add("Input", dtype="int32")
    sketch.add("Embedding", input_dim=1_000_000, output_dim=32, sparse=True)
    sketch.add("GlobalAveragePooling1D")
    sketch.add("Dense", units=1, activation="sigmoid")
    inputs = [{"name": "x", "width": 26, "below": 1_000_000}]
    return workload(sketch, inputs, "binary_crossentropy", classes=2)


WORKLOADS = {
    "census": lambda: mlp(108, 128, 64, 1, last="sigmoid"),
    "mlp": lambda: mlp(784, 512, 256, 10),
    "small_mlp": lambda: mlp(64, 128, 64, 10),
    "cnn": cnn,
    "resnet20": resnet20,
    "lstm": lambda: recurrent("LSTM"),
    "gru": lambda: recurrent("GRU"),
    "transformer": transformer,
    "embedding_bag": embedding_bag,
}

if __name__ == "__main__":
    print(json.dumps(WORKLOADS[sys.argv[1]]()))

"""Networks over images: convolutions, pooling, batch normalization, ways around.

    python tests/golden/architectures/images.py
"""

import numpy as np

from parity import ROWS, Architecture, Task, record

CLASSES = 10
LATENT = 4  # numbers of the variational autoencoder's code


def lenet_5(library):
    """LeCun et al. (1998), over 16 by 16 dots."""
    layers = library.layers
    image = library.Input("image", (16, 16, 1))
    x = layers.Conv2D(6, 5, padding="same", activation="tanh")(image)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Conv2D(16, 5, activation="tanh")(x)
    x = layers.AveragePooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(120, activation="tanh")(x)
    x = layers.Dense(84, activation="tanh")(x)
    return library.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def vgg(library):
    """Two blocks of Simonyan and Zisserman (2015): pairs of small convolutions, then pooling."""
    layers = library.layers
    image = library.Input("image", (16, 16, 3))
    x = image
    for filters in (8, 16):
        x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        x = layers.Conv2D(filters, (3, 3), padding="same", activation="relu")(x)
        x = layers.MaxPooling2D((2, 2), strides=2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(32, activation="relu", kernel_regularizer=library.l2(5e-4))(x)
    x = layers.Dropout(0.0)(x)
    return library.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def resnet_20(library, activation="relu"):
    """He et al. (2016): three stages of three blocks, here of a quarter of the published filters."""
    layers = library.layers
    decay = library.l2(1e-4)

    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(
            filters,
            size,
            strides,
            "same",
            use_bias=False,
            kernel_initializer="he_normal",
            kernel_regularizer=decay,
        )(x)
        return layers.BatchNormalization()(x)

    image = library.Input("image", (16, 16, 3))
    x = layers.Activation(activation)(convolution(image, 4, 3))
    for stage, filters in enumerate((4, 8, 16)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            inner = layers.Activation(activation)(convolution(x, filters, 3, strides))
            inner = convolution(inner, filters, 3)
            if strides > 1:
                x = convolution(x, filters, 1, strides)
            x = layers.Activation(activation)(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    return library.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def resnet_20_swish(library):
    """The same without kinks, so that it can learn at a usual rate."""
    return resnet_20(library, "swish")


def mobile_net(library):
    """Howard et al. (2017): each channel on its own, then mixtures of channels; ReLU up to 6."""
    layers = library.layers
    image = library.Input("image", (16, 16, 3))

    def settled(x):
        return layers.ReLU(6.0)(layers.BatchNormalization()(x))

    x = settled(layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(image))
    for filters, strides in ((16, 1), (24, 2), (24, 1), (32, 2)):
        x = settled(layers.DepthwiseConv2D(3, strides, padding="same", use_bias=False)(x))
        x = settled(layers.Conv2D(filters, 1, use_bias=False)(x))
    # The same in one layer, without what stands between.
    x = settled(layers.SeparableConv2D(32, 3, padding="same", depth_multiplier=2)(x))
    x = layers.GlobalAveragePooling2D(keepdims=True)(x)
    x = layers.Conv2D(CLASSES, 1)(layers.Dropout(0.0)(x))
    x = layers.Softmax()(layers.Reshape((CLASSES,))(x))
    return library.Model(image, x)


def u_net(library):
    """Ronneberger et al. (2015): down twice, up twice, with what was before put beside."""
    layers = library.layers

    def double(x, filters):
        for _ in range(2):
            x = layers.Conv2D(filters, 3, padding="same", activation="relu")(x)
        return x

    image = library.Input("image", (16, 16, 1))
    x, beside = image, []
    for filters in (4, 8):
        beside.append(double(x, filters))
        x = layers.MaxPooling2D()(beside[-1])
    x = double(x, 16)
    x = layers.Conv2DTranspose(8, 2, strides=2, padding="same")(x)
    x = double(layers.Concatenate()([beside[1], x]), 8)
    x = layers.Conv2D(4, 2, padding="same")(layers.UpSampling2D(2)(x))
    x = double(layers.Concatenate(axis=-1)([beside[0], x]), 4)
    return library.Model(image, layers.Conv2D(1, 1, activation="sigmoid")(x))


def autoencoder(library):
    """Convolutions down to 8 numbers and up again to the image."""
    layers = library.layers
    image = library.Input("image", (16, 16, 1))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu")(image)
    x = layers.Conv2D(12, 3, strides=2, padding="same", activation="elu")(x)
    x = layers.Dense(8)(layers.Flatten()(x))
    x = layers.Reshape((4, 4, 12))(layers.Dense(4 * 4 * 12, activation="relu")(x))
    x = layers.Conv2DTranspose(8, 3, strides=2, padding="same", activation="relu")(x)
    x = layers.Conv2DTranspose(1, 3, 2, "same", activation="sigmoid")(x)
    return library.Model(image, x)


def variational_autoencoder(library):
    """Kingma and Welling (2014): dense layers with tanh to a normal distribution and from a point of it, to logits.

    The noise of the point is an input, so that both libraries have the same. How far the distribution is from a standard normal
    one is added to the loss by a layer of one's own.
    """
    layers, ops = library.layers, library.ops

    class Sampling(library.Layer):
        def call(self, inputs):
            mean, log_variance, epsilon = inputs
            divergence = ops.exp(log_variance) + ops.square(mean) - 1.0 - log_variance
            self.add_loss(library.per_row(0.5 * ops.sum(divergence, axis=-1)))
            return mean + ops.exp(log_variance / 2.0) * epsilon

    image = library.Input("image", (16, 16, 1))
    epsilon = library.Input("epsilon", (LATENT,))
    x = layers.Dense(32, activation="tanh")(layers.Flatten()(image))
    code = Sampling(name="sampling")([layers.Dense(LATENT)(x), layers.Dense(LATENT)(x), epsilon])
    x = layers.Dense(32, activation="tanh")(code)
    return library.Model([image, epsilon], layers.Reshape((16, 16, 1))(layers.Dense(256)(x)))


def reconstruction(library):
    """The cross-entropy of a row's dots with logits, summed."""
    ops = library.ops

    def summed_crossentropy(y_true, y_pred):
        return ops.sum(ops.softplus(y_pred) - y_true * y_pred, axis=(1, 2, 3))

    return summed_crossentropy


def squeeze_and_excitation(library):
    """Hu et al. (2018): channels weighed by what they hold over the whole image; groups are normalized."""
    layers = library.layers
    image = library.Input("image", (16, 16, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same")(image)
    for _ in range(2):
        inner = layers.Conv2D(8, 3, padding="same", groups=2)(x)
        inner = layers.Activation("swish")(layers.GroupNormalization(4)(inner))
        weights = layers.GlobalAveragePooling2D(keepdims=True)(inner)
        weights = layers.Dense(4, activation="relu")(weights)
        weights = layers.Dense(8, activation="sigmoid")(weights)
        x = layers.Add()([x, layers.Multiply()([inner, weights])])
    x = layers.GlobalMaxPooling2D()(x)
    return library.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def classes(channels):
    """A pattern for each class, under noise."""

    def task(random):
        patterns = random.standard_normal((CLASSES, 16, 16, channels))
        label = random.integers(0, CLASSES, ROWS)
        noise = random.standard_normal((ROWS, 16, 16, channels))
        image = (0.7 * patterns[label] + 0.7 * noise).astype("float32")
        return Task({"image": image}, label, "sparse_categorical_crossentropy")

    return task


def discs(random):
    """Bright discs, and where they are."""
    place = np.arange(16)
    row, column = random.uniform(4, 12, (2, ROWS, 1, 1))
    radius = random.uniform(2, 5, (ROWS, 1, 1))
    distance = np.hypot(place[:, None] - row, place - column)
    inside = (distance < radius).astype("float32")[..., None]
    image = inside + 0.5 * random.standard_normal(inside.shape)
    return Task({"image": image.astype("float32")}, inside, "binary_crossentropy")


def itself(random):
    """Smooth images, to be answered as they are."""
    wave = random.uniform(0.1, 0.6, (2, ROWS, 1, 1))
    place = np.arange(16)
    image = 0.5 + 0.5 * np.sin(wave[0] * place[:, None]) * np.cos(wave[1] * place)
    image = image.astype("float32")[..., None]
    return Task({"image": image}, image, "mean_squared_error")


def itself_from_a_sample(random):
    """The same, and the noise of each row's sample."""
    image = itself(random).target
    epsilon = random.standard_normal((ROWS, LATENT)).astype("float32")
    return Task({"image": image, "epsilon": epsilon}, image, reconstruction)


if __name__ == "__main__":
    record(
        "images",
        [
            Architecture(lenet_5, classes(1), lambda o: o.SGD(0.05, momentum=0.9)),
            Architecture(vgg, classes(3), lambda o: o.SGD(0.001, momentum=0.9, nesterov=True)),
            Architecture(resnet_20, classes(3), lambda o: o.SGD(1e-5, momentum=0.9)),
            Architecture(resnet_20_swish, classes(3), lambda o: o.SGD(0.02, momentum=0.9)),
            Architecture(mobile_net, classes(3), lambda o: o.RMSprop(1e-3)),
            Architecture(u_net, discs, lambda o: o.Adam(3e-3)),
            Architecture(autoencoder, itself, lambda o: o.Adam(0.02)),
            Architecture(variational_autoencoder, itself_from_a_sample, lambda o: o.Adam(0.01)),
            Architecture(squeeze_and_excitation, classes(3), lambda o: o.AdamW(3e-3)),
        ],
    )

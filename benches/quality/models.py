"""The networks, written once for two libraries: what `library` has are the names of the module `volary`, or of the module `keras`.

Knows no data and imports neither, since names and arguments are the same in both. Only what the autoencoder needs beside them is
not, so each side adds its own: `library.noise(like, training)`, standard normal numbers while training and zeros otherwise, and
`library.per_row(loss)`, which makes of a number for each row what the library's `add_loss` takes.
"""

CLASSES = 10
IMAGE = (28, 28, 1)


def scaled(library):
    """Dots from 0 to 255, as numbers from 0 to 1."""
    image = library.Input(shape=IMAGE)
    return image, library.layers.Rescaling(1 / 255)(image)


def lenet(library):
    """Two convolutions with pooling, then dense, as LeCun et al. (1998), with ReLU and dropout."""
    layers = library.layers
    image, x = scaled(library)
    for filters in (32, 64):
        x = layers.Conv2D(filters, 3, activation="relu")(x)
        x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(128, activation="relu")(x)
    x = layers.Dropout(0.5)(x)
    return library.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def resnet_20(library):
    """He et al. (2016) for CIFAR-10: three stages of three blocks with 16, 32 and 64 filters."""
    layers = library.layers

    def convolution(x, filters, size, strides=1):
        x = layers.Conv2D(filters, size, strides, "same", use_bias=False, kernel_initializer="he_normal")(x)
        return layers.BatchNormalization(momentum=0.9)(x)

    image, x = scaled(library)
    x = layers.Activation("relu")(convolution(x, 16, 3))
    for stage, filters in enumerate((16, 32, 64)):
        for block in range(3):
            strides = 2 if stage and not block else 1
            inner = layers.Activation("relu")(convolution(x, filters, 3, strides))
            inner = convolution(inner, filters, 3)
            if strides > 1:
                x = convolution(x, filters, 1, strides)
            x = layers.Activation("relu")(layers.Add()([x, inner]))
    x = layers.GlobalAveragePooling2D()(x)
    return library.Model(image, layers.Dense(CLASSES, activation="softmax")(x))


def text_cnn(library, words, length):
    """After Kim (2014): the strongest answer of each of many short patterns of words."""
    layers = library.layers
    return library.Sequential(
        [
            library.Input(shape=(length,), dtype="int32"),
            layers.Embedding(words, 64),
            layers.Dropout(0.3),
            layers.Conv1D(96, 5, activation="relu"),
            layers.GlobalMaxPooling1D(),
            layers.Dropout(0.5),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def mean_of_words(library, words, length):
    """The mean of the words' embeddings, padding left out (Joulin et al., 2017)."""
    layers = library.layers
    return library.Sequential(
        [
            library.Input(shape=(length,), dtype="int32"),
            layers.Embedding(words, 64, mask_zero=True),
            layers.GlobalAveragePooling1D(),
            layers.Dense(1, activation="sigmoid"),
        ]
    )


def forecaster(library, steps, channels):
    """One number for what follows a window of time."""
    layers = library.layers
    return library.Sequential([library.Input(shape=(steps, channels)), layers.LSTM(32), layers.Dense(1)])


def variational_autoencoder(library):
    """Kingma and Welling (2014), over the dots of an image; answers logits."""
    layers, ops = library.layers, library.ops
    latent = 8

    class Sampling(layers.Layer):
        """A point near the mean; how far its distribution is from a standard normal one is added to the loss."""

        def call(self, inputs, *, training=False):
            mean, log_variance = inputs
            divergence = ops.exp(log_variance) + ops.square(mean) - 1.0 - log_variance
            self.add_loss(library.per_row(0.5 * ops.sum(divergence, axis=-1)))
            return mean + ops.exp(0.5 * log_variance) * library.noise(mean, training)

    image, x = scaled(library)
    x = layers.Dense(256, activation="relu")(layers.Flatten()(x))
    code = Sampling()([layers.Dense(latent)(x), layers.Dense(latent)(x)])
    x = layers.Dense(256, activation="relu")(code)
    return library.Model(image, layers.Dense(28 * 28)(x))


def reconstruction(library):
    """The loss of the autoencoder's answer: the cross-entropy of a row's dots, summed, in nats."""
    ops = library.ops

    def summed_crossentropy(y_true, y_pred):
        return ops.sum(ops.softplus(y_pred) - y_true * y_pred, axis=-1)

    return summed_crossentropy

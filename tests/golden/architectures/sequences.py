"""Networks over words: recurrent layers, convolutions over steps, attention.

    python tests/golden/architectures/sequences.py
"""

import numpy as np

from parity import ROWS, Architecture, Task, record

STEPS = 12  # words of a text, the last of them 0 where it is shorter
WORDS = 40
CLASSES = 3
OTHER_WORDS = 30
OTHER_STEPS = 9


def lstm_classifier(library):
    """The last state of an LSTM over words (Hochreiter and Schmidhuber, 1997), padding left out."""
    layers = library.layers
    words = library.Input("words", (STEPS,), "int32")
    x = layers.Embedding(WORDS, 12, mask_zero=True)(words)
    x = layers.LSTM(16, return_sequences=True)(x)
    x = layers.LSTM(16)(x)
    return library.Model(words, layers.Dense(CLASSES, activation="softmax")(x))


def bidirectional_gru_classifier(library):
    """Two layers of gated units, each from both ends (Cho et al., 2014)."""
    layers = library.layers
    words = library.Input("words", (STEPS,), "int32")
    x = layers.Embedding(WORDS, 12, mask_zero=True)(words)
    inner = layers.GRU(8, return_sequences=True)
    x = layers.Bidirectional(inner)(x)
    inner = layers.GRU(8, recurrent_activation="hard_sigmoid", reset_after=False)
    x = layers.Bidirectional(inner, merge_mode="sum")(x)
    x = layers.Dense(1, activation="sigmoid")(layers.Dense(8, activation="relu")(x))
    return library.Model(words, x)


def text_cnn(library):
    """Kim (2014): windows of three, four and five words, the greatest answer of each."""
    layers = library.layers
    words = library.Input("words", (STEPS,), "int32")
    x = layers.Embedding(WORDS, 16)(words)
    found = []
    for width in (3, 4, 5):
        each = layers.Conv1D(10, width, activation="relu")(x)
        found.append(layers.GlobalMaxPooling1D()(each))
    x = layers.Dropout(0.0)(layers.Concatenate()(found))
    return library.Model(words, layers.Dense(CLASSES, activation="softmax")(x))


def temporal_convolutions(library):
    """Bai et al. (2018): causal convolutions that reach further and further back; a number per step."""
    layers = library.layers
    x = series = library.Input("series", (STEPS, 2))
    for reach in (1, 2, 4):
        inner = x
        for _ in range(2):
            inner = layers.Conv1D(8, 3, padding="causal", dilation_rate=reach, activation="relu")(inner)
        if reach == 1:
            x = layers.Conv1D(8, 1)(x)
        x = layers.Activation("relu")(layers.Add()([x, inner]))
    x = layers.TimeDistributed(layers.Dense(1))(x)
    return library.Model(series, x)


def placed(library, words, places, size, mask_zero=True):
    """What each word means, and where it stands."""
    layers = library.layers
    meaning = layers.Embedding(WORDS, size, mask_zero=mask_zero)(words)
    return layers.Add()([meaning, layers.Embedding(STEPS, size)(places)])


def fed_forward(library, x, size):
    layers = library.layers
    inner = layers.Dense(4 * size, activation="gelu")(x)
    inner = layers.Dropout(0.0)(layers.Dense(size)(inner))
    return layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, inner]))


def transformer_encoder(library):
    """Vaswani et al. (2017): each word looks at all others, padding left out."""
    layers = library.layers
    words = library.Input("words", (STEPS,), "int32")
    places = library.Input("places", (STEPS,), "int32")
    x = placed(library, words, places, 16)
    for _ in range(2):
        seen = layers.MultiHeadAttention(2, 8)(x, x)
        x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, seen]))
        x = fed_forward(library, x, 16)
    x = layers.GlobalAveragePooling1D()(x)
    x = layers.Dense(CLASSES, activation="softmax")(x)
    return library.Model([words, places], x)


def transformer_decoder(library):
    """Vaswani et al. (2017): each word looks at those before it, then at the words of another text; the next word."""
    layers = library.layers
    words = library.Input("words", (STEPS,), "int32")
    places = library.Input("places", (STEPS,), "int32")
    other = library.Input("other", (OTHER_STEPS,), "int32")
    read = layers.Embedding(OTHER_WORDS, 16, mask_zero=True)(other)
    x = placed(library, words, places, 16, mask_zero=False)
    seen = layers.MultiHeadAttention(num_heads=2, key_dim=8, dropout=0.0)(x, x, use_causal_mask=True)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, seen]))
    seen = layers.MultiHeadAttention(num_heads=2, key_dim=8)(x, read)
    x = layers.LayerNormalization(epsilon=1e-6)(layers.Add()([x, seen]))
    x = fed_forward(library, x, 16)
    x = layers.Dense(WORDS, activation="softmax")(x)
    return library.Model([words, places, other], x)


def sequence_to_sequence(library):
    """Sutskever et al. (2014): the last states of one network start another; with attention (Luong et al., 2015)."""
    layers = library.layers
    words = library.Input("words", (STEPS,), "int32")
    other = library.Input("other", (OTHER_STEPS,), "int32")
    read = layers.Embedding(OTHER_WORDS, 12, mask_zero=True)(other)
    read, hidden, carried = layers.LSTM(12, return_sequences=True, return_state=True)(read)
    x = layers.Embedding(WORDS, 12)(words)
    x = layers.LSTM(12, return_sequences=True)(x, initial_state=[hidden, carried])
    x = layers.Concatenate()([x, layers.Attention()([x, read])])
    x = layers.TimeDistributed(layers.Dense(WORDS, activation="softmax"))(x)
    return library.Model([words, other], x)


def texts(random, words, steps, padded):
    """Words from 1, and 0 behind the end where `padded`."""
    text = random.integers(1, words, (ROWS, steps))
    if padded:
        length = random.integers(steps // 2, steps + 1, (ROWS, 1))
        text = np.where(np.arange(steps) < length, text, 0)
    return text.astype("int32")


def classes(count, loss, places=False, padded=True):
    """Texts whose words are mostly of one class."""

    def task(random):
        words = texts(random, WORDS, STEPS, padded)
        label = random.integers(0, count, ROWS)
        typical = random.random(words.shape) < 0.5
        moved = np.minimum(words // count * count + label[:, None] + 1, WORDS - 1)
        words = np.where(typical & (words > 0), moved, words).astype("int32")
        inputs = {"words": words}
        if places:
            inputs["places"] = np.tile(np.arange(STEPS, dtype="int32"), (ROWS, 1))
        return Task(inputs, label if count > 2 else label[:, None], loss)

    return task


def next_words(places):
    """The next word of a text that follows another one."""

    def task(random):
        other = texts(random, OTHER_WORDS, OTHER_STEPS, True)
        words = texts(random, WORDS, STEPS + 1, False)
        words[:, 1::2] = other[:, : STEPS // 2]
        inputs = {"words": words[:, :-1]}
        if places:
            inputs["places"] = np.tile(np.arange(STEPS, dtype="int32"), (ROWS, 1))
        inputs["other"] = other
        return Task(inputs, words[:, 1:], "sparse_categorical_crossentropy")

    return task


def running_mean(random):
    """The mean of what came so far, with a sign."""
    series = random.standard_normal((ROWS, STEPS, 2)).astype("float32")
    count = np.arange(1, STEPS + 1)[:, None]
    target = np.cumsum(series, axis=1)[..., :1] / count + np.sign(series[..., 1:])
    return Task({"series": series}, target.astype("float32"), "huber")


if __name__ == "__main__":
    several = "sparse_categorical_crossentropy"
    record(
        "sequences",
        [
            Architecture(lstm_classifier, classes(CLASSES, several), lambda o: o.Adam(0.01)),
            Architecture(
                bidirectional_gru_classifier,
                classes(2, "binary_crossentropy"),
                lambda o: o.Adam(0.01, global_clipnorm=1.0),
            ),
            Architecture(
                text_cnn,
                classes(CLASSES, several, padded=False),
                lambda o: o.Adadelta(5.0, rho=0.95),
            ),
            Architecture(temporal_convolutions, running_mean, lambda o: o.Nadam(0.01)),
            Architecture(
                transformer_encoder,
                classes(CLASSES, several, places=True),
                lambda o: o.Adam(2e-3, beta_2=0.98, epsilon=1e-9),
            ),
            Architecture(transformer_decoder, next_words(True), lambda o: o.Adam(2e-3)),
            Architecture(sequence_to_sequence, next_words(False), lambda o: o.Adamax(0.05)),
        ],
    )

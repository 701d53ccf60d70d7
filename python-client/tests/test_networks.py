"""Networks with recurrent and attention layers, several outputs, shared layers and models as layers, as the servers read them."""

from __future__ import annotations

import pytest

from volary import Input, Model, Sequential, layers


def test_states_are_further_outputs_and_first_states_further_inputs():
    steps = Input(["a"], shape=(4, 2), name="steps")
    _, hidden, carried = layers.LSTM(3, return_state=True, name="encoder")(steps)
    decoded = layers.LSTM(3, name="decoder")(steps, initial_state=[hidden, carried])
    described = Model(outputs=decoded).to_json()
    assert inputs_of(described) == {
        "steps": [],
        "encoder": ["steps"],
        "decoder": ["steps", "encoder:1", "encoder:2"],
    }
    # A further output can be the answer, and a GRU has one state.
    _, state = layers.GRU(3, return_state=True)(steps, initial_state=hidden)
    assert Model(outputs=state).to_json()["outputs"] == ["gru:1"]


def test_a_convolutional_cell_hands_on_two_images():
    frames = Input(["frames"], shape=(4, 8, 8, 1), name="frames")
    _, hidden, carried = layers.ConvLSTM2D(3, 3, padding="same", return_state=True, name="encoder")(frames)
    decoded = layers.ConvLSTM2D(3, 3, padding="same", name="decoder")(frames, initial_state=[hidden, carried])
    assert inputs_of(Model(outputs=decoded).to_json())["decoder"] == ["frames", "encoder:1", "encoder:2"]
    with pytest.raises(TypeError, match="a Bidirectional holds a SimpleRNN, LSTM or GRU, not ConvLSTM2D"):
        layers.Bidirectional(layers.ConvLSTM2D(3, 3))


def test_a_bidirectional_layer_describes_the_one_inside():
    steps = Input(["a"], shape=(4, 2))
    inside = layers.LSTM(3, return_state=True, activation=None)
    outputs = layers.Bidirectional(inside, merge_mode=None)(steps)
    assert [each.number for each in outputs] == [0, 1, 2, 3, 4, 5]
    config = Model(outputs=outputs[0]).to_json()["layers"][1]["config"]
    assert config["merge_mode"] is None
    assert config["backward_layer"] is None
    assert config["layer"] == {"layer": "LSTM", "config": inside.get_config()}
    copy = layers.Bidirectional.from_config(config)
    assert copy == layers.Bidirectional(inside, merge_mode=None)
    with pytest.raises(TypeError, match="a Bidirectional holds a SimpleRNN, LSTM or GRU, not Dense"):
        layers.Bidirectional(layers.Dense(3))
    with pytest.raises(TypeError, match="a TimeDistributed holds a layer, not 'LSTM'"):
        layers.TimeDistributed("LSTM")


def test_attention_takes_its_masks_in_the_call():
    query, value, mask = (
        Input(["q"], shape=(3, 4)),
        Input(["v"], shape=(5, 6)),
        Input(["m"], dtype="int32", shape=(3, 5)),
    )
    heads = layers.MultiHeadAttention(num_heads=2, key_dim=3, name="heads")
    described = Model(outputs=heads(query, value, attention_mask=mask, use_causal_mask=True)).to_json()
    heads_layer = described["layers"][-1]
    assert heads_layer["inputs"] == ["input", "input_1", "input_2"]
    assert heads_layer["config"]["attention_mask"]
    assert heads_layer["config"]["use_causal_mask"]
    plain = Model(outputs=layers.Attention()([query, query])).to_json()["layers"][-1]
    assert plain["inputs"] == ["input", "input"]
    assert plain["config"]["use_causal_mask"] is False


def test_a_layer_called_twice_shares_its_arrays():
    dense = layers.Dense(3, name="both")
    left, right = dense(Input(["a"])), dense(Input(["b"]))
    described = Model(outputs=layers.Concatenate()([left, right])).to_json()
    assert shares_of(described) == {"both_1": "both"}
    again = layers.Dense(3)
    assert shares_of(Sequential([again, again, again]).to_json()) == {"dense_1": "dense", "dense_2": "dense"}


def test_a_model_called_on_tensors_becomes_its_layers():
    own = Input(["x"], shape=(4, 2))
    answer, state = layers.GRU(3, return_state=True)(own)
    encoder = Model(own, [layers.Dense(2)(answer), state], name="encoder")
    first, first_state = encoder(Input(["a"], shape=(4, 2)))
    second, _ = encoder(Input(["b"], shape=(4, 2)))
    described = Model(outputs=layers.Concatenate()([first, first_state, second])).to_json()
    assert inputs_of(described) == {
        "input": [],
        "encoder.gru": ["input"],
        "encoder.dense": ["encoder.gru"],
        "input_1": [],
        "encoder.gru_1": ["input_1"],
        "encoder.dense_1": ["encoder.gru_1"],
        "concatenate": ["encoder.dense", "encoder.gru:1", "encoder.dense_1"],
    }
    assert shares_of(described) == {"encoder.gru_1": "encoder.gru", "encoder.dense_1": "encoder.dense"}
    with pytest.raises(TypeError, match="the model 'encoder' has 1 inputs and is called on 2"):
        encoder([own, own])
    with pytest.raises(TypeError, match="a model is called on tensors"):
        encoder(3)


def test_a_frozen_model_keeps_its_arrays_also_inside_another():
    base = Sequential([layers.Dense(3), layers.Dense(2)], name="base")
    assert base.trainable
    base.trainable = False
    whole = Sequential([base, layers.Dense(1)], name="whole")
    frozen = {layer["name"]: layer["config"].get("trainable", True) for layer in whole.to_json()["layers"]}
    assert frozen == {"input": True, "base.dense": False, "base.dense_1": False, "dense": True}
    assert not base.trainable
    assert whole.trainable
    nested = Sequential([whole, layers.Dense(4)], name="outer").to_json()
    assert [layer["name"] for layer in nested["layers"]][1:3] == ["whole.base.dense", "whole.base.dense_1"]


def inputs_of(described: dict) -> dict:
    return {layer["name"]: layer["inputs"] for layer in described["layers"]}


def shares_of(described: dict) -> dict:
    return {layer["name"]: layer["shares"] for layer in described["layers"] if "shares" in layer}

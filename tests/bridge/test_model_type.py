"""Which losses classify, and the JSON form of the answer."""

from __future__ import annotations

import inspect
import json

import keras
import pytest

from elephas_fast.utils.model_utils import (
    LossModelTypeMapper,
    ModelType,
    ModelTypeEncoder,
    as_enum,
    is_multiple_input_model,
    is_multiple_output_model,
)

C, R = ModelType.CLASSIFICATION, ModelType.REGRESSION
NO_LOSSES = {"Loss", "deserialize", "get", "serialize"}
LOSSES = sorted(name for name in dir(keras.losses) if not name.startswith("_") and name not in NO_LOSSES)
OF_NUMBERS = (
    "CosineSimilarity", "Huber", "LogCosh", "MeanAbsoluteError", "MeanAbsolutePercentageError", "MeanSquaredError",
    "MeanSquaredLogarithmicError", "Poisson",
)  # fmt: skip


def type_of(loss):
    return LossModelTypeMapper().get_model_type(loss)


def forget(monkeypatch):
    monkeypatch.setattr(LossModelTypeMapper(), "_registered", {})


@pytest.mark.parametrize("name", LOSSES)
def test_each_loss_of_keras_is_known_in_all_its_forms(name):
    loss = getattr(keras.losses, name)
    same = {n.replace("_", "").lower() for n in OF_NUMBERS}
    expected = R if name.replace("_", "").lower() in same else C
    assert type_of(loss) is expected
    assert type_of(name) is expected
    if inspect.isclass(loss):
        assert type_of(loss()) is expected
        assert type_of(keras.losses.serialize(loss())) is expected


def test_there_are_losses_of_both_kinds():
    assert {type_of(name) for name in LOSSES} == {C, R}
    assert len(LOSSES) > 40


@pytest.mark.parametrize("name", ["mse", "MSE", "mae", "mape", "msle", "logcosh", "cosine_proximity"])
def test_short_and_earlier_names_of_numbers(name):
    assert type_of(name) is R


@pytest.mark.parametrize("name", ["bce", "kld", "kullback_leibler_divergence"])
def test_short_and_earlier_names_of_classes(name):
    assert type_of(name) is C


def test_several_outputs():
    assert type_of(["mse", "mae"]) is R
    assert type_of({"a": "categorical_crossentropy", "b": keras.losses.Hinge(), "c": None}) is C
    assert type_of(["mse", "hinge"]) is None
    assert type_of(["mse", "of_my_own"]) is None
    assert type_of([]) is None
    assert type_of(None) is None


def of_my_own(y_true, y_pred):
    return keras.losses.mean_squared_error(y_true, y_pred)


class OfMyOwn(keras.losses.Loss):
    def call(self, y_true, y_pred):
        return of_my_own(y_true, y_pred)


class Squared(keras.losses.MeanSquaredError):
    pass


def test_losses_of_ones_own(monkeypatch):
    forget(monkeypatch)
    assert LossModelTypeMapper() is LossModelTypeMapper()
    assert type_of(of_my_own) is None
    assert type_of(OfMyOwn()) is None
    assert type_of(Squared()) is R
    LossModelTypeMapper().register_loss(of_my_own, R)
    assert type_of(of_my_own) is type_of("of_my_own") is R
    assert type_of({"class_name": "function", "config": "of_my_own"}) is R
    LossModelTypeMapper().register_loss(OfMyOwn(), C)
    assert type_of(OfMyOwn) is type_of(OfMyOwn()) is C
    LossModelTypeMapper().register_loss("mse", C)
    assert type_of("mse") is C
    assert type_of("mean_squared_error") is R
    for loss, kind, message in [
        ("mse", "regression", "model_type: expected ModelType.CLASSIFICATION"),
        (["mse"], R, "loss: expected the name"),
        (None, R, "loss: expected the name"),
    ]:
        with pytest.raises(TypeError, match=message):
            LossModelTypeMapper().register_loss(loss, kind)


def test_the_compiled_loss_of_a_model():
    model = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    for loss, expected in [("mse", R), (keras.losses.BinaryCrossentropy(from_logits=True), C), (of_my_own, None)]:
        model.compile("sgd", loss)
        assert type_of(model.loss) is expected


def test_json():
    text = json.dumps({"model_type": C, "loss": "mse"}, cls=ModelTypeEncoder)
    assert json.loads(text)["model_type"] == {"__enum__": "ModelType.CLASSIFICATION"}
    assert json.loads(text, object_hook=as_enum) == {"model_type": C, "loss": "mse"}
    with pytest.raises(ValueError, match=r"__enum__: expected one of ModelType.CLASSIFICATION, .* got 'os.system'"):
        as_enum({"__enum__": "os.system"})
    with pytest.raises(TypeError, match="not JSON serializable"):
        json.dumps(object(), cls=ModelTypeEncoder)


def test_inputs_and_outputs():
    one, two = keras.Input((2,), name="one"), keras.Input((3,), name="two")
    joined = keras.layers.concatenate([one, two])
    outputs = [keras.layers.Dense(1)(joined), keras.layers.Dense(2)(joined)]
    model = keras.Model([one, two], outputs)
    assert is_multiple_input_model(model)
    assert is_multiple_output_model(model)
    assert is_multiple_input_model(keras.Model({"one": one, "two": two}, outputs[0]))
    single = keras.Sequential([keras.Input((2,)), keras.layers.Dense(1)])
    assert not is_multiple_input_model(single)
    assert not is_multiple_output_model(single)
    assert not is_multiple_output_model(keras.Model([one, two], outputs[1]))

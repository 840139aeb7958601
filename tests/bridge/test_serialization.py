"""Models as dicts."""

from __future__ import annotations

import keras
import numpy as np
import pytest

from elephas_fast.utils.serialization import dict_to_model, model_to_dict


class Doubled(keras.layers.Layer):
    def call(self, inputs):
        return 2 * inputs


def test_a_model_comes_back():
    keras.utils.set_random_seed(0)
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(4), keras.layers.BatchNormalization()])
    d = model_to_dict(model)
    assert set(d) == {"model", "weights"}
    again = dict_to_model(d)
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    np.testing.assert_array_equal(again(x), model(x))


def test_custom_objects():
    model = keras.Sequential([keras.Input((3,)), Doubled(), keras.layers.Dense(1)])
    d = model_to_dict(model)
    again = dict_to_model(d, {"Doubled": Doubled})
    assert isinstance(again.layers[0], Doubled)
    with pytest.raises(ValueError, match=r"d\['model'\]: Keras could not build a model of it"):
        dict_to_model(d)


@pytest.mark.parametrize(("d", "got"), [({"model": "{}"}, "got model"), ("text", "got str")])
def test_another_dict(d, got):
    with pytest.raises(ValueError, match=f"d: expected a dict with 'model' and 'weights'.*{got}"):
        dict_to_model(d)

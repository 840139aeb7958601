"""SparkHFModel: texts are tokenized in the workers, in training, prediction and generation."""

from __future__ import annotations

import os
import sys

import keras
import numpy as np
import pytest

from elephas_fast import load_spark_model
from elephas_fast.spark.tokens import Tokens
from elephas_fast.spark_model import SparkHFModel
from elephas_fast.utils.rdd_utils import to_simple_rdd
from tests.spark.conftest import own_leftovers
from tests.spark.letters import LETTERS, Continues, Letters, Ranked

UPWARD = [LETTERS[i : i + 8] for i in range(1, 19)]
DOWNWARD = [text[::-1] for text in UPWARD]
TEXTS = [text for pair in zip(UPWARD, DOWNWARD, strict=True) for text in pair]
LABELS = [0, 1] * 18


def continuing() -> keras.Model:
    keras.utils.set_random_seed(0)
    model = Continues()
    model.build((None, None))
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=["accuracy"])
    return model


def classifying(token_wise: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    ids = keras.Input((None,), dtype="int32", name="input_ids")
    mask = keras.Input((None,), dtype="float32", name="attention_mask")
    x = keras.layers.Embedding(len(LETTERS), 16)(ids) * keras.layers.Reshape((-1, 1))(mask)
    x = keras.layers.GRU(24, return_sequences=token_wise)(x)
    model = keras.Model([ids, mask], keras.layers.Dense(2, activation="softmax")(x))
    loss = keras.losses.SparseCategoricalCrossentropy(ignore_class=-100 if token_wise else None)
    model.compile(keras.optimizers.Adam(0.02), loss, metrics=None if token_wise else ["accuracy"])
    return model


@pytest.mark.parametrize("mode", ["synchronous", "asynchronous"])
def test_texts_are_classified(sc, mode):
    model = SparkHFModel(
        classifying(), mode=mode, num_workers=2, batch_size=4, tokenizer=Letters(os.getpid()),
        tokenizer_kwargs={"padding": True},
    )  # fmt: skip
    rdd = to_simple_rdd(sc, TEXTS, LABELS)
    history = model.fit(rdd, epochs=12, verbose=0, seed=1)
    assert history.history["accuracy"][-1] > 0.9
    distributed = model.predict(sc.parallelize(TEXTS, 3))
    pairs = model.predict(sc.parallelize(list(zip(TEXTS, LABELS, strict=True)), 2))
    assert model.evaluate(rdd)[1] > 0.9
    model.tokenizer = Letters()
    local = model.predict(TEXTS)
    assert np.mean(np.argmax(local, axis=1) == LABELS) > 0.9
    for rows in (distributed, pairs):
        np.testing.assert_allclose(rows, local, rtol=1e-4, atol=1e-6)
    assert model.evaluate(TEXTS, np.array(LABELS))[1] > 0.9
    samples = {name: np.array(rows) for name, rows in Letters()(TEXTS, padding=True).items()}
    np.testing.assert_allclose(np.asarray(model(**samples)), local, rtol=1e-4, atol=1e-6)
    assert not own_leftovers()["servers"]


def test_texts_are_continued(sc):
    spark_model = SparkHFModel(
        continuing(), num_workers=2, batch_size=8, tokenizer=Letters(os.getpid()), tokenizer_kwargs={"padding": True}
    )
    spark_model.fit(sc.parallelize(UPWARD * 4, 2), epochs=25, verbose=0, seed=1)
    starts = [text[:3] for text in UPWARD]
    ids = np.array(Letters()(starts)["input_ids"])
    expected = spark_model.master_network.generate(ids, 6)
    for data in (sc.parallelize(starts, 3), starts, np.array(starts)):
        made = spark_model.generate(data, max_length=6)
        assert len(made) == len(starts)
        np.testing.assert_array_equal(made, expected)
    texts = ["".join(LETTERS[i] for i in row) for row in made]
    assert np.mean([got == text[:6] for got, text in zip(texts, UPWARD, strict=True)]) > 0.5
    spark_model.master_network.sampler = Ranked(2)
    second = spark_model.master_network.generate(ids, 6)
    assert not np.array_equal(second, expected)
    np.testing.assert_array_equal(spark_model.generate(starts, max_length=6), second)
    spark_model.master_network.sampler = Ranked(1)
    spark_model.tokenizer = None
    np.testing.assert_array_equal(spark_model.generate(ids, max_length=6), expected)
    with pytest.raises(Exception, match="unexpected keyword argument 'maximum'"):
        spark_model.generate(ids, maximum=6)
    assert spark_model.generate(sc.parallelize([], 2)) == []


def test_the_form_of_the_sixth_release():
    letters = Letters()
    model = SparkHFModel(classifying(), "hogwild", "batch", "http", 3, 16, 4321, letters, {"padding": True}, "loader")
    assert (model.mode, model.frequency, model.num_workers, model.batch_size, model.port) == (
        "hogwild", "batch", 3, 16, 4321,
    )  # fmt: skip
    assert (model.tokenizer, model.tokenizer_kwargs, model.tf_loader) == (letters, {"padding": True}, "loader")
    assert SparkHFModel(classifying(), frequency="epoch", port=4000).mode == "synchronous"


def test_labels_of_tokens_are_padded(sc):
    model = SparkHFModel(
        classifying(token_wise=True), num_workers=2, tokenizer=Letters(), tokenizer_kwargs={"padding": True}
    )
    cut = [text[: 3 + i % 5] for i, text in enumerate(TEXTS)]
    rows = [(text, [LETTERS.index(letter) % 2 for letter in text]) for text in cut]
    history = model.fit(sc.parallelize(rows, 2), epochs=20, verbose=0, seed=1)
    assert history.history["loss"][-1] < history.history["loss"][0] * 0.8
    assert model.predict(["abc", "abcde"])[0].shape == (5, 2)


def test_what_the_tokenizer_gives_is_checked():
    tokens = Tokens(Letters(), {}, ("input_ids",))
    with pytest.raises(ValueError, match="tokenizer: expected 2 rows of one length for 'input_ids', got others; ask"):
        tokens.features(["ab", "abc"])
    with pytest.raises(
        ValueError, match="tokenizer: expected input_ids, token_types, the model's inputs, got input_ids"
    ):
        Tokens(Letters(), {}, ("input_ids", "token_types")).features(["ab"])
    np.testing.assert_array_equal(Tokens(Letters(), {}, ("anything",)).features(["ab"])[0], [[1, 2]])
    with pytest.raises(ValueError, match="rdd: expected a label for each text or for none, got 1 for 2 texts"):
        list(tokens.blocks([("ab", 1), "ab"]))
    assert list(tokens.blocks([])) == []
    (block,) = tokens.blocks(["abc", "bcd"])
    np.testing.assert_array_equal(block.x[0], [[1, 2], [2, 3]])
    np.testing.assert_array_equal(block.y[0], [[2, 3], [3, 4]])
    assert [len(b) for b in tokens.blocks(["ab"] * 2500, targets=False)] == [1000, 1000, 500]


def test_models_that_cannot_be_trained(monkeypatch):
    theirs = type("TFBertModel", (), {"__module__": "transformers.models.bert"})
    with pytest.raises(ValueError, match=r"model: expected a keras.Model, .* got TFBertModel of transformers"):
        SparkHFModel(theirs())
    with pytest.raises(ValueError, match=r"model: expected one with generate\(inputs, ...\), got Functional without"):
        SparkHFModel(classifying()).generate(["ab"])
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ImportError, match="tokenizer: expected transformers to be installed to load 'bert'"):
        SparkHFModel(classifying(), tokenizer="bert")
    with pytest.raises(TypeError, match="unknown keyword of SparkModel 'tokeniser'"):
        SparkHFModel(classifying(), tokeniser=Letters())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_it_is_saved_without_its_tokenizer(tmp_path):
    file = str(tmp_path / "m.keras")
    SparkHFModel(classifying(), num_workers=2, tokenizer=Letters()).save(file)
    loaded = load_spark_model(file)
    assert type(loaded) is SparkHFModel
    assert (loaded.mode, loaded.num_workers, loaded.tokenizer) == ("synchronous", 2, None)

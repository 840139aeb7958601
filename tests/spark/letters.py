"""A tokenizer and a generating model for ``test_texts``, in a module that Spark's workers can import."""

from __future__ import annotations

import os

import keras
import numpy as np

LETTERS = " abcdefghijklmnopqrstuvwxyz"


class Letters:
    """Token ids of letters, with a mask; says in which process it ran."""

    def __init__(self, driver: int | None = None) -> None:
        self.driver = driver

    def __call__(self, texts, padding=False, length=None):
        if self.driver == os.getpid():
            raise AssertionError("tokenized in the driver")
        ids = [[LETTERS.index(letter) for letter in text] for text in texts]
        if padding:
            longest = length or max(map(len, ids))
            return {
                "input_ids": [row + [0] * (longest - len(row)) for row in ids],
                "attention_mask": [[1] * len(row) + [0] * (longest - len(row)) for row in ids],
            }
        return {"input_ids": ids, "attention_mask": [[1] * len(row) for row in ids]}


@keras.saving.register_keras_serializable("tests")
class Ranked:
    """Chooses the token of a rank among the likely: 1 is the likeliest."""

    def __init__(self, rank=1):
        self.rank = rank

    def __call__(self, scores):
        return np.argsort(scores, axis=-1)[:, -self.rank]

    def get_config(self):
        return {"rank": self.rank}

    @classmethod
    def from_config(cls, config):
        return cls(**config)


@keras.saving.register_keras_serializable("tests")
class Continues(keras.Model):
    """Says the next token at each place; ``generate`` appends what ``sampler`` chooses."""

    def __init__(self, units=48, **kwargs):
        super().__init__(**kwargs)
        self.units = units
        self.sampler = Ranked()
        self.embed = keras.layers.Embedding(len(LETTERS), 24)
        self.gru = keras.layers.GRU(units, return_sequences=True)
        self.head = keras.layers.Dense(len(LETTERS))

    def build(self, input_shape):
        self.embed.build(input_shape)
        self.gru.build((*input_shape, 24))
        self.head.build((*input_shape, self.units))
        super().build(input_shape)

    def call(self, inputs):
        return self.head(self.gru(self.embed(inputs)))

    def generate(self, inputs, max_length=12):
        ids = np.asarray(inputs)
        while ids.shape[1] < max_length:
            following = self.sampler(np.asarray(self(ids))[:, -1])
            ids = np.concatenate([ids, following[:, None]], axis=1)
        return ids

    def get_config(self):
        return {**super().get_config(), "units": self.units}

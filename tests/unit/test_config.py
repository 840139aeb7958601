"""The list of training options: each bad value is one sentence that names the option."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError
from enum import Enum
from typing import Any

import numpy as np
import pytest

from elephas_fast.config import TrainingConfig, refuse_unknown, whole


class Mode(Enum):
    SYNCHRONOUS = "synchronous"


class Frequency(Enum):
    BATCH = "batch"


BAD: list[tuple[str, Any, type[Exception]]] = [
    ("mode", "async", ValueError),
    ("mode", None, ValueError),
    ("mode", 3, ValueError),
    ("frequency", "round", ValueError),
    ("frequency", 0, ValueError),
    ("frequency", -1, ValueError),
    ("frequency", 1.5, TypeError),
    ("frequency", True, TypeError),
    ("frequency", None, TypeError),
    ("update", "weights", ValueError),
    ("access", "atomic", ValueError),
    ("on_nonfinite", "ignore", ValueError),
    ("transport", "http", ValueError),
    ("staleness", -1, ValueError),
    ("staleness", 0.5, TypeError),
    ("port", 0, ValueError),
    ("port", 65536, ValueError),
    ("port", "4000", TypeError),
    ("epochs", 0, ValueError),
    ("epochs", 1.0, TypeError),
    ("batch_size", 0, ValueError),
    ("batch_size", -32, ValueError),
    ("batch_size", "32", TypeError),
    ("batch_size", None, TypeError),
    ("validation_split", 1.0, ValueError),
    ("validation_split", -0.1, ValueError),
    ("validation_split", float("nan"), ValueError),
    ("validation_split", "0.1", TypeError),
    ("validation_split", True, TypeError),
    ("shuffle", 1, TypeError),
    ("shuffle", "batch", TypeError),
    ("class_weight", [1.0, 2.0], TypeError),
    ("class_weight", {"a": 1.0}, TypeError),
    ("class_weight", {0: -1.0}, ValueError),
    ("class_weight", {0: float("nan")}, ValueError),
    ("class_weight", {True: 1.0}, TypeError),
    ("seed", -1, ValueError),
    ("seed", 2**31, ValueError),
    ("seed", 1.0, TypeError),
    ("verbose", 3, ValueError),
    ("verbose", "yes", ValueError),
    ("server_timeout", 0, ValueError),
    ("server_timeout", None, TypeError),
    ("straggler_timeout", -1.0, ValueError),
    ("xla", True, ValueError),
    ("xla", "always", ValueError),
    ("checkpoint_dir", 3, TypeError),
    ("checkpoint_dir", b"folder", TypeError),
    ("checkpoint_dir", "", ValueError),
    ("checkpoint_dir", "hdfs://host/folder", ValueError),
    ("checkpoint_every", 0, ValueError),
    ("checkpoint_every", 0.5, TypeError),
    ("checkpoint_every", 2, ValueError),
    ("resume", 1, TypeError),
    ("resume", True, ValueError),
]


@pytest.mark.parametrize(("option", "value", "error"), BAD, ids=[f"{o}={v!r}" for o, v, _ in BAD])
def test_a_bad_value_is_one_sentence_that_names_the_option(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error) as raised:
        TrainingConfig(**{option: value})
    text = str(raised.value)
    assert text.startswith(option)
    assert "expected" in text
    assert "got" in text
    assert "\n" not in text


def test_a_bound_makes_no_sense_for_synchronous_training() -> None:
    with pytest.raises(ValueError, match=r"staleness: .*mode='synchronous'; leave it out"):
        TrainingConfig(mode="synchronous", staleness=2)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("batchsize", "unknown option 'batchsize': did you mean 'batch_size'\\?"),
        ("epoch", "unknown option 'epoch': did you mean 'epochs'\\?"),
        ("zzz", "unknown option 'zzz': known are access, batch_size, "),
    ],
)
def test_an_unknown_option_is_refused_with_a_suggestion(given: str, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        TrainingConfig.of(**{given: 1})
    with pytest.raises(TypeError, match=message):
        TrainingConfig().with_options(**{given: 1})


def test_enums_of_elephas_are_accepted_by_value() -> None:
    config = TrainingConfig(mode=Mode.SYNCHRONOUS, frequency=Frequency.BATCH)  # type: ignore[arg-type]
    assert (config.mode, config.frequency) == ("synchronous", "batch")
    assert type(config.mode) is str


@pytest.mark.parametrize(
    ("option", "given", "kept"),
    [
        ("frequency", np.int64(16), 16),
        ("batch_size", np.uint8(7), 7),
        ("epochs", np.int32(3), 3),
        ("verbose", "auto", 1),
        ("verbose", True, 1),
        ("verbose", False, 0),
        ("class_weight", {0: 1.0, np.int64(1): 2}, {0: 1.0, 1: 2}),
        ("staleness", 0, 0),
        ("validation_split", 0, 0),
    ],
)
def test_good_values_are_normalised(option: str, given: Any, kept: Any) -> None:
    value = getattr(TrainingConfig(**{option: given}), option)
    assert value == kept
    assert not isinstance(value, (np.generic, bool))


def test_a_configuration_is_a_frozen_value() -> None:
    config = TrainingConfig.of(epochs=3, seed=7)
    with pytest.raises(FrozenInstanceError):
        config.epochs = 4  # type: ignore[misc]
    assert config.with_options(epochs=4) == TrainingConfig(epochs=4, seed=7)
    assert config.epochs == 3
    assert TrainingConfig.of(**config.to_dict()) == config
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValueError, match="epochs: expected a whole number >= 1, got 0"):
        config.with_options(epochs=0)


def test_the_option_table_has_a_meaning_for_each_option() -> None:
    table = TrainingConfig.table()
    assert [name for name, _, _ in table] == list(TrainingConfig().to_dict())
    for name, default, meaning in table:
        assert getattr(TrainingConfig(), name) == default
        assert len(meaning) > 10


def test_helpers_name_what_they_check() -> None:
    assert whole("port", np.int16(5), 1, 9) == 5
    with pytest.raises(ValueError, match="port: expected a whole number from 1 to 9, got 10"):
        whole("port", 10, 1, 9)
    with pytest.raises(TypeError, match="unknown setting 'workes': did you mean 'workers'"):
        refuse_unknown({"workes": 1}, ["workers", "threads"], "setting")

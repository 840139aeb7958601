"""Pickled weights are read; whatever else a pickle may hold is refused, and nothing of it is run."""

from __future__ import annotations

import builtins
import os
import pickle
import struct
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from elephas_fast.tuning import weight_lists
from elephas_fast.tuning.weight_lists import RefusedWeights, arrays_of, list_of_arrays

NAMES = ("float16", "float32", "float64", "int8", "int32", "int64", "uint8", "uint64", "bool", ">f4", ">i8")
DTYPES = (*NAMES, ml_dtypes.bfloat16)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_protocol_and_dtype_come_back(protocol, dtype):
    rng = np.random.default_rng(0)
    given = [
        (rng.normal(size=(3, 4)) * 5).astype(dtype),
        np.asfortranarray((rng.normal(size=(5, 2)) * 5).astype(dtype)),
        np.zeros((0, 7), dtype),
        np.asarray(1).astype(dtype),
        (rng.normal(size=(6, 4)) * 5).astype(dtype)[::2, 1:],
    ]
    for container in (given, tuple(given)):
        found = list_of_arrays(pickle.dumps(container, protocol))
        for a, b in zip(given, found, strict=True):
            assert a.shape == b.shape
            assert (a.dtype.newbyteorder("=") if dtype in NAMES else np.float32) == b.dtype
            np.testing.assert_array_equal(a, b)
        assert all(array.flags.writeable for array in found)


def test_weights_of_a_keras_model_come_back():
    import keras

    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(3), keras.layers.BatchNormalization()])
    weights = model.get_weights()
    for a, b in zip(weights, list_of_arrays(pickle.dumps(weights)), strict=True):
        np.testing.assert_array_equal(a, b)
    assert list_of_arrays(pickle.dumps([])) == []
    (one,) = list_of_arrays(pickle.dumps(np.ones(3)))
    np.testing.assert_array_equal(one, np.ones(3))


def test_many_weights_that_share_a_memo_come_back():
    given = [np.full((2,), i, np.float32) for i in range(2000)]
    for protocol in (2, 4, 5):
        np.testing.assert_array_equal(list_of_arrays(pickle.dumps(given, protocol)), given)


class Calls:
    """Pickles as a call."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


class WithState:
    def __reduce__(self) -> Any:
        return os.getcwd, (), {"a": 1}


def a_dtype(name: bytes) -> bytes:
    """A dtype by hand, of what ``name`` makes."""
    return b"\x80\x02](cnumpy\ndtype\n(" + name + b"tRe."


def the_same_bytes(count: int) -> bytes:
    """An array of 10 kB, and so many more of the same bytes, which the pickle holds once."""
    text = pickle.dumps([np.frombuffer(b"a" * 10_000, np.uint8)], 2)
    array = text[text.index(b"q\x00") + 2 : -2]
    keep = array.index(b"X\x10\x27\x00\x00")
    body, rest = array[: keep + 5 + 10_000], array[keep + 5 + 10_000 :]
    again = array[:keep] + rest[:2].replace(b"q", b"h") + rest[2:]
    return text[: text.index(b"q\x00") + 2] + b"(" + body + rest + again * count + b"e."


def an_array(body: bytes) -> bytes:
    """An ndarray by hand, up to its state."""
    return b"\x80\x02](cnumpy._core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85C\x01b\x87R" + body


BIG = struct.pack("<Q", 2**40)
MARKED = "touched by a pickle"
HOSTILE: dict[str, tuple[Any, str]] = {
    "a system call": (Calls(os.system, f"echo {MARKED} > marked"), "asks for 'posix.system'"),
    "eval": (Calls(eval, f"open('marked', 'w').write('{MARKED}')"), "asks for 'builtins.eval'"),
    "exec within a list of arrays": ([np.ones(2), Calls(exec, "open('marked', 'w')")], "asks for 'builtins.exec'"),
    "getattr": (Calls(getattr, "text", "upper"), "asks for 'builtins.getattr'"),
    "open": (Calls(builtins.open, "marked", "w"), "asks for"),
    "subprocess": (b"csubprocess\nPopen\n(S'touch marked'\ntR.", "asks for 'subprocess.Popen'"),
    "a call with state": ([WithState()], "instruction EMPTY_DICT"),
    "bytes by the gigabyte": (Calls(bytes, 2**31), "makes bytes of its own"),
    "numpy's own load": (Calls(np.load, "marked"), "asks for 'numpy"),
    "numpy.testing": (b"cnumpy.testing._private.utils\nrunstring\n(S'1'\n}tR.", "instruction EMPTY_DICT"),
    "runstring without a dict": (b"cnumpy.testing._private.utils\nrunstring\n(S'1'\ntR.", "asks for 'numpy.testing"),
    "a dotted name": (b"\x80\x04\x8c\x05numpy\x8c\x0endarray.tofile\x93.", "asks for 'numpy.ndarray.tofile'"),
    "a name of several lines": (b"\x80\x04\x8c\x03a\nb\x8c\x01c\x93.", "asks for 'a\\nb.c'"),
    "INST": (b"(S'ls'\nios\nsystem\n.", "instruction INST"),
    "OBJ": (b"(cos\nsystem\nS'ls'\no.", "instruction OBJ"),
    "NEWOBJ": (b"\x80\x02cos\nsystem\n)\x81.", "instruction NEWOBJ"),
    "NEWOBJ_EX": (b"\x80\x04cos\nsystem\n)}\x92.", "instruction EMPTY_DICT"),
    "a persistent id": (b"Pevil\n.", "instruction PERSID"),
    "a persistent id on the stack": (b"\x80\x02K\x01Q.", "instruction BINPERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "EXT1"),
    "an out-of-band buffer": (b"\x80\x05\x97.", "instruction NEXT_BUFFER"),
    "a dict": ({"a": np.ones(2)}, "instruction EMPTY_DICT"),
    "a set": ({1, 2}, "instruction EMPTY_SET"),
    "a number": (7, "a int"),
    "text": ("weights", "a str"),
    "None": (None, "a NoneType"),
    "a list of numbers": ([1, 2], "a list of something else"),
    "a list of lists": ([[np.ones(2)]], "a list of something else"),
    "a class alone": ([np.ndarray], "a list of something else"),
    "an array of objects": ([np.array([{}, 1], object)], "instruction EMPTY_DICT"),
    "an array of plain objects": ([np.array([1, "a"], object)], "an array of dtype"),
    "an array of text": ([np.array(["a", "b"])], "an array of dtype"),
    "an array of dates": ([np.zeros(2, "M8[s]")], "an array of dtype"),
    "a structured array": ([np.zeros(2, [("a", "f4")])], "instruction EMPTY_DICT"),
    "a masked array": ([np.ma.masked_array([1, 2], [0, 1])], "asks for 'numpy.ma"),
    "a subclass": ([np.ones((2, 2)).view(np.matrix)], "asks for 'numpy.matrix'"),
    "ndarray called": (b"\x80\x02cnumpy\nndarray\nJ\xff\xff\xff\x7f\x85R.", "makes arrays of its own"),
    "an array without state": (an_array(b"e."), "an array without numbers"),
    "a shape without its numbers": (
        an_array(b"(K\x01J\xff\xff\xff\x7f\x85cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R\x89C\x04abcdtbe."),
        "with 4 bytes",
    ),
    "a negative shape": (
        an_array(b"(K\x01J\xff\xff\xff\xff\x85cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R\x89C\x00tbe."),
        "impossible shape",
    ),
    "numbers that are no bytes": (
        an_array(b"(K\x01K\x01\x85cnumpy\ndtype\nX\x02\x00\x00\x00f4K\x00K\x01\x87R\x89K\x07tbe."),
        "not made of bytes",
    ),
    "state for what is called": (b"\x80\x02cnumpy\nndarray\nK\x01b.", "changes what it calls"),
    "attributes for what is called": (b"\x80\x02cnumpy\ndtype\nNK\x01\x86b.", "changes what it calls"),
    "text in another encoding": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x03\x00\x00\x00rot\x86R.", "encoding"),
    "bytes that are not there": (b"\x80\x04\x8e" + BIG + b"a.", "no whole pickle"),
    "a byte array that is not there": (b"\x80\x05\x96" + BIG + b"a.", "no whole pickle"),
    "a memo of four billion": (b"\x80\x02Nr\xff\xff\xff\x7f.", "beyond their count"),
    "a memo of its own length": (b"\x80\x02X\x00\x00\x01\x00" + b"a" * 2**16 + b"r\x00\x00\x01\x00.", "their count"),
    "the same bytes again and again": (the_same_bytes(500), "arrays are larger than itself"),
    "a name nested too deep to hash": (a_dtype(b")" + b"\x85" * 300_000), "an array of dtype 'tuple'"),
    "a name that doubles at each of 60 steps": (
        a_dtype(b")" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(60))), "dtype 'tuple'",
    ),
    "a number for a name": (a_dtype(b"\x8a\x06" + b"\x00" * 5 + b"\x01"), "an array of dtype 'int'"),
    "a byte order nested too deep": (
        b"\x80\x02](cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85RK\x03)" + b"\x85" * 300_000 + b"\x86be.", "with fields",
    ),
    "bfloat16 called": (b"\x80\x02cml_dtypes\nbfloat16\nK\x01\x85R.", "makes arrays of its own"),
    "a long number": (b"\x80\x02\x8b\x10\x00\x00\x00" + b"\x7f" * 16 + b".", "instruction LONG4"),
    "a number of many digits": (b"I" + b"9" * 4000 + b"\n.", "more than 64 bits"),
    "a pickle cut short": (pickle.dumps([np.ones(3)])[:-20], "no whole pickle"),
    "an empty stack": (b".", "cannot be read"),
    "no pickle": (b"not a pickle", "no whole pickle"),
    "nothing": (b"", "no whole pickle"),
    "a second pickle's worth of stack": (b"\x80\x02(tR.", "cannot be read"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pickles_are_refused_in_one_sentence(name, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    value, words = HOSTILE[name]
    data = value if isinstance(value, bytes) else pickle.dumps(value)
    tracemalloc.start()
    with pytest.raises(RefusedWeights) as caught:
        list_of_arrays(data)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    text = str(caught.value)
    assert words in text
    assert text.startswith("weights: expected a list of NumPy arrays of numbers, plain or pickled, got ")
    assert "\n" not in text
    assert peak < 2**22 + 64 * len(data)
    assert list(tmp_path.iterdir()) == []


def test_the_table_is_hostile_to_pickle_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Without the restricted reader the first of them does run."""
    monkeypatch.chdir(tmp_path)
    pickle.loads(pickle.dumps(HOSTILE["a system call"][0]))
    assert (tmp_path / "marked").read_text().strip() == MARKED


def test_one_reading_changes_nothing_for_the_next():
    for value, _ in HOSTILE.values():
        with pytest.raises(RefusedWeights):
            list_of_arrays(value if isinstance(value, bytes) else pickle.dumps(value))
    (one,) = list_of_arrays(pickle.dumps([np.arange(3.0)]))
    np.testing.assert_array_equal(one, [0.0, 1.0, 2.0])


def test_a_pickle_of_too_many_instructions_is_refused_before_it_is_read(monkeypatch):
    data = pickle.dumps([np.ones(2), np.zeros(3)])
    monkeypatch.setattr(weight_lists, "_MOST_INSTRUCTIONS", 40)
    with pytest.raises(RefusedWeights, match="a pickle of more than 40 instructions"):
        list_of_arrays(data)


def test_plain_weights():
    (half,) = arrays_of([np.asarray([0.5, 3.0], ml_dtypes.bfloat16)])
    assert (half.dtype, half.tolist()) == (np.float32, [0.5, 3.0])
    np.testing.assert_array_equal(arrays_of([np.ones(2), [1.0, 2.0]]), [[1, 1], [1, 2]])
    for bad in ({"a": 1}, "text", [np.array(["a"])], [{}], 3):
        with pytest.raises(RefusedWeights, match="expected a list of NumPy arrays"):
            arrays_of(bad)

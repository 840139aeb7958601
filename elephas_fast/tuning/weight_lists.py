"""Weights that a trial's own code has pickled: read without running anything of the sender.

``pickle.loads(weights)`` would run whatever a pickle asks for. Here its instructions are looked at first, one by one:
only those that lists of NumPy arrays are made of are admitted, and the few functions they may call are stand-ins that
check sizes and types before there is an array.
"""

from __future__ import annotations

import io
import math
import pickle
import pickletools
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

MOST_ARRAYS: Final = 100_000
_DTYPES: Final = frozenset(
    f"{kind}{size}" for kind, sizes in (("f", (2, 4, 8)), ("i", (1, 2, 4, 8)), ("u", (1, 2, 4, 8)), ("b", (1,)))
    for size in sizes
)  # fmt: skip
_ADMITTED: Final = frozenset((
    "PROTO", "FRAME", "STOP", "MARK", "POP", "POP_MARK", "NONE", "NEWTRUE", "NEWFALSE",
    "INT", "BININT", "BININT1", "BININT2", "LONG1", "LONG",
    "UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING",
    "BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8",
    "EMPTY_LIST", "LIST", "APPEND", "APPENDS", "EMPTY_TUPLE", "TUPLE", "TUPLE1", "TUPLE2", "TUPLE3",
    "GLOBAL", "STACK_GLOBAL", "REDUCE", "BUILD",
    "PUT", "BINPUT", "LONG_BINPUT", "MEMOIZE", "GET", "BINGET", "LONG_BINGET",
))  # fmt: skip


class RefusedWeights(ValueError):
    """A pickle that is not a list of NumPy arrays of numbers."""


def list_of_arrays(data: bytes | bytearray | memoryview) -> list[NDArray[Any]]:
    """The arrays that ``pickle.dumps(model.get_weights())`` of any protocol holds. No code of the pickle is run.

    Raises ``RefusedWeights``, and nothing else, for any other pickle, in one sentence.
    """
    text = bytes(data)
    _check_instructions(text)
    try:
        found = _Reader(io.BytesIO(text), encoding="latin1").load()
    except RefusedWeights:
        raise
    except Exception as error:  # pickle raises anything for what it cannot read
        raise _refused(f"something that cannot be read ({type(error).__name__})") from None
    if isinstance(found, _Array):
        found = [found]
    if not isinstance(found, list | tuple):
        raise _refused(f"a {type(found).__name__}")
    if len(found) > MOST_ARRAYS:
        raise _refused(f"a list of {len(found)}")
    return [_array_of(item) for item in found]


def arrays_of(weights: Any) -> list[NDArray[Any]]:
    """Weights as a user's function returned them: pickled, or as a list of arrays. Raises ``RefusedWeights``."""
    if isinstance(weights, bytes | bytearray | memoryview):
        return list_of_arrays(weights)
    if isinstance(weights, np.ndarray):
        weights = [weights]
    if not isinstance(weights, list | tuple):
        raise _refused(f"a {type(weights).__name__}")
    return [_plain(item) for item in weights]


def _refused(got: str) -> RefusedWeights:
    return RefusedWeights(f"weights: expected a list of NumPy arrays of numbers, plain or pickled, got {got}")


def _check_instructions(data: bytes) -> None:
    """Refuse what lists of arrays do not need, and whatever asks for more memory than it brings."""
    try:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name not in _ADMITTED:
                raise _refused(f"a pickle with the instruction {opcode.name}")
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT") and not 0 <= int(argument or 0) <= len(data):
                raise _refused("a pickle that numbers its parts beyond its own length")
            if opcode.name in ("INT", "LONG", "LONG1") and abs(int(argument or 0)) >= 2**63:
                raise _refused("a pickle with a number of more than 64 bits")
    except RefusedWeights:
        raise
    except Exception as error:  # genops raises ValueError and more for what is no pickle
        raise _refused(f"something that is no whole pickle ({type(error).__name__})") from None


class _Reader(pickle.Unpickler):
    """Finds stand-ins, made anew for each reader, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a function that arrays are pickled with."""
        numpy_core = module in ("numpy.core.multiarray", "numpy._core.multiarray")
        if numpy_core and name == "_reconstruct":
            return _Call(lambda *arguments: _Array())
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _Call(_from_buffer)
        if (module, name) == ("numpy", "ndarray"):
            return _Call(_no_call)
        if (module, name) == ("numpy", "dtype"):
            return _Call(_Dtype)
        if numpy_core and name == "scalar":
            return _Call(_scalar)
        if (module, name) == ("_codecs", "encode"):
            return _Call(_latin1)
        if module in ("__builtin__", "builtins") and name == "bytes":  # how the first protocols write none at all
            return _Call(_no_bytes)
        raise _refused(f"a pickle that asks for {module}.{name}"[:200])

    def persistent_load(self, pid: Any) -> Any:
        """Refused."""
        raise _refused("a pickle that refers to something outside it")


class _Call:
    """What a pickle may call. It has no attributes and cannot be given any."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise _refused("a pickle that changes what it calls")


class _Dtype:
    """A dtype while it is read."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in _DTYPES:
            raise _refused(f"an array of dtype {str(name)[:40]!r}")
        self.name, self.order = str(name), "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        fields = state[2:5] if isinstance(state, tuple) else None
        if order not in ("<", ">", "|", "=") or any(field is not None for field in fields or ()):
            raise _refused("an array of a dtype with fields")
        self.order = "<" if order == "=" else str(order)

    def numpy(self) -> np.dtype[Any]:
        """The real one."""
        return np.dtype(self.order.replace("|", "") + self.name)


class _Array:
    """An array while it is read; ``value`` once it has its state."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _refused("an array without shape and numbers")
        _, shape, dtype, in_columns, data = state
        self.value = _checked(data, dtype, shape, "F" if in_columns else "C")


def _checked(data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(data, str):
        data = _latin1(data)
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _refused("an array that is not made of bytes")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise _refused("an array of an impossible shape")
    kind = dtype.numpy()
    if math.prod(shape) * kind.itemsize != len(data):
        raise _refused(f"an array of shape {list(shape)} with {len(data)} bytes")
    array = np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")
    return array.astype(kind.newbyteorder("="), copy=True)


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    made = _Array()
    made.value = _checked(data, dtype, shape, order)
    return made


def _scalar(dtype: Any, data: Any) -> _Array:
    made = _Array()
    made.value = _checked(data, dtype, (), "C")
    return made


def _latin1(text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _refused("a pickle with text in another encoding")
    try:
        return text.encode("latin1")
    except UnicodeEncodeError:
        raise _refused("a pickle with text where bytes belong") from None


def _no_bytes(*arguments: Any) -> bytes:
    if arguments:
        raise _refused("a pickle that makes bytes of its own")
    return b""


def _no_call(*_: Any) -> Any:
    raise _refused("a pickle that makes arrays of its own")


def _array_of(item: Any) -> NDArray[Any]:
    if isinstance(item, _Array) and item.value is not None:
        return item.value
    raise _refused("a list of something else" if not isinstance(item, _Array) else "an array without numbers")


def _plain(item: Any) -> NDArray[Any]:
    array = np.asarray(item) if isinstance(item, np.ndarray | np.generic | float | int | Sequence) else None
    known = array is not None and (f"{array.dtype.kind}{array.dtype.itemsize}" in _DTYPES or array.dtype == "bfloat16")
    if array is None or not known:
        raise _refused(f"a list with a {type(item).__name__}")
    return array

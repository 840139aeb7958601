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
_MOST_INSTRUCTIONS: Final = 60 * MOST_ARRAYS
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
        found = _Reader(text).load()
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
    parts = 0
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= _MOST_INSTRUCTIONS:
                raise _refused(f"a pickle of more than {_MOST_INSTRUCTIONS:,} instructions")
            if opcode.name not in _ADMITTED:
                raise _refused(f"a pickle with the instruction {opcode.name}")
            if opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
                parts += 1
                if not 0 <= int(argument or 0) <= parts:  # Python 2 begins with 1
                    raise _refused("a pickle that numbers its parts beyond their count")
            if opcode.name in ("INT", "LONG", "LONG1") and abs(int(argument or 0)) >= 2**63:
                raise _refused("a pickle with a number of more than 64 bits")
    except RefusedWeights:
        raise
    except Exception as error:  # genops raises ValueError and more for what is no pickle
        raise _refused(f"something that is no whole pickle ({type(error).__name__})") from None


class _Reader(pickle.Unpickler):
    """Finds stand-ins, made anew for each reader, and nothing else."""

    def __init__(self, data: bytes) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self._budget = _Budget(len(data))

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in for a function that arrays are pickled with."""
        numpy_core = module in ("numpy.core.multiarray", "numpy._core.multiarray")
        if numpy_core and name == "_reconstruct":
            return _Call(lambda *arguments: _Array(self._budget))
        if module in ("numpy.core.numeric", "numpy._core.numeric") and name == "_frombuffer":
            return _Call(lambda *arguments: _from_buffer(self._budget, *arguments))
        if (module, name) == ("numpy", "ndarray"):
            return _Call(_no_call)
        if (module, name) == ("numpy", "dtype"):
            return _Call(_Dtype)
        if numpy_core and name == "scalar":
            return _Call(lambda *arguments: _scalar(self._budget, *arguments))
        if (module, name) == ("_codecs", "encode"):
            return _Call(lambda *arguments: _latin1(self._budget, *arguments))
        if module in ("__builtin__", "builtins") and name == "bytes":  # how the first protocols write none at all
            return _Call(_no_bytes)
        if (module, name) == ("ml_dtypes", "bfloat16"):
            return _BFLOAT16
        raise _refused(f"a pickle that asks for {f'{module}.{name}'[:180]!r}")

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


class _Budget:
    """Bytes that may be made out of a pickle's own. Every number of an array is in its pickle, and is copied at most
    twice on the way; only a pickle that refers to the same bytes again and again asks for more."""

    __slots__ = ("_left",)

    def __init__(self, length: int) -> None:
        self._left = 2 * length

    def spend(self, count: int) -> None:
        """Raises ``RefusedWeights`` where there are not so many left."""
        self._left -= count
        if self._left < 0:
            raise _refused("a pickle whose arrays are larger than itself")


class _Dtype:
    """A dtype while it is read. bfloat16, which NumPy does not know, is read as the float32 of the same value."""

    __slots__ = ("name", "order")

    def __init__(self, name: Any, *_: Any) -> None:
        if name is _BFLOAT16:
            name = _HALF
        elif type(name) is not str or name not in _DTYPES:  # the hash of anything else may take for ever, or crash
            kind = name[:40] if type(name) is str else type(name).__name__
            raise _refused(f"an array of dtype {kind!r}")
        self.name, self.order = name, "<"

    def __setstate__(self, state: Any) -> None:
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        fields = state[2:5] if isinstance(state, tuple) else None
        if type(order) is not str or order not in _ORDERS or any(field is not None for field in fields or ()):
            raise _refused("an array of a dtype with fields")
        self.order = "<" if order == "=" else order

    def numpy(self) -> np.dtype[Any]:
        """The real one, of bfloat16 that of its bits."""
        return np.dtype(self.order.replace("|", "") + ("u2" if self.name == _HALF else self.name))


class _Array:
    """An array while it is read; ``value`` once it has its state."""

    __slots__ = ("_budget", "value")

    def __init__(self, budget: _Budget) -> None:
        self._budget = budget
        self.value: NDArray[Any] | None = None

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise _refused("an array without shape and numbers")
        _, shape, dtype, in_columns, data = state
        self.value = _checked(self._budget, data, dtype, shape, "F" if in_columns else "C")


def _checked(budget: _Budget, data: Any, dtype: Any, shape: Any, order: Any) -> NDArray[Any]:
    if isinstance(data, str):
        data = _latin1(budget, data)
    if not isinstance(dtype, _Dtype) or not isinstance(data, bytes | bytearray):
        raise _refused("an array that is not made of bytes")
    if not isinstance(shape, tuple) or len(shape) > 32 or not all(type(n) is int and n >= 0 for n in shape):
        raise _refused("an array of an impossible shape")
    kind = dtype.numpy()
    if math.prod(shape) * kind.itemsize != len(data):
        raise _refused(f"an array of shape {list(shape)} with {len(data)} bytes")
    budget.spend(len(data))
    array = np.frombuffer(data, kind).reshape(shape, order="F" if order == "F" else "C")
    if dtype.name == _HALF:
        bits = array.astype(np.uint32)
        bits <<= 16
        return bits.view(np.float32)
    return array.astype(kind.newbyteorder("="), copy=True)


def _from_buffer(budget: _Budget, data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    made = _Array(budget)
    made.value = _checked(budget, data, dtype, shape, order)
    return made


def _scalar(budget: _Budget, dtype: Any, data: Any) -> _Array:
    made = _Array(budget)
    made.value = _checked(budget, data, dtype, (), "C")
    return made


def _latin1(budget: _Budget, text: Any, encoding: Any = "latin1") -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise _refused("a pickle with text in another encoding")
    budget.spend(len(text))
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


_BFLOAT16: Final = _Call(_no_call)
_HALF: Final = "bfloat16"
_ORDERS: Final = ("<", ">", "|", "=")


def _array_of(item: Any) -> NDArray[Any]:
    if isinstance(item, _Array) and item.value is not None:
        return item.value
    raise _refused("a list of something else" if not isinstance(item, _Array) else "an array without numbers")


def _plain(item: Any) -> NDArray[Any]:
    array = np.asarray(item) if isinstance(item, np.ndarray | np.generic | float | int | Sequence) else None
    if array is not None and array.dtype.name == _HALF:
        return array.astype(np.float32)
    if array is None or f"{array.dtype.kind}{array.dtype.itemsize}" not in _DTYPES:
        raise _refused(f"a list with a {type(item).__name__}")
    return array

"""Compiled kernels over float32 buffers. Sources: csrc/.

Rules of this module:

* A vector is any object with the buffer protocol that holds contiguous, 4-byte aligned float32 elements in
  one dimension: a NumPy array, a memoryview. It is borrowed for the call and not kept.
* Arguments are checked before anything is written. ``ValueError`` (``TypeError`` for an object without a
  buffer) names the argument, what was expected and what came.
* The GIL is released while a kernel runs. Every function may be called from any thread. Two calls that write
  to the same elements at the same time are races, except as an ``access`` promises.
* ``threads`` is an upper bound; short vectors stay on one. Results are the same bits for any ``threads``;
  for RMSprop and Adagrad they differ between AVX-512 and the other instruction sets in the last places.
* Counts are of non-finite elements (infinite or not a number) of what the call wrote.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray
from typing_extensions import Buffer

# NumPy's own stubs declare the buffer protocol for Python 3.12 and later only.
_Floats: TypeAlias = NDArray[np.float32] | Buffer
_Halves: TypeAlias = NDArray[np.uint16] | Buffer
_Words: TypeAlias = NDArray[np.uint64] | Buffer
_Gradient: TypeAlias = _Floats | Sequence[_Floats]

STRIPE: Final[int]
"""Elements of a stripe where nothing else is said: 64 KiB of weights."""

RECOVERABLE: Final[int]
"""How many locks held by one thread the kernel gives back when that thread dies."""

ACCESSES: Final[tuple[str, ...]]
"""How shared elements are written: 'racy', 'relaxed', 'compare_exchange' (csrc/access.hpp)."""

def isas() -> tuple[str, ...]:
    """The instruction sets that this build and this processor have, best first; 'baseline' is always the
    last.
    """

def rules() -> dict[str, tuple[str, ...]]:
    """The compiled optimizer rules (csrc/rules.hpp) and the names of the numbers each takes per step."""

class Parts:
    """Ranges of a vector that a `Kernel` treats apart; the elements between them are neither read nor
    written.

    ``ranges`` are half-open, ascending and do not overlap; ``decays`` says for each whether ``decay``
    concerns it (default: all). Immutable.
    """

    def __init__(self, ranges: Sequence[tuple[int, int]], decays: Sequence[bool] | None = None) -> None: ...
    def __len__(self) -> int: ...
    @property
    def end(self) -> int:
        """The end of the last range; 0 without ranges."""

    def check(self, gradient: Sequence[_Floats]) -> None:
        """Raise ``ValueError`` unless there is one float32 array for each range, of any shape and as many elements."""

    def sums_of_squares(self, x: _Gradient) -> list[float]:
        """The sum of squares of each range of ``x`` (float32[>= end], or one array for each range), as
        `sum_of_squares` gives it.
        """

class Kernel:
    """An optimizer rule for one access and one instruction set, chosen once, here.

    ``rule`` is a key of `rules`. ``access``:

    * ``'racy'``: ordinary vector loads and stores; concurrent writers may lose each other's updates.
    * ``'relaxed'``: relaxed atomic loads and stores of single floats; the same, one element at a time.
    * ``'compare_exchange'``: nothing is lost; an overtaken writer adds its change to what the faster one
      left.

    With one writer all three give the same bits. `Stripes` are the fourth way: 'racy' under locks.

    ``isa`` is ``'auto'`` (the best) or one of `isas`. Immutable
    and picklable.
    """

    def __init__(self, rule: str, access: str = "racy", isa: str = "auto") -> None: ...
    @property
    def rule(self) -> str: ...
    @property
    def access(self) -> str: ...
    @property
    def isa(self) -> str:
        """The instruction set in use; never 'auto'."""

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the numbers that a call takes first."""

    @property
    def slots(self) -> int:
        """The number of slots."""

    def bind(
        self,
        weights: _Floats,
        slots: Sequence[_Floats],
        *,
        weights_out: _Floats | None = None,
        slots_out: Sequence[_Floats] | None = None,
        parts: Parts | None = None,
        stripes: Stripes | None = None,
        begin: int = 0,
        end: int | None = None,
        threads: int = 1,
    ) -> Bound:
        """This kernel for buffers that stay, which are checked here, once.

        ``weights`` and each slot are float32[n] and do not overlap. Results go to ``weights_out`` and ``slots_out``
        (each defaults to its input), which may be their own inputs but overlap nothing else; only with access 'racy'.
        ``parts`` limits the calls to ranges. ``begin`` and ``end`` limit them to one range, in elements; the buffers
        stay whole. With ``stripes``, which cover the weights, each stripe is updated under its lock.
        """

    def __call__(
        self,
        scalars: Sequence[float],
        weights: _Floats,
        slots: Sequence[_Floats],
        gradient: _Gradient,
        *,
        weights_out: _Floats | None = None,
        slots_out: Sequence[_Floats] | None = None,
        scale: float = 1.0,
        clip: float = ...,
        decay: float = 0.0,
        parts: Parts | None = None,
        scales: Sequence[float] | None = None,
        stripes: Stripes | None = None,
        start: int = 0,
        copy_to: _Floats | None = None,
        begin: int = 0,
        end: int | None = None,
        threads: int = 1,
    ) -> int:
        """`bind` and `Bound.apply` in one."""

class Bound:
    """A kernel and its buffers, which it holds as long as it lives. Made by `Kernel.bind`. Immutable."""

    def apply(
        self,
        scalars: Sequence[float],
        gradient: _Gradient,
        scale: float = 1.0,
        clip: float = ...,
        decay: float = 0.0,
        scales: Sequence[float] | None = None,
        start: int = 0,
        copy_to: _Floats | None = None,
    ) -> int:
        """Apply the rule once, in one pass over memory; returns the number of elements of which the new
        weight or any new slot is not finite.

        ``gradient`` is float32[n], or a list or tuple with one float32 array of any shape for each of the parts; it
        overlaps nothing that is written. It is multiplied by ``scale``, clipped to ``[-clip, clip]`` (default: not at
        all); the weights lose the fraction ``decay`` (weight decay times learning rate); then the rule acts.
        ``scales`` gives each part a factor on top of ``scale``. All new weights, those between the parts too, are
        copied to ``copy_to`` (float32[n]) while they are in the cache.

        With stripes a writer takes those that are free first and comes back to busy ones. ``start`` is a number of the
        writer's own: writers 0, 1, 2, ... begin far apart. Raises ``TimeoutError`` where a stripe stays locked for the
        stripes' ``timeout``; the update is then applied in part.
        """

class PushKernel:
    """An optimizer rule that takes several gradients in one pass over memory; in place, access 'racy'.

    ``rule`` and ``isa`` as for `Kernel`. ``slot_dtype`` is ``'float32'`` or ``'bfloat16'``: then each slot is
    uint16[n], the upper halves of floats, and is rounded stochastically (csrc/slots.hpp). Immutable and picklable.
    """

    def __init__(self, rule: str, slot_dtype: str = "float32", isa: str = "auto") -> None: ...
    @property
    def rule(self) -> str: ...
    @property
    def slot_dtype(self) -> str: ...
    @property
    def isa(self) -> str:
        """The instruction set in use; never 'auto'."""

    @property
    def scalars(self) -> tuple[str, ...]:
        """The names of the numbers of one push."""

    @property
    def slots(self) -> int:
        """The number of slots."""

    def each(
        self,
        scalars: Sequence[Sequence[float]],
        weights: _Floats,
        slots: Sequence[_Floats | _Halves],
        gradients: Sequence[_Floats | _Halves],
        *,
        scales: Sequence[float] | None = None,
        decays: Sequence[float] | None = None,
        clip: float = ...,
        parts: Parts | None = None,
        begin: int = 0,
        end: int | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> int:
        """Apply gradient after gradient, each with its own numbers: the bits of one call of `Kernel` each.

        Each gradient is float32[n], or uint16[n] taken as bfloat16. ``scales`` (default 1) and ``decays`` (default 0)
        hold a number per gradient and mean what `Kernel` calls ``scale`` and ``decay``; so do ``clip``, ``parts``,
        ``begin`` and ``end``. Push k rounds bfloat16 slots with ``seed + k`` (modulo 2**32): give every push of a
        training another one. Returns the number of non-finite elements, summed over the gradients; slots count before
        they are rounded. No buffer may overlap another, but a gradient may be given twice.
        """

    def mean(
        self,
        scalars: Sequence[float],
        weights: _Floats,
        slots: Sequence[_Floats | _Halves],
        gradients: Sequence[_Floats],
        shares: Sequence[float],
        *,
        scale: float = 1.0,
        decay: float = 0.0,
        clip: float = ...,
        parts: Parts | None = None,
        begin: int = 0,
        end: int | None = None,
        seed: int = 0,
        threads: int = 1,
    ) -> int:
        """Apply ``sum(shares[k] * gradients[k]) / sum(shares)`` once: the bits of `weighted_mean` and `Kernel`.

        ``gradients`` are float32[n], at least one; ``shares`` are >= 0 with a sum > 0. The rest as for `each`.
        """

def encode_bfloat16(x: _Floats, out: _Halves, threads: int = 1) -> None:
    """``out = x`` rounded to the nearest bfloat16, ties to even: float32[n] to uint16[n]."""

def decode_bfloat16(x: _Halves, out: _Floats, threads: int = 1) -> None:
    """``out = x``, exactly: uint16[n] that holds bfloat16 to float32[n]."""

class Words:
    """Atomic access to a uint64 vector, which it holds as long as it lives: sequentially consistent across threads and
    processes.
    """

    def __init__(self, words: _Words) -> None: ...
    def __len__(self) -> int: ...
    def load(self, i: int) -> int:
        """Word ``i``."""

    def store(self, i: int, value: int) -> None:
        """Set word ``i``, with ``0 <= value < 2**64``."""

    def add(self, i: int, change: int) -> int:
        """Add ``change`` (modulo 2**64; may be negative) to word ``i`` and return the value before."""

    def compare_exchange(self, i: int, expected: int, value: int) -> bool:
        """Set word ``i`` to ``value`` if it equals ``expected``; returns whether it did."""

class Stripes:
    """Locks over the stripes of a vector of ``size`` elements, in memory that processes may share (csrc/stripes.hpp).

    ``memory``: uint64[8 * count], 64-byte aligned; ``counter``: uint64, its first word counts the locks that were taken
    over from dead threads. Both are held as long as this object lives. ``timeout``: seconds after which a writer gives
    up on a lock that its owner keeps. The system gives back what a thread held when it died.
    """

    def __init__(
        self, memory: _Words, counter: _Words, size: int, stripe: int = ..., *, timeout: float = 60.0
    ) -> None: ...
    @staticmethod
    def count_of(size: int, stripe: int = ...) -> int:
        """The number of locks for ``size`` elements; at least one."""

    def create(self) -> None:
        """Make the locks, once, before anybody uses them."""

    @property
    def size(self) -> int: ...
    @property
    def stripe(self) -> int: ...
    @property
    def timeout(self) -> float: ...
    def __len__(self) -> int: ...
    def hold(
        self, begin: int = 0, end: int | None = None, timeout: float | None = None
    ) -> AbstractContextManager[None]:
        """A context that holds the locks of the elements ``[begin, end)``, default all; taken in ascending order.

        Leave it on the thread that entered it. Not reentrant: a thread that takes one of them again waits for itself.
        Raises ``TimeoutError``.
        """

def round_to_float32(x: float) -> float:
    """The float32 number nearest to ``x``."""

def all_finite(x: _Gradient) -> bool:
    """Whether no element of ``x``, an array of any shape or a list of such, is infinite or not a number."""

def count_nonfinite(x: _Floats, threads: int = 1) -> int:
    """The number of elements of ``x`` that are infinite or not a number."""

def sum_of_squares(x: _Floats, threads: int = 1) -> float:
    """The sum of the squares of ``x``, in double and in a fixed order."""

def weighted_mean(vectors: Sequence[_Floats], weights: Sequence[float], out: _Floats, threads: int = 1) -> None:
    """``out = sum(weights[k] * vectors[k]) / sum(weights)``, element by element, in the order of k, in
    double.

    ``vectors`` are float32[n], at least one; ``weights`` are >= 0 with a sum > 0; ``out`` is float32[n] and
    overlaps none of them.
    """

def subtract(a: _Floats, b: _Floats, out: _Floats, threads: int = 1) -> int:
    """``out = a - b`` over float32[n]; returns the number of non-finite results. ``out`` may be ``a`` or
    ``b``.
    """

def copy(source: _Floats, out: _Floats, threads: int = 1) -> None:
    """``out = source`` over float32[n], which do not overlap."""

def keep_blocks(size: int, total: int, *, one_arena: bool = False) -> bool:
    """Have the allocator keep freed blocks of up to ``size`` bytes, ``total`` bytes of them, for the next ones.

    A large block is otherwise given back to the system when it is freed, and its pages are fresh and slow the next
    time. ``one_arena``: threads started from now on share one heap, without which blocks of more than 64 MiB are not
    kept. For the whole process and not to be undone. ``False`` where the allocator has no such setting (glibc has).
    Raises ``ValueError`` for a size below 1 or a total below the size.
    """

def blend(
    weights: _Floats,
    values: _Floats,
    alpha: float,
    access: str = "racy",
    *,
    stripes: Stripes | None = None,
    offset: int = 0,
    start: int = 0,
) -> int:
    """``weights += alpha * (values - weights)`` over float32[n]; returns the number of non-finite results.

    ``alpha = 1`` gives the values exactly. ``access`` as for `Kernel`. ``stripes`` and ``start`` as for `Bound`; the
    weights are the elements from ``offset`` on of the vector that the stripes guard.
    """

def non_negative(weights: _Floats, out: _Floats | None = None) -> None:
    """``out = max(weights, 0)`` over float32[n], in place by default. Keras' NonNeg."""

def bound_norms(
    weights: _Floats,
    shape: tuple[int, int, int],
    *,
    minimum: float = 0.0,
    maximum: float = ...,
    rate: float = 1.0,
    epsilon: float = 1e-7,
    out: _Floats | None = None,
) -> None:
    """Bring Euclidean norms into ``[minimum, maximum]``, in place by default. Keras' MinMaxNorm, MaxNorm,
    UnitNorm.

    ``weights`` is float32[outer * reduced * inner], seen as ``shape = (outer, reduced, inner)``; each norm
    runs over ``reduced``. ``weights *= (rate * clip(norm) + (1 - rate) * norm) / (epsilon + norm)``.
    """

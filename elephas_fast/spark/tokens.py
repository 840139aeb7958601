"""Texts as a model's inputs, made in the process that needs them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elephas_fast.batches import Block
from elephas_fast.batches.labels import pad_labels

IGNORED_LABEL: Final = -100
"""What fills up the labels of short texts; give the loss ``ignore_class=-100``."""
_IDS: Final = ("input_ids", "token_ids")
_BLOCK_ROWS: Final = 1000

Arrays = tuple[NDArray[Any], ...]


@dataclass(frozen=True)
class Tokens:
    """Applies a tokenizer; small enough for a Spark closure if that is.

    Args:
        tokenizer: called with a list of texts and ``options``; gives arrays by name, or one array, rows on axis 0.
            ``None``: rows are the inputs themselves.
        options: its keywords, such as ``padding=True``.
        inputs: the names of the model's inputs.
        labels_tokens: whether the model says something of each token, so that labels are padded like texts.
    """

    tokenizer: Any
    options: Mapping[str, Any] = field(default_factory=dict)
    inputs: tuple[str, ...] = ("x",)
    labels_tokens: bool = False

    def features(self, texts: Sequence[Any]) -> Arrays:
        """The model's inputs for some rows. Raises ``ValueError`` where the tokenizer gives others."""
        if self.tokenizer is None:
            columns = [np.asarray(column) for column in (zip(*texts, strict=True) if len(self.inputs) > 1 else [texts])]
            return tuple(columns)
        plain = [str(text) if isinstance(text, str) else text for text in texts]
        made = self.tokenizer(plain, **self.options)
        if isinstance(made, Mapping) or hasattr(made, "keys"):
            made = [made[name] for name in self._wanted(list(made.keys()))]
        elif len(self.inputs) == 1:
            made = [made]
        if len(made) != len(self.inputs):
            raise ValueError(f"tokenizer: expected {', '.join(self.inputs)} for the model, got {len(made)} arrays")
        return tuple(self._array(name, value, len(texts)) for name, value in zip(self.inputs, made, strict=True))

    def batches(self, rows: Iterable[Any], size: int) -> Iterator[Arrays]:
        """The inputs for ``size`` rows at a time."""
        rows = iter(rows)
        while chunk := list(islice(rows, size)):
            yield self.features(chunk)

    def blocks(
        self, rows: Iterable[Any], *, targets: bool = True, at_most: int | None = _BLOCK_ROWS
    ) -> Iterator[Block]:
        """All rows of a partition, tokenized together, as blocks of ``at_most`` rows (``None``: one block).

        A row is ``(text, label)`` or a text. A text alone is to be continued: its label at each place is the token that
        follows. Without ``targets`` only the inputs are given, of either kind of row.
        """
        texts, labels = _texts_and_labels(rows)
        if not texts:
            return
        x = self.features(texts)
        y: Arrays = ()
        if targets and labels:
            y = (self._labels(labels, x[0]),)
        elif targets:
            ids = x[self._ids_place()]
            x, y = tuple(array[:, :-1] for array in x), (ids[:, 1:],)
        size = at_most or len(texts)
        for begin in range(0, len(texts), size):
            cut = slice(begin, begin + size)
            yield Block(tuple(a[cut] for a in x), tuple(a[cut] for a in y))

    def _wanted(self, offered: list[str]) -> list[str]:
        """Which of the tokenizer's arrays are the inputs."""
        if set(self.inputs) <= set(offered):
            return list(self.inputs)
        if len(self.inputs) == 1:
            return [next((name for name in _IDS if name in offered), offered[0])]
        raise ValueError(
            f"tokenizer: expected {', '.join(self.inputs)}, the model's inputs, got {', '.join(offered)}; name the "
            "model's inputs as the tokenizer names its arrays"
        )

    def _array(self, name: str, value: Any, rows: int) -> NDArray[Any]:
        try:
            array = np.asarray(value)
        except ValueError:
            array = np.asarray(0)
        if array.ndim < 1 or len(array) != rows or array.dtype == object:
            raise ValueError(
                f"tokenizer: expected {rows} rows of one length for '{name}', got others; ask it to pad in "
                "tokenizer_kwargs (padding=True)"
            )
        return array

    def _labels(self, labels: Sequence[Any], ids: NDArray[Any]) -> NDArray[Any]:
        if self.labels_tokens and ids.ndim > 1 and all(np.ndim(label) == 1 for label in labels):
            return pad_labels(labels, ids.shape[1], IGNORED_LABEL)
        return np.asarray(labels)

    def _ids_place(self) -> int:
        return next((place for place, name in enumerate(self.inputs) if name in _IDS), 0)


def _texts_and_labels(rows: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    """The texts, and the labels if there are any. Raises ``ValueError`` where only some rows have one."""
    texts: list[Any] = []
    labels: list[Any] = []
    for row in rows:
        for one in row.rows() if isinstance(row, Block) else [row]:
            if isinstance(one, tuple):
                texts.append(one[0])
                labels.extend(one[1:2])
            else:
                texts.append(one)
    if labels and len(labels) != len(texts):
        raise ValueError(f"rdd: expected a label for each text or for none, got {len(labels)} for {len(texts)} texts")
    return texts, labels

"""A validation part, drawn per class; no group and no repeated text stands on both sides.

Rows that share a group or a normalised text form one block, and a block goes to one side whole, so
that a score on the validation part is a score on texts never trained on. One text that is there two
hundred times would speak for half of a class there, so that large blocks are trained on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from echoic.core.errors import DataError, show
from echoic.core.types import Example
from echoic.read.keys import classes_of, text_key


def split(
    examples: Sequence[Example], fraction: float, seed: int, said: Callable[[str], None] = lambda _: None
) -> tuple[np.ndarray, np.ndarray]:
    """(train, valid): two sorted int64 index arrays that part `range(len(examples))`.

    Each class gives about `fraction` of its rows to valid, at least one if it has two or more, never
    all. A soft label counts as its most probable class, several labels as their rarest. The same
    examples and seed give the same split. Raises DataError when a part would be empty.
    """
    counts = Counter(name for example in examples for name in classes_of(example.target))
    strata = [min(classes_of(e.target), key=lambda name: (counts[name], name), default="") for e in examples]
    sizes = Counter(strata)
    want = {name: min(max(1, round(fraction * size)), size - 1) for name, size in sizes.items()}
    order = np.random.default_rng(seed).permutation(len(examples))
    blocks = _blocks(examples, order)
    valid = _draw(blocks, strata, sizes, want)
    chosen = np.zeros(len(examples), dtype=bool)
    chosen[[i for block in valid for i in block]] = True
    if chosen.all() or not chosen.any():
        raise DataError(_why_empty(len(examples), len(blocks)))
    _say(chosen, strata, sizes, blocks, said)
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def within(train: Sequence[Example], valid: Sequence[Example], said: Callable[[str], None]) -> list[Example]:
    """The validation rows, of several labels each, without those that no training row has, as one of few rows may be."""
    known = {name for example in train for name in example.target}
    unknown = {name for example in valid for name in example.target} - known
    if unknown:
        listed = ", ".join(repr(show(name, 30)) for name in sorted(unknown)[:5])
        said(f"{len(unknown):,} labels stand in validation rows only and are never answered: {listed}")
    return [replace(e, target=tuple(name for name in e.target if name in known)) for e in valid]


def _blocks(examples: Sequence[Example], order: np.ndarray) -> list[list[int]]:
    """Rows joined by a group or a text, as lists, in the order in which their first row is drawn."""
    leader = list(range(len(examples)))

    def find(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    first: dict[tuple[str, object], int] = {}
    for i, example in enumerate(examples):
        text = text_key(example.input) if isinstance(example.input, str) else b""
        for key in (("text", text) if text else None, None if example.group is None else ("group", example.group)):
            if key is not None:
                leader[find(i)] = find(first.setdefault(key, i))
    blocks: dict[int, list[int]] = {}
    for i in order.tolist():
        blocks.setdefault(find(i), []).append(i)
    return list(blocks.values())


LARGEST = 0.1
"""A block larger than this share of a class's validation rows is drawn only where smaller ones do not suffice."""


def _draw(blocks: list[list[int]], strata: list[str], sizes: Counter[str], want: dict[str, int]) -> list[list[int]]:
    """First every block that fits the classes' wants, large ones last; then, for a class left without
    any, the smallest block that leaves some rows of each of its classes to train on."""
    taken: Counter[str] = Counter()
    valid, rest = [], []

    def large(inside: Counter[str]) -> bool:
        return any(count > max(1, LARGEST * want[name]) for name, count in inside.items())

    counted = [(block, Counter(strata[i] for i in block)) for block in blocks]
    for block, inside in sorted(counted, key=lambda each: large(each[1])):
        if all(taken[name] + count <= want[name] for name, count in inside.items()):
            taken.update(inside)
            valid.append(block)
        else:
            rest.append((block, inside))
    for name in sorted(sizes, key=lambda each: (sizes[each], each)):
        if taken[name] or not want[name]:
            continue
        fits = [
            (block, inside)
            for block, inside in rest
            if name in inside and all(taken[each] + count < sizes[each] for each, count in inside.items())
        ]
        if fits:
            block, inside = min(fits, key=lambda each: len(each[0]))
            rest.remove((block, inside))
            taken.update(inside)
            valid.append(block)
    return valid


def _say(
    chosen: np.ndarray, strata: list[str], sizes: Counter[str], blocks: list[list[int]], said: Callable[[str], None]
) -> None:
    held = {strata[i] for i in np.flatnonzero(chosen)}
    alone = sorted(name for name in sizes if sizes[name] == 1)
    stuck = sorted(name for name in sizes if name not in held and sizes[name] > 1)
    for names, why in (
        (alone, "have one row, which is trained on"),
        (stuck, "stand in one block of shared groups or texts"),
    ):
        if names:
            listed = ", ".join(repr(show(name, 30)) for name in names[:5])
            said(f"{len(names):,} classes are missing from the validation part, as they {why}: {listed}.")
    joined = sum(len(block) for block in blocks if len(block) > 1)
    if joined:
        said(f"{joined:,} rows share a group or a text with others and were kept on one side of the split.")


def _why_empty(rows: int, blocks: int) -> str:
    why = (
        f"all {rows:,} rows share one group or text"
        if blocks == 1 and rows > 1
        else f"there are {rows:,} rows in {blocks:,} blocks"
    )
    return f"cannot hold out a validation part: {why}; add rows, choose another --group, or give --valid FILE"

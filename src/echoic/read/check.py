"""What may be wrong with labelled parts before anything is trained: leaks, duplicates, labels, encodings.

| code     | level   | what                                                                      |
| -------- | ------- | ------------------------------------------------------------------------- |
| LEAK001  | warning | texts of one part stand in another too, as they are or normalised         |
| LEAK002  | warning | a token gives the label away (note: an ordinary word that nearly does)    |
| LEAK003  | warning | a group has rows in two parts                                             |
| DUP001   | note    | a part holds a text more than once                                        |
| CONF001  | warning | one text has different labels                                             |
| LABEL001 | error   | labels look like ids                                                      |
| LABEL002 | warning | a class of the training part is missing from another (error: a large one, |
|          |         | from the part named "valid")                                              |
| LABEL003 | warning | a class has one row                                                       |
| LABEL004 | error   | a label is unseen in training                                             |
| LABEL005 | error   | only one class                                                            |
| LABEL006 | warning | labels that differ only in case, width or spaces                          |
| DRIFT001 | warning | the classes' shares differ between parts                                  |
| ENC001   | warning | texts that look decoded with the wrong encoding                           |
| LEN001   | warning | empty texts                                                               |

Every check takes time linear in the text. Rows of a Finding are examples, at most 20.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from echoic.core.errors import DataError, show
from echoic.core.types import Example
from echoic.read.keys import classes_of, text_key
from echoic.read.labels import like_ids
from echoic.read.telling import telling_tokens

Parts = Mapping[str, Sequence[Example]]
SHOWN = 20
ROOM = 10
MOJIBAKE = re.compile("\ufffd|Ã[\x80-\xbf]|â€|Â[\xa0-\xbf]|ï»¿|ä¸|锟斤拷|烫烫|[\x80-\x9f]|[ÐÑ][\x80-\xbf]|å[\x80-\xbf]")


@dataclass(frozen=True)
class Finding:
    """One thing that was found: `rows` are examples of where (1-based, of the part the message names)."""

    code: str
    level: Literal["note", "warning", "error"]
    message: str
    count: int
    rows: tuple[int, ...] = ()


def check_parts(parts: Parts) -> list[Finding]:
    """All findings on the parts of one data set, errors first. The training part is the one named
    "train", else the first."""
    training = "train" if "train" in parts else next(iter(parts), "")
    checks = (_texts(parts), _groups(parts), _labels(parts, training), _between(parts, training), _quality(parts))
    found = [finding for check in checks for finding in check]
    if training:
        found += _telling(parts[training])
    return sorted(found, key=lambda finding: ("error", "warning", "note").index(finding.level))


def require_trainable(examples: Sequence[Example], min_class_count: int, where: str) -> None:
    """Refuses labels that no classifier can be trained on: ids, one class, a class with too few rows."""
    for finding in _labels({where: examples}, where):
        if finding.level == "error":
            raise DataError(f"{where}: {finding.message}")
    if few := too_few(examples, min_class_count):
        raise DataError(f"{where}: {few}")


def too_few(examples: Sequence[Example], min_class_count: int) -> str:
    """What to say of classes with fewer rows than that; "" where there are none."""
    few = {name: count for name, count in _counts(examples).items() if count < min_class_count}
    if not few:
        return ""
    listed = ", ".join(f"{show(name, 30)!r} ({count} row{'s' * (count != 1)})" for name, count in list(few.items())[:5])
    more = f" and {len(few) - 5:,} more" if len(few) > 5 else ""
    return f"want at least {min_class_count} rows of a class: {listed}{more}; add rows, or lower --min-class-count"


def _texts(parts: Parts) -> Iterator[Finding]:
    """LEAK001, DUP001, CONF001, by one table of keys for each part."""
    tables = {name: _by_key(examples) for name, examples in parts.items()}
    names = list(parts)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            yield from _shared(first, tables[first], second, tables[second])
    for name, table in tables.items():
        again = [e.row for same in table.values() for e in same[1:]]
        if again:
            yield _found("DUP001", "note", f"{len(again):,} rows of {name} repeat a text of {name}", again)
        torn = [same for same in table.values() if len({tuple(sorted(classes_of(e.target))) for e in same}) > 1]
        if torn:
            rows = [e.row for same in torn for e in same]
            what = f"{len(torn):,} texts of {name} ({len(rows):,} rows) have different labels in different rows"
            yield _found("CONF001", "warning", f"{what}; settle them or leave them out", rows)


def _by_key(examples: Sequence[Example]) -> dict[bytes, list[Example]]:
    table: dict[bytes, list[Example]] = defaultdict(list)
    for example in examples:
        if isinstance(example.input, str) and (key := text_key(example.input)):
            table[key].append(example)
    return table


def _shared(
    first: str, one: dict[bytes, list[Example]], second: str, two: dict[bytes, list[Example]]
) -> Iterator[Finding]:
    both = [key for key in two if key in one]
    if not both:
        return
    rows = [e.row for key in both for e in two[key]]
    known = {key: {e.input for e in one[key]} for key in both}
    exact = sum(e.input in known[key] for key in both for e in two[key])
    folded = f" ({len(rows) - exact:,} of them after folding case, width and spaces)" if exact < len(rows) else ""
    what = f"{len(rows):,} rows of {second} are also in {first}{folded}, so a score on {second} is too high"
    yield _found("LEAK001", "warning", what, rows)


def _groups(parts: Parts) -> Iterator[Finding]:
    groups = {name: {e.group for e in examples if e.group is not None} for name, examples in parts.items()}
    names = list(parts)
    for i, first in enumerate(names):
        for second in names[i + 1 :]:
            if both := groups[first] & groups[second]:
                rows = [e.row for e in parts[second] if e.group in both]
                listed = ", ".join(repr(show(group, 30)) for group in sorted(map(str, both))[:3])
                what = f"{len(both):,} groups are in {first} and in {second} ({listed})"
                yield _found("LEAK003", "warning", f"{what}: {len(rows):,} rows of {second}", rows)


def _labels(parts: Parts, training: str) -> Iterator[Finding]:
    """What the training part's labels say of themselves."""
    examples = [e for e in parts.get(training, ()) if e.target is not None]
    counts = _counts(examples)
    if not counts:
        return
    one_each = not any(isinstance(e.target, (tuple, Mapping)) for e in examples)
    if one_each and (what := like_ids(counts, len(examples))):
        yield Finding("LABEL001", "error", what, len(counts))
        return
    if len({classes_of(e.target) for e in examples}) == 1 and len(counts) == 1:
        name = next(iter(counts))
        yield Finding("LABEL005", "error", f"needs >=2 classes, found 1: {show(name)!r}", len(examples))
    alone = [name for name, count in counts.items() if count == 1]
    if alone:
        rows = [e.row for e in examples if any(counts[name] == 1 for name in classes_of(e.target))]
        listed = ", ".join(repr(show(name, 30)) for name in alone[:5])
        yield Finding(
            "LABEL003",
            "warning",
            f"{len(alone):,} classes have one row each: {listed}",
            len(alone),
            tuple(rows[:SHOWN]),
        )
    spelled: dict[str, list[str]] = defaultdict(list)
    for name in counts:
        spelled["".join(unicodedata.normalize("NFKC", name).casefold().split())].append(name)
    for same in spelled.values():
        if len(same) > 1:
            listed = ", ".join(repr(show(name, 30)) for name in same)
            rows = [e.row for e in examples if set(classes_of(e.target)) & set(same[1:])]
            yield _found("LABEL006", "warning", f"these labels differ only in case, width or spaces: {listed}", rows)


def _between(parts: Parts, training: str) -> Iterator[Finding]:
    """LABEL002, LABEL004, DRIFT001: each other part against the training part."""
    here = _counts(parts.get(training, ()))
    for name, examples in parts.items():
        there = _counts(examples)
        if name == training or not here or not there:
            continue
        if unseen := [label for label in there if label not in here]:
            listed = ", ".join(repr(show(label, 30)) for label in unseen[:5])
            rows = [e.row for e in examples if any(label not in here for label in classes_of(e.target))]
            what = f"{len(rows):,} rows of {name} have labels unseen in {training}: {listed}"
            yield _found("LABEL004", "error", what, rows)
        if missing := [label for label in here if label not in there]:
            large = name == "valid" and any(here[label] >= ROOM for label in missing)
            listed = ", ".join(f"{show(label, 30)!r} ({here[label]:,} rows in {training})" for label in missing[:5])
            what = f"{len(missing):,} classes are missing from {name}: {listed}; draw {name} per class, or add rows"
            yield Finding("LABEL002", "error" if large else "warning", what, len(missing))
        yield from _drift(training, here, name, there)


def _drift(first: str, here: Counter[str], second: str, there: Counter[str]) -> Iterator[Finding]:
    """Total variation between the classes' shares, above 0.1 and what chance gives to samples of this size."""
    shares = {label: (here[label] / here.total(), there[label] / there.total()) for label in here | there}
    distance = sum(abs(a - b) for a, b in shares.values()) / 2
    if distance > 0.1 + sqrt(len(shares) / min(here.total(), there.total())):
        label = max(shares, key=lambda each: abs(shares[each][0] - shares[each][1]))
        a, b = shares[label]
        what = f"the classes' shares in {first} and {second} differ by {distance:.0%}, most for {show(label, 30)!r}: {a:.0%} and {b:.0%}"
        yield Finding("DRIFT001", "warning", what, there.total())


def _quality(parts: Parts) -> Iterator[Finding]:
    for name, examples in parts.items():
        texts = [e for e in examples if isinstance(e.input, str)]
        if empty := [e.row for e in texts if not e.input.strip()]:
            yield _found(
                "LEN001", "warning", f"{len(empty):,} texts of {name} are empty; each is one <empty> token", empty
            )
        garbled = [e.row for e in texts if not e.input.isascii() and MOJIBAKE.search(e.input)]
        if len(garbled) >= max(2, 0.005 * len(texts)):
            what = f"{len(garbled):,} texts of {name} look decoded with the wrong encoding (such as Ã© or 锟斤拷)"
            yield _found("ENC001", "warning", f"{what}; see --encoding", garbled)


def _telling(examples: Sequence[Example]) -> Iterator[Finding]:
    strong, weak = telling_tokens(examples)
    for level, found in (("warning", strong), ("note", weak)):
        if found:
            listed = ", ".join(
                f"{show(t.token, 30)!r} ({t.rows:,} rows, {t.precision:.1%} {show(t.label, 20)!r})" for t in found[:5]
            )
            what = "tokens that give the label away" if level == "warning" else "words that stand in one class only"
            yield Finding("LEAK002", level, f"{what}: {listed}", len(found), found[0].examples)  # type: ignore[arg-type]


def _counts(examples: Sequence[Example]) -> Counter[str]:
    return Counter(name for e in examples for name in classes_of(e.target))


def _found(code: str, level: Literal["note", "warning", "error"], message: str, rows: Sequence[int]) -> Finding:
    return Finding(
        code,
        level,
        f"{message} (rows {', '.join(map(str, rows[:5]))}{', …' * (len(rows) > 5)})",
        len(rows),
        tuple(rows[:SHOWN]),
    )

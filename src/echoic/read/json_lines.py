"""JSON lines, strictly: one object a line; what Python's json would let pass is refused with its column.

Refused: arrays and bare values, repeated keys, NaN and Infinity, numbers that overflow, integers of
thousands of digits, deep nesting, lone surrogates. Numbers keep the spelling they have in the file.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from echoic.core.errors import show
from echoic.read.encodings import BadLine

LONGEST_NUMBER = 4300
DEEP = 100
_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[\[\]{}]|[^\s,:\[\]{}"]+', re.DOTALL)


class _Refused(ValueError):
    def __init__(self, token: str, problem: str, nth: int = 1) -> None:
        super().__init__(problem)
        self.token, self.problem, self.nth = token, problem, nth


def objects(lines: Iterator[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line, object) of each line that is not blank. Raises BadLine with the column."""
    for number, line in enumerate(lines, start=1):
        if line.strip():
            yield number, _object(line.rstrip("\r\n"), number)


def _object(line: str, number: int) -> dict[str, Any]:
    start = len(line) - len(line.lstrip()) + 1
    try:
        value = _DECODER.decode(line)
        if not isinstance(value, dict):
            raise BadLine(number, f"column {start}: {_kind(value)}; want one JSON object a line")
        if "\\u" in line:
            _no_lone_surrogate(line)
    except json.JSONDecodeError as error:
        raise BadLine(number, f"column {error.colno}: not JSON: {error.msg}") from None
    except _Refused as error:
        raise BadLine(number, f"column {_column(line, error.token, error.nth)}: {error.problem}") from None
    except RecursionError:
        raise BadLine(number, f"column {_deep(line)}: nested too deeply") from None
    return value


def _kind(value: object) -> str:
    return "an array" if isinstance(value, list) else "a bare value"


def _number(token: str) -> str:
    if len(token) > LONGEST_NUMBER:
        raise _Refused(token, f"a number of {len(token):,} digits")
    if token.lstrip("-").isdecimal():
        return token
    if abs(float(token)) == float("inf"):
        raise _Refused(token, f"{show(token, 30)} overflows a double")
    return token


def _constant(token: str) -> None:
    raise _Refused(token, f"{token} is not JSON; leave the value out or write null")


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out = dict(pairs)
    if len(out) < len(pairs):
        keys = [key for key, _ in pairs]
        key = next(key for i, key in enumerate(keys) if key in keys[:i])
        raise _Refused(json.dumps(key, ensure_ascii=False), f"the key {show(key)!r} stands twice in one object", 2)
    return out


_DECODER = json.JSONDecoder(parse_int=_number, parse_float=_number, parse_constant=_constant, object_pairs_hook=_pairs)


def _no_lone_surrogate(line: str) -> None:
    for token in _TOKEN.findall(line):
        if "\\u" in token:
            for character in json.loads(token):
                if "\ud800" <= character <= "\udfff":
                    raise _Refused(token, f"a lone surrogate, U+{ord(character):04X}, is no character")


def _column(line: str, token: str, nth: int) -> int:
    """1-based column where `token` stands for the nth time as a token (not inside a string)."""
    for match in _TOKEN.finditer(line):
        if match.group() == token:
            nth -= 1
            if nth == 0:
                return match.start() + 1
    return 1


def _deep(line: str) -> int:
    depth = 0
    for match in _TOKEN.finditer(line):
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(match.group(), 0)
        if depth > DEEP:
            return match.start() + 1
    return 1

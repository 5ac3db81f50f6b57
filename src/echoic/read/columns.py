"""Which column is the text, the label, the group: by name, by number from 1, or found by looking."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from echoic.core.config import DataConfig
from echoic.core.errors import DataError, UsageError, nearest, show

# fmt: off
TEXT = (
    "text", "文本", "sentence", "句子", "review", "评论", "review_text", "评论内容", "comment", "content", "内容", "评价",
    "body", "正文", "message", "tweet", "document", "utterance", "question", "query", "留言", "微博", "post",
    "description", "描述", "title", "标题", "headline", "sentence1", "text_a",
)
LABEL = (
    "label", "标签", "labels", "class", "类别", "category", "分类", "sentiment", "情感", "情感倾向", "target", "polarity",
    "极性", "emotion", "情绪", "intent", "意图", "topic", "topics", "主题", "tag", "tags", "rating", "评分", "stars",
    "星级", "score",
)
# fmt: on


@dataclass(frozen=True)
class Columns:
    """The chosen columns, by name (by number where a file has no names)."""

    text: str
    label: str | None = None
    soft_labels: tuple[str, ...] = ()
    group: str | None = None


def named_role(name: str) -> str | None:
    """ "text" or "label" where a column's name says so, else None. `fine_label` does, `good content` does not."""
    if len(name) > 40 or " " in name.strip():
        return None
    roles = {"text": _ranked([name], TEXT), "label": _ranked([name], LABEL)}
    return next((role for role, found in roles.items() if found), None)


def find_columns(
    names: Sequence[str],
    sample: Sequence[Sequence[Any]],
    data: DataConfig,
    *,
    need_label: bool,
    like: Columns | None,
    where: str,
    said: Callable[[str], None],
) -> Columns:
    """The columns to read. What the config asks for comes first, then what `like` (the training
    file) had, then what the names say, then what the first rows look like."""
    group = column(names, data.group, "--group", where) if data.group is not None else None
    soft = tuple(
        column(names, each, "data.soft_labels", where)
        for each in data.soft_labels or (like.soft_labels if like else ())
    )
    if not need_label and not data.soft_labels and like is not None and not set(soft) <= set(names):
        soft = ()
    taken = {group, *soft} - {None}
    asked_label = None if soft else data.label
    label = column(names, asked_label, "--label", where) if asked_label is not None else None
    asked_text = data.text
    if asked_text is None and like is not None and (need_label or like.text in names):
        asked_text = like.text
    text = column(names, asked_text, "--text", where) if asked_text is not None else None
    if text is None:
        text = _find_text(names, sample, taken | {label} - {None}, where, said)
    if label is None and not soft and need_label:
        label = _find_label(names, sample, taken | {text}, like, where, said)
    if text in (label, *soft):
        raise UsageError(
            f"{where}: column {show(text)!r} cannot be both the text and the label; name two with --text and --label"
        )
    return Columns(text, label, soft, group)


def column(names: Sequence[str], wanted: str, option: str, where: str) -> str:
    """The column that somebody named, by name or number from 1. Raises DataError, with the nearest name."""
    if wanted in names:
        return wanted
    if wanted.isascii() and wanted.isdecimal() and 1 <= int(wanted[:9]) <= len(names):
        return names[int(wanted) - 1]
    listed = ", ".join(show(name, 30) for name in names[:20])
    hint = nearest(wanted, names) if nearest(wanted, names).startswith(" (did") else ""
    raise DataError(f"{where}: no column {show(wanted)!r}{hint} for {option}; columns: {listed}")


def _find_text(
    names: Sequence[str],
    sample: Sequence[Sequence[Any]],
    taken: set[str | None],
    where: str,
    said: Callable[[str], None],
) -> str:
    free = [name for name in names if name not in taken]
    if not free:
        raise DataError(f"{where}: no column is left for the text; name it with --text")
    if by_name := _ranked(free, TEXT):
        if len(names) > 1:
            said(_choice("text", by_name))
        return by_name[0]
    free = [name for name in free if named_role(name) != "label"] or free
    inner = {name for i, name in enumerate(names) for row in sample if isinstance(row[i], (list, dict))}
    free = [name for name in free if name not in inner] or free
    lengths = {name: sum(len(str(row[names.index(name)] or "")) for row in sample) for name in free}
    best = max(free, key=lambda name: lengths[name])
    if len(names) > 1:
        said(f"The text is column {show(best)!r}, as it holds the longest texts.")
    return best


def _find_label(
    names: Sequence[str],
    sample: Sequence[Sequence[Any]],
    taken: set[str | None],
    like: Columns | None,
    where: str,
    said: Callable[[str], None],
) -> str:
    free = [name for name in names if name not in taken]
    if like and like.label is not None:
        return column(names, like.label, "--label", where)
    if by_name := _ranked(free, LABEL):
        said(_choice("label", by_name))
        return by_name[0]
    if len(free) == 1 and len(names) == 2:
        said(f"The label is column {show(free[0])!r}, the one beside the text.")
        return free[0]
    if best := _fewest_values(free, names, sample):
        said(f"The label is column {show(best[0])!r}, as it has few different values ({best[1]}).")
        return best[0]
    listed = ", ".join(show(name, 30) for name in names[:20])
    what = "no label column found" if free else "no label column: texts without labels"
    raise DataError(f"{where}: {what}; name one with --label (columns: {listed}), or give `__label__x text` lines")


def _fewest_values(
    free: Sequence[str], names: Sequence[str], sample: Sequence[Sequence[Any]]
) -> tuple[str, int] | None:
    counts = {}
    for name in free:
        values = [str(row[names.index(name)]) for row in sample]
        distinct = len(set(values))
        if 2 <= distinct <= max(2, len(values) // 2) and max(map(len, values)) <= 60:
            counts[name] = distinct
    best = min(counts, key=lambda name: counts[name], default=None)
    return None if best is None else (best, counts[best])


def _ranked(names: Sequence[str], known: Sequence[str]) -> list[str]:
    """The names that are in `known`, the most telling first: whole names before last words."""
    whole = {name: known.index(_fold(name)) for name in names if _fold(name) in known}
    part = {
        name: len(known) + known.index(_last_word(_fold(name)))
        for name in names
        if name not in whole and len(_fold(name).split("_")) <= 3 and _last_word(_fold(name)) in known
    }
    ranks = whole | part
    return sorted(ranks, key=lambda name: (ranks[name], names.index(name)))


def _choice(role: str, found: Sequence[str]) -> str:
    others = f" (it could also be {', '.join(repr(show(name, 30)) for name in found[1:4])})" if len(found) > 1 else ""
    return f"The {role} is column {show(found[0])!r}, by its name{others}."


def _fold(name: str) -> str:
    return re.sub(r"[\s\-.]+", "_", unicodedata.normalize("NFKC", name[:100]).casefold().strip())


def _last_word(folded: str) -> str:
    return folded.rsplit("_", 1)[-1]

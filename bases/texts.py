"""Running text to pretrain on, from the sets whose terms allow a model made from them to be given away."""

from __future__ import annotations

import html
import lzma
import re
from collections.abc import Callable, Iterator

from echoic.core.types import Example
from echoic.read.named import data_dir

LEARNED = 90_000_000
"""Bytes of enwik8 that are read; the rest is what language models are compared on."""
SHORTEST = 40
"""Characters of a line: shorter ones are headings, captions and rows of tables."""

_NESTED = (re.compile(r"\{\{[^{}]*\}\}"), re.compile(r"\{\|[^{}]*\|\}"))
_FILE = re.compile(r"\[\[(?:image|file|media):(?:[^\[\]]|\[\[[^\[\]]*\]\])*\]\]", re.IGNORECASE)
_GONE = re.compile(
    r"<!--.*?-->|<(ref|math|nowiki|gallery|code|pre|timeline)\b[^>]*>.*?</\1>|<[^<>]*>", re.DOTALL | re.IGNORECASE
)
_OTHER = re.compile(
    r"\[\[(?:[a-z]{2,3}(?:-[a-z]+)*|simple|category|wikipedia|wiktionary|special|user|talk):[^\[\]]*\]\]", re.IGNORECASE
)
_LINK = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]")
_OUTER = re.compile(r"\[(?:https?|ftp)://[^\s\]]*\s*([^\]]*)\]|(?:https?|ftp)://\S+")
_PAGE = re.compile(r'<text xml:space="preserve">(.*?)</text>', re.DOTALL)


def plain(markup: str) -> str:
    """Wiki mark-up -> its sentences, a paragraph a line; empty for what has none, such as a redirection."""
    text = html.unescape(markup)
    if text.lstrip().lower().startswith("#redirect"):
        return ""
    text = _GONE.sub(" ", text)
    for nested in _NESTED:
        found = 1
        while found:
            text, found = nested.subn(" ", text)
    text = _OUTER.sub(r"\1", _LINK.sub(r"\1", _OTHER.sub("", _FILE.sub("", text))))
    text = html.unescape(re.sub(r"'{2,}", "", text))
    lines = (
        " ".join(line.split())
        for line in text.splitlines()
        if not line.startswith(("=", "|", "!", "*", "#", ":", ";", "{", "}"))
    )
    return "\n".join(line for line in lines if len(line) >= SHORTEST)


def english() -> Iterator[str]:
    """Articles of the English Wikipedia of 2006: the part of enwik8 that is there to learn from."""
    raw = lzma.decompress((data_dir() / "enwik8" / "enwik8.xz").read_bytes())[:LEARNED].decode("utf-8", "ignore")
    return filter(None, (plain(page) for page in _PAGE.findall(raw)))


def chinese() -> Iterator[str]:
    """Documents of modern Chinese, which an empty line parts."""
    with lzma.open(data_dir() / "modern_zh_text" / "text.txt.xz", "rt", encoding="utf-8") as file:
        yield from file.read().split("\n\n")


def examples(texts: Callable[[], Iterator[str]]) -> list[Example]:
    return [Example(text, row=i) for i, text in enumerate(texts(), 1)]

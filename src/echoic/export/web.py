"""A classifier as a folder that runs it in a browser: the page of `echoic serve`, and no server.

    write(path, page.HTML, task.text, cell, made.data, runtime(folder))

    index.html        the page; in the place of what asks the server, `here.js`, which asks a worker
    worker.js         the answers of the routes (serve/http.py); `tokens.js`: texts -> ids
    model.json        tokenizer, labels, thresholds; model.onnx: the file of `echoic export`
    runtime/          ONNX Runtime for browsers
    manifest.json     the digest of each of them (core/bundle.py)

A browser's Unicode is of another year than Python's, and Python's of another than the `tokenizers` library's. So no
browser is asked what a letter is: the tokenizer here is, of every code point, and its answers are in `model.json`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import Regex, normalizers, pre_tokenizers

from echoic.core import bundle, durable
from echoic.core.config import TextConfig
from echoic.core.errors import EchoicError, Unavailable, UsageError, show
from echoic.export import sealed
from echoic.prepare.text import TextPreparer
from echoic.prepare.tokenizers import base, words

KIND = "web page"
VERSION = "1.30.0"
RUNTIME = {
    "ort.wasm.bundle.min.mjs": "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    "ort-wasm-simd-threaded.wasm": "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
"""What is needed of onnxruntime-web's `dist`, and the SHA-256 that it has there."""
USUAL = Path("node_modules/onnxruntime-web/dist")

READ = ("bytes", "chars", "codepoints", "spaced", "words")
"""The tokenizers that `tokens.js` has."""

STEP = 1 << 13
"""Code points that are asked about in one go; changes speed alone."""


def runtime(folder: Path) -> dict[str, bytes]:
    """The runtime's files, from `dist`. Raises Unavailable where one is missing or another release's."""
    found = {}
    for name, digest in RUNTIME.items():
        data = (folder / name).read_bytes() if (folder / name).is_file() else b""
        if durable.sha256(data) != digest:
            wrong = f"is not that of onnxruntime-web {VERSION}" if data else "is missing"
            raise Unavailable(
                f"{show(folder / name, 300)}: {wrong}; the page runs on it: npm install onnxruntime-web@{VERSION}, "
                f"and name its dist with --runtime if it is not {USUAL}"
            )
        found[name] = data
    return found


def written_here(path: Path) -> bool:
    """Whether all that the folder holds is what `write` wrote."""
    try:
        files = bundle.read(path, KIND).files
    except EchoicError:
        return False
    known = {path / name for name in (*files, bundle.MANIFEST)}
    folders = {folder for each in known for folder in each.parents}
    return not any(each.is_symlink() or each not in known | folders for each in path.rglob("*"))


def write(path: Path, html: str, told: Mapping[str, Any], cell: str, data: bytes, runtime: Mapping[str, bytes]) -> None:
    """The folder, all of it or (on an error) none. `html`: serve/page.html; `told`: what `tokenizer` says; `data`: a
    classifier's ONNX file."""
    about = sealed.check(data, "model.onnx")
    runs = f"onnxruntime-web {VERSION}"
    model = {
        "about": {
            "name": "model",
            "task": "classify",
            "labels": about["labels"],
            "several": about["several"],
            "streams": False,
            "cell": cell,
            "kernel": runs,
        },
        "thresholds": about["thresholds"],
        "text": told,
    }
    files = {"index.html": index(html).encode(), "model.onnx": data}
    files["model.json"] = json.dumps(model, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode()
    files |= {name: script(name).encode() for name in ("tokens.js", "worker.js")}
    # Many file servers do not know the ending .mjs, and a browser runs no module of an unknown type.
    files |= {f"runtime/{name.replace('.mjs', '.js')}": each for name, each in runtime.items()}
    bundle.write(path, KIND, {"runtime": runs, "bundle": about["bundle"], "weights": about["weights"]}, files)


def script(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def index(html: str) -> str:
    """The page that asks its own worker, with a policy that lets nobody else be asked."""
    found = re.findall(r"^/\* The server \*/\n.*?(?=^/\* )", html, re.DOTALL | re.MULTILINE)
    assert len(found) == 1, "page.html: no section /* The server */ with another one behind it"
    html = html.replace(found[0], script("here.js"))
    policy = (
        f"default-src 'none'; script-src 'self' 'wasm-unsafe-eval' {_hash(html, 'script')}; worker-src blob:; "
        f"style-src {_hash(html, 'style')}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    first = '<meta charset="utf-8">\n'
    assert html.count(first) == 1, f"page.html: want {first!r} once"
    return html.replace(first, f'{first}<meta http-equiv="Content-Security-Policy" content="{policy}">\n')


def _hash(html: str, tag: str) -> str:
    """The content of the only such element, as a policy names it."""
    (body,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(body.encode()).digest()).decode()}'"


# The tokenizer, in tables


def tokenizer(text: TextPreparer) -> dict[str, Any]:
    """All that `tokens.js` must be told to give the ids and offsets of `text`. Raises UsageError for a tokenizer that
    it does not have, or that cuts by other rules than this release's."""
    if text.kind not in READ:
        raise UsageError(f"--web: the page cannot read by the tokenizer {text.kind}; it has {', '.join(READ)}")
    told: dict[str, Any] = {"kind": text.kind, "vocabulary": text.vocabulary, "max_tokens": text.max_tokens}
    if isinstance(text.tokenizer, words.Words):
        lowercase = _lowercase(text.tokenizer)
        patterns = {"first": words.FIRST, "rest": words.REST, "mark": words.MARK, "symbol": r"\p{So}", "space": r"\s"}
        classes = {name: _class(pattern) for name, pattern in patterns.items()}
        lower: Callable[[str], str] = normalizers.Lowercase().normalize_str
        told["elements"] = words.ELEMENTS
    else:
        assert isinstance(text.tokenizer, base.ListedTokenizer)
        lowercase, lower = text.tokenizer.lowercase, base.lower
        classes = {"space": _space()}
    return told | {"classes": classes, "lower": dict(_lowered(lower)) if lowercase else {}}


def _lowercase(tokenizer: words.Words) -> bool:
    """Whether it lower-cases. A bundle's `tokenizer.json` holds the rules themselves, so they may be others."""
    rules = _rules(tokenizer)
    lowercase = rules["normalizer"] is not None
    config = TextConfig(lowercase=lowercase, min_count=1)
    if rules != _rules(words.Words.fit(["a"], config, lambda _: None)):
        raise UsageError("--web: tokenizer.json cuts words by other rules than this release's, which the page has")
    return lowercase


def _rules(tokenizer: words.Words) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(tokenizer.to_json())
    del content["model"]["vocab"]
    return content


def _parts() -> Iterator[tuple[int, str]]:
    """All code points, a part at a time; in the surrogates' place, which no text has, noncharacters."""
    for first in range(0, 0x110000, STEP):
        codes = range(first, first + STEP)
        yield first, "".join("\uffff" if 0xD800 <= code < 0xE000 else chr(code) for code in codes)


@cache
def _class(pattern: str) -> list[int]:
    """[first, end, first, end, ...] of the code points of one class, as the `tokenizers` library sees them."""
    split = pre_tokenizers.Split(Regex(f"{pattern}+"), "removed", invert=True)
    return [first + place for first, part in _parts() for _, span in split.pre_tokenize_str(part) for place in span]


@cache
def _space() -> list[int]:
    """The same of white space, as Python sees it."""
    return [first + place for first, part in _parts() for run in re.finditer(r"\s+", part) for place in run.span()]


def _lowered(lower: Callable[[str], str]) -> Iterator[tuple[str, str]]:
    """Each code point that has a lower case, and that."""
    for _, part in _parts():
        if lower(part) != part:
            yield from ((char, low) for char in part if (low := lower(char)) != char)

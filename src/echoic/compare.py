"""`echoic compare`: which cell? Networks that differ in one thing, on the same rows, under the same budget.

    rows of the table = cells x directions x pooling x tokens, a mean of embeddings for each tokens, TF-IDF

Each is trained with several seeds, and scored on rows that none was trained or chosen on: those of `test`, or a fifth of DATA. The
networks are the recurrent ones alone (model.ngrams=false), and the budget is `train.updates`, rounded up to whole passes over the rows (and at least six where they are short: train/loop.py);
the table says how many each made. An interval holds both what
other rows and what other seeds would change (`evaluate.intervals.over_seeds`); a difference is called real where its
paired p value, corrected for all pairs by Holm, is below 0.05.

Each training has a process of its own: what one leaves behind (libraries that are loaded, pages that the next step
would reuse) is not counted for the next, so that the memory a row needs does not depend on the order of the rows.

Every training that is finished stands in OUT/compare.json, so that the same command, or one with more cells or seeds,
goes on.
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from echoic.core import registry
from echoic.core.bundle import canonical
from echoic.core.config import WIDTH, Config
from echoic.core.errors import CannotCreate, CheckFailed, ConfigError, DataError, OutOfMemory, UsageError, nearest, show
from echoic.core.types import Example
from echoic.ledger import Ledger
from echoic.probe import cell_named
from echoic.read.keys import text_key

FILE, PAGE = "compare.json", "compare.html"
DIRECTIONS = {"one": False, "both": True}
TEST_SHARE = 0.2
LEVEL = 0.05
FAILED = {"error": "not trained yet"}
NAMED = {
    "train.updates": "--updates",
    "train.epochs": "--updates",
    "model.cell": "--cells",
    "model.bidirectional": "--directions",
    "model.pool": "--pool",
    "model.ngrams": "nothing: networks are compared without it",
    "text.tokenizer": "--tokens",
}
"""Settings that the verb decides itself, and the option that says them."""
MEAN, BASELINE = "mean of embeddings", "TF-IDF + logistic regression"


@dataclass(frozen=True)
class Row:
    """A line of the table: what it is called, and the settings that make it."""

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def config(self, base: Config, seed: int) -> Config:
        changes = {"seed": seed, "model.ngrams": False, **self.settings}
        return base.override(f"{key}={json.dumps(value)}" for key, value in changes.items())

    def key(self, seed: int) -> str:
        """What a finished training is kept under: all that makes it, not the name, which says what differs in one table."""
        return f"{canonical(dict(self.settings)).decode()} {seed}"


def rows(cells: Sequence[str], directions: Sequence[str], pools: Sequence[str], tokens: Sequence[str]) -> list[Row]:
    """Every combination, the mean of embeddings last for each tokens; a name says what differs. Raises UsageError."""
    for what, given, known in (
        ("direction", directions, list(DIRECTIONS)),
        ("pooling", pools, list(WIDTH)),
        ("tokens", tokens, ["auto", *registry.names("tokenizer")]),
    ):
        for each in given:
            if each not in known:
                raise UsageError(f"there is no {what} named {show(each)!r}{nearest(each, known)}")
    out = []
    for token in tokens:
        said = [token] if len(tokens) > 1 else []
        base = {"text.tokenizer": token}
        for cell, direction, pool in itertools.product(cells, directions, pools):
            kind, options = cell_named(cell)
            name = [cell]
            name += ["both ways" if DIRECTIONS[direction] else "one way"] if len(directions) > 1 else []
            name += [pool] if len(pools) > 1 else []
            settings = base | {"model.bidirectional": DIRECTIONS[direction], "model.pool": pool}
            settings |= {"model.cell.kind": kind} | {f"model.cell.{key}": value for key, value in options.items()}
            out.append(Row(", ".join(name + said), settings))
        out.append(Row(", ".join([MEAN, *said]), base | {"model.layers": 0, "model.pool": "mean"}))
    return out


def compare(
    data: str | Path,
    out: str | Path,
    table: Sequence[Row],
    config: Config | None = None,
    *,
    test: str | Path | None = None,
    seeds: int = 3,
    updates: int = 600,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Trains what is not there yet, and returns what `evaluate.comparison` shows; OUT/compare.html is written too.

    Raises DataError for a bad file, CannotCreate or ConfigError where `out` holds something else, CheckFailed if
    nothing could be trained."""
    from echoic.evaluate.comparison import write_page
    from echoic.train import lock
    from echoic.train.signals import Interrupted

    _refuse_decided(config or Config())
    out, base = Path(out), (config or Config()).override([f"train.updates={updates}"])
    if base.task.kind != "classify":
        raise ConfigError(f"task.kind = {base.task.kind}: only classifiers are compared")
    others = {each.name for each in out.iterdir()} - {lock.NAME} if out.is_dir() else set()
    if others and FILE not in others:
        raise CannotCreate(f"{show(out, 200)}: holds something other than a comparison; choose another folder")
    with lock.hold(out):
        parts, digests = _parts(data, test, base, said)
        settings = base.model_dump(mode="json", exclude={"threads", "device", "seed"})
        kept = Ledger.open(out / FILE, {"settings": settings, "data": digests, "split": base.seed}, said)
        if BASELINE not in kept.pieces:
            kept.keep(BASELINE, _baseline(parts, base))
        for seed, row in itertools.product(range(seeds), table):
            name = row.key(base.seed + seed)
            if kept.pieces.get(name, FAILED)["error"] is not None:
                try:
                    kept.keep(name, _alone(row.config(base, base.seed + seed), parts))
                except Interrupted as stopped:
                    how = f"stopped; {len(kept.pieces):,} trainings are kept, and the same command goes on"
                    raise Interrupted(stopped.exit_code - 128, how) from None
                told = kept.pieces[name]
                found = told["error"] or f"accuracy {told['accuracy']:.4f} in {told['seconds']:.0f} s"
                said(f"{row.name}, seed {base.seed + seed}: {found}")
        names = {row.name: [row.key(base.seed + seed) for seed in range(seeds)] for row in table}
        summary = _summary({**names, BASELINE: [BASELINE]}, kept.pieces)
        summary |= {
            "data": show(data, 4096),
            "rows": {name: len(part) for name, part in parts.items()},
            "updates": updates,
            "seeds": seeds,
            "run": show(out, 4096),
        }
        write_page(out / PAGE, summary)
        return summary


def _refuse_decided(config: Config) -> None:
    """Raises ConfigError for a setting that somebody named and a row of the table would replace."""
    stated = config.stated()
    for key, instead in NAMED.items():
        section, name = key.split(".")
        if name in stated.get(section, {}):
            raise ConfigError(f"{key}: differs from row to row or is the same for all; say {instead}")


Parts = Mapping[str, Sequence[Example]]


def _parts(
    data: str | Path, test: str | Path | None, config: Config, said: Callable[[str], None]
) -> tuple[Parts, dict[str, str]]:
    """The training, validation and test rows, and the digests of the files."""
    from echoic import pipeline
    from echoic.read.labels import separator
    from echoic.read.split import split
    from echoic.read.tables import read_table

    parts, tables = pipeline.read_parts(data, None, config, said)
    digests = {"data": tables["train"].digest}
    if test is not None:
        other = read_table(
            test, config.data, said=said, label_separator=separator(config.task.options), like=tables["train"].chosen
        )
        return _apart({**parts, "test": other.examples}, said), digests | {"test": other.digest}
    every = tables["train"].examples
    rest, held = split(every, TEST_SHARE, config.seed, said)
    rest_rows = [every[i] for i in rest]
    learn, valid = split(rest_rows, config.data.valid_fraction, config.seed)
    return {
        "train": [rest_rows[i] for i in learn],
        "valid": [rest_rows[i] for i in valid],
        "test": [every[i] for i in held],
    }, digests


def _apart(parts: Parts, said: Callable[[str], None]) -> Parts:
    """Without the training and validation rows whose text stands among the test rows."""
    tested = {text_key(e.input) for e in parts["test"]}
    kept = {name: [e for e in parts[name] if text_key(e.input) not in tested] for name in ("train", "valid")}
    gone = sum(len(parts[name]) - len(kept[name]) for name in kept)
    if gone:
        said(f"{gone:,} rows of the training file stand in the test file too: left out of training")
    if not (kept["train"] and kept["valid"]):
        raise DataError("every row to learn from stands in the test file too: nothing is left to train on")
    return {**kept, "test": parts["test"]}


def _alone(config: Config, parts: Parts) -> dict[str, Any]:
    """`_train` in a process of its own. Raises Interrupted."""
    from echoic.train.signals import listening

    given = {"config": config.stated(), "parts": {name: [astuple(e) for e in part] for name, part in parts.items()}}
    command = [sys.executable, "-P", "-c", "from echoic.compare import _answer; _answer()"]
    with (
        listening() as ears,
        subprocess.Popen(  # noqa: S603 - this Python, these words
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8", start_new_session=True
        ) as child,
    ):
        try:
            with ears.at_once():
                out, _ = child.communicate(json.dumps(given))
        except BaseException:
            child.kill()
            raise
    if child.returncode:
        return {"error": f"the process that trained it ended with code {child.returncode}"}
    return dict(json.loads(out.splitlines()[-1]))


def _answer() -> None:
    """The other side of `_alone`."""
    given = json.load(sys.stdin)
    parts = {name: [_example(*values) for values in part] for name, part in given["parts"].items()}
    print(json.dumps(_train(Config.parse(given["config"]), parts)))


def _example(text: str, label: Any, group: str | None, row: int) -> Example:
    return Example(text, tuple(label) if isinstance(label, list) else label, group, row)


def _train(config: Config, parts: Parts) -> dict[str, Any]:
    """One training: its score on the test rows, which of them were right, and what it cost."""
    from echoic import pipeline

    began, memory = time.perf_counter(), _Memory()
    try:
        journey = pipeline.fit(parts["train"], parts["valid"], config)
    except (CheckFailed, ConfigError, DataError, OutOfMemory) as failure:
        return {"error": str(failure)}
    seconds, peak = time.perf_counter() - began, memory.peak()
    model, fitted = journey.model, journey.fitted
    asked = time.perf_counter()
    outputs = model.outputs([e.input for e in parts["test"]])
    asked = time.perf_counter() - asked
    found = _scores(model.task, model.task.probabilities(outputs), parts["test"], model.task.thresholds)
    return found | {
        "error": None,
        "parameters": sum(p.numel() for p in model.network.parameters()),
        "seconds": round(seconds, 1),
        "updates": fitted.steps,
        "tokens_per_second": round(fitted.tokens / max(fitted.seconds, 1e-9)),
        "texts_per_second": round(len(parts["test"]) / max(asked, 1e-9)),
        "peak_memory_mib": peak,
    }


def _baseline(parts: Parts, config: Config) -> dict[str, Any]:
    from echoic.facts.classify import tfidf

    task = registry.get("task", "classify").fit(parts["train"], config)
    began = time.perf_counter()
    base = tfidf(task, parts, lambda _: None)
    seconds, asked = time.perf_counter() - began, time.perf_counter()
    p = base.predict_proba([e.input for e in parts["test"]])
    asked = time.perf_counter() - asked
    found = _scores(task, p, parts["test"], base.thresholds)
    rest = {"parameters": None, "updates": None, "tokens_per_second": None, "peak_memory_mib": None}
    speed = round(len(parts["test"]) / max(asked, 1e-9))
    return found | rest | {"error": None, "seconds": round(seconds, 1), "texts_per_second": speed}


def _scores(task: Any, p: np.ndarray, test: Sequence[Example], thresholds: Any) -> dict[str, Any]:
    from echoic.evaluate.metrics import correct, decide

    targets = task.labels.encode([e.target for e in test])
    right = correct(decide(p, kind=task.kind, thresholds=thresholds), targets, kind=task.kind)
    return {"accuracy": round(float(right.mean()), 6), "right": np.packbits(right).tobytes().hex(), "rows": len(right)}


def _right(piece: Mapping[str, Any]) -> np.ndarray:
    bits = np.unpackbits(np.frombuffer(bytes.fromhex(piece["right"]), np.uint8))
    return np.asarray(bits[: piece["rows"]].astype(bool))


def _summary(names: Mapping[str, Sequence[str]], pieces: Mapping[str, Any]) -> dict[str, Any]:
    """The table, best first, and every pair's difference."""
    from echoic.evaluate.intervals import holm, over_seeds, paired_seeds

    lines, right = [], {}
    for name, keys in names.items():
        done = [pieces[key] for key in keys if pieces[key]["error"] is None]
        failed = [pieces[key]["error"] for key in keys if pieces[key]["error"] is not None]
        line: dict[str, Any] = {"name": name, "seeds": len(done), "failed": failed}
        if done:
            right[name] = np.stack([_right(piece) for piece in done])
            mean, low, high = over_seeds(right[name])
            line |= {"accuracy": mean, "low": low, "high": high, "each": [piece["accuracy"] for piece in done]}
            for key in ("parameters", "updates", "seconds", "tokens_per_second", "texts_per_second", "peak_memory_mib"):
                known = [piece[key] for piece in done if piece[key] is not None]
                line[key] = float(np.median(known)) if known else None
        lines.append(line)
    if len(right) < 2:
        raise CheckFailed(f"no network could be trained: {next(e for line in lines for e in line['failed'])}")
    lines.sort(key=lambda line: -line.get("accuracy", -1.0))
    pairs = list(itertools.combinations([line["name"] for line in lines if line["name"] in right], 2))
    partly = {line["name"] for line in lines if line["failed"]}  # the seeds that survive flatter it
    tests = [paired_seeds(right[a], right[b]) for a, b in pairs]
    differences = [
        {"better": a, "worse": b, **test._asdict(), "p_corrected": p, "real": p < LEVEL and not partly & {a, b}}
        for (a, b), test, p in zip(pairs, tests, holm([test.p for test in tests]), strict=True)
    ]
    return {"table": lines, "differences": differences}


class _Memory:
    """The most memory that is held while it looks, less what was held before: MiB, or None where the system does
    not let its mark be set back (Linux does)."""

    def __init__(self) -> None:
        try:
            Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            self.before: int | None = self._read("VmRSS")
        except OSError:
            self.before = None

    def peak(self) -> int | None:
        return None if self.before is None else max(0, self._read("VmHWM") - self.before) // 1024

    @staticmethod
    def _read(key: str) -> int:
        """KiB"""
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))

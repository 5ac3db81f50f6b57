"""Fine-tuning: a language model reads the user's own text, then its weights learn the user's labels.

    base, or nothing  --[texts without labels]-->  RUN/language/  --[labelled rows]-->  RUN/

Both stages are ordinary journeys of `pipeline.train`, each with checkpoints of its own, so that the same
command with --resume goes on in whichever was stopped. Texts of the validation part and of the test file
are left out of what the language model reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from echoic import pipeline, transplant
from echoic.core import durable
from echoic.core.config import Config, over
from echoic.core.errors import CannotCreate, ConfigError, DataError, UsageError, show
from echoic.core.types import Example
from echoic.model import Model, load
from echoic.pipeline import LANGUAGE, silent
from echoic.read.keys import text_key
from echoic.read.streams import cut, distinct, read_unlabelled
from echoic.read.tables import Table
from echoic.tasks.base import Say
from echoic.train import lock, virtual
from echoic.train.progress import Watcher

READING = ("text", "encoding", "on_bad_bytes", "max_bytes", "max_field", "skip_bad")
"""Settings by which all files of a run are read."""
APART = "texts kept apart"


def finetune(
    data: str | Path,
    out: str | Path,
    config: Config | None = None,
    *,
    base: str | Path | None = None,
    unlabelled: str | Path | None = None,
    language: Config | None = None,
    valid: str | Path | None = None,
    test: str | Path | None = None,
    resume: bool = False,
    force: bool = False,
    watch: Watcher | None = None,
    said: Say = silent,
    command: str = "",
) -> dict[str, Any]:
    """A labelled file and a language model -> a run folder with a classifier; `pipeline.train` says the rest.

    `base` is the language model's run folder or bundle. With a file of `unlabelled` texts it is adapted to
    them first (or, where there is no base, trained on them), by the settings `language`; with train.virtual
    or train.entropy the classifier learns from them too. `test` is a file
    whose texts are kept out of that, besides those of the validation part; it is not scored.

    Raises UsageError without a base and unlabelled texts, ConfigError for settings that contradict the
    base, DataError for a base of another language, BundleError for one of a newer format.
    """
    out = Path(out)
    if base is None and unlabelled is None:
        raise UsageError("fine-tuning begins from a language model: give BASE, or --unlabelled FILE to train one on")
    if unlabelled is None and (test is not None or language is not None):
        raise UsageError(
            "only --unlabelled texts are kept apart from a test file, or read by a language model's settings"
        )
    if unlabelled is not None and "-" in map(str, (data, valid, unlabelled, test)):
        raise UsageError("with --unlabelled the files are read more than once, which stdin does not allow")
    with lock.hold(out):
        begun = (out / "config.toml").is_file()
        config = config or (Config.load(out / "config.toml") if resume and begun else Config())
        if config.task.kind != "classify":
            raise UsageError(f"fine-tuning makes a classifier, not {config.task.kind}: `echoic train` makes others")
        _refuse_existing(out, resume, force)
        train = partial(pipeline.train, force=force, watch=watch, said=said, command=command)
        start = None if base is None else load(base, config.device)
        if unlabelled is not None:
            sources = {"labelled": data, "valid": valid, "test": test}
            start = _adapt(train, start, unlabelled, sources, out, config, language, resume, said)
        assert start is not None
        settings = transplant.settings(start, config)
        more = unlabelled if virtual.wanted(settings.train) else None
        trained = train(
            data, out, settings, valid=valid, resume=resume and begun, base=start, unlabelled=more, test=test
        )
        if unlabelled is None:
            durable.remove(out / LANGUAGE)  # of an earlier run
        return trained


def _refuse_existing(out: Path, resume: bool, force: bool) -> None:
    """As `pipeline.train` does, before the first of two stages has begun."""
    begun = (out / LANGUAGE / "config.toml").is_file()
    if resume:
        if not (begun or (out / "config.toml").is_file()):
            raise CannotCreate(f"{show(out)}: no run to resume here; leave out --resume to start one")
        return
    pipeline.refuse_existing(out, force)
    if begun and not force:
        raise CannotCreate(f"{show(out)}: exists already; --resume goes on with it, --force starts over")


def _adapt(
    train: Callable[..., dict[str, Any]],
    base: Model | None,
    unlabelled: str | Path,
    sources: Mapping[str, str | Path | None],
    out: Path,
    config: Config,
    language: Config | None,
    resume: bool,
    said: Say,
) -> Model:
    """The language model in `out`/language: trained, gone on with, or taken as it is where it has ended."""
    run = out / LANGUAGE
    begun = resume and (run / "config.toml").is_file()
    if language is None and begun:
        language = Config.load(run / "config.toml")
    settings = language_settings(base, config, language)
    if begun and (run / "report.html").is_file():
        _, found = read_texts(unlabelled, None, settings, silent, labelled=config, sources=sources)
        return _ended(run, base, settings, found)
    said("first the language model: it reads the texts without their labels")
    read = partial(read_texts, labelled=config, sources=sources)
    train(unlabelled, run, settings, resume=begun, base=base, read=read)
    said("then the classifier: it begins from the language model's weights")
    return load(run, config.device)


def _ended(run: Path, base: Model | None, settings: Config, files: Mapping[str, Table]) -> Model:
    """The language model that an earlier command trained. Raises ConfigError if it was by other settings, files, parts
    of them or base."""
    model = load(run, settings.device)
    made = {"seed", "task", "data", "text", "model", "train"}
    was: dict[str, Any] = {"base": model.about.get("base"), "data": model.about["data"]["sha256"]}
    now: dict[str, Any] = {
        "base": None if base is None else transplant.digest(base),
        "data": {name: table.digest for name, table in files.items()},
    }
    for each, config in ((was, Config.load(run / "config.toml")), (now, settings)):
        each["settings"] = config.model_dump(mode="json", include=made)
    if (what := next((name for name in was if was[name] != now[name]), None)) is not None:
        raise ConfigError(
            f"{show(run, 300)}: this language model was trained with other {what} than are named now; "
            "put them back, or start over with --force"
        )
    return model


def language_settings(base: Model | None, config: Config, language: Config | None) -> Config:
    """The settings of the language model's stage: what was named for it, then what it shares with the classifier's
    `config`, the base's, the recipe's."""
    named = {} if language is None else language.stated()
    shared = {
        "task": {"kind": "generate"},
        "data": {key: value for key, value in config.stated().get("data", {}).items() if key in READING},
        **{key: getattr(config, key) for key in ("seed", "device", "threads")},
    }
    settings = Config.parse(over(named, shared), "the language model's settings")
    if settings.task.kind != "generate":
        raise ConfigError(f"task.kind = {show(settings.task.kind)}: texts without labels are for task.kind = generate")
    if base is not None:
        return transplant.settings(base, settings)
    return settings.with_defaults(transplant.recipe("language"))


def read_texts(
    data: str | Path,
    valid: str | Path | None,
    config: Config,
    said: Say,
    *,
    labelled: Config,
    sources: Mapping[str, str | Path | None],
) -> tuple[dict[str, list[Example]], dict[str, Table]]:
    """The parts that the language model learns from: the texts of `data` (one a row, or one a line) and of the
    labelled training rows, without those of the evaluation sets. A `Reader`."""
    del valid
    path = sources["labelled"]
    assert path is not None
    parts, tables = pipeline.read_parts(path, sources["valid"], labelled, silent)
    found = {"train": read_unlabelled(data, config.data), "labelled": tables["train"]}
    if "valid" in tables:
        found["valid"] = tables["valid"]
    held = list(parts["valid"])
    if (test := sources["test"]) is not None:
        found["test"] = read_unlabelled(test, config.data)
        held += found["test"].examples
    apart = b"".join(sorted({text_key(e.input) for e in held}))
    found[APART] = replace(tables["train"], digest=durable.sha256(apart))  # a file may be parted otherwise next time
    return reading_parts(found["train"].examples, parts["train"], held, config, said), found


def reading_parts(
    own: Sequence[Example], labelled: Sequence[Example], held: Sequence[Example], config: Config, said: Say
) -> dict[str, list[Example]]:
    """What a language model reads and what it is validated on: the user's `own` texts and the `labelled` ones, each
    once, shuffled, without the texts that are `held` out of everything."""
    keys = {text_key(e.input) for e in held}
    left_out = sum(text_key(e.input) in keys for e in own)
    if left_out:
        said(f"{left_out:,} of {len(own):,} texts stand in the validation part or the test file, and are left out")
    texts = distinct((*labelled, *own), held)
    if len(texts) < 2:
        raise DataError(f"{len(texts)} texts are left for the language model to learn from; want 2 or more")
    order = np.random.default_rng(config.seed).permutation(len(texts))
    train, rest = cut([texts[i] for i in order], config.data.valid_fraction)
    said(f"{len(texts):,} different texts for the language model, {len(rest):,} of them to validate on")
    return {"train": train, "valid": rest}

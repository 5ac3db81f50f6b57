"""`echoic tune`: a small search for good settings, each trial a short training scored on the validation part.

    settings_k = TPE(seed, k, scores of trials 0 .. k-1)     (Bergstra et al. 2011, "Algorithms for hyper-parameter optimization")

What is tried next depends on nothing but the seed and the trials finished before, and these stand in
OUT/trials.json, rewritten whole after each. So a search may be killed at any instant: the same command
goes on with it and finds what one left alone finds. OUT/best.toml always holds the best so far.

All trials share one training and one validation part. They train the recurrent network alone: the
n-gram path is fitted apart from it and has no setting here. A score that picked the best of many
trials flatters, so the number to quote is a test part's, after training with best.toml.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echoic.core import durable, registry
from echoic.core.bundle import canonical
from echoic.core.config import Config, check
from echoic.core.errors import CannotCreate, CheckFailed, ConfigError, DataError, OutOfMemory, Unavailable, show
from echoic.core.types import Example
from echoic.train import lock
from echoic.train.signals import Interrupted

TRIALS, BEST = "trials.json", "best.toml"


@dataclass(frozen=True)
class Range:
    """A number between two ends; `log`: every factor is as likely as every other."""

    low: float
    high: float
    log: bool = False


Space = Mapping[str, Range | tuple[Any, ...]]

SPACE: Space = {
    "model.cell.kind": ("lstm", "gru"),
    "model.hidden": (64, 128, 256),
    "model.layers": (1, 2),
    "model.pool": ("max", "concat", "attention"),
    "model.dropout_embedding": Range(0.1, 0.7),
    "model.dropout_output": Range(0.1, 0.7),
    "train.lr": Range(5e-4, 1e-2, log=True),
}
"""What is searched: a setting's key, and a tuple to choose from or a range."""


def usual(kind: str) -> Space:
    """SPACE, without the settings that say nothing to this kind of task."""
    return {key: choices for key, choices in SPACE.items() if key not in registry.get("task", kind).no_use}


NOT_SEARCHED = {
    "model.ngram": "the trials train the recurrent network alone",
    "train.updates": "all trials are as long as `updates` says",
    "train.epochs": "all trials are as long as `updates` says",
    "data.": "all trials share one reading and one split",
    "seed": "all trials share one split; a lucky seed is no setting",
}
"""Beginnings of keys that would change nothing, or make scores incomparable, and why."""


def tune(
    data: str | Path,
    out: str | Path,
    config: Config | None = None,
    *,
    valid: str | Path | None = None,
    trials: int = 20,
    seconds: float | None = None,
    updates: int = 600,
    space: Space | None = None,
    said: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Searches until `trials` are finished in `out` (those of an earlier call count), or until `seconds`
    have passed when a trial ends.

    space: by default `usual`. config: everything not in `space`; best.toml is this with the best settings in place.
    updates: `train.updates` of a trial; best.toml keeps the length that `config` gives.
    Returns {"best": trial, "trials": [{"number", "settings", "score", "seconds", "error"}], "monitor",
    "config": path of best.toml, "run", "stopped_by": "trials" or "seconds"}; a trial that failed
    (diverged, had no memory, could do nothing with the rows or the settings together) has the score None and says why.
    Raises Unavailable without optuna, ConfigError if a choice of `space` is no legal setting, CannotCreate
    if `out` holds something else, ConfigError if it holds a search over other data, settings or space,
    CheckFailed if every trial failed.
    """
    from echoic import pipeline

    _optuna()
    if trials < 1 or updates < 1:
        raise ConfigError(f"trials and updates are at least 1, got {trials} and {updates}")
    began, out, config = time.monotonic(), Path(out), config or Config()
    space = usual(config.task.kind) if space is None else space
    _check_space(space, config)
    _refuse_another(out)
    with lock.hold(out):
        parts, tables = pipeline.read_parts(data, valid, config, said)
        search = _Search(out, config, updates, space, {name: table.digest for name, table in tables.items()})
        search.resume(said)
        while len(search.trials) < trials and (seconds is None or time.monotonic() - began < seconds):
            search.one_more(parts["train"], parts["valid"], said)
        return search.summary("trials" if len(search.trials) >= trials else "seconds")


def propose(space: Space, seed: int, trials: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The settings to try after `trials`: a function of its arguments, by optuna's TPE."""
    optuna = _optuna()
    of = {
        key: optuna.distributions.FloatDistribution(choice.low, choice.high, log=choice.log)
        if isinstance(choice, Range)
        else optuna.distributions.CategoricalDistribution(choice)
        for key, choice in space.items()
    }
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        # The number of the trial is part of the seed: a sampler made anew would draw trial 0 again.
        sampler = optuna.samplers.TPESampler(seed=(seed * 1_000_003 + len(trials)) % 2**32)
        study = optuna.create_study(direction="maximize", sampler=sampler)
    finally:
        optuna.logging.set_verbosity(level)
    for trial in trials:
        state = optuna.trial.TrialState.FAIL if trial["score"] is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(
            optuna.trial.create_trial(params=trial["settings"], distributions=of, value=trial["score"], state=state)
        )
    return dict(study.ask(of).params)


@dataclass
class _Search:
    """The trials finished so far, as they stand in OUT, and how the next is made."""

    out: Path
    config: Config
    updates: int
    space: Space
    digests: dict[str, str]
    trials: list[dict[str, Any]] = field(default_factory=list)
    monitor: str = ""

    @property
    def about(self) -> dict[str, Any]:
        """What a search must share with the one it goes on with."""
        space = {key: list(c) if isinstance(c, tuple) else [c.low, c.high, c.log] for key, c in self.space.items()}
        settings = self.config.model_dump(mode="json", exclude={"threads", "device"})
        return {"config": settings, "updates": self.updates, "space": space, "data": self.digests}

    def resume(self, said: Callable[[str], None]) -> None:
        place = self.out / TRIALS
        if not place.exists():
            self._write()
            return
        try:
            stated = json.loads(place.read_bytes())
            about, trials, monitor = stated["about"], list(stated["trials"]), str(stated["monitor"])
        except (ValueError, KeyError, TypeError):
            raise ConfigError(
                f"{show(place, 200)}: damaged: not what echoic tune wrote; choose another folder"
            ) from None
        for part, mine in self.about.items():
            if about.get(part) != mine:
                raise ConfigError(f"{show(self.out, 200)}: holds a search with other {part}; choose another folder")
        self.trials, self.monitor = trials, monitor
        said(f"going on after {len(trials)} finished trials in {show(self.out, 200)}")

    def one_more(self, train: Sequence[Example], valid: Sequence[Example], said: Callable[[str], None]) -> None:
        from echoic import pipeline

        number, began = len(self.trials), time.monotonic()
        settings = propose(self.space, self.config.seed, self.trials)
        config = self._with({**settings, "train.updates": self.updates, "train.epochs": 0, "model.ngrams": False})
        score, error = None, None
        try:
            journey = pipeline.fit(train, valid, config)
            score, self.monitor = float(journey.fitted.best_score), journey.model.task.monitor
        except (CheckFailed, ConfigError, DataError, OutOfMemory) as failure:
            error = str(failure)
        except Interrupted as stopped:
            raise Interrupted(
                stopped.exit_code - 128,
                f"stopped in trial {number}; {number} finished trials are kept in {show(self.out, 200)}: the same command goes on",
            ) from None
        lasted = round(time.monotonic() - began, 1)
        self.trials.append({"number": number, "settings": settings, "score": score, "seconds": lasted, "error": error})
        self._write()
        listed = "  ".join(
            f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}" for key, value in settings.items()
        )
        said(
            f"trial {number}: {f'{self.monitor} {score:.4f}' if score is not None else error}  {lasted:.0f} s  {listed}"
        )

    @property
    def best(self) -> dict[str, Any] | None:
        """The first of the highest scores."""
        scored = [trial for trial in self.trials if trial["score"] is not None]
        return max(scored, key=lambda trial: float(trial["score"]), default=None)

    def summary(self, stopped_by: str) -> dict[str, Any]:
        if self.best is None:
            why = self.trials[-1]["error"] if self.trials else "no trial was finished in the time given"
            raise CheckFailed(f"no setting was found: {why}")
        return {
            "best": self.best,
            "trials": self.trials,
            "monitor": self.monitor,
            "config": str(self.out / BEST),
            "run": str(self.out),
            "stopped_by": stopped_by,
        }

    def _with(self, settings: Mapping[str, Any]) -> Config:
        return _changed(self.config, settings)

    def _write(self) -> None:
        state = {"about": self.about, "trials": self.trials, "monitor": self.monitor}
        durable.write_file(self.out / TRIALS, canonical(state))
        if self.best is not None:
            durable.write_file(self.out / BEST, self._with(self.best["settings"]).to_toml().encode())


def _changed(config: Config, settings: Mapping[str, Any]) -> Config:
    return config.override(f"{key}={json.dumps(value)}" for key, value in settings.items())


def _check_space(space: Space, config: Config) -> None:
    """Every choice must be a legal setting beside `config`, for every cell that is tried."""
    for key, choice in space.items():
        for start, why in NOT_SEARCHED.items():
            if key.startswith(start):
                raise ConfigError(f"{show(key)}: cannot be searched, as {why}")
        values = (choice.low, choice.high) if isinstance(choice, Range) else choice
        if not values:
            raise ConfigError(f"{show(key)}: cannot be searched, as there is nothing to choose from")
        if isinstance(choice, Range) and not (choice.low < choice.high and (choice.low > 0 or not choice.log)):
            raise ConfigError(f"{show(key)}: cannot be searched, as {choice} has no low end below a high one")
        cells = space.get("model.cell.kind")
        cells = cells if isinstance(cells, tuple) else (config.model.cell.kind,)
        for settings in ({"model.cell.kind": cell, key: value} for cell in cells for value in values):
            try:
                tried = _changed(config, settings)
                for kind, chosen in (("cell", tried.model.cell), ("task", tried.task)):
                    check(registry.get(kind, chosen.kind).Options, chosen.options, kind)
            except ConfigError as error:
                asked = ", ".join(f"{name}={value}" for name, value in settings.items())
                raise ConfigError(f"cannot be searched: {show(asked, 200)}: {error}") from None
            if isinstance(choice, Range) and not isinstance(_value_of(tried, key), float):
                raise ConfigError(f"{show(key)}: cannot be searched as a range, as it is no fraction; list its values")


def _value_of(config: Config, key: str) -> Any:
    value: Any = config.model_dump()
    for part in key.split("."):
        value = value[part]
    return value


def _refuse_another(out: Path) -> None:
    if not out.parent.exists():
        raise CannotCreate(f"{show(out, 200)}: its parent folder does not exist; make it first")
    if out.exists() and not out.is_dir():
        raise CannotCreate(f"{show(out, 200)}: is a file; choose another place")
    others = {each.name for each in out.iterdir()} - {lock.NAME} if out.exists() else set()
    if others and TRIALS not in others:
        raise CannotCreate(f"{show(out, 200)}: holds something other than a search; choose another folder")


def _optuna() -> Any:
    try:
        import optuna
    except ImportError:
        raise Unavailable("tuning needs optuna: pip install 'echoic[tune]'") from None
    return optuna

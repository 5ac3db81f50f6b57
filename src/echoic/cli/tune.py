"""`echoic tune`: a small search for better settings, on validation scores alone.

Every trial trains the recurrent network and scores it on the validation part; the n-gram path is
fitted apart from it and has nothing to search here, so that trials leave it out. The search stands
in RUN/search.jsonl: the same command goes on with it, and suggests what an uninterrupted one would
have, as the draws of trial n depend on the seed, n and the trials before it only.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer

from echoic.cli.options import DataFile, Reading, Settings, Talk, verb
from echoic.cli.output import listener, render, say, say_json, table
from echoic.cli.train import command_line
from echoic.core import durable, registry
from echoic.core.config import Config
from echoic.core.errors import CannotCreate, ConfigError, UsageError, show

SPACE = {
    "model.hidden": "64:256",
    "model.cell.kind": None,
    "model.dropout_embedding": "0.0:0.7",
    "model.dropout_output": "0.0:0.7",
    "train.lr": "0.0005:0.01",
}
"""{setting: LOW:HIGH, or A,B,C; None takes every registered cell}"""

Choice = list[Any] | tuple[float, float]


@verb
def tune(
    data: DataFile,
    out: Annotated[Path, typer.Option("--out", metavar="RUN", help="The folder of the search; an old one goes on.")],
    reading: Reading,
    settings: Settings,
    talk: Talk,
    valid: Annotated[str | None, typer.Option(help="A file to validate on, instead of a share of DATA.")] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials in all, those of an earlier call included.")] = 20,
    search: Annotated[
        list[str] | None,
        typer.Option(metavar="KEY=LOW:HIGH|A,B,C", help="What to search instead of the usual five; repeatable."),
    ] = None,
) -> None:
    """Search for better settings, and write the best as RUN/best.toml.

    Use it with `echoic train DATA --config RUN/best.toml`.
    """
    from echoic import pipeline
    from echoic.train import lock

    base = settings.build(reading)
    space = {key: parse_choice(key, text, base) for key, text in (_asked(search) or SPACE).items()}
    said = listener(talk.quiet)
    if not out.parent.is_dir():
        raise CannotCreate(f"{show(out, 200)}: its parent folder does not exist; make it first")
    with lock.hold(out):
        parts, tables = pipeline.read_parts(data, valid, base, said)
        study = _study(out, base, {name: each.digest for name, each in tables.items()}, space)
        while (number := len(_complete(study))) < trials:
            _trial(study, number, space, parts, base, said)
        best = _complete(study)[0]
        config = base.override(_settings(best.params))
        durable.write_file(out / "best.toml", config.to_toml().encode())
    if talk.json:
        done = [{"settings": t.params, "score": t.value, "seconds": t.user_attrs["seconds"]} for t in _complete(study)]
        say_json(
            {
                "best": {"settings": best.params, "score": best.value},
                "trials": done,
                "config": str(out / "best.toml"),
                "command": command_line(),
            }
        )
        return
    rows = [[f"{t.value:.4f}", *(_short(t.params[key]) for key in space)] for t in _complete(study)[:10]]
    render(table({"validation": "right", **dict.fromkeys(space, "right")}, rows))
    say(f"\nthe best of {len(_complete(study))} is in {show(out / 'best.toml', 200)}")


def _asked(search: list[str] | None) -> dict[str, str | None]:
    space: dict[str, str | None] = {}
    for each in search or []:
        key, equals, values = each.partition("=")
        if not (key and equals and values):
            raise UsageError(f"--search {show(each)!r} is not of the form section.key=LOW:HIGH or section.key=A,B,C")
        space[key] = values
    return space


def parse_choice(key: str, text: str | None, base: Config) -> Choice:
    """`64:256` -> (64, 256); `gru,lstm` -> a list. Every end and every choice must be a legal setting."""
    if text is None:
        return list(registry.names("cell"))
    low, colon, high = text.partition(":")
    ends = [low, high] if colon else text.split(",")
    values = [_get(base.override([f"{key}={end}"]), key) for end in ends]
    if not colon:
        return values
    if any(isinstance(v, bool) or not isinstance(v, int | float) for v in values) or not values[0] < values[1]:
        raise ConfigError(f"--search {show(key)}={show(text)}: want two numbers, the lower first")
    return values[0], values[1]


def _get(config: Config, key: str) -> Any:
    value: Any = config
    for part in key.split("."):
        value = getattr(value, part)
    return value


def _study(out: Path, base: Config, digests: dict[str, str], space: dict[str, Choice]) -> Any:
    """The search in `out`, made if absent. Trials of other data, settings or ranges are not mixed in."""
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    storage = JournalStorage(JournalFileBackend(str(out / "search.jsonl")))
    study = optuna.create_study(study_name="echoic", storage=storage, direction="maximize", load_if_exists=True)
    shared = {"data": digests, "config": base.model_dump(mode="json"), "space": {k: list(v) for k, v in space.items()}}
    for name, value in shared.items():
        if (before := study.user_attrs.get(name, value)) != value:
            raise ConfigError(
                f"{show(out, 200)}: holds a search with other {name} ({show(before)}); search in another folder"
            )
        study.set_user_attr(name, value)
    for trial in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)
    return study


def _complete(study: Any) -> list[Any]:
    """The finished trials, best first; of equals the earlier one."""
    from optuna.trial import TrialState

    return sorted(study.get_trials(states=[TrialState.COMPLETE]), key=lambda t: (-t.value, t.number))


def _trial(study: Any, number: int, space: dict[str, Choice], parts: Any, base: Config, said: Any) -> None:
    """One training with suggested settings; what it scored goes into the study."""
    import optuna

    from echoic import pipeline

    began = time.monotonic()
    study.sampler = optuna.samplers.TPESampler(seed=base.seed + number)
    trial = study.ask()
    params = {key: _suggest(trial, key, choice) for key, choice in space.items()}
    config = base.override([*_settings(params), "model.ngrams=false"])
    journey = pipeline.fit(parts["train"], parts["valid"], config)
    trial.set_user_attr("seconds", round(time.monotonic() - began, 1))
    study.tell(trial, journey.fitted.best_score)
    said(f"trial {number + 1}: {journey.fitted.best_score:.4f} with " + ", ".join(_settings(params)))


def _suggest(trial: Any, key: str, choice: Choice) -> Any:
    """A rate is drawn on a logarithmic scale where its range spans a factor of ten or more."""
    if isinstance(choice, list):
        return trial.suggest_categorical(key, choice)
    low, high = choice
    log = low > 0 and high / low >= 10
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(key, low, high, log=log)
    return trial.suggest_float(key, low, high, log=log)


def _settings(params: dict[str, Any]) -> list[str]:
    return [f"{key}={_toml(value)}" for key, value in params.items()]


def _toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

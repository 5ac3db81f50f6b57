"""A language model's files, scores and report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echoic import facts
from echoic.core.config import Config, DataConfig
from echoic.core.errors import show
from echoic.core.types import UNKNOWN, Example
from echoic.evaluate.intervals import Paired, paired_bootstrap
from echoic.evaluate.language import distinct, language
from echoic.evaluate.language_report import LanguageFacts, Sample
from echoic.evaluate.ngram_model import MOST, NgramModel
from echoic.facts import Journey, Parts
from echoic.model import Model, fingerprints
from echoic.read.check import Finding, check_parts
from echoic.read.streams import cut, read_running_text
from echoic.read.tables import Table
from echoic.tasks.base import Dataset, Say

TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.3)
PROMPT, WRITTEN = 48, 300
"""Characters of the report's prompt, and tokens that are written on from it."""
FEW = 10
"""Scored rows under which no interval is given."""


def read_parts(
    data: str | Path, valid: str | Path | None, config: Config, said: Say
) -> tuple[dict[str, list[Example]], dict[str, Table]]:
    """The training and the validation part: two files, or the end of one is held out."""
    table = read_running_text(data, config.data, said=said)
    if valid is not None:
        other = read_running_text(valid, config.data, said=said)
        return {"train": table.examples, "valid": other.examples}, {"train": table, "valid": other}
    train, held = cut(table.examples, config.data.valid_fraction)
    said(
        f"the last {config.data.valid_fraction:.0%} of the {'texts' if len(table.examples) > 1 else 'text'} are held out to validate"
    )
    return {"train": train, "valid": held}, {"train": table}


def read_rows(data: str | Path, model: Model, over: Callable[[DataConfig], DataConfig], said: Say) -> Sequence[Example]:
    """Running text, read as for training."""
    return read_running_text(data, over(model.config.data), said=said).examples


def check(parts: Parts) -> list[Finding]:
    return check_parts(parts)


def fit_baseline(journey: Journey, parts: Parts, said: Say) -> NgramModel:
    """The frozen n-gram model on the training part."""
    stream = journey.train.stream
    assert stream is not None
    model = NgramModel.fit(stream, len(journey.model.task.text.vocabulary))
    read = f" of the last {MOST:,} tokens" if len(stream) > MOST else ""
    said(f"baseline: {model.order}-grams of the same tokens{read}, interpolated Kneser-Ney")
    return model


def score(journey: Journey, parts: Parts) -> dict[str, Any]:
    """Scores on the validation part."""
    return score_outputs(journey.model, journey.valid, journey.valid_outputs)


def score_outputs(model: Model, data: Dataset, outputs: np.ndarray) -> dict[str, Any]:
    """Scores of outputs (P, 2), with the n-gram model beside them on the same tokens."""
    assert data.targets is not None
    characters, unknown = data.targets.T
    scores = language(outputs[:, 0], outputs[:, 1], characters, unknown)
    if model.baseline is not None:
        nats = model.baseline.nats(data.rows)
        scores["baselines"] = {"ngram": language(nats, outputs[:, 1], characters, unknown)}
        scores["baselines"]["ngram"]["order"] = model.baseline.order
        if len(nats) >= FEW:
            more = paired_bootstrap(lambda n, t: float(n.sum() / t.sum()), nats, outputs[:, 0], outputs[:, 1])
            scores["difference"] = more._asdict()
    return scores


def evaluate(model: Model, examples: Sequence[Example]) -> dict[str, Any]:
    """Scores on these texts; `seen_share` of their characters stand in lines that were trained on."""
    inputs = [e.input for e in examples]
    data = model.task.encode(examples)
    outputs = model.outputs_of(data)
    scores = score_outputs(model, data, outputs)
    lines = model.task.passages(inputs)
    if model.seen is not None and lines:
        found = np.isin(fingerprints(lines), model.seen)
        sizes = np.array([len(line) for line in lines])
        scores["seen_share"] = float(sizes[found].sum() / sum(map(len, inputs)))
    return scores


def remarks(scores: Mapping[str, Any]) -> list[str]:
    """What share of the text was trained on, where that is more than chance."""
    share = scores.get("seen_share", 0.0)
    return [f"{share:.0%} of the characters stand in lines that were used in training or validation"] * (share > 0.01)


def summary(journey: Journey, scores: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """The run in numbers; `scores` are those of the validation part. It writes on at several temperatures."""
    prompt = _prompt(journey)
    return {
        "validation": dict(scores),
        **facts.course(journey, findings),
        "prompt": prompt,
        "samples": [_sample(journey.model, prompt, temperature) for temperature in TEMPERATURES],
    }


def _prompt(journey: Journey) -> str:
    """The first words of the validation part, as the model reads them."""
    first = next((row for row in journey.valid.rows if len(row) > 1), np.empty(0, np.int32))
    text = str(journey.model.task.text.decode(first[: PROMPT + 1]))[:PROMPT]
    words = text.rsplit(maxsplit=1)
    return words[0] if len(words) == 2 and len(words[0]) > PROMPT / 2 else text


def _sample(model: Model, prompt: str, temperature: float) -> dict[str, Any]:
    writer = model.task.writer(model.network, prompt, temperature=temperature, seed=model.config.seed)
    writer.write(WRITTEN)
    return {
        "temperature": temperature,
        "continuation": writer.texts[0],
        "perplexity": writer.perplexities[0],
        "distinct": [distinct(writer.texts[0], n) for n in (1, 2, 3)],
    }


def report(
    journey: Journey,
    scores: Mapping[str, Any],
    parts: Parts,
    findings: Sequence[Finding],
    notes: Sequence[str],
    summary: Mapping[str, Any],
    out: Path,
) -> LanguageFacts:
    """The facts of `report.html`."""
    model = journey.model
    run = shlex.quote(show(out, 4096))
    return score_facts(
        model,
        scores,
        Path(summary["data"]["path"]).name,
        "validation",
        prompt=summary["prompt"],
        samples=[Sample(**each) for each in summary["samples"]],
        data=[_part(name, parts[name], data) for name, data in (("train", journey.train), ("valid", journey.valid))],
        commands=[
            ("let it write on", f"echoic generate {run} --prompt {shlex.quote(summary['prompt'])} --temperature 0.8"),
            ("score it on a test file", f"echoic evaluate {run} test.txt"),
            ("from Python", f'echoic.load("{show(out, 4096)}").generate("a prompt", length=200).continuation'),
        ],
        **facts.told(journey, findings, notes, summary),
    )


def score_facts(model: Model, scores: Mapping[str, Any], title: str, part: str, **more: Any) -> LanguageFacts:
    """What was scored, in the form that the report's table is drawn from."""
    beside = scores.get("baselines", {})
    return LanguageFacts(
        title=show(title),
        unit=model.task.text.kind,
        part=part,
        scores={"model": scores, **beside},
        difference=Paired(**scores["difference"]) if "difference" in scores else None,
        order=beside.get("ngram", {}).get("order"),
        **more,
    )


def _part(name: str, texts: Sequence[Example], data: Dataset) -> tuple[str, int, int, int]:
    assert data.stream is not None
    return name, len(texts), len(data.stream) - len(texts), int((data.stream == UNKNOWN).sum())

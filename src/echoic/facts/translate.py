"""A translator's files, scores and report."""

from __future__ import annotations

import dataclasses
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echoic import facts
from echoic.core.config import Config, DataConfig
from echoic.core.errors import show
from echoic.core.types import Example
from echoic.evaluate import translation
from echoic.evaluate.intervals import Paired
from echoic.evaluate.translation_report import TranslationFacts, Written
from echoic.evaluate.word_table import MOST, WordTable
from echoic.facts import Journey, Parts
from echoic.model import Model, fingerprints
from echoic.read.check import Finding, check_parts
from echoic.read.columns import Columns
from echoic.read.pairs import read_pairs, split_pairs
from echoic.read.tables import Table
from echoic.tasks.base import Dataset, Say

SAMPLE = 500
"""Validation rows that are translated for the report, at most."""
SHOWN = 12
FEW = 10
"""Rows under which no interval is given."""
LENGTHS = (1, 11, 21, 31, 41)
"""Where groups of sources by their number of tokens begin."""


def read_parts(
    data: str | Path, valid: str | Path | None, config: Config, said: Say
) -> tuple[dict[str, list[Example]], dict[str, Table]]:
    """The training and the validation part: two files, or a share of the pairs is held out."""
    translation.require()
    table = read_pairs(data, config.data, said=said)
    if valid is not None:
        other = read_pairs(valid, config.data, said=said, like=table.chosen)
        return {"train": table.examples, "valid": other.examples}, {"train": table, "valid": other}
    first, second = split_pairs(table.examples, config.data.valid_fraction, config.seed, said)
    return {"train": first, "valid": second}, {"train": table}


def read_rows(data: str | Path, model: Model, over: Callable[[DataConfig], DataConfig], said: Say) -> Sequence[Example]:
    """Pairs, from columns of the names that the training's had."""
    trained = model.config.data
    columns = over(trained.model_copy(update={"text": None, "label": None, "group": None}))
    like = Columns(trained.text, trained.label) if trained.text else None
    return read_pairs(data, columns, said=said, like=like).examples


def check(parts: Parts) -> list[Finding]:
    """To the checks a target is a class, which a translation is not."""
    return check_parts({name: [dataclasses.replace(e, target=None) for e in part] for name, part in parts.items()})


def fit_baseline(journey: Journey, parts: Parts, said: Say) -> WordTable:
    """The frozen table of words on the training part."""
    train = parts["train"]
    table = WordTable.fit([e.input for e in train], [e.target for e in train])
    of = f" of the first {MOST:,} pairs" if len(train) > MOST else ""
    said(f"baselines: copying the source, and a word for a word ({len(table.table):,} words, by co-occurrence{of})")
    return table


def evaluate(model: Model, examples: Sequence[Example]) -> dict[str, Any]:
    """Scores on these pairs; rows whose source was used in training or validation are counted."""
    data = model.task.encode(examples)
    outputs = model.outputs_of(data)
    scores, said = score_outputs(model, examples, outputs)
    if data.cut[0]:
        scores["cut"] = {"texts": data.cut[0], "tokens": data.cut[1], "kept": model.task.text.max_tokens}
    if model.seen is not None:
        found = np.isin(fingerprints([e.input for e in examples]), model.seen)
        scores["seen_in_training"] = int(found.sum())
        if 0 < found.sum() < len(found):
            kept = np.flatnonzero(~found).tolist()
            scores["unseen"] = translation.translation([said[i] for i in kept], [examples[i].target for i in kept])
            scores["unseen"]["examples"] = len(kept)
    return scores


def score(journey: Journey, parts: Parts) -> dict[str, Any]:
    """Scores on the validation part, of which SAMPLE rows are translated."""
    return score_outputs(journey.model, parts["valid"], journey.valid_outputs, SAMPLE)[0]


def score_outputs(
    model: Model, examples: Sequence[Example], outputs: np.ndarray, most: int | None = None
) -> tuple[dict[str, Any], list[str]]:
    """Scores of outputs (N, 3), of what the model itself writes for at most `most` of the sources, evenly chosen,
    and of the baselines on the same; and what it wrote."""
    chosen = [examples[i] for i in places(len(examples), most)]
    sources, wanted = [e.input for e in chosen], [str(e.target) for e in chosen]
    said = [record.translation for record in model.predict(sources, cut=True)]
    scores: dict[str, Any] = {
        **translation.forced(outputs),
        "translated": len(said),
        **translation.translation(said, wanted),
    }
    scores["by_length"] = _by_length(model, sources, said, wanted)
    if model.baseline is not None:
        others = {"words": [model.baseline.translate(text) for text in sources], "copy": sources}
        scores["baselines"] = {name: translation.translation(other, wanted) for name, other in others.items()}
        if len(said) >= FEW:
            scores["difference"] = translation.bleu_difference(said, others["words"], wanted)._asdict()
    return scores, said


def places(rows: int, most: int | None) -> list[int]:
    """At most `most` of `rows` places, evenly spread."""
    count = min(rows, most or rows)
    return [i * rows // count for i in range(count)]


def _by_length(
    model: Model, sources: Sequence[str], said: Sequence[str], wanted: Sequence[str]
) -> list[dict[str, Any]]:
    """BLEU of sources of like length, in the model's tokens."""
    group = np.searchsorted(LENGTHS, [len(row) for row in model.task.text.encode(sources)], side="right") - 1
    tokenizer, out = translation.tokenizer_of(wanted), []
    for k, start in enumerate(LENGTHS):
        rows = np.flatnonzero(group == k).tolist()
        if rows:
            bleu = translation.bleu([said[i] for i in rows], [wanted[i] for i in rows], tokenizer)
            out.append({"tokens": start, "rows": len(rows), "bleu": bleu})
    return out


def remarks(scores: Mapping[str, Any]) -> list[str]:
    """What the score is called among those who compare, and how many sources were trained on."""
    said = [scores["signatures"]["bleu"]]
    if cut := scores.get("cut"):
        said.append(f"{cut['texts']:,} texts were cut to {cut['kept']:,} tokens (text.max_tokens), as in training")
    if seen := scores.get("seen_in_training"):
        unseen = scores.get("unseen")
        rest = f"; on the other {unseen['examples']:,} BLEU is {unseen['bleu']:.1f}" if unseen else ""
        said.append(f"{seen:,} of these sources were used in training or validation{rest}")
    return said


def summary(journey: Journey, scores: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """The run in numbers; `scores` are those of the validation part."""
    return {"validation": dict(scores), **facts.course(journey, findings)}


def report(
    journey: Journey,
    scores: Mapping[str, Any],
    parts: Parts,
    findings: Sequence[Finding],
    notes: Sequence[str],
    summary: Mapping[str, Any],
    out: Path,
) -> TranslationFacts:
    """The facts of `report.html`."""
    model, valid = journey.model, parts["valid"]
    run = shlex.quote(show(out, 4096))
    shown = [valid[i] for i in places(len(valid), SHOWN)]
    records = model.predict([e.input for e in shown], cut=True)
    return score_facts(
        model,
        scores,
        Path(summary["data"]["path"]).name,
        "validation",
        written=[
            Written(e.row, e.input, str(e.target), r.translation, r.score) for e, r in zip(shown, records, strict=True)
        ],
        data=[_part("train", journey.train), _part("valid", journey.valid)],
        commands=[
            ("translate", f'echoic predict {run} "a text"'),
            ("a whole file", f"echoic predict {run} --input texts.txt --output answers.tsv"),
            ("score it on a test file", f"echoic evaluate {run} test.tsv"),
            ("from Python", f'echoic.load("{show(out, 4096)}").predict(["a text"])[0].translation'),
        ],
        **facts.told(journey, findings, notes, summary),
    )


def score_facts(model: Model, scores: Mapping[str, Any], title: str, part: str, **more: Any) -> TranslationFacts:
    """What was scored, in the form that the report's table is drawn from."""
    return TranslationFacts(
        title=show(title),
        part=part,
        scores={"model": scores, **scores.get("baselines", {})},
        difference=Paired(**scores["difference"]) if "difference" in scores else None,
        **more,
    )


def _part(name: str, data: Dataset) -> tuple[str, int, int, int]:
    assert data.targets is not None
    written = int(data.targets.sum()) - len(data)
    return name, len(data), data.tokens - written - 2 * len(data), written

"""A classifier's files, scores and report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echoic import facts
from echoic.core.config import Config, DataConfig
from echoic.core.errors import show
from echoic.core.types import SPECIALS, Example
from echoic.evaluate.baselines import Baseline
from echoic.evaluate.intervals import Paired, mcnemar, wilson
from echoic.evaluate.metrics import classification, correct, decide, hardest
from echoic.evaluate.report import HardError, Part, ReportFacts
from echoic.explain.faithful import FEW, falls, methods_of
from echoic.explain.faithful import summary as summary_of_falls
from echoic.explain.pieces import strongest
from echoic.explain.words import Near
from echoic.explain.words import Table as Words
from echoic.facts import MEASURES, Journey, Parts
from echoic.model import Model, fingerprints
from echoic.prepare.text import choose
from echoic.read.check import Finding, check_parts, require_trainable
from echoic.read.labels import separator
from echoic.read.split import split, within
from echoic.read.tables import Table, read_table
from echoic.tasks.base import Dataset, Say

HARDEST = 20
MISLED = 4
"""Words marked of each."""
FAITHFUL_TEXTS, FAITHFUL_TOKENS = 40, 1000
"""Validation texts whose words are deleted, from all over the part, and how long they may be: a few seconds' work."""
TELLING, TELLING_ROWS, TELLING_TEXTS = 8, 5000, 5
"""Words whose neighbours are shown, the rows looked at for them, from all over the file, and in how many texts a word must be."""
SHOWN = ("examples", "accuracy", "macro_f1", "micro_f1", "loss", "ece", "accuracy_interval", "difference")


def read_parts(
    data: str | Path, valid: str | Path | None, config: Config, said: Say
) -> tuple[dict[str, list[Example]], dict[str, Table]]:
    """The training and the validation part: two files, or one is split, classes in proportion."""
    between = separator(config.task.options)
    table = read_table(data, config.data, said=said, label_separator=between)
    require_trainable(table.examples, config.data.min_class_count, show(data))
    if valid is not None:
        other = read_table(valid, config.data, said=said, label_separator=between, like=table.chosen)
        return {"train": table.examples, "valid": other.examples}, {"train": table, "valid": other}
    first, second = split(table.examples, config.data.valid_fraction, config.seed, said)
    train, held = [table.examples[i] for i in first], [table.examples[i] for i in second]
    return {"train": train, "valid": within(train, held, said) if between else held}, {"train": table}


def read_rows(data: str | Path, model: Model, over: Callable[[DataConfig], DataConfig], said: Say) -> Sequence[Example]:
    """Labelled rows. A group is left aside: it splits, and nothing is split here."""
    columns = over(model.config.data.model_copy(update={"group": None}))
    return read_table(data, columns, said=said, label_separator=separator(model.config.task.options)).examples


def check(parts: Parts) -> list[Finding]:
    """All of the checks."""
    return check_parts(parts)


def fit_baseline(journey: Journey, parts: Parts, said: Say) -> Baseline:
    """TF-IDF and logistic regression."""
    return tfidf(journey.model.task, parts, said)


def tfidf(task: Any, parts: Parts, said: Say) -> Baseline:
    """The frozen baseline on `parts["train"]`, its C chosen on `parts["valid"]`."""
    inputs = {name: [e.input for e in part] for name, part in parts.items()}
    targets = {name: task.labels.encode([e.target for e in part]) for name, part in parts.items()}
    baseline = Baseline.fit(
        inputs["train"],
        targets["train"],
        inputs["valid"],
        targets["valid"],
        chinese=choose(inputs["train"]) == "chars",
        kind=task.kind,
        names=task.names,
    )
    said(f"baseline: TF-IDF and logistic regression, C = {baseline.c:g} chosen on the validation part")
    if baseline.note:
        said(baseline.note)
    return baseline


def score(journey: Journey, parts: Parts) -> dict[str, Any]:
    """Scores on the validation part."""
    assert journey.valid.targets is not None
    inputs = [e.input for e in parts["valid"]]
    return score_outputs(journey.model, inputs, journey.valid_outputs, journey.valid.targets)


def evaluate(model: Model, examples: Sequence[Example]) -> dict[str, Any]:
    """Scores on these examples, with the baselines beside them and an interval on the difference.

    Rows whose text was used in training or validation are counted, and if there are any, the scores without
    them stand under `unseen`.
    """
    task = model.task
    data = task.encode(examples)
    outputs = model.outputs_of(data)
    inputs = [e.input for e in examples]
    scores = score_outputs(model, inputs, outputs, data.targets)
    if model.seen is not None:
        found = np.isin(fingerprints(inputs), model.seen)
        scores["seen_in_training"] = int(found.sum())
        if 0 < found.sum() < len(found):
            kept = np.flatnonzero(~found)
            scores["unseen"] = score_outputs(model, [inputs[i] for i in kept], outputs[kept], data.targets[kept])
    return scores


def score_outputs(model: Model, inputs: Sequence[Any], outputs: np.ndarray, targets: np.ndarray) -> dict[str, Any]:
    task, base = model.task, model.baseline
    scores = task.metrics(outputs, targets, MEASURES)
    right = correct(
        decide(task.probabilities(outputs), kind=task.kind, thresholds=task.thresholds), targets, kind=task.kind
    )
    scores["accuracy_interval"] = list(wilson(int(right.sum()), len(right)))
    if base is not None:
        simple = {"majority": base.majority_proba(len(inputs)), "tfidf_lr": base.predict_proba(inputs)}
        cuts = {"majority": None, "tfidf_lr": base.thresholds}
        scores["baselines"] = {
            name: classification(p, targets, task.names, kind=task.kind, thresholds=cuts[name])
            for name, p in simple.items()
        }
        answers = decide(simple["tfidf_lr"], kind=task.kind, thresholds=base.thresholds)
        scores["difference"] = mcnemar(right, correct(answers, targets, kind=task.kind))._asdict()
    return dict(scores)


def remarks(scores: Mapping[str, Any]) -> list[str]:
    """How many rows were trained on, and what is left without them."""
    if not (seen := scores.get("seen_in_training")):
        return []
    if "unseen" not in scores:
        rest = "there are no others, so this says nothing about new texts"
    else:
        unseen = scores["unseen"]
        rest = f"on the other {unseen['examples']:,} the accuracy is {100 * unseen['accuracy']:.1f} %"
    return [f"{seen:,} of these rows were used in training or validation; {rest}"]


def summary(journey: Journey, scores: Mapping[str, Any], findings: Sequence[Finding]) -> dict[str, Any]:
    """The run in numbers; `scores` are those of the validation part."""
    network: Any = journey.model.network
    baselines = {name: {k: each[k] for k in SHOWN if k in each} for name, each in scores["baselines"].items()}
    return {
        "validation": {k: scores[k] for k in SHOWN if k in scores} | {"baselines": baselines},
        "labels": journey.model.task.names,
        "ngram_weights": 0 if network.ngrams is None else network.ngrams.weight.numel(),
        **facts.course(journey, findings),
    }


def report(
    journey: Journey,
    scores: Mapping[str, Any],
    parts: Parts,
    findings: Sequence[Finding],
    notes: Sequence[str],
    summary: Mapping[str, Any],
    out: Path,
) -> ReportFacts:
    """The facts of `report.html`."""
    model, task = journey.model, journey.model.task
    network: Any = model.network
    run = shlex.quote(show(out, 4096))
    return score_facts(
        model,
        scores,
        f"{Path(summary['data']['path']).name}: {len(task.names)} labels",
        "validation",
        calibration={
            f"scale of the {path} path": f"{scale:.3f}"
            for path, scale in zip(("recurrent", "n-gram"), network.scales.tolist(), strict=False)
        },
        errors=_errors(journey, parts["valid"]),
        faithful=_faithful(journey),
        neighbours=_neighbours(journey),
        data=[
            _part("training", journey.train),
            _part("validation", journey.valid),
        ],
        commands=[
            ("score it on a test file", f"echoic evaluate {run} test.csv"),
            ("ask it", f'echoic predict {run} "a text"'),
            ("a whole file", f"echoic predict {run} --input texts.csv --output answers.csv"),
            ("from Python", f'echoic.load("{show(out, 4096)}").predict(["a text"])'),
        ],
        **facts.told(journey, findings, notes, summary, f", and {summary['ngram_weights']:,} n-gram weights"),
    )


def score_facts(model: Model, scores: Mapping[str, Any], title: str, part: str, **more: Any) -> ReportFacts:
    """What was scored, in the form that the report's table is drawn from."""
    baselines = scores.get("baselines", {})
    return ReportFacts(
        title=show(title),
        names=model.task.names,
        kind=model.task.kind,
        part=part,
        scores={"model": scores, **{name: baselines[name] for name in ("tfidf_lr", "majority") if name in baselines}},
        difference=Paired(**scores["difference"]) if "difference" in scores else None,
        **more,
    )


def _errors(journey: Journey, valid: Sequence[Example]) -> list[HardError]:
    task = journey.model.task
    p = task.probabilities(journey.valid_outputs)
    assert journey.valid.targets is not None
    worst = hardest(p, journey.valid.targets, HARDEST, kind=task.kind, thresholds=task.thresholds)
    errors = []
    for i, record in zip(
        worst, task.decode([valid[i].input for i in worst], journey.valid_outputs[worst]), strict=True
    ):
        said = ", ".join(record.labels) if record.labels is not None else str(record.label)
        misled = _misled(journey.model, valid[i].input, record.label)
        errors.append(
            HardError(valid[i].row, valid[i].input, _wanted(valid[i].target), said, record.confidence, misled)
        )
    return errors


def _faithful(journey: Journey) -> str:
    """What deleting words says of the methods that cost one reading of a text: of those that mark words in the report,
    and of the attention, which everybody looks at. Too few texts say nothing."""
    model, rows = journey.model, journey.valid.rows
    short = [i for i, row in enumerate(rows) if len(row) <= FAITHFUL_TOKENS]
    if len(short) < FEW:
        return ""
    chosen = np.unique(np.linspace(0, len(short) - 1, FAITHFUL_TEXTS).astype(np.int64))
    methods = [m for m in methods_of(model.network) if m in ("gradient-x-input", "attention")]
    found = [falls(model.task, model.network, rows[short[i]], methods, (0, n)) for n, i in enumerate(chosen)]
    return summary_of_falls(np.array(found), methods).verdict()


def _misled(model: Model, text: str, said: str | None) -> list[tuple[int, int]]:
    """Where the words stand that spoke loudest for what was said."""
    if said is None:
        return []
    found = model.explain([text], "gradient-x-input", label=said)[0]
    loud = [piece for piece in strongest(found, 2 * MISLED) if piece.score > 0 and piece.level > 1]
    return [(piece.start, piece.end) for piece in loud[:MISLED] if text[piece.start : piece.end].strip()]


def _neighbours(journey: Journey) -> dict[str, dict[str, list[Near]]]:
    """Of the words that tell the classes apart best, the nearest; before the training too, if it began with vectors."""
    task = journey.model.task
    network: Any = journey.model.network
    vocabulary = task.text.vocabulary
    tables = {"after training": Words(vocabulary, network.embed.weight.detach().float().cpu().numpy())}
    if task.vectors is not None:
        tables = {"before training": Words(vocabulary, task.vectors.matrix, task.vectors.found), **tables}
    words = [vocabulary[i] for i in telling(journey.train, task.dense(journey.train.targets), len(vocabulary))]
    return {word: {when: each.neighbours(word, 6) for when, each in tables.items()} for word in words}


def telling(data: Dataset, targets: np.ndarray, vocabulary: int) -> list[int]:
    """The tokens whose texts differ most from the others in their classes, by chi squared, first that with most."""
    seen = np.zeros((vocabulary, targets.shape[1]))
    looked_at = np.unique(np.linspace(0, len(data) - 1, TELLING_ROWS).astype(np.int64))  # a file may be sorted by label
    for i in looked_at:
        seen[np.unique(data.rows[i])] += targets[i]
    texts = seen.sum(1, keepdims=True)
    expected = texts * targets[looked_at].mean(0)
    far = ((seen - expected) ** 2 / np.maximum(expected, 1e-9)).sum(1)
    far[(texts[:, 0] < TELLING_TEXTS) | (np.arange(vocabulary) < len(SPECIALS))] = 0
    return [int(i) for i in np.argsort(-far, kind="stable")[:TELLING] if far[i] > 0]


def _wanted(target: Any) -> str:
    if isinstance(target, Mapping):
        return str(max(target, key=lambda name: target[name]))
    return ", ".join(target) if isinstance(target, tuple) else str(target)


def _part(name: str, data: Dataset) -> Part:
    middle, high = np.percentile(data.lengths, [50, 95])
    return Part(name, len(data), int(middle), int(high), int(data.lengths.max()), *data.cut)

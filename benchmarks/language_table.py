"""The part of RESULTS.md about text that is written: language models, what fine-tuning one gives, translation."""

from __future__ import annotations

from pathlib import Path

from markdown import Record, about, records, table

MEASURES = {
    "perplexity": "perplexity a token",
    "nats_per_character": "nats a character",
    "bits_per_character": "bits a character",
}
MEASURED = {
    "ptb": "perplexity",
    "chinese_poetry": "perplexity",
    "tinyshakespeare": "nats_per_character",
    "enwik8": "bits_per_character",
}


def section(folder: Path) -> str:
    """Markdown, empty where nothing was recorded. folder: results/."""
    scratch = dict(records(folder / "accuracy"))
    tuned = [(name, record) for name, record in records(folder / "finetune") if not name.endswith("-dev")]
    pairs = [(name, record) for name, record in records(folder / "translate") if not name.startswith("speed")]
    parts = [
        languages([record for _, record in records(folder / "language")]),
        finetuned([record for _, record in tuned], scratch),
        translated([record for _, record in pairs if record["part"] == "test"]),
        *(speed(record) for _, record in records(folder / "translate", "speed*.json")),
    ]
    return (
        "\n\n".join(["## Language models, fine-tuning, translation", *filter(None, parts)]) + "\n" if any(parts) else ""
    )


def languages(found: list[Record]) -> str:
    if not found:
        return ""
    rows = []
    for record in found:
        key = MEASURED[record["set"]]
        beside = record["scores"]["baselines"]["ngram"]
        rows.append(
            (
                f"{record['set']}, seed {record['seed']}",
                MEASURES[key],
                f"**{record['scores'][key]:.4g}**",
                f"{beside[key]:.4g} (order {beside['order']})",
                f"{record['parameters']:,}",
                f"{record['seconds']['train'] / 60:,.0f}",
                f"{record['tokens_per_second']:,}",
            )
        )
    head = ("set", "score", "test part", "n-grams, smoothed", "parameters", "minutes", "tokens a second")
    note = "Static evaluation: nothing is learned from the test part. Of tinyshakespeare the validation part is the test part."
    poems = [
        f"Of {more['poems']} poems written from nothing at temperature 1, {more['regular']:.1%} have verses that are all of 5 or all of "
        f"7 characters; {more['copied']:.1%} of their {more['verses']:,} verses were trained on."
        for record in found
        if (more := record["more"])
    ]
    return "\n\n".join(["### Language models", note, *map(about, found), table(head, rows), *poems])


def finetuned(found: list[Record], scratch: dict[str, Record]) -> str:
    if not found:
        return ""
    rows = []
    for record in found:
        scores, read = record["scores"], record["language_model"]
        other = scratch.get(f"{record['set']}-vectors-{record['seed']}")
        rows.append(
            (
                f"{record['set']}, seed {record['seed']}",
                record["base"] or "nothing",
                f"{read['tokens'] * len(read['history']):,}",
                *(percent(scores, path) for path in ("alone", "default")),
                *(percent(other["scores"], path) if other else "" for path in ("alone", "default")),
                percent(scores, "tfidf_lr"),
                percent(scores, "default", unseen=True),
                f"{(read['seconds'] + record['seconds']) / 60:,.0f}",
            )
        )
    head = (
        "set", "begins from", "tokens read without labels", "network alone", "with n-grams",
        "from scratch with vectors, alone", "the same with n-grams", "TF-IDF + LR", "with n-grams, unseen rows", "minutes",
    )  # fmt: skip
    return "\n\n".join(["### Fine-tuned", *map(about, found), table(head, rows)])


def percent(scores: Record, path: str, *, unseen: bool = False) -> str:
    part = scores.get(path, {})
    part = part.get("unseen", {}) if unseen else part
    return f"{100 * part['accuracy']:.1f}" if part else ""


SCORES = {
    "bleu_lc": "BLEU, lower case",
    "bleu": "BLEU",
    "chrf": "chrF",
    "rouge1": "ROUGE-1",
    "rouge2": "ROUGE-2",
    "rougeL": "ROUGE-L",
}


def translated(found: list[Record]) -> str:
    """A table for each kind of scores; trainings on the first rows alone are none."""
    whole = [record for record in found if not record["first_rows"]]
    kinds = {tuple(record["shown"]): None for record in whole}
    tables = []
    for shown in kinds:
        rows = [
            (
                ", ".join([record["set"], f"seed {record['seed']}", *record["asked"]]),
                *(_score(record["scores"], key) for key in shown),
                "; ".join(
                    f"{name} " + " / ".join(_score(other, key) for key in shown)
                    for name, other in record["scores"]["baselines"].items()
                ),
                f"{record['parameters']:,}",
                f"{record['seconds']['train'] / 60:,.0f}",
            )
            for record in whole
            if tuple(record["shown"]) == shown
        ]
        head = ("set", *(SCORES[key] for key in shown), "beside it, the same scores", "parameters", "minutes")
        tables.append(table(head, rows))
    if not whole:
        return ""
    note = "`-plain`: the same model without attention. BLEU and chrF by sacreBLEU; signatures stand in the records."
    return "\n\n".join(["### Translation", note, *map(about, whole), *tables, *by_length(with_twins(whole))])


def with_twins(found: list[Record]) -> list[tuple[str, Record, Record]]:
    """(set, its record on the test part by the recipe, that without attention), of the first seed, where both are there."""
    usual = {
        record["set"]: record
        for record in reversed(found)
        if record.get("part") == "test" and not (record["asked"] or record["first_rows"])
    }
    return [(name, own, usual[f"{name}-plain"]) for name, own in sorted(usual.items()) if f"{name}-plain" in usual]


def by_length(pairs: list[tuple[str, Record, Record]]) -> list[str]:
    """What attention is for: a table and a picture (by_length.py), where there is something to show."""
    if not pairs:
        return []
    rows = [
        (name, f"{group['tokens']} and more", f"{group['rows']:,}", f"{group['bleu']:.1f}", f"{other['bleu']:.1f}")
        for name, own, plain in pairs
        for group, other in zip(own["scores"]["by_length"], plain["scores"]["by_length"], strict=True)
    ]
    head = ("set", "tokens of the source", "pairs", "BLEU with attention", "without")
    picture = "![BLEU by the length of the source, with attention and without](docs/by-length.png)"
    return ["By the length of the source, drawn by `python benchmarks/by_length.py`:", table(head, rows), picture]


def _score(scores: Record, key: str) -> str:
    return f"{100 * scores[key]:.1f}" if key.startswith("rouge") else f"{scores[key]:.1f}"


def speed(record: Record) -> str:
    rows = [
        (what, f"{own['echoic']:,.0f}", f"{own['torch']:,.0f}", f"{record['times'][key]:.2f}")
        for what, key, own in (
            ("tokens a second, training", "training", record["training_tokens_per_second"]),
            ("sentences a second, beam of 5", "beam", record["beam5_sentences_per_second"]),
        )
    ]
    same, texts = record["equal_best_hypotheses"]
    told = f"{about(record)} Of {texts} sentences {same} have the same best hypothesis on both sides."
    head = "### The same translator in torch.nn" + ", both in bfloat16" * ("--bfloat16" in record["command"])
    return "\n\n".join([head, told, table(("", "echoic", "torch.nn", "times"), rows)])

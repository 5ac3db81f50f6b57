"""Trains a base: a language model to fine-tune from, small enough to give away.

    python bases/train.py base-en          # hours of one core; goes on where it was stopped, in runs/bases/
    python bases/train.py base-en --limit 200        # so many documents only, and nothing is packed: does it run?

What was trained is packed into bases/echoic-base-en/: the bundle, with weights of 16 bits, and the model card.
`pip install ./bases/echoic-base-en` then makes `echoic finetune base-en DATA` work, without a network.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from texts import SHORTEST, chinese, english, examples

from echoic import pipeline
from echoic.core.config import Config
from echoic.facts.generate import score_outputs
from echoic.model import Model, fingerprints
from echoic.read.streams import cut

HERE = Path(__file__).parent
LARGEST = 15_000_000
"""Bytes of a base on disk."""
SHARED = (
    "task.kind=generate",
    "task.tied=true",
    "model.hidden=512",
    "model.layers=2",
    "model.dropout_layers=0.1",
    "model.dropout_output=0.1",
    "model.dropout_embedding=0.05",
    "train.batch_size=64",
    "train.lr=0.003",
    "train.bfloat16=true",
    "train.average=0",
    "data.valid_fraction=0.01",
)


@dataclass(frozen=True)
class Base:
    texts: Callable[[], Iterator[str]]
    settings: tuple[str, ...]
    source: str
    terms: str


BASES = {
    "base-en": Base(
        english,
        ("text.tokenizer=bpe", "text.max_vocab=8000", "text.lowercase=true", "model.embedding=320", "task.cutoffs=[2000]",
         "task.bptt=70", "train.epochs=1"),
        "the articles in the first 90 MB of enwik8 (English Wikipedia, 3 March 2006), mark-up removed by bases/texts.py",
        "The text is Wikipedia's, by its authors, under CC BY-SA and the GFDL; the weights are given under CC BY-SA 3.0.",
    ),
    "base-zh": Base(
        chinese,
        ("text.tokenizer=chars", "text.max_vocab=7000", "model.embedding=320", "task.cutoffs=[1500]", "task.bptt=100",
         "train.epochs=1"),
        "the modern side of NiuTrans/Classical-Modern: history and classical literature in modern Chinese",
        "The text is under the MIT licence, and so are the weights.",
    ),
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("name", choices=BASES)
    parser.add_argument("--limit", type=int, default=0)
    parser.add_argument("--runs", type=Path, default=Path("runs/bases"))
    chosen = parser.parse_args()
    base = BASES[chosen.name]
    config = Config().override([*SHARED, *base.settings])
    train, valid = cut(examples(base.texts)[: chosen.limit or None], config.data.valid_fraction)
    run = chosen.runs / (chosen.name + (f"-{chosen.limit}" if chosen.limit else ""))
    run.mkdir(parents=True, exist_ok=True)
    journey = pipeline.fit(
        train,
        valid,
        config,
        run=run,
        resume=(run / "checkpoints").exists(),
        watch=pipeline.watcher(),
        said=lambda note: print("  ", note, flush=True),
        fingerprint={"config": config.model_dump(mode="json", exclude={"threads"}), "rows": [len(train), len(valid)]},
    )
    facts = told(journey, len(train))
    print(json.dumps(facts), flush=True)
    if not chosen.limit:
        pack(chosen.name, base, journey.model, [e.input for e in (*train, *valid)], facts)


def told(journey: pipeline.Journey, documents: int) -> dict[str, Any]:
    scores = score_outputs(journey.model, journey.valid, journey.valid_outputs)
    return {
        "documents": documents,
        "tokens": journey.train.tokens,
        "parameters": sum(p.numel() for p in journey.model.network.parameters()),
        "perplexity": round(scores["perplexity"], 2),
        "bits_per_character": round(scores["bits_per_character"], 4),
        "seconds": round(journey.fitted.seconds),
        "made": time.strftime("%Y-%m-%d"),
    }


def pack(name: str, base: Base, model: Model, texts: list[str], facts: dict[str, Any]) -> None:
    """The bundle and the card, where the distribution's pyproject.toml wants them. By the lines of SHORTEST characters and
    more an evaluation can tell what was read: to remember the short ones too would be a third of what a base may weigh."""
    lines = [line for line in model.task.passages(texts) if len(line) >= SHORTEST]
    model = replace(model, seen=np.unique(fingerprints(lines)))
    place = HERE / f"echoic-{name}"
    package = place / "src" / f"echoic_{name.replace('-', '_')}"
    model.save(package / "bundle", half=True)
    size = sum(path.stat().st_size for path in (package / "bundle").iterdir())
    if size > LARGEST:
        raise SystemExit(f"{size:,} bytes are more than {LARGEST:,}")
    config = model.config.model
    card = f"""# echoic-{name}

A language model to begin from: `echoic finetune {name} reviews.csv --out run`. It needs echoic, and no network.

- **Read**: {base.source}; {facts["documents"]:,} documents, {facts["tokens"]:,} tokens, once through. The last hundredth of the documents was kept apart.
- **Is**: {config.layers} {config.cell.kind.upper()} layers of {config.hidden}, vectors of {config.embedding}, {len(model.task.text.vocabulary):,} tokens ({model.task.text.kind}); {facts["parameters"]:,} parameters of 16 bits, {size / 1e6:.1f} MB.
- **Says** of what it did not read: perplexity {facts["perplexity"]:g} a token, {facts["bits_per_character"]:g} bits a character.
- **Made** on {facts["made"]} by `python bases/train.py {name}` in {facts["seconds"] / 3600:.1f} hours.
- **Terms**: {base.terms}
- **Not for**: what it writes by itself is no fact, and it has the views and the gaps of its source.
"""
    (place / "README.md").write_text(card, encoding="utf-8")
    print(f"{place}: {size:,} bytes", flush=True)


if __name__ == "__main__":
    main()

"""Texts a second and accuracy beside what people use for speed: the predictor, torch, fastText, TF-IDF.

    pip install fasttext
    python benchmarks/throughput.py runs/accuracy/imdb-default-0 imdb [--texts 2000] [--rounds 5]

From raw texts to labels, one thread each, by turns; medians. `torch` is the run's own bundle by Model.predict in a
process whose recurrences are torch's kernels (ECHOIC_ISA=none). fastText has words and pairs of words of the lower-cased text
with punctuation apart, TF-IDF is scikit-learn's over the same n-grams with logistic regression; both learn from the
run's training part, and their settings are chosen on its validation part. Every one answers the whole test part once, for the accuracy.
Kept in results/throughput/<run's name>.json.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from importlib.metadata import version
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from accuracy import learning_parts
from echoic.core.config import Config
from echoic.core.types import Example
from echoic.kernels import native
from echoic.serve.predictor import Predictor, open_predictor
from record import save
from sets import SETS

Answer = Callable[[Sequence[str]], list[str]]
"""Texts -> the names of their labels."""

ENGLISH = ("imdb", "20newsgroups", "rotten_tomatoes_mr", "airline_tweets", "trec")
"""Sets whose words are parted by spaces: fastText knows no others."""

RATES, EPOCHS, STRENGTHS = (0.1, 0.5), (5, 10), (1.0, 3.0, 10.0, 30.0)
_MARK = re.compile(r"([^\w\s])")


def right(answer: Answer, rows: Sequence[Example]) -> float:
    return float(np.mean([a == str(e.target) for a, e in zip(answer([e.input for e in rows]), rows, strict=True)]))


def best(tried: dict[str, Answer], valid: Sequence[Example]) -> tuple[str, Answer]:
    """What is right most often, the first of equals; it is told in the result."""
    name = max(tried, key=lambda each: right(tried[each], valid))
    return name, tried[name]


def fasttext_words(text: str) -> str:
    return " ".join(_MARK.sub(r" \1 ", text.lower()).split())


def by_fasttext(train: Sequence[Example]) -> dict[str, Answer]:
    import fasttext

    def answered(model: Any) -> Answer:
        return lambda texts: [
            first.removeprefix("__label__") for first, *_ in model.predict([fasttext_words(text) for text in texts])[0]
        ]

    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        order = np.random.default_rng(0).permutation(
            len(train)
        )  # fastText reads rows as they stand, and these by class
        file.writelines(f"__label__{train[i].target} {fasttext_words(train[i].input)}\n" for i in order)
        file.flush()
        return {
            f"lr {lr:g}, {epochs} epochs": answered(
                fasttext.train_supervised(file.name, lr=lr, epoch=epochs, wordNgrams=2, dim=100, thread=1, verbose=0)
            )
            for lr, epochs in product(RATES, EPOCHS)
        }


def by_tfidf(train: Sequence[Example]) -> dict[str, Answer]:
    words = TfidfVectorizer(ngram_range=(1, 2), min_df=2, sublinear_tf=True)
    texts, targets = [e.input for e in train], [str(e.target) for e in train]
    x = words.fit_transform(texts)

    def answered(strength: float) -> Answer:
        pipe = make_pipeline(words, LogisticRegression(C=strength, max_iter=1000).fit(x, targets))
        return lambda texts: [str(each) for each in pipe.predict(texts)]

    return {f"C {strength:g}": answered(strength) for strength in STRENGTHS}


_TORCH: list[Any] = []


def _open_torch(run: str) -> None:
    """In the process of torch's kernels."""
    import torch

    from echoic.model import load

    torch.set_num_threads(1)
    _TORCH.append(load(run))


def _ask_torch(texts: Sequence[str]) -> list[str]:
    return [str(record.label) for record in _TORCH[0].predict(texts)]


def labels(predictor: Predictor, texts: Sequence[str]) -> list[str]:
    return [str(record.label) for record in predictor.predict(texts)]


def seconds(answer: Answer, texts: Sequence[str]) -> float:
    start = time.perf_counter()
    answer(texts)
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("set", choices=ENGLISH)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    parts = SETS[chosen.set]()
    rounded = ("int8", *["bfloat16"] * native.has_bfloat16())
    ours = {"echoic": open_predictor(chosen.run)}
    ours |= {f"echoic {each}": open_predictor(chosen.run, products=each) for each in rounded}
    whole = ours["echoic"]
    train, valid = learning_parts(parts, Config(seed=whole.about["seed"]))
    texts = [e.input for e in parts["test"][: chosen.texts]]
    fast, counted = best(by_fasttext(train), valid), best(by_tfidf(train), valid)
    print(f"chosen: fastText {fast[0]}, TF-IDF {counted[0]}; now the clock", flush=True)
    os.environ["ECHOIC_ISA"] = "none"
    with ProcessPoolExecutor(1, get_context("spawn"), _open_torch, (str(chosen.run),)) as torch:

        def by_torch(texts: Sequence[str]) -> list[str]:
            return torch.submit(_ask_torch, texts).result()

        ways: dict[str, tuple[str, Answer]] = {
            **{name: ("", partial(labels, predictor)) for name, predictor in ours.items()},
            "torch": ("the same model", by_torch),
            "fastText": fast,
            "TF-IDF + LR": counted,
        }
        for _, answer in ways.values():
            answer(texts[:64])
        taken: dict[str, list[float]] = {name: [] for name in ways}
        for _, (name, (_, answer)) in product(range(chosen.rounds), ways.items()):
            taken[name].append(seconds(answer, texts))
        print("timed; now the test part", flush=True)
        found = [
            {
                "way": name,
                "settings": settings,
                "texts_a_second": round(len(texts) / statistics.median(taken[name]), 1),
                "seconds": [round(each, 4) for each in taken[name]],
                **({} if name == "torch" else {"accuracy": round(right(answer, parts["test"]), 4)}),
            }
            for name, (settings, answer) in ways.items()
        ]
    for row in found:
        print(row, flush=True)
    facts = {
        "set": chosen.set,
        "run": chosen.run.name,
        "cell": f"{whole.config.model.cell.kind} {whole.config.model.hidden}",
        "texts": len(texts),
        "tokens": sum(map(len, whole.text.encode(texts))),
        "fasttext": version("fasttext"),
        "rows": found,
    }
    print(save(f"throughput/{chosen.run.name}", facts))


if __name__ == "__main__":
    main()

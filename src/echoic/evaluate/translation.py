"""Scores of a translator: what it paid for the right words, and how its own compare with them.

BLEU and chrF are sacreBLEU's (Post 2018), with its signature, so that a figure can be compared with
another's. ROUGE-1, 2 and L are F1 of word n-grams and of the longest common subsequence (Lin 2004), a mean
over texts; no stemming. Where the target is Chinese, BLEU cuts it by `zh`, where it is Japanese by `char`; ROUGE cuts
both by characters.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from echoic.core.errors import DataError, Unavailable
from echoic.evaluate.intervals import Paired, paired_bootstrap
from echoic.prepare.text import choose

ORDER = 4
WORDS = "13a"
_KANA = re.compile("[\u3041-\u30ff]")
_WORD = re.compile(r"\w+", re.UNICODE)


def forced(outputs: np.ndarray) -> dict[str, Any]:
    """outputs (N, 3): nats of each target, its tokens, how many of them were the likeliest given those before."""
    nats, tokens, right = (float(each) for each in np.asarray(outputs, np.float64).sum(0))
    if tokens == 0:
        raise DataError("there is no target to score; give pairs")
    if not math.isfinite(nats):
        raise DataError("the model's probabilities are not all finite; its training diverged: lower train.lr")
    loss = nats / tokens
    return {
        "examples": len(outputs),
        "tokens": round(tokens),
        "loss": loss,
        "perplexity": math.exp(min(loss, 700.0)),
        "token_accuracy": right / tokens,
    }


def translation(said: Sequence[str], wanted: Sequence[str]) -> dict[str, Any]:
    """Of N translations and their references, one each: bleu and chrf (0 to 100) with their signatures, bleu_lc
    (case folded), rouge1, rouge2, rougeL (0 to 1), and the two lengths' ratio."""
    metrics = _sacrebleu()
    tokenizer = tokenizer_of(wanted)
    whole, folded, chrf = _bleu(tokenizer), _bleu(tokenizer, lowercase=True), metrics.CHRF()
    cased = whole.corpus_score(list(said), [list(wanted)])
    return {
        "bleu": cased.score,
        "bleu_lc": folded.corpus_score(list(said), [list(wanted)]).score,
        "chrf": chrf.corpus_score(list(said), [list(wanted)]).score,
        "length_ratio": cased.sys_len / max(1, cased.ref_len),
        **rouge(said, wanted, tokenizer != WORDS),
        "signatures": {
            "bleu": str(whole.get_signature()),
            "bleu_lc": str(folded.get_signature()),
            "chrf": str(chrf.get_signature()),
        },
    }


def bleu(said: Sequence[str], wanted: Sequence[str], tokenizer: str) -> float:
    """BLEU alone, 0 to 100. tokenizer: `tokenizer_of` all of the set's references."""
    return float(_bleu(tokenizer).corpus_score(list(said), [list(wanted)]).score)


def bleu_difference(said: Sequence[str], other: Sequence[str], wanted: Sequence[str]) -> Paired:
    """The difference in BLEU of two systems on the same texts, by a paired bootstrap (Koehn 2004)."""
    single = _bleu(tokenizer_of(wanted), effective_order=True)  # for single texts; their counts are the same
    counts = [_counts(single, each, wanted) for each in (said, other)]

    def score(rows: np.ndarray, _: np.ndarray) -> float:
        total = rows.sum(0).tolist()
        correct, every, (own, right) = total[:ORDER], total[ORDER : 2 * ORDER], total[2 * ORDER :]
        return float(single.compute_bleu(correct, every, own, right, smooth_method="exp", max_ngram_order=ORDER).score)

    return paired_bootstrap(score, counts[0], counts[1], np.zeros(len(wanted)))


def _counts(single: Any, said: Sequence[str], wanted: Sequence[str]) -> np.ndarray:
    """(N, 10) of each text: n-grams that are right, n-grams, its length, the reference's."""
    found = [single.sentence_score(a, [b]) for a, b in zip(said, wanted, strict=True)]
    return np.array([[*f.counts, *f.totals, f.sys_len, f.ref_len] for f in found], np.int64)


def _bleu(tokenizer: str, **more: Any) -> Any:
    return _sacrebleu().BLEU(tokenize=tokenizer, **more)


def _sacrebleu() -> Any:
    try:
        from sacrebleu import metrics
    except ImportError as error:
        raise Unavailable(f"BLEU needs {error.name}: pip install 'echoic[translate]'") from None
    return metrics


def require() -> None:
    """Raises Unavailable where BLEU cannot be computed: before a training rather than after it."""
    _sacrebleu()


def tokenizer_of(texts: Sequence[str]) -> str:
    """sacreBLEU's name of what cuts these texts into words; its `zh` leaves kana together."""
    if choose(texts) != "chars":
        return WORDS
    return "char" if any(_KANA.search(text) for text in texts) else "zh"


def rouge(said: Sequence[str], wanted: Sequence[str], chinese: bool) -> dict[str, float]:
    """Lin 2004: the mean F1 of N texts, by words, or by characters."""
    rows = []
    for a, b in zip(said, wanted, strict=True):
        own, right = (list("".join(t.split())) if chinese else _WORD.findall(t.casefold()) for t in (a, b))
        rows.append(
            [
                _f1(_shared(own, right, 1), own, right, 1),
                _f1(_shared(own, right, 2), own, right, 2),
                _f1(_common(own, right), own, right, 1),
            ]
        )
    mean = np.mean(rows, axis=0) if rows else np.zeros(3)
    return dict(zip(("rouge1", "rouge2", "rougeL"), mean.tolist(), strict=True))


def _shared(own: list[str], right: list[str], n: int) -> int:
    first, second = (Counter(zip(*(words[i:] for i in range(n)), strict=False)) for words in (own, right))
    return (first & second).total()


def _common(own: list[str], right: list[str]) -> int:
    """The length of the longest common subsequence."""
    row = [0] * (len(right) + 1)
    for word in own:
        before = 0
        for j, other in enumerate(right, 1):
            row[j], before = (before + 1 if word == other else max(row[j], row[j - 1])), row[j]
    return row[-1]


def _f1(hits: int, own: list[str], right: list[str], n: int) -> float:
    sizes = max(0, len(own) - n + 1) + max(0, len(right) - n + 1)
    return 2 * hits / sizes if sizes else float(own == right)

"""Explains one answer of the classifier: both of its paths, their scales, and texts of any length.

    logits = s_r logits_r(x) + s_n (b + sum of W over the n-grams of the text)

x is explained by `attribute`, on logits_r; the n-gram path is linear, and what it gives each token is
added exactly (`ngrams`). Attention weights are those of the recurrent path.
"""

from __future__ import annotations

from typing import Any

from echoic.core.errors import UsageError, nearest, show
from echoic.explain.attribute import TOLERANCE, Attribution, gradient_x_input, integrated_gradients, occlusion
from echoic.explain.reading import Reading, require_classifier
from echoic.explain.record import METHODS, Explanation, Token, labels_that_led, shared, turns, unread
from echoic.explain.trace import moves
from echoic.tasks.classify import ClassifierNetwork, Classify

MOST_HIDDEN = 1024
"""Of a text with more tokens than this, neighbours are hidden together."""


def attribute(reading: Reading, column: int, method: str) -> Attribution:
    """What each token is worth to logit `column`; for attention the weight it has."""
    linear = reading.linear(column) if "gradient" in method else None
    if method == "integrated-gradients":
        return integrated_gradients(reading.score(column), reading.embedded, added=linear)
    if method == "gradient-x-input":
        return Attribution(gradient_x_input(reading.score(column), reading.embedded) + linear)
    if method == "occlusion":
        return occlusion(reading.hiding(column), len(reading.ids), MOST_HIDDEN)
    if method != "attention":
        raise UsageError(f"method {show(method)}: there is none of that name{nearest(method, METHODS)}")
    if reading.network.pool.attention is None:
        raise UsageError(
            f"this model has no attention weights (its pooling is {reading.network.pool.kind}): "
            "take integrated-gradients, or train with --set model.pool=attention"
        )
    return Attribution(reading.attention())


def explain(
    task: Any, network: Any, text: str, method: str = "integrated-gradients", label: str | None = None
) -> Explanation:
    """Why `network` answers `label` (None: the most probable one) to `text`.

    Raises UsageError for a method or label that this model has not, DataError for what is no text.
    """
    require_classifier(task)
    if label is not None and label not in task.names:
        raise UsageError(f"label {show(label)}: the model has none of that name{nearest(label, task.names)}")
    ids, spans = task.text.encode_with_offsets(text)
    reading = Reading(network, ids)
    p = task.probabilities(reading.logits[None].double().cpu().numpy())[0]
    column = int(p.argmax()) if label is None else task.names.index(label)
    more: dict[str, Any] = {}
    if method == "trace":
        scores, beliefs, window = moves(reading, task.probabilities, column)
        found = Attribution(scores, window=window)
        more = {
            "beliefs": labels_that_led(beliefs, task.names, column),
            "turns": turns(beliefs, task.names),
        }
    else:
        found = attribute(reading, column, method)
    tokens = [
        Token(text=text[start:end], start=start, end=end, score=float(score))
        for (start, end), score in zip(spans, found.scores, strict=True)
    ]
    return Explanation(
        text=text,
        method=method,
        label=task.names[column],
        probability=float(p[column]),
        tokens=tokens,
        completeness=found.completeness,
        difference=found.difference,
        points=found.points,
        window=found.window,
        notes=_notes(task, network, method, found),
        **more,
    )


def _notes(task: Classify, network: ClassifierNetwork, method: str, found: Attribution) -> list[str]:
    out = []
    if method == "attention" and network.ngrams is not None:
        out.append("the weights are of the recurrent path; the n-gram path beside it has none")
    if found.completeness is not None and found.completeness > TOLERANCE:
        out.append(f"the scores miss what they should add up to by {found.completeness:.1%}, at {found.points} points")
    return out + shared(found.window) + unread(task.text.max_tokens, len(found.scores))

"""Probabilities that mean what they say: scales of logits, fitted on the validation part.

    z = sum_k s_k z_k,    s = argmin_{s >= 0}  sum_n NLL(z_n, y_n) + (PULL / 2) sum_k (K s_k - 1)^2

z_k (N, C) are the logits of path k. The problem is convex, as the loss is convex in z and z is linear
in s. With K = 1 it is temperature scaling with T = 1 / s (Guo et al. 2017, section 4.2); with more it
is the log-linear pool of experts (Hinton 2002, with weights).

The last term is a prior worth about one row: it holds the scales at 1/K, the plain mean of the paths,
where there is nothing to learn from, and keeps them finite where a tiny validation part is answered
without a mistake. From a hundred rows on it is not seen.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from echoic.core.errors import DataError, Unavailable
from echoic.evaluate.metrics import Kind

PULL = 1.0


def fit_scales(paths: Sequence[np.ndarray], targets: np.ndarray, kind: Kind = "single") -> np.ndarray:
    """(K,) float64, each >= 0: the scale of each path's logits in their sum; see above.

    paths: K arrays (N, C); targets (N,) int64, or (N, C) for several and soft labels. A path that
    harms gets 0. Raises DataError where a logit is not finite."""
    try:
        from scipy.optimize import minimize
    except ImportError:
        raise Unavailable("calibration needs scipy: pip install 'echoic[train]'") from None
    stacked = np.stack([np.asarray(path, np.float64) for path in paths])
    if not np.isfinite(stacked).all():
        raise DataError("the logits to calibrate are not all finite; the training diverged: lower train.lr")
    count, rows, classes = stacked.shape
    wanted = np.eye(classes)[targets] if kind == "single" else np.asarray(targets, np.float64)
    loss = _binary if kind == "several" else _softmax

    def objective(scales: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = loss(np.tensordot(scales, stacked, 1), wanted)
        away = count * scales - 1
        value += PULL / 2 * float(away @ away)
        gradient = np.einsum("knc,nc->k", stacked, slope) + PULL * count * away
        return value / max(rows, 1), gradient / max(rows, 1)

    start = np.full(count, 1.0 / count)
    found = minimize(
        objective,
        start,
        jac=True,
        method="L-BFGS-B",
        bounds=[(0.0, None)] * count,
        options={"ftol": 1e-13, "gtol": 1e-9},
    )
    return np.asarray(found.x, np.float64)


def probabilities(logits: np.ndarray, kind: Kind = "single") -> np.ndarray:
    """(N, C) float64: softmax over the classes, or each label's sigmoid for several labels."""
    logits = np.asarray(logits, np.float64)
    if kind == "several":
        return np.asarray(np.exp(-np.logaddexp(0.0, -logits)))
    raised = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(raised / raised.sum(1, keepdims=True))


def _softmax(logits: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    """The summed cross entropy and its gradient in the logits."""
    top = logits.max(1, keepdims=True)
    log_sum = top + np.log(np.exp(logits - top).sum(1, keepdims=True))
    weight = wanted.sum(1, keepdims=True)
    return float((weight * log_sum).sum() - (wanted * logits).sum()), weight * np.exp(logits - log_sum) - wanted


def _binary(logits: np.ndarray, wanted: np.ndarray) -> tuple[float, np.ndarray]:
    """The summed binary cross entropy and its gradient in the logits."""
    return float((np.logaddexp(0.0, logits) - wanted * logits).sum()), probabilities(logits, "several") - wanted

"""What the n-gram path gives each token: it is linear in presence, so nothing is estimated.

    logits_c = b_c + sum over the distinct known n-grams g of W[g, c]

The weight of an n-gram is shared alike by its occurrences in the text, and by the tokens of each. A
zero embedding has no n-grams, so the path's baseline is its bias b, which belongs to no token.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from echoic.layers.ngrams import NgramPath, hashes


class Known(NamedTuple):
    """The M occurrences of known n-grams in a text, those that end first before the others."""

    first: np.ndarray
    """(M,) index of the first token"""
    length: np.ndarray
    """(M,) in tokens"""
    slot: np.ndarray
    """(M,)"""
    begins: np.ndarray
    """(M,) whether the n-gram occurs here for the first time"""
    times: np.ndarray
    """(M,) how often it occurs"""


def known(path: NgramPath, ids: Tensor) -> Known:
    """(T,) ids -> the occurrences of n-grams that the path has a weight for."""
    order, steps = int(path.order), len(ids)
    hashed = hashes(ids[None], torch.tensor([steps], device=ids.device), order)[0]
    slot, owned = (x.cpu().numpy() for x in path.owned(hashed))
    length = np.repeat(np.arange(1, order + 1), steps)
    first = np.tile(np.arange(steps), order)
    kept = np.flatnonzero(owned)
    kept = kept[np.argsort((first + length)[kept], kind="stable")]
    _, begin, group, times = np.unique(
        hashed.cpu().numpy()[kept], return_index=True, return_inverse=True, return_counts=True
    )
    begins = np.zeros(len(kept), bool)
    begins[begin] = True
    return Known(first[kept], length[kept], slot[kept], begins, times[group])


def shares(path: NgramPath, ids: Tensor, column: int) -> np.ndarray:
    """(T,) ids -> (T,) float64: what each token gives to logit `column`; their sum is the logit less its bias."""
    found = known(path, ids)
    weight = path.weight[:, column].double().cpu().numpy()[found.slot] / (found.times * found.length)
    out = np.zeros(len(ids))
    for k in range(int(path.order)):
        inside = found.length > k
        np.add.at(out, found.first[inside] + k, weight[inside])
    return out


def prefixes(path: NgramPath, ids: Tensor) -> Tensor:
    """(T,) ids -> (T, C): the path's logits after the first 1, 2, ... T tokens."""
    found = known(path, ids)
    ends = torch.from_numpy((found.first + found.length - 1)[found.begins]).to(ids.device)
    slot = torch.from_numpy(found.slot[found.begins]).to(ids.device)
    gained = path.weight.new_zeros(len(ids), path.weight.shape[1], dtype=torch.float64)
    gained.index_add_(0, ends, path.weight[slot].double())
    return (gained.cumsum(0) + path.bias).to(path.weight)

"""What `echoic.nn` is handed, checked: a ValueError or TypeError names the argument, what was expected and what came."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor


def check_lengths(given: Any, x: Tensor, batched: bool) -> Tensor | None:
    """Lengths (B,) within 0..T of x (B, T, D), or None."""
    if given is None:
        return None
    if not batched:
        raise ValueError("lengths: expected None for unbatched input")
    lengths: Tensor = torch.as_tensor(given)
    if lengths.is_floating_point() or lengths.is_complex() or lengths.dtype == torch.bool:
        raise TypeError(f"lengths: expected whole numbers, got {lengths.dtype}")
    if tuple(lengths.shape) != (x.shape[0],):
        raise ValueError(f"lengths: expected shape ({x.shape[0]},), got {tuple(lengths.shape)}")
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[1]:
        raise ValueError(f"lengths: expected 0 to {x.shape[1]} steps, got {int(lengths.min())} to {int(lengths.max())}")
    return lengths


def same_kind(name: str, tensor: Tensor, like: Tensor) -> None:
    if tensor.dtype != like.dtype:
        raise ValueError(f"{name}: expected {like.dtype}, got {tensor.dtype}")
    if tensor.device != like.device:
        raise ValueError(f"{name}: expected device {like.device}, got {tensor.device}")


def check_sizes(**sizes: Any) -> None:
    for name, size in sizes.items():
        if not isinstance(size, int) or isinstance(size, bool):
            raise TypeError(f"{name}: expected an int, got {type(size).__name__}")
        if size < 1:
            raise ValueError(f"{name}: expected at least 1, got {size}")


def check_flags(**flags: Any) -> None:
    for name, flag in flags.items():
        if not isinstance(flag, bool):
            raise TypeError(f"{name}: expected a bool, got {type(flag).__name__}")


def check_dropout(dropout: Any, num_layers: int) -> None:
    if not isinstance(dropout, (int, float)) or isinstance(dropout, bool) or not 0 <= dropout < 1:
        raise ValueError(f"dropout: expected a number in [0, 1), got {dropout!r}")
    if dropout and num_layers == 1:
        warnings.warn(f"dropout={dropout} acts between layers, and num_layers is 1: it does nothing", stacklevel=4)


def no_projection(proj_size: int) -> None:
    if proj_size:
        raise ValueError(f"proj_size: expected 0, as only LSTM projects, got {proj_size}")

"""Recurrent layers one on another, each in one direction or both.

    x -> [batch norm] -> layer 0 -> [dropout] -> [batch norm] -> layer 1 -> ... -> Y

Noise is an argument: without it nothing is dropped and batch norm uses its running statistics.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from echoic.cells.base import Cell, Masks, Zoneout
from echoic.core import registry
from echoic.core.config import ModelConfig
from echoic.core.errors import ConfigError, UsageError
from echoic.kernels.dispatch import choose
from echoic.layers.dropout import Noise, dropout
from echoic.layers.unroll import unroll, valid_steps


class Stack(nn.Module):
    """`layers` recurrent layers of `hidden_size` units, each direction; of none, Y is x.

    cells: the Cells in torch's order: layer 0 forwards, layer 0 backwards, layer 1 forwards, ...
    dropout: between layers; `locked`: one mask for all steps. variational, candidate: recurrent dropout,
    one mask a row and call.
    zoneout: share of units that keep their old state. weight_drop: share of U dropped, one draw a call.
    layer_norm: inside the cells. batch_norm: on each layer's input, over the valid steps.
    generator: draws the first weights; None is torch's own, as in torch.nn.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        cell: str = "lstm",
        options: Mapping[str, Any] | None = None,
        layers: int = 1,
        bidirectional: bool = False,
        bias: bool = True,
        dropout: float = 0.0,
        locked: bool = False,
        variational: float = 0.0,
        candidate: float = 0.0,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
        layer_norm: bool = False,
        batch_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        """Raises ConfigError for an unknown cell or option."""
        super().__init__()
        if layer_norm and batch_norm:
            raise ConfigError("layer_norm and batch_norm normalise W x twice, and cannot be folded: choose one")
        self.directions = 2 if bidirectional and layers else 1
        self.input_size, self.hidden_size = input_size, hidden_size
        self.output_size = hidden_size * self.directions if layers else input_size
        self.dropout, self.locked = dropout, locked
        self.variational, self.candidate = variational, candidate
        self.zoneout, self.weight_drop = zoneout, weight_drop
        kind: type[Cell] = registry.get("cell", cell)
        sizes = [input_size, *[self.output_size] * (layers - 1)][:layers]
        self.cells = nn.ModuleList(
            kind(
                size,
                hidden_size,
                bias=bias,
                layer_norm=layer_norm,
                device=device,
                dtype=dtype,
                generator=generator,
                **(options or {}),
            )
            for size in sizes
            for _ in range(self.directions)
        )
        norms = [BatchNorm(size, device=device, dtype=dtype) for size in sizes] if batch_norm else []
        self.norms = nn.ModuleList(norms)

    @classmethod
    def of(cls, model: ModelConfig, input_size: int, *, bidirectional: bool, locked: bool = False) -> Self:
        """The stack that a configuration describes, with first weights that train well."""
        stack = cls(
            input_size,
            model.hidden,
            cell=model.cell.kind,
            options=model.cell.options,
            layers=model.layers,
            bidirectional=bidirectional,
            dropout=model.dropout_layers,
            locked=locked,
            variational=model.variational,
            candidate=model.candidate,
            zoneout=model.zoneout,
            weight_drop=model.weight_drop,
            layer_norm=model.layer_norm,
            batch_norm=model.batch_norm,
        )
        stack.init_orthogonal()
        return stack

    @property
    def layers(self) -> int:
        return len(self.cells) // self.directions

    def init_orthogonal(self, generator: torch.Generator | None = None) -> None:
        """First weights that train better than torch.nn's: `Cell.init_orthogonal` of every cell."""
        for cell in self.cells:
            cell.init_orthogonal(generator)  # type: ignore[operator]

    def forward(
        self,
        x: Tensor,
        lengths: Tensor | None = None,
        state: list[Any] | None = None,
        noise: Noise | None = None,
        want_state: bool = True,
    ) -> tuple[Tensor, list[Any]]:
        """x (B, T, D), lengths (B,) in 0..T (None: all T), state: one State a cell (None: zeros)
        -> (Y (B, T, output_size), one State a cell; none of them if not `want_state`, which is faster).
        Y is 0 on padding."""
        lengths = check_lengths(x, lengths, self.input_size)
        states: list[Any] = []
        for layer in range(self.layers):
            if layer:
                x = dropout(x, self.dropout, noise, locked=self.locked)
            if self.norms:
                x = self.norms[layer](x, lengths, noise)
            outputs = []
            for direction in range(self.directions):
                place = layer * self.directions + direction
                first = None if state is None else state[place]
                y, last = self._run(place, x, lengths, first, noise, want_state)
                outputs.append(y)
                states.append(last)
            x = torch.cat(outputs, dim=-1) if self.directions > 1 else outputs[0]
        return x, states if want_state else []

    def _run(
        self, place: int, x: Tensor, lengths: Tensor | None, state: Any, noise: Noise | None, want_state: bool
    ) -> tuple[Tensor, Any]:
        cell: Cell = self.cells[place]  # type: ignore[assignment]
        masks = self._masks(x, noise)
        if noise is not None and self.weight_drop:
            dropped = cell.weight_hh * noise.mask(cell.weight_hh.shape, self.weight_drop, cell.weight_hh.dtype)
            cell = cell.with_weights(weight_hh=dropped)
        zoneout = self._zoneout(cell, x, noise)
        choice = choose(
            cell,
            unroll,
            ragged=lengths is not None,
            masks=masks,
            zoneout=zoneout,
            want_state=want_state,
            rows_of_one_step=len(x) if x.shape[1] == 1 else None,
        )
        return choice.run(cell, x, lengths, state, reverse=place % self.directions == 1)

    def _masks(self, x: Tensor, noise: Noise | None) -> Masks:
        def draw(rate: float) -> Tensor | None:
            return noise.mask((x.shape[0], self.hidden_size), rate, x.dtype) if noise is not None and rate else None

        return Masks(draw(self.variational), draw(self.candidate))

    def _zoneout(self, cell: Cell, x: Tensor, noise: Noise | None) -> Zoneout:
        if noise is None or not self.zoneout:
            return Zoneout(self.zoneout)
        shapes = cell.state_shapes.values()
        return Zoneout(self.zoneout, tuple(noise.keep((x.shape[1], x.shape[0], *s), self.zoneout) for s in shapes))

    def kernels(self, *, training: bool = False, ragged: bool = True, want_state: bool = False) -> list[str]:
        """For each cell, in their order, which kernel runs it and why."""
        lines = []
        for place, cell in enumerate(self.cells):
            u: Tensor = cell.weight_hh  # type: ignore[assignment]
            noise = Noise(0, 0, u.device) if training else None
            masks, zoneout = self._masks(u[:1], noise), Zoneout(self.zoneout)
            choice = choose(cell, unroll, ragged=ragged, masks=masks, zoneout=zoneout, want_state=want_state)  # type: ignore[arg-type]
            direction = "backwards" if place % self.directions else "forwards"
            lines.append(f"layer {place // self.directions} {direction}: {choice.name}: {choice.why}")
        return lines


def check_lengths(x: Tensor, lengths: Tensor | None, features: int) -> Tensor | None:
    """`lengths`, or None if every row is full. Raises UsageError where x and lengths do not fit."""
    if x.dim() != 3 or x.shape[2] != features:
        raise UsageError(f"input of shape {tuple(x.shape)}, wanted (batch, steps, {features})")
    if lengths is None or lengths.numel() == 0:
        return None
    if lengths.shape != x.shape[:1] or lengths.is_floating_point():
        raise UsageError(f"lengths of shape {tuple(lengths.shape)}, wanted ({x.shape[0]},) whole numbers")
    low, high = (int(end) for end in torch.aminmax(lengths))
    if low < 0 or high > x.shape[1]:
        raise UsageError(f"lengths from {low} to {high}, but the input has {x.shape[1]} steps")
    return None if low == x.shape[1] else lengths.to(x.device, torch.int64)


class BatchNorm(nn.Module):
    """Batch normalisation (Ioffe and Szegedy 2015) of D features over all valid steps of a batch."""

    running_mean: Tensor
    running_var: Tensor

    def __init__(self, size: int, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.zeros(size, device=device, dtype=dtype))
        self.register_buffer("running_mean", torch.zeros(size, device=device, dtype=dtype))
        self.register_buffer("running_var", torch.ones(size, device=device, dtype=dtype))

    def forward(self, x: Tensor, lengths: Tensor | None, noise: Noise | None) -> Tensor:
        """x (B, T, D). With noise, by the statistics of this batch, which move the running ones;
        without, or where a batch has fewer than two steps and so no variance, by the running ones."""
        valid = None if lengths is None else valid_steps(lengths, x.shape[1])
        rows = x.reshape(-1, x.shape[2]) if valid is None else x[valid]
        learn = noise is not None and len(rows) > 1
        rows = F.batch_norm(rows, self.running_mean, self.running_var, self.weight, self.bias, training=learn)
        return rows.view(x.shape) if valid is None else x.new_zeros(x.shape).masked_scatter(valid[:, :, None], rows)

    def affine(self) -> tuple[Tensor, Tensor]:
        """(scale, shift), each (D,): what it does without noise."""
        scale = self.weight / torch.sqrt(self.running_var + 1e-5)
        return scale, self.bias - self.running_mean * scale


@torch.no_grad()
def fold_batch_norm(stack: Stack) -> Stack:
    """A copy of `stack` without batch norm that computes the same: W (s x + t) + b = (W s) x + (b + W t)."""
    folded = copy.deepcopy(stack)
    for place, cell in enumerate(folded.cells if folded.norms else []):
        scale, shift = folded.norms[place // folded.directions].affine()  # type: ignore[operator]
        if cell.bias_ih is None:
            cell.bias_ih = nn.Parameter(cell.weight_ih.new_zeros(cell.weight_ih.shape[0]))  # type: ignore[operator]
            cell.bias_hh = nn.Parameter(torch.zeros_like(cell.bias_ih))
        cell.bias_ih += cell.weight_ih @ shift
        cell.weight_ih *= scale
    folded.norms = nn.ModuleList()
    return folded

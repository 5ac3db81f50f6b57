"""The torch.nn door: `echoic.nn.RNN`, `LSTM` and `GRU` in the place of `torch.nn`'s.

Signatures, shapes, defaults, first weights and state-dict keys are torch's: a `torch.nn` state dict
loads strictly, gives the same numbers, and loads back. What comes on top:

    LSTM(peephole=True)     weight_pi_l{k}, weight_pf_l{k}, weight_po_l{k} (H,) beside torch's keys
    GRU(reset="before")     the reset gate before the recurrent product, as Cho et al. 2014
    RNN(nonlinearity="sigmoid")
    module(x, hx, lengths)  (B,) valid steps of each row: the output is 0 and the state stands still after them
    .from_keras(arrays)     the weights of a Keras layer
    .kernels()              which code runs each layer, and why

What differs: a wrong argument is a ValueError or TypeError that names it, where torch raises several
kinds; dropout = 1 is refused. Here alone, because torch does so, the module's training flag and torch's
default generator decide about dropout; everywhere else in echoic Noise is an argument.

The parameters live here under torch's names, so deepcopy, `.to`, parametrisations and a parent's
`named_parameters` find what they expect. A call hands them to copies of the house's own cells
(cells/, layers/stack.py, kernels/dispatch.py): threads may share a module.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Sequence
from operator import is_
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from echoic import keras_weights
from echoic.cells.base import Cell
from echoic.kernels.dispatch import step_of_torch
from echoic.layers.dropout import Noise
from echoic.layers.stack import Stack
from echoic.nn_arguments import check_dropout, check_flags, check_lengths, check_sizes, no_projection, same_kind
from echoic.projected import project

__all__ = ["GRU", "LSTM", "RNN"]

Output = tuple[Any, Any]
"""(output, h_n): a Tensor or PackedSequence as the input was, and the last state, for an LSTM (h_n, c_n)."""


class _Recurrent(nn.Module):
    """What the three share. A subclass names its cell."""

    cell: ClassVar[str]
    _stack: Stack

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int,
        bias: bool,
        batch_first: bool,
        dropout: float,
        bidirectional: bool,
        proj_size: int,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_sizes(input_size=input_size, hidden_size=hidden_size, num_layers=num_layers)
        check_flags(bias=bias, batch_first=batch_first, bidirectional=bidirectional)
        check_dropout(dropout, num_layers)
        self.input_size, self.hidden_size, self.num_layers = input_size, hidden_size, num_layers
        self.bias, self.batch_first, self.dropout = bias, batch_first, float(dropout)
        self.bidirectional, self.proj_size, self.options = bidirectional, proj_size, options
        stack = Stack(
            input_size,
            proj_size or hidden_size,
            cell=self.cell,
            options=options,
            layers=num_layers,
            bidirectional=bidirectional,
            bias=bias,
            dropout=self.dropout,
            device=device,
            dtype=dtype,
        )
        if proj_size:
            project(stack, hidden_size, proj_size, bias, options, device, dtype)
        for place, cell in enumerate(_cells(stack)):
            for name, parameter in cell.named_parameters():
                self.register_parameter(name + self._suffix(place), parameter)
        # Its parameters are shapes only, and it is no submodule: the weights live in self alone.
        object.__setattr__(self, "_stack", stack.to("meta"))
        self._names = [
            [(name, name + self._suffix(place)) for name, _ in cell.named_parameters()]
            for place, cell in enumerate(_cells(stack))
        ]
        self._last: tuple[list[Tensor], Stack] | None = None

    def _suffix(self, place: int) -> str:
        """torch's ending of a parameter's name, from its cell's place in the stack."""
        layer, backwards = divmod(place, 2 if self.bidirectional else 1)
        return f"_l{layer}" + ("_reverse" if backwards else "")

    def _weights(self) -> list[dict[str, Tensor]]:
        """For each cell {its own name: this module's parameter}."""
        return [{own: getattr(self, name) for own, name in names} for names in self._names]

    def _filled(self) -> Stack:
        """A shallow copy of the stack, its cells holding this module's parameters: that of the last call, if they
        are the same objects (what a parametrisation or functional_call puts in their place is not kept)."""
        weights = self._weights()
        held = [weight for each in weights for weight in each.values()]
        if self._last is not None and len(held) == len(self._last[0]) and all(map(is_, held, self._last[0])):
            return self._last[1]
        stack = copy.copy(self._stack)
        pairs = zip(_cells(self._stack), weights, strict=True)
        vars(stack)["cells"] = [cell.with_weights(**each) for cell, each in pairs]
        if all(isinstance(weight, nn.Parameter) for weight in held) and not torch.compiler.is_compiling():
            self._last = held, stack
        return stack

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """torch.nn's first weights: uniform in +-1/sqrt(H), from torch's default generator."""
        limit = 1 / math.sqrt(self.hidden_size)
        for parameter in self.parameters():
            parameter.uniform_(-limit, limit)

    def flatten_parameters(self) -> None:
        """Does nothing: there is no cuDNN buffer to lay out. Here because callers of torch.nn call it."""

    @property
    def all_weights(self) -> list[list[Tensor]]:
        """The parameters of each layer and direction, as torch.nn's property of that name."""
        return [list(weights.values()) for weights in self._weights()]

    def kernels(self, *, training: bool = False, ragged: bool = False) -> list[str]:
        """For each layer and direction, which kernel runs it and why."""
        return self._filled().kernels(training=training, ragged=ragged, want_state=True)

    def forward(self, input: Tensor | PackedSequence, hx: Any = None, lengths: Tensor | None = None) -> Output:
        """(T, B, D), or (B, T, D) if batch_first, or (T, D), or a PackedSequence -> (output, h_n).

        `hx` is the state to begin with, (layers * directions, B, H), without B for unbatched input, for an
        LSTM the pair (h_0, c_0); None is zeros. `lengths` (B,), each in 0..T, says where rows end.
        Raises ValueError or TypeError that names the argument, what was expected and what came.
        """
        if isinstance(input, PackedSequence):
            if lengths is not None:
                raise ValueError("lengths: expected None, as a PackedSequence brings its own")
            x, lengths = pad_packed_sequence(input, batch_first=True)
            self._check_input(x)
            y, last = self._run(x, hx, lengths, batched=True)
            return _pack(y, lengths, input), last
        self._check_input(input)
        if lengths is None and (kernel := self._step_of_torch(input)) is not None:
            return self._one_step(kernel, input, hx)
        batched = input.dim() == 3
        x = input[None] if not batched else input if self.batch_first else input.transpose(0, 1)
        y, last = self._run(x, hx, lengths, batched)
        return (y[0] if not batched else y if self.batch_first else y.transpose(0, 1)), last

    def _step_of_torch(self, x: Tensor) -> str | None:
        """torch's kernel where a call is for one step of few rows, and takes less time than the way to ours."""
        if x.dim() != 3 or x.shape[1 if self.batch_first else 0] != 1 or x.device.type != "cpu":
            return None
        if self.training and self.dropout and self.num_layers > 1:
            return None
        return step_of_torch(_cells(self._stack)[0], x.shape[0 if self.batch_first else 1])

    def _one_step(self, kernel: str, x: Tensor, hx: Any) -> Output:
        """`forward` of one step of an RNN or GRU, which have one field of state."""
        weights = [getattr(self, name) for names in self._names for _, name in names]
        if hx is None:
            hx = x.new_zeros(len(self._names), x.shape[0 if self.batch_first else 1], self.hidden_size)
        else:
            self._states(hx, x if self.batch_first else x.transpose(0, 1), batched=True)
        options = self.bias, self.num_layers, 0.0, self.training, self.bidirectional, self.batch_first
        return getattr(torch._VF, kernel)(x, hx, weights, *options)  # type: ignore[attr-defined, no-any-return]

    def _run(self, x: Tensor, hx: Any, lengths: Any, batched: bool) -> tuple[Tensor, Any]:
        """x (B, T, D) -> y (B, T, ...), torch's last state."""
        if x.shape[1] == 0:
            raise ValueError("input: expected at least 1 step, got 0")
        checked = check_lengths(lengths, x, batched)
        y, states = self._filled()(x, checked, self._states(hx, x, batched), self._noise(x))
        return y, self._join(states, batched)

    def _noise(self, x: Tensor) -> Noise | None:
        """Noise if torch.nn would drop something, from one number of torch's default generator."""
        if not self.training or self.dropout == 0 or self.num_layers == 1:
            return None
        return Noise(int(torch.empty((), dtype=torch.int64).random_()), 0, x.device)

    def _check_input(self, x: Any) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"input: expected a Tensor or a PackedSequence, got {type(x).__name__}")
        if x.layout != torch.strided:
            raise TypeError(f"input: expected a dense tensor, got {x.layout}")
        if x.dim() not in (2, 3):
            raise ValueError(f"input: expected 3 dimensions, or 2 if unbatched, got {x.dim()}")
        if x.shape[-1] != self.input_size:
            raise ValueError(f"input: expected {self.input_size} features (input_size), got {x.shape[-1]}")
        same_kind("input", x, getattr(self, self._names[0][0][1]))

    def _states(self, hx: Any, x: Tensor, batched: bool) -> list[Any] | None:
        """torch's hx -> one State a cell."""
        if hx is None:
            return None
        cells = _cells(self._stack)
        shapes = cells[0].state_shapes
        single = len(shapes) == 1
        fields = (hx,) if single else hx
        wanted = "a Tensor" if single else "a tuple of two Tensors (h_0, c_0)"
        if not isinstance(fields, (tuple, list)) or len(fields) != len(shapes) or not all(map(torch.is_tensor, fields)):
            raise TypeError(f"hx: expected {wanted}, got {type(hx).__name__}")
        for place, (field, shape) in enumerate(zip(fields, shapes.values(), strict=True)):
            name = "hx" if single else f"hx[{place}]"
            expected = (len(cells), *((x.shape[0],) if batched else ()), *shape)
            if tuple(field.shape) != expected:
                raise ValueError(f"{name}: expected shape {expected}, got {tuple(field.shape)}")
            same_kind(name, field, x)
        parts = [(field if batched else field[:, None]).unbind(0) for field in fields]
        return [cell.State(*one) for cell, one in zip(cells, zip(*parts, strict=True), strict=True)]

    def _join(self, states: list[Any], batched: bool) -> Any:
        """One State a cell -> torch's h_n, or (h_n, c_n)."""
        fields = [torch.stack(field) for field in zip(*states, strict=True)]
        fields = fields if batched else [field[:, 0] for field in fields]
        return fields[0] if len(fields) == 1 else tuple(fields)

    @classmethod
    def from_keras(
        cls,
        arrays: Sequence[np.ndarray],
        *,
        bidirectional: bool = False,
        bias: bool = True,
        batch_first: bool = True,
        **options: Any,
    ) -> Self:
        """A module with a Keras layer's weights, `layer.get_weights()`; several layers end to end, first to last.

        `bidirectional` is Keras's wrapper with merge_mode="concat", `bias` its use_bias; a GRU's reset="after" is its
        reset_after=True, the default of both. Activations are Keras's defaults: tanh, and sigmoid for the gates.
        Shapes are those of keras_weights. Raises ValueError with the place of an array that does not fit.
        """
        after = cls.cell == "gru" and options.get("reset", "after") == "after"
        read = keras_weights.read(cls.cell, arrays, bidirectional=bidirectional, bias=bias, reset_after=after)
        hidden_size, input_size = read[0]["weight_hh"].shape[1], read[0]["weight_ih"].shape[1]
        layers = len(read) // (2 if bidirectional else 1)
        dtype = torch.from_numpy(read[0]["weight_ih"]).dtype
        fixed: dict[str, Any] = {
            "bias": bias,
            "batch_first": batch_first,
            "bidirectional": bidirectional,
            "dtype": dtype,
        }
        module = cls(input_size, hidden_size, layers, **fixed, **options)
        with torch.no_grad():
            for ours, theirs in zip(module._weights(), read, strict=True):
                for name, array in theirs.items():
                    ours[name].copy_(torch.from_numpy(array))
        return module

    def extra_repr(self) -> str:
        defaults: dict[str, Any] = {"proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0.0}
        defaults |= {"bidirectional": False, "peephole": False, "reset": "after", "nonlinearity": "tanh"}
        values = {**vars(self), **self.options}
        rest = [f"{name}={values[name]}" for name, default in defaults.items() if values.get(name, default) != default]
        return ", ".join([str(self.input_size), str(self.hidden_size), *rest])


class RNN(_Recurrent):
    """Elman's network, `torch.nn.RNN`; `nonlinearity` is tanh, relu or (not in torch) sigmoid."""

    cell = "rnn"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        no_projection(proj_size)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype,
            nonlinearity=nonlinearity,
        )  # fmt: skip


class GRU(_Recurrent):
    """The gated recurrent unit, `torch.nn.GRU`; `reset` is "after" the recurrent product (torch) or "before"."""

    cell = "gru"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        reset: str = "after",
    ) -> None:
        no_projection(proj_size)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, 0, device, dtype,
            reset=reset,
        )  # fmt: skip


class LSTM(_Recurrent):
    """Long short-term memory, `torch.nn.LSTM`; `peephole` lets the gates see the memory.

    `proj_size` = P > 0 projects the output, h = W_hr (o * tanh c) (Sak et al. 2014, arXiv:1402.1128, eq. 8):
    on the time loop alone, which is slow and is warned of; `kernels()` says so too.
    """

    cell = "lstm"

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        *,
        peephole: bool = False,
    ) -> None:
        if not 0 <= proj_size < max(hidden_size, 1):
            raise ValueError(f"proj_size: expected 0 to hidden_size - 1, got {proj_size}")
        if proj_size:
            warnings.warn("proj_size > 0 runs step by step on the reference path, which is slow", stacklevel=2)
        super().__init__(
            input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype,
            peephole=peephole,
        )  # fmt: skip


def _cells(stack: Stack) -> list[Cell]:
    return list(stack.cells)  # type: ignore[arg-type]


def _pack(y: Tensor, lengths: Tensor, like: PackedSequence) -> PackedSequence:
    """y (B, T, H) packed as the PackedSequence that came in."""
    if like.sorted_indices is not None:
        y, lengths = y[like.sorted_indices], lengths.to(like.sorted_indices.device)[like.sorted_indices]
    data = pack_padded_sequence(y, lengths.cpu(), batch_first=True).data
    return PackedSequence(data, like.batch_sizes, like.sorted_indices, like.unsorted_indices)

"""The contract of a recurrence, and what every cell shares: its weights, its layer norm, its masks.

    a = W x + b_ih                 project: for all steps at once, before the time loop
    u = U (h * m_h) + b_hh         recur: what the old output adds, inside a step
    y_t, s_t = step(a_t, s_(t-1))  the cell's own page

W is `weight_ih` (G*H, D), U is `weight_hh` (G*H, H); the G gates of H units stand below one another
in torch's order. A cell knows neither time loops nor kernels: `layers/unroll.py` steps it, and
`kernels/dispatch.py` says where something faster computes the same.

Layer norm (Ba, Kiros, Hinton 2016, arXiv:1607.06450, supplement): W x and U h are normalised
separately, before their biases, which serve as the norms' shifts; `gain_ih` and `gain_hh` scale.
Gates are normalised together in the groups of the paper (`norm_groups`).

m_h (`Masks.hidden`) is Gal and Ghahramani's recurrent dropout (2016, arXiv:1512.05287, section 4): one
mask for all steps. m_c (`Masks.candidate`) is Semeniuta et al.'s (2016, arXiv:1603.05118, section 3): it
multiplies the candidate alone. Both are drawn outside and already hold 0 or 1/(1-rate).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, NamedTuple, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from echoic.core import config


class Masks(NamedTuple):
    """Dropout inside a recurrence, the same at every step; None drops nothing."""

    hidden: Tensor | None = None
    """(B, H), multiplies the old output where it enters U."""
    candidate: Tensor | None = None
    """(B, H), multiplies the candidate."""


NO_MASKS = Masks()


class Zoneout(NamedTuple):
    """Krueger et al. 2017 (arXiv:1606.01305), section 3: a unit of a state keeps its old value with
    probability `rate`; without `keep` it takes the expectation of that."""

    rate: float = 0.0
    keep: tuple[Tensor, ...] | None = None
    """For each field of the State (T, B, ...), True where the new value is taken. Drawn outside."""


NO_ZONEOUT = Zoneout()


class NoOptions(config.Section):
    """A cell without options of its own."""


class Cell(nn.Module):
    """One recurrence. A subclass states `gates`, `State` and `Options` and writes `step`."""

    gates: ClassVar[tuple[str, ...]]
    """The gates' names, in the order of the weights' rows."""
    State: ClassVar[type[Any]]
    """A NamedTuple of tensors (B, ...); its first field is the output y wherever the output is fed back."""
    Options: ClassVar[type[config.Section]] = NoOptions
    """The cell's own options, with their descriptions."""
    variants: ClassVar[tuple[Mapping[str, Any], ...]] = ({},)
    """Option sets that the contract suite runs."""
    norm_groups: ClassVar[tuple[int, ...]]
    """How many gates, in order, each layer norm takes together."""
    open_gates: ClassVar[tuple[str, ...]] = ()
    """Gates that `init_orthogonal` opens with a bias of 1."""

    bias_ih: Tensor | None
    bias_hh: Tensor | None

    _watch: Callable[[dict[str, Tensor]], None] | None = None

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        *,
        bias: bool = True,
        layer_norm: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
        **options: Any,
    ) -> None:
        """Raises ConfigError for an unknown or wrong option. `generator` draws the first weights;
        None is torch's own, as in torch.nn."""
        super().__init__()
        self.input_size, self.hidden_size, self.layer_norm = input_size, hidden_size, layer_norm
        self.options: Any = config.check(self.Options, options, "model.cell")
        rows = len(self.gates) * hidden_size

        def parameter(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.weight_ih = parameter(rows, input_size)
        self.weight_hh = parameter(rows, hidden_size)
        self.register_parameter("bias_ih", parameter(rows) if bias else None)
        self.register_parameter("bias_hh", parameter(rows) if bias else None)
        if layer_norm:
            self.gain_ih, self.gain_hh = parameter(rows), parameter(rows)
        for name, shape in self.extra_shapes().items():
            self.register_parameter(name, parameter(*shape))
        self.reset_parameters(generator)

    def extra_shapes(self) -> dict[str, tuple[int, ...]]:
        """{name: shape} of the parameters that only this cell has."""
        return {}

    @torch.no_grad()
    def reset_parameters(self, generator: torch.Generator | None = None) -> None:
        """torch.nn's first weights: everything uniform in +-1/sqrt(H); gains are 1."""
        limit = 1.0 / math.sqrt(self.hidden_size)
        for name, parameter in self.named_parameters(recurse=False):
            if name.startswith("gain"):
                parameter.fill_(1.0)
            else:
                parameter.uniform_(-limit, limit, generator=generator)

    @torch.no_grad()
    def init_orthogonal(self, generator: torch.Generator | None = None) -> None:
        """First weights that train better: each gate's U orthogonal (Saxe et al. 2014), other
        matrices Xavier uniform per gate (Glorot and Bengio 2010), vectors 0, gains 1, and a bias of 1
        for `open_gates` (Jozefowicz et al. 2015)."""
        for name, parameter in self.named_parameters(recurse=False):
            blocks = torch.split(parameter, self.hidden_size)
            for block in blocks:
                if name == "weight_hh":
                    nn.init.orthogonal_(block, generator=generator)
                elif parameter.dim() == 2:
                    nn.init.xavier_uniform_(block, generator=generator)
                else:
                    block.fill_(1.0 if name.startswith("gain") else 0.0)
            if name == "bias_ih":
                for gate in self.open_gates:
                    blocks[self.gates.index(gate)].fill_(1.0)

    @property
    def state_shapes(self) -> dict[str, tuple[int, ...]]:
        """{field of State: its shape without the batch}."""
        return dict.fromkeys(self.State._fields, (self.hidden_size,))

    def initial(self, batch: int) -> Any:
        """The State of zeros for `batch` rows."""
        return self.State(*(self.weight_hh.new_zeros(batch, *shape) for shape in self.state_shapes.values()))

    def project(self, x: Tensor) -> Tensor:
        """The input's share of every gate: (..., D) -> (..., G*H)."""
        if not self.layer_norm:
            return F.linear(x, self.weight_ih, self.bias_ih)
        a = self._normalise(F.linear(x, self.weight_ih), self.norm_groups) * self.gain_ih
        return a if self.bias_ih is None else a + self.bias_ih

    def recur(self, h: Tensor, mask: Tensor | None, first: int = 0, last: int | None = None) -> Tensor:
        """The old output's share of the gates first..last-1 (all if not given): (B, H) -> (B, gates*H)."""
        last = len(self.gates) if last is None else last
        rows = slice(first * self.hidden_size, last * self.hidden_size)
        h = h if mask is None else h * mask
        bias = None if self.bias_hh is None else self.bias_hh[rows]
        if not self.layer_norm:
            return F.linear(h, self.weight_hh[rows], bias)
        ends = [sum(self.norm_groups[: i + 1]) for i in range(len(self.norm_groups))]
        groups = tuple(size for size, end in zip(self.norm_groups, ends, strict=True) if first < end <= last)
        u = self._normalise(F.linear(h, self.weight_hh[rows]), groups) * self.gain_hh[rows]
        return u if bias is None else u + bias

    def _normalise(self, a: Tensor, groups: tuple[int, ...]) -> Tensor:
        parts = torch.split(a, [size * self.hidden_size for size in groups], dim=-1)
        return torch.cat([F.layer_norm(part, part.shape[-1:]) for part in parts], dim=-1)

    def step(self, a: Tensor, state: Any, masks: Masks = NO_MASKS) -> tuple[Tensor, Any]:
        """One step: a (B, G*H) from `project`, the State before -> (y (B, H), the State after)."""
        raise NotImplementedError

    def show(self, **gates: Tensor) -> None:
        """A `step` hands over what it computed for each of its `gates`, (B, H) after its function; nobody
        listens but in a cell that is `watched`."""
        if self._watch is not None:
            self._watch(gates)

    def watched(self, by: Callable[[dict[str, Tensor]], None]) -> Self:
        """This cell, with the same weights, which tells `by` the gates of every step."""
        twin = copy.copy(self)
        twin._watch = by
        return twin

    def with_weights(self, **tensors: Tensor) -> Self:
        """This cell with some parameters replaced by tensors that gradients flow through to
        their own origin (weight drop); the cell itself stays as it is."""
        twin = copy.copy(self)
        twin._parameters = {name: p for name, p in self._parameters.items() if name not in tensors}
        twin.__dict__.update(tensors)
        return twin

    def extra_repr(self) -> str:
        own = ", ".join(f"{name}={value!r}" for name, value in self.options.model_dump().items())
        return f"{self.input_size}, {self.hidden_size}" + (f", {own}" if own else "")


def apply_mask(candidate: Tensor, mask: Tensor | None) -> Tensor:
    """Semeniuta et al.'s dropout: the candidate, or the candidate times its mask."""
    return candidate if mask is None else candidate * mask

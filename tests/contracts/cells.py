"""check_cell: what every recurrence promises. A check takes a Case and raises AssertionError.

Registering a cell enrols it: `cases()` reads the registry and each cell's `variants`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from contracts import bptt
from echoic.cells.base import NO_MASKS, NO_ZONEOUT, Cell, Masks, Zoneout
from echoic.core import registry
from echoic.kernels.dispatch import choose
from echoic.layers.dropout import Noise
from echoic.layers.stack import Stack
from echoic.layers.unroll import unroll

B, T, D, H = 4, 5, 2, 3
LENGTHS = torch.tensor([5, 3, 0, 4])
TOLERANCE = {torch.float64: 1e-10, torch.float32: 1e-5}


@dataclass(frozen=True)
class Case:
    """One cell with one set of its options. `kind` may be a mutant that claims to be `name`."""

    name: str
    kind: type[Cell]
    options: dict[str, Any] = field(default_factory=dict)
    bias: bool = True
    layer_norm: bool = False

    def __str__(self) -> str:
        words = [self.name, *(f"{k}={v}" for k, v in self.options.items())]
        return "-".join(words + ["no_bias"] * (not self.bias) + ["layer_norm"] * self.layer_norm)

    def build(self, features: int = D, hidden: int = H, dtype: torch.dtype = torch.float64) -> Cell:
        """The cell with weights large enough for every term to count."""
        made = self.kind(features, hidden, bias=self.bias, layer_norm=self.layer_norm, dtype=dtype, **self.options)
        generator = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for name, parameter in made.named_parameters():
                low, high = (0.5, 1.5) if name.startswith("gain") else (-0.9, 0.9)
                parameter.uniform_(low, high, generator=generator)
        return made

    def stack(self, **settings: Any) -> Stack:
        return Stack(
            D,
            H,
            cell=self.name,
            options=self.options,
            bias=self.bias,
            layer_norm=self.layer_norm,
            dtype=torch.float64,
            generator=torch.Generator().manual_seed(3),
            **settings,
        )


def cases() -> list[Case]:
    found = []
    for name in registry.names("cell"):
        kind = registry.get("cell", name)
        for options in kind.variants:
            found += [Case(name, kind, dict(options)), Case(name, kind, dict(options), bias=False)]
            found.append(Case(name, kind, dict(options), layer_norm=True))
    return found


def numbers(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def some_state(cell: Cell, batch: int = B) -> Any:
    shapes = cell.state_shapes.values()
    fields = (numbers(batch, *s, seed=20 + i).to(cell.weight_hh.dtype) * 0.5 for i, s in enumerate(shapes))
    return cell.State(*fields)


def some_masks(batch: int = B) -> Masks:
    noise = Noise(1, 2)
    return Masks(noise.mask((batch, H), 0.4, torch.float64), noise.mask((batch, H), 0.4, torch.float64))


def close(got: Any, wanted: Any, tolerance: float = 1e-10, what: str = "") -> None:
    """Tensors, or tuples of tensors (States), equal within `tolerance`, absolutely and relatively."""
    if not isinstance(got, Tensor):
        assert len(got) == len(wanted), f"{what}: {len(got)} parts, wanted {len(wanted)}"
        for g, w in zip(got, wanted, strict=True):
            close(g, w, tolerance, what)
        return
    assert got.shape == wanted.shape, f"{what}: shape {tuple(got.shape)}, wanted {tuple(wanted.shape)}"
    assert torch.allclose(got, wanted, rtol=tolerance, atol=tolerance), f"{what}: off by {(got - wanted).abs().max()}"


# The checks


def check_shapes(case: Case) -> None:
    cell, x = case.build(), numbers(B, T, D)
    rows = len(cell.gates) * H
    assert cell.weight_ih.shape == (rows, D)
    assert cell.weight_hh.shape == (rows, H)
    assert (cell.bias_ih is None) is not case.bias
    assert sum(cell.norm_groups) == len(cell.gates)
    a = cell.project(x)
    assert a.shape == (B, T, rows)
    first = cell.initial(B)
    assert first._fields == tuple(cell.state_shapes)
    assert all(not f.any() for f in first)
    y, new = cell.step(a[:, 0], first)
    assert y.shape == (B, H)
    assert type(new) is cell.State
    assert [f.shape[1:] for f in new] == list(cell.state_shapes.values())
    y, _ = unroll(cell, x, LENGTHS)
    assert y.shape == (B, T, H)
    assert y.dtype == torch.float64


def check_equations(case: Case) -> None:
    """The cell and its gradients against NumPy, equations and BPTT by hand."""
    cell, masks = case.build(), some_masks()
    for m in (masks, Masks(torch.ones(B, H, dtype=torch.float64), torch.ones(B, H, dtype=torch.float64))):
        _compare_with_bptt(case, cell, m)


def _compare_with_bptt(case: Case, cell: Cell, masks: Masks) -> None:
    x = numbers(B, T, D).requires_grad_()
    first = cell.State(*(f.requires_grad_() for f in some_state(cell)))
    dy, dlast = numbers(B, T, H, seed=5), some_state(cell)
    y, last = unroll(cell, x, None, first, masks=masks)
    loss = (y * dy).sum() + sum((s * d).sum() for s, d in zip(last, dlast, strict=True))

    def numpy(t: Tensor) -> Any:
        return t.detach().numpy()

    weights = {name: numpy(p) for name, p in cell.named_parameters()}
    args = weights, numpy(x), tuple(map(numpy, first)), numpy(dy), tuple(map(numpy, dlast))
    y_, last_, by_hand = bptt.BY_NAME[case.name](
        *args, numpy(masks.hidden), numpy(masks.candidate), cell.options.model_dump()
    )
    close(y, torch.tensor(y_), what="Y by hand")
    close(last, [torch.tensor(s) for s in last_], what="last state by hand")
    if case.layer_norm:
        return  # its gradients are left to check_gradients
    leaves = dict(cell.named_parameters()) | {"x": x} | dict(zip(("h0", "c0"), first, strict=False))
    for name, gradient in zip(leaves, torch.autograd.grad(loss, list(leaves.values())), strict=True):
        close(gradient, torch.tensor(by_hand[name]), what=f"gradient of {name} by hand")


def check_gradients(case: Case) -> None:
    """gradcheck of inputs, weights and initial state, over ragged rows, masks fixed. A relu within
    1e-6 of its kink would fail here; the fixed numbers keep off it."""
    cell, lengths = case.build(), torch.tensor([3, 0, 2])
    names, weights = zip(*cell.named_parameters(), strict=True)
    masks, fields = some_masks(3), len(cell.State._fields)

    def run(x: Tensor, *rest: Tensor) -> tuple[Tensor, ...]:
        state, given = cell.State(*rest[:fields]), dict(zip(names, rest[fields:], strict=True))
        y, last = unroll(cell.with_weights(**given), x, lengths, state, masks=masks)
        return y, *last

    inputs = [numbers(3, 3, D), *some_state(cell, 3), *(w.detach().clone() for w in weights)]
    leaves = [i.requires_grad_() for i in inputs]
    assert run(*leaves)[0].any(), "nothing but zeros to check"
    try:
        assert torch.autograd.gradcheck(run, leaves, eps=1e-6, atol=1e-9, rtol=1e-7)
    except torch.autograd.gradcheck.GradcheckError as error:
        raise AssertionError(str(error)) from None


def check_paths(case: Case) -> None:
    """Step loop == unroll == the kernel that dispatch chooses, forwards, backwards, and in their gradients."""
    for dtype, tolerance in TOLERANCE.items():
        cell, x = case.build(dtype=dtype), numbers(B, T, D, dtype=dtype)
        state, ys = some_state(cell), []
        for a in cell.project(x).unbind(1):
            y, state = cell.step(a, state)
            ys.append(y)
        y, last = unroll(cell, x, None, some_state(cell))
        close(y, torch.stack(ys, 1), tolerance, "unroll against the step loop")
        close(last, state, tolerance, "unroll's last state")
        for lengths in (None, LENGTHS, torch.full((B,), T - 1)):
            for reverse in (False, True):
                for want_state in (True, False):
                    _compare_with_reference(cell, x, lengths, reverse, want_state, tolerance)


def _compare_with_reference(
    cell: Cell, x: Tensor, lengths: Tensor | None, reverse: bool, want_state: bool, tolerance: float
) -> None:
    choice = choose(cell, unroll, ragged=lengths is not None, want_state=want_state)
    got, wanted = [], []
    for run, out in ((choice.run, got), (unroll, wanted)):
        leaf = x.clone().requires_grad_()
        first = some_state(cell)
        y, last = run(cell, leaf, lengths, first, reverse=reverse)
        assert last is not None or not want_state
        loss = (y * numbers(B, T, H, seed=5).to(y.dtype)).sum()
        if want_state:
            loss = loss + sum((s * s).sum() for s in last)
        leaves = [leaf, *(p for p in cell.parameters())]
        out += [y, *(last if want_state else ()), *torch.autograd.grad(loss, leaves)]
    close(got, wanted, tolerance, f"{choice.name} against the reference")


def check_native(case: Case) -> None:
    """The native core == the reference, where the core has this cell: outputs, states and every gradient."""
    for dtype, allowed in NATIVE.items():
        built = replace(case, kind=registry.get("cell", case.name)).build(dtype=dtype)
        if not choose(built, unroll, ragged=True).name.startswith("native"):
            return
        wanted = case.build(dtype=dtype).double()
        for number, (masks, zoneout) in enumerate(_native_noise(built)):
            for lengths in (None, LENGTHS):
                for reverse in (False, True):
                    first = [some_state(built), None][(number + reverse) % 2]
                    run = choose(built, unroll, ragged=lengths is not None, masks=masks, zoneout=zoneout).run
                    got = _everything(run, built, lengths, first, reverse)
                    loop = partial(unroll, masks=Masks(*map(_double, masks)), zoneout=zoneout)
                    for name, tensor in _everything(loop, wanted, lengths, first, reverse).items():
                        off = (got[name] - tensor).abs().max() / max(0.1, tensor.abs().max())
                        limit = allowed[name.startswith("gradient")]
                        assert off <= limit, f"native {name} is off by {off:.1e}: {masks=} {zoneout=} {reverse=}"


NATIVE = {torch.float64: (1e-10, 1e-10), torch.float32: (1e-5, 1e-4)}
"""Largest error over the largest number: of outputs and states, of gradients."""


def _native_noise(cell: Cell) -> list[tuple[Masks, Zoneout]]:
    hidden, candidate = (mask.to(cell.weight_hh.dtype) for mask in some_masks())
    keep = tuple(Noise(3, 4).keep((T, B, *shape), 0.4) for shape in cell.state_shapes.values())
    drawn, mean = Zoneout(0.4, keep), Zoneout(0.4)
    pairs = [(NO_MASKS, NO_ZONEOUT)] * 2 + [(Masks(hidden), NO_ZONEOUT), (Masks(None, candidate), NO_ZONEOUT)]
    return [*pairs, (NO_MASKS, drawn), (NO_MASKS, mean), (Masks(hidden, candidate), drawn)]


def _double(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else tensor.double()


def _everything(run: Any, cell: Cell, lengths: Tensor | None, first: Any, reverse: bool) -> dict[str, Tensor]:
    """Y, the last state and the gradients of x, the first state and the weights, by name."""
    dtype = cell.weight_hh.dtype
    x = numbers(B, T, D, dtype=torch.float32).to(dtype).requires_grad_()
    given = None if first is None else cell.State(*(f.detach().to(dtype).requires_grad_() for f in first))
    y, last = run(cell, x, lengths, given, reverse=reverse)
    loss = (y * numbers(B, T, H, seed=5).to(dtype)).sum() + sum((f * f).sum() for f in last)
    leaves = {"x": x} | dict(cell.named_parameters()) | dict(enumerate(given or ()))
    gradients = torch.autograd.grad(loss, list(leaves.values()))
    named = {"Y": y} | {f"last state {i}": field for i, field in enumerate(last)}
    return named | {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}


def check_split(case: Case) -> None:
    """whole == split at every step, state carried."""
    cell, x = case.build(), numbers(B, T, D)
    y, last = unroll(cell, x, LENGTHS)
    for k in range(T + 1):
        y1, state = unroll(cell, x[:, :k], LENGTHS.clamp(max=k))
        y2, state = unroll(cell, x[:, k:], (LENGTHS - k).clamp(min=0), state)
        close(torch.cat([y1, y2], 1), y, what=f"split at {k}")
        close(state, last, what=f"state split at {k}")


def check_batch(case: Case) -> None:
    """A row's answer does not depend on the rows beside it."""
    cell, x = case.build(), numbers(B, T, D)
    for reverse in (False, True):
        y, last = unroll(cell, x, LENGTHS, reverse=reverse)
        for b, length in enumerate(LENGTHS.tolist()):
            y1, last1 = unroll(cell, x[b : b + 1, :length], reverse=reverse)
            close(y[b : b + 1, :length], y1, what="a row alone")
            close([f[b : b + 1] for f in last], last1, what="a row's state alone")


def check_padding(case: Case) -> None:
    """Neither what stands in the padding nor how much of it there is changes an answer or a gradient."""
    x, real = numbers(B, T, D), (torch.arange(T) < LENGTHS[:, None])[:, :, None]
    dirty = x.masked_fill(~real, float("nan"))
    wide = torch.cat([dirty, torch.full((B, 3, D), float("inf"), dtype=x.dtype)], 1)
    cell, stack = case.build(), case.stack(layers=2, bidirectional=True)
    for module, run in (
        (cell, partial(unroll, cell)),
        (cell, partial(unroll, cell, reverse=True)),
        (stack, stack),
        (stack, partial(stack, want_state=False)),
    ):
        y, last = run(x.masked_fill(~real, 0.0), LENGTHS)
        assert not y.masked_fill(real, 0.0).any(), "Y is not 0 on padding"
        gradients = torch.autograd.grad(y.square().sum(), list(module.parameters()))
        for padded in (dirty, wide):
            y2, last2 = run(padded, LENGTHS)
            close(y2[:, :T], y, what="Y with other padding")
            assert not y2[:, T:].any()
            close(last2, last, what="state with other padding")
            close(torch.autograd.grad(y2.square().sum(), list(module.parameters())), gradients, what="gradients")


def check_reverse(case: Case) -> None:
    """reverse == flip each row's valid part, run forwards, flip back."""
    cell, x = case.build(), numbers(B, T, D)

    def flip(rows: Tensor) -> Tensor:
        turned = rows.clone()
        for b, length in enumerate(LENGTHS.tolist()):
            turned[b, :length] = rows[b, :length].flip(0)
        return turned

    y, last = unroll(cell, x, LENGTHS, reverse=True)
    y2, last2 = unroll(cell, flip(x), LENGTHS)
    close(y, flip(y2), what="reverse")
    close(last, last2, what="reverse's state")


def check_edges(case: Case) -> None:
    """T = 1, B = 1, T = 0, B = 0, and rows of length 0 whose state passes through."""
    cell = case.build()
    for batch, steps in ((1, 1), (B, 0), (0, T), (0, 0)):
        for lengths in (None, torch.full((batch,), steps)):
            for run in (unroll, choose(cell, unroll, ragged=lengths is not None).run):
                first = some_state(cell, batch)
                y, last = run(cell, numbers(batch, steps, D), lengths, first)
                assert y.shape == (batch, steps, H)
                assert steps or close(last, first) is None
    first = some_state(cell)
    for run in (unroll, choose(cell, unroll, ragged=True).run):
        _, last = run(cell, numbers(B, T, D), LENGTHS, first)
        close([f[2] for f in last], [f[2] for f in first], what="state of an empty row")
        y, last = run(cell, numbers(B, T, D), torch.zeros(B, dtype=torch.long), first)
        assert not y.any()
        close(last, first, what="state of empty rows")


def check_deterministic(case: Case) -> None:
    """Without noise every call gives the same bits, whatever the training flag says."""
    stack, x = (
        case.stack(layers=2, bidirectional=True, dropout=0.5, variational=0.5, candidate=0.5, weight_drop=0.5),
        numbers(B, T, D),
    )
    once, _ = stack.train()(x, LENGTHS)
    again, _ = stack.eval()(x, LENGTHS)
    assert torch.equal(once, again)


TORCH = {
    ("rnn", "tanh"): (nn.RNN, {"nonlinearity": "tanh"}),
    ("rnn", "relu"): (nn.RNN, {"nonlinearity": "relu"}),
    ("lstm", False): (nn.LSTM, {}),
    ("gru", "after"): (nn.GRU, {}),
}


def torch_layer(case: Case) -> Callable[..., nn.RNNBase] | None:
    """torch.nn's layer of the same mathematics, if it has one."""
    own = tuple(case.kind(1, 1, **case.options).options.model_dump().values())
    found = None if case.layer_norm else TORCH.get((case.name, *own))
    return found and partial(found[0], bias=case.bias, batch_first=True, dtype=torch.float64, **found[1])


def check_torch_parity(case: Case) -> None:
    """The reference with torch.nn's weights gives torch.nn's numbers: a layer, and a stack both ways."""
    layer = torch_layer(case)
    if layer is None:
        return
    theirs, cell, x = layer(D, H), case.build(), numbers(B, T, D)
    cell.load_state_dict({name.removesuffix("_l0"): w for name, w in theirs.state_dict().items()}, strict=True)
    y, _ = unroll(cell, x)
    close(y, theirs(x)[0], what="torch.nn's layer")
    first = some_state(cell)
    wanted, last = theirs(x, _torch_state([first]))
    y, state = unroll(cell, x, None, first)
    close(y, wanted, what="torch.nn's layer with a state")
    close(_torch_state([state]), last, what="torch.nn's last state")
    _stack_parity(case, layer, x)


def _torch_state(states: list[Any]) -> Any:
    """Our States, one a cell -> torch's (layers * directions, B, H), a pair of them for the LSTM."""
    fields = tuple(torch.stack(field) for field in zip(*states, strict=True))
    return fields if len(fields) > 1 else fields[0]


def _stack_parity(case: Case, layer: Callable[..., nn.RNNBase], x: Tensor) -> None:
    theirs, ours = layer(D, H, num_layers=2, bidirectional=True), case.stack(layers=2, bidirectional=True)
    weights = theirs.state_dict()
    for place, cell in enumerate(ours.cells):
        end = f"_l{place // 2}" + "_reverse" * (place % 2)
        cell.load_state_dict({n: weights[n + end] for n, _ in cell.named_parameters()}, strict=True)
    firsts = [some_state(cell) for cell in ours.cells]
    y, states = ours(x, None, firsts)
    wanted, last = theirs(x, _torch_state(firsts))
    close(y, wanted, what="torch.nn's stack")
    close(_torch_state(states), last, what="torch.nn's stack's states")
    lengths = torch.tensor([5, 3, 1, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    wanted, last = theirs(packed, _torch_state(firsts))
    y, states = ours(x, lengths, firsts)
    close(y, nn.utils.rnn.pad_packed_sequence(wanted, batch_first=True, total_length=T)[0], what="packed rows")
    close(_torch_state(states), last, what="packed rows' states")


def check_layer_norm(case: Case) -> None:
    """W x and U h are normalised apart: the scale of either weight does not matter, and without layer norm does."""
    cell, x = case.build(hidden=6), numbers(B, T, D)
    for name in ("weight_ih", "weight_hh"):
        scaled = cell.with_weights(**{name: getattr(cell, name) * 10.0})
        moved = (unroll(scaled, x)[0] - unroll(cell, x)[0]).abs().max()
        assert moved < 1e-2 if case.layer_norm else moved > 5e-2, f"{name} times 10 moves Y by {moved}"


def check_overfits(case: Case) -> None:
    """A small stack learns eight random sequences by heart."""
    generator = torch.Generator().manual_seed(11)
    x, lengths, target = numbers(8, 6, D, seed=4), torch.tensor([6, 6, 5, 5, 4, 4, 3, 2]), torch.arange(8) % 3
    stack = Stack(
        D,
        16,
        cell=case.name,
        options=case.options,
        layer_norm=case.layer_norm,
        bias=case.bias,
        dtype=torch.float64,
        generator=generator,
    )
    stack.init_orthogonal(generator)
    read = (0.1 * numbers(16, 3, seed=9)).requires_grad_()
    adam = torch.optim.Adam([*stack.parameters(), read], lr=0.03)
    for _ in range(150):
        y, _ = stack(x, lengths, want_state=False)
        loss = nn.functional.cross_entropy(y[torch.arange(8), lengths - 1] @ read, target)
        if loss < 0.05:
            return
        adam.zero_grad()
        loss.backward()
        adam.step()
    raise AssertionError(f"loss {loss:.3f} after 150 steps")


CHECKS = [value for name, value in list(globals().items()) if name.startswith("check_")]


def check_cell(case: Case) -> None:
    """The whole suite."""
    for check in CHECKS:
        check(case)

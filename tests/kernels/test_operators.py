"""The core as torch operators: what they refuse, and that torch, its compiler, threads and forks may rely on them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from echoic.cells.base import Cell, Masks, Zoneout
from echoic.kernels import bridge, native
from echoic.layers.stack import Stack
from kernels import native_calls as calls
from kernels.native_calls import LEARNED, NAMES, Problem
from kernels.native_reference import cell_of, compare, reference

pytestmark = pytest.mark.usefixtures("isa", "threads")

LSTM = Problem(
    "lstm",
    batch=4,
    steps=6,
    features=3,
    hidden=5,
    peephole=True,
    hidden_mask=True,
    candidate_mask=True,
    zoneout="drawn",
)
GRU = Problem("gru_after", batch=4, steps=6, features=3, hidden=5, bias=False, ragged=False, state=False, double=False)
BIG = dataclasses.replace(LSTM, batch=17, steps=9, features=33, hidden=129)
"""Worth several threads."""


def arguments(p: Problem, *, grad: bool = False, **other: Any) -> list[Any]:
    """What recur and recur_train take; `other` by the names of the inputs, lengths, kind, reverse and bfloat16."""
    n = calls.draw(p)
    given = {name: None if a is None else torch.from_numpy(a) for name, a in n.inputs.items()}
    for name in LEARNED if grad else ():
        tensor = given[name]
        given[name] = None if tensor is None else tensor.nan_to_num().requires_grad_()
    lengths = None if n.lengths is None else torch.from_numpy(n.lengths)
    every = given | {"lengths": lengths, "kind": p.number, "reverse": p.reverse, "bfloat16": p.bfloat16} | other
    assert list(every) == [*NAMES, "lengths", "kind", "reverse", "bfloat16"]
    return [*every.values()]


OPERATORS, PLAIN = (bridge.recur, bridge.recur_train), (bridge.infer_plainly, bridge.train_plainly)
WAYS = pytest.mark.parametrize("way", [OPERATORS, PLAIN], ids=["operators", "plain"])


def answer(p: Problem, inputs: list[Any], way: Any = PLAIN) -> dict[str, Any]:
    """As `native_calls.both`, through autograd; the outputs' gradients are those of the problem."""
    n = calls.draw(p)
    y, h, c, _ = way[1](*inputs)
    outputs = [y, h, c][: 1 + p.fields]
    downs = [torch.from_numpy(a) for a in (n.dy, *n.dlast)]
    leaves = {name: t for name, t in zip(LEARNED, inputs, strict=False) if t is not None}
    gradients = torch.autograd.grad(outputs, [*leaves.values()], downs)
    named = dict(zip(("y", "last_h", "last_c"), outputs, strict=False))
    named |= {f"d_{name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: t.detach().numpy() for name, t in named.items()}


@WAYS
@pytest.mark.parametrize("p", [LSTM, GRU, BIG], ids=lambda p: p.kind)
def test_autograd_gives_the_gradients_of_the_time_loop(p: Problem, way: Any) -> None:
    compare(answer(p, arguments(p, grad=True), way), reference(p, calls.draw(p))[0], p.double)


@WAYS
@pytest.mark.parametrize("kind", native.KINDS)
def test_no_units_give_nothing(kind: str, way: Any) -> None:
    p = Problem(kind, hidden=0)
    for name, array in answer(p, arguments(p, grad=True), way).items():
        assert array.size == 0 or not array.any(), name


# Layouts


def transposed(t: Tensor) -> Tensor:
    return t.transpose(0, -1).contiguous().transpose(0, -1)


def every_second(t: Tensor) -> Tensor:
    wide = t.new_full((*t.shape[:-1], 2 * t.shape[-1]), float("nan"))
    wide[..., ::2] = t
    return wide[..., ::2]


def within(t: Tensor) -> Tensor:
    """From the middle of a larger one, off by one element, so aligned to nothing."""
    wide = t.new_full((t.numel() + 2,), float("nan"))
    wide[1:-1] = t.reshape(-1)
    return wide[1:-1].view(t.shape)


def negated(t: Tensor) -> Tensor:
    """Whose memory holds -t: torch negates it when it is read."""
    view: Tensor = torch._neg_view(-t)  # type: ignore[attr-defined]
    assert view.is_neg()
    return view


@WAYS
@pytest.mark.parametrize("layout", [transposed, every_second, within, negated], ids=lambda f: f.__name__)
@pytest.mark.parametrize("p", [LSTM, GRU], ids=lambda p: p.kind)
def test_a_layout_in_memory_changes_nothing(p: Problem, layout: Callable[[Tensor], Tensor], way: Any) -> None:
    inputs = arguments(p, grad=True)
    wanted = answer(p, inputs, way)
    moved = [layout(t.detach()) if isinstance(t, Tensor) and t.is_floating_point() else t for t in inputs]
    for name, tensor in zip(NAMES, moved, strict=False):
        if tensor is not None and name in LEARNED:
            tensor.requires_grad_()
    for name, array in answer(p, moved, way).items():
        np.testing.assert_array_equal(array, wanted[name], err_msg=name)


def test_expanded_inputs_count_as_what_they_show() -> None:
    inputs = arguments(LSTM)
    one = {name: t[:1] for name, t in zip(NAMES, inputs, strict=False) if name in ("x", "h", "c", "mask_hidden")}
    one["x"] = one["x"][:, :1].nan_to_num()
    shapes = {name: t.shape for name, t in zip(NAMES, inputs, strict=False) if t is not None}
    thin = arguments(LSTM, **{name: t.expand(shapes[name]) for name, t in one.items()})
    dense = arguments(LSTM, **{name: t.expand(shapes[name]).contiguous() for name, t in one.items()})
    for got, wanted in zip(bridge.recur(*thin), bridge.recur(*dense), strict=True):
        assert torch.equal(got, wanted)
    y = bridge.recur_train(*arguments(LSTM, grad=True))[0]
    assert y.sum().requires_grad  # whose gradient of y is one number, expanded


@pytest.mark.parametrize("p", [LSTM, dataclasses.replace(LSTM, batch=1), dataclasses.replace(LSTM, steps=1)])
@pytest.mark.parametrize("half", [0, 1])
def test_half_of_a_bidirectional_gradient_is_read_as_it_stands(p: Problem, half: int) -> None:
    inputs, n = arguments(p), calls.draw(p)
    tape = bridge.recur_train(*inputs)[3]
    dy = torch.from_numpy(n.dy)
    wide = torch.full((p.batch, p.steps, 2 * p.hidden), float("nan"), dtype=dy.dtype)
    strided = wide[..., half * p.hidden : (half + 1) * p.hidden]
    strided.copy_(dy)
    last = [torch.from_numpy(a) for a in n.dlast]
    expanded = torch.ones((), dtype=dy.dtype).expand(dy.shape)
    for given, same in ((strided, dy), (transposed(dy), dy), (expanded, expanded.contiguous()), (None, dy * 0)):
        got, wanted = (
            bridge.recur_backward(d, *last, tape, *inputs, [True] * 10)
            for d in (given, None if same is None else same.nan_to_num())
        )
        for a, b in zip(got, wanted, strict=True):
            assert torch.equal(a, b)


# Bad input


def changed(name: str, change: Callable[[Tensor], Any]) -> dict[str, Any]:
    found = dict(zip([*NAMES, "lengths"], arguments(LSTM), strict=False))[name]
    return {name: change(found)}


BAD: dict[str, tuple[dict[str, Any], type[Exception]]] = {}
for _name in NAMES:
    BAD[f"{_name} float16"] = changed(_name, Tensor.half), TypeError
    BAD[f"{_name} of another float type"] = changed(_name, Tensor.float), TypeError
    BAD[f"{_name} of whole numbers"] = changed(_name, lambda t: t.nan_to_num().long()), TypeError
    BAD[f"{_name} complex"] = changed(_name, lambda t: t.to(torch.complex128)), TypeError
    BAD[f"{_name} one longer"] = changed(_name, lambda t: torch.cat([t, t[:1]])), ValueError
    BAD[f"{_name} one wider"] = changed(_name, lambda t: torch.cat([t, t[..., :1]], -1)), ValueError
    BAD[f"{_name} with one dimension more"] = changed(_name, lambda t: t[None]), ValueError
    BAD[f"{_name} a scalar"] = changed(_name, lambda t: t.reshape(-1)[0]), ValueError
BAD |= {
    "lengths beyond the steps": (changed("lengths", lambda t: t * 0 + 7), ValueError),
    "one length beyond": (changed("lengths", lambda t: torch.tensor([0, 1, 2, 7])), ValueError),
    "a negative length": (changed("lengths", lambda t: torch.tensor([0, -1, 2, 3])), ValueError),
    "the least whole number": (changed("lengths", lambda t: t * 0 - 2**63), ValueError),
    "too few lengths": (changed("lengths", lambda t: t[:3]), ValueError),
    "too many lengths": (changed("lengths", lambda t: torch.cat([t, t])), ValueError),
    "lengths in two dimensions": (changed("lengths", lambda t: t[None]), ValueError),
    "lengths of int32": (changed("lengths", Tensor.int), TypeError),
    "lengths of floats": (changed("lengths", Tensor.float), TypeError),
    "an unknown kind": ({"kind": 6}, ValueError),
    "a negative kind": ({"kind": -1}, ValueError),
    "another kind's weights": ({"kind": 4}, ValueError),
    "one bias": ({"bias_hh": None}, ValueError),
    "two peepholes": ({"weight_pf": None}, ValueError),
}


@pytest.mark.parametrize("what", BAD)
@pytest.mark.parametrize("operator", [*OPERATORS, *PLAIN])
def test_bad_input_is_refused(operator: Any, what: str) -> None:
    other, error = BAD[what]
    with pytest.raises(error):
        operator(*arguments(LSTM, **other))


@pytest.mark.parametrize("name", [*NAMES, "lengths"])
def test_a_tensor_on_another_device_is_refused(name: str) -> None:
    for operator in (bridge.recur, bridge.infer_plainly):
        with pytest.raises((TypeError, ValueError)):
            operator(*arguments(LSTM, **changed(name, lambda t: t.to("meta"))))


def test_a_state_that_the_cell_has_not_is_refused_or_has_no_gradient() -> None:
    stray = torch.ones(GRU.batch, GRU.hidden, requires_grad=True)
    try:
        y, *_ = bridge.train_plainly(*arguments(GRU, c=stray))
    except ValueError:
        return
    (gradient,) = torch.autograd.grad(y.sum(), stray, allow_unused=True)
    assert gradient is None or not gradient.any()


@pytest.mark.parametrize(
    "wrong", ["dy steps", "dy units", "dy type", "dh rows", "dc units", "dh type", "tape", "tape type"]
)
def test_backward_refuses_what_does_not_fit(wrong: str) -> None:
    inputs, n = arguments(LSTM), calls.draw(LSTM)
    *_, tape = bridge.recur_train(*inputs)
    dy, dh, dc = (torch.from_numpy(a) for a in (n.dy, *n.dlast))
    given = {
        "dy steps": (dy[:, :5], dh, dc, tape),
        "dy units": (dy[..., :4], dh, dc, tape),
        "dy type": (dy.float(), dh, dc, tape),
        "dh rows": (dy, dh[:2], dc, tape),
        "dc units": (dy, dh, dc[:, :2], tape),
        "dh type": (dy, dh.float(), dc, tape),
        "tape": (dy, dh, dc, tape[:-1]),
        "tape type": (dy, dh, dc, tape.float()),
    }[wrong]
    with pytest.raises((TypeError, ValueError)):
        bridge.recur_backward(*given, *inputs, [True] * 10)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint8])
def test_a_stack_takes_lengths_of_every_whole_type(dtype: torch.dtype) -> None:
    stack, x = Stack(3, 5, dtype=torch.float64), torch.ones(2, 4, 3, dtype=torch.float64)
    assert torch.equal(stack(x, torch.tensor([4, 2], dtype=dtype))[0], stack(x, torch.tensor([4, 2]))[0])


@WAYS
def test_a_second_derivative_is_an_error_and_not_zero(way: Any) -> None:
    inputs = arguments(LSTM, grad=True)
    (gradient,) = torch.autograd.grad(way[1](*inputs)[1].square().sum(), inputs[0], create_graph=True)
    with pytest.raises(RuntimeError):
        torch.autograd.grad(gradient.sum(), inputs[1])


# torch


class Refilled:
    """The core, whose memory for tapes holds one number before."""

    def __init__(self, core: Any, number: float) -> None:
        self.core, self.number = core, number

    def __getattr__(self, name: str) -> Any:
        return getattr(self.core, name)

    def lasting(self, size: int, double: bool) -> Any:
        memory = self.core.lasting(size, double)
        memory[:] = self.number
        return memory


@pytest.mark.parametrize("p", [LSTM, GRU], ids=lambda p: p.kind)
def test_a_tape_holds_nothing_but_what_was_written(core: Any, monkeypatch: pytest.MonkeyPatch, p: Problem) -> None:
    """opcheck compares tapes of two runs; with memory as it was found it would pass by luck."""
    tapes = []
    for number in (1.0, 2.0):
        monkeypatch.setattr(native, "core", lambda number=number: Refilled(core, number))
        tapes.append(bridge.recur_train(*arguments(dataclasses.replace(p, ragged=False)))[3])
    assert torch.equal(*tapes)


@pytest.mark.parametrize("p", [LSTM, GRU], ids=lambda p: p.kind)
def test_torch_finds_the_operators_sound(core: Any, monkeypatch: pytest.MonkeyPatch, p: Problem) -> None:
    monkeypatch.setattr(native, "core", lambda: Refilled(core, 0.0))
    torch.library.opcheck(bridge.recur, arguments(p))
    inputs = arguments(p, grad=True)
    torch.library.opcheck(bridge.recur_train, inputs)
    tape = bridge.recur_train(*arguments(p))[3]
    n = calls.draw(p)
    downs = [*(torch.from_numpy(a) for a in (np.nan_to_num(n.dy), *n.dlast)), None][:3]
    plain = [t.detach() if isinstance(t, Tensor) else t for t in inputs]
    wanted = [t is not None for t in plain[:10]]
    torch.library.opcheck(bridge.recur_backward, [*downs, tape, *plain, wanted])


def step(cell: Cell, p: Problem) -> Callable[..., Tensor]:
    def run(x: Tensor, lengths: Tensor, mask: Tensor) -> Tensor:
        zoneout, masks = Zoneout(0.2), Masks(mask, mask)
        y, last = bridge.run(cell, x, lengths, None, kind=p.number, reverse=True, masks=masks, zoneout=zoneout)
        return y.sum() + sum(field.square().sum() for field in last)

    return run


def compiles(p: Problem, backend: str) -> None:
    cell = cell_of(p, calls.draw(p))
    torch._dynamo.reset()
    compiled = torch.compile(step(cell, p), fullgraph=True, dynamic=True, backend=backend)
    for steps in (5, 7, 3):
        x = torch.randn(4, steps, p.features, dtype=torch.float64, generator=torch.Generator().manual_seed(steps))
        rest = torch.tensor([steps, 1, 0, 2]), torch.full((4, p.hidden), 1.25, dtype=torch.float64)
        answers = []
        for run in (compiled, step(cell, p)):
            leaf = x.clone().requires_grad_()
            loss = run(leaf, *rest)
            answers.append([loss, *torch.autograd.grad(loss, [leaf, *cell.parameters()])])
        for got, wanted in zip(*answers, strict=True):
            assert torch.allclose(got, wanted, rtol=1e-12, atol=1e-12)
    with torch.no_grad():
        assert torch.allclose(compiled(x, *rest), step(cell, p)(x, *rest), rtol=1e-12)


@pytest.mark.parametrize("p", [LSTM, dataclasses.replace(LSTM, kind="gru_after", peephole=False)], ids=lambda p: p.kind)
def test_a_whole_graph_compiles_with_a_changing_number_of_steps(p: Problem) -> None:
    compiles(p, "aot_eager")


@pytest.mark.deep
def test_a_whole_graph_compiles_to_code() -> None:
    try:
        torch.compile(lambda x: x * 2 + 1, backend="inductor")(torch.ones(3))
    except Exception as error:
        pytest.skip(f"torch's compiler does not work here: {type(error).__name__}")
    compiles(LSTM, "inductor")


def forward_and_backward(p: Problem) -> list[Any]:
    inputs, n = arguments(p), calls.draw(p)
    y, h, c, tape = bridge.recur_train(*inputs)
    downs = [torch.from_numpy(a) for a in (n.dy, *n.dlast)]
    gradients = bridge.recur_backward(*downs, tape, *inputs, [True] * 10)
    return [t.numpy() for t in (y, h, c, *gradients)]


def send(p: Problem, pipe: Any) -> None:
    pipe.send(forward_and_backward(p))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_computes_what_the_parent_did_on_two_threads() -> None:
    torch.set_num_threads(2)
    context = multiprocessing.get_context("fork")
    before = forward_and_backward(BIG)
    for _ in range(2):
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=send, args=(BIG, theirs))
        child.start()
        try:
            assert ours.poll(60), "the child hangs"
            received = ours.recv()
            child.join(60)
            assert child.exitcode == 0
        finally:
            if child.is_alive():
                child.kill()
                child.join()
        for parents in (before, forward_and_backward(BIG)):
            for a, b in zip(received, parents, strict=True):
                np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("count", [1, 2])
@pytest.mark.parametrize("flush", [False, True])
def test_the_callers_denormal_mode_is_untouched(flush: bool, count: int) -> None:
    """Of the caller's thread and of torch's others."""
    torch.set_num_threads(count)
    tiny, half = torch.full((1 << 17,), 3e-308, dtype=torch.float64), torch.tensor(0.5, dtype=torch.float64)
    if not torch.set_flush_denormal(flush):
        pytest.skip("this processor cannot flush denormals")
    try:
        before = tiny * half
        answer(BIG, arguments(BIG, grad=True))
        assert torch.equal(tiny * half, before)
        assert bool(before[0] == 0) is flush
    finally:
        torch.set_flush_denormal(False)


# ECHOIC_ISA


def ask(isa: str | None, code: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "ECHOIC_ISA"}
    environment |= {} if isa is None else {"ECHOIC_ISA": isa}
    ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def test_the_instruction_set_can_be_forced_and_is_said(core: Any) -> None:
    name = "from echoic.kernels import native; print(native.why_not() or native.name())"
    sets = core.isas()
    assert "portable" in sets
    assert [ask(isa, name) for isa in sets] == [f"native-{isa}" for isa in sets]
    assert ask(None, name) == f"native-{sets[0]}"
    assert ask("none", name) == "ECHOIC_ISA=none"


@pytest.mark.parametrize("wrong", ["nonsense", "", "AVX2"])
def test_an_unknown_instruction_set_is_an_error_that_names_those_there_are(core: Any, wrong: str) -> None:
    code = "from echoic.core.errors import ConfigError\nfrom echoic.kernels import native\n"
    code += "try:\n    native.name()\nexcept ConfigError as error:\n    print(error)"
    said = ask(wrong, code)
    assert repr(wrong) in said
    assert all(isa in said for isa in (*core.isas(), "none"))


def test_every_set_agrees_with_every_other(core: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    answers = []
    for isa in core.isas():
        monkeypatch.setenv("ECHOIC_ISA", isa)
        native.isa.cache_clear()
        answers.append(answer(BIG, arguments(BIG, grad=True)))
    for got in answers[1:]:
        compare(got, answers[0], True)

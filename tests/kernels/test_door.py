"""The NumPy door against the time loop, with the core on every instruction set and without it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoic.core.errors import Unavailable
from echoic.kernels import native, plain
from echoic.kernels.door import Layer
from echoic.kernels.linear import Linear, Pending, likeliest
from kernels.door_case import Case, case, check, off
from kernels.native_calls import Array, Problem, interpreter_is_free
from kernels.native_reference import FORWARD, HIDDEN

ISAS = ["avx512", "avx2", "portable", "none"]

ordinary = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def on(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Chooses the instruction set, none: NumPy alone. One that is not here is skipped."""

    def choose(name: str) -> None:
        core = native.core()
        if name != "none" and (core is None or name not in core.isas()):
            pytest.skip(f"no {name} here")
        monkeypatch.setenv("ECHOIC_ISA", name)
        native.isa.cache_clear()

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "NumPy computes this layer", RuntimeWarning)
        yield choose
    native.isa.cache_clear()


@st.composite
def problems(draw: st.DrawFn) -> Problem:
    kind = draw(st.sampled_from(native.KINDS))
    whether = st.booleans()
    return Problem(
        kind,
        batch=draw(st.sampled_from([1, 1, 1, 0, 2, 3, 7, 17])),
        steps=draw(st.integers(0, 17) | st.sampled_from([63, 64, 65, 130])),
        features=draw(st.integers(0, 17) | st.sampled_from([31, 33, 64, 129])),
        hidden=draw(st.sampled_from(HIDDEN)),
        double=draw(whether),
        ragged=draw(whether),
        bias=draw(whether),
        peephole=kind == "lstm" and draw(whether),
        state=draw(whether),
        seed=draw(st.integers(0, 99)),
    )


# A ragged batch


@settings(ordinary, max_examples=300)
@given(p=problems(), directions=st.integers(1, 2), threads=st.integers(1, 4), isa=st.sampled_from(ISAS))
def test_a_batch_is_the_time_loop(on: Any, p: Problem, directions: int, threads: int, isa: str) -> None:
    if isa != "none" and (native.core() is None or isa not in native.core().isas()):  # type: ignore[union-attr]
        isa = "none"
    on(isa)
    c = case(p, directions)
    layer = c.layer(threads=threads)
    assert layer.kernel == ("numpy" if isa == "none" else f"native-{isa}")
    check(c, *layer.run(c.x, c.lengths, c.state))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("rows", [1, 2, 9])
@pytest.mark.parametrize("kind", native.KINDS)
def test_threads_share_a_batch_rightly_and_give_the_same_bits(on: Any, kind: str, rows: int, isa: str) -> None:
    on(isa)
    c = case(Problem(kind, batch=rows, steps=70, features=33, hidden=270, double=False, ragged=rows > 1))
    for threads in (1, 2, 4):
        layer = c.layer(threads=threads)
        y, last = layer.run(c.x, c.lengths, c.state)
        check(c, y, last)
        np.testing.assert_array_equal(layer.run(c.x, c.lengths, c.state)[0], y)


@pytest.mark.parametrize("kind", native.KINDS)
def test_a_batch_of_none_and_a_row_of_none(kind: str) -> None:
    c = case(Problem(kind, batch=1, steps=4))
    layer = c.layer()
    assert c.state is not None
    y, last = layer.run(c.x, [0], c.state)
    assert not y.any()
    np.testing.assert_array_equal(last[0][0], c.state[0][0])
    for shape in ((0, 4), (0, 0), (1, 0)):
        y, last = layer.run(np.zeros((*shape, 2)))
        assert y.shape == (*shape, 3)
        assert not last[0][0].any()


def test_arrays_with_gaps_and_odd_places_are_read_rightly() -> None:
    c = case(Problem("lstm", batch=3, steps=5, features=4, hidden=5, peephole=True))
    wide = np.full((3, 10, 8), np.nan)
    wide[:, ::2, ::2] = c.x
    loose = [{name: None if a is None else np.repeat(a, 2, axis=0)[::2] for name, a in c.weights[0].items()}]
    for x in (wide[:, ::2, ::2], np.asfortranarray(c.x), unaligned(c.x)):
        layer = dataclasses.replace(c, weights=loose).layer()
        assert c.state is not None
        check(c, *layer.run(x, np.repeat(c.lengths, 2)[::2], [tuple(map(np.asfortranarray, c.state[0]))]))


def unaligned(array: Array) -> Array:
    block = np.zeros(array.nbytes + 1, np.uint8)[1:]
    out = block.view(array.dtype).reshape(array.shape)
    out[...] = array
    return out


def test_a_layer_keeps_its_own_weights(on: Any) -> None:
    for isa in ("portable", "none"):
        if isa == "none" or native.core() is not None:
            on(isa)
            c = case(Problem("gru_after", batch=2))
            layer = c.layer()
            for weights in c.weights:
                for array in weights.values():
                    if array is not None:
                        array[...] = np.nan
            check(c, *layer.run(c.x, c.lengths, c.state))


@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("spoiler", [np.nan, np.inf])
@pytest.mark.parametrize("kind", native.KINDS)
def test_a_bad_number_in_one_row_reaches_no_other(kind: str, spoiler: float, int8: bool) -> None:
    c = case(Problem(kind, batch=5, steps=6, features=9, hidden=20, double=False, ragged=False))
    layer = c.layer(products="int8" if int8 else "")
    clean = layer.run(c.x)[0]
    c.x[3, 2, 1] = spoiler
    dirty = layer.run(c.x)[0]
    np.testing.assert_array_equal(np.delete(dirty, 3, axis=0), np.delete(clean, 3, axis=0))
    np.testing.assert_array_equal(dirty[3, :2], clean[3, :2])
    if int8 or np.isnan(spoiler):
        assert np.isnan(dirty[3, 2:]).all()


def test_many_callers_at_once_get_each_its_own_answer() -> None:
    c = case(Problem("lstm", batch=1, steps=70, features=8, hidden=200, double=False, ragged=False))
    layer = c.layer(threads=2)
    with ThreadPoolExecutor(4) as pool:
        for y, last in pool.map(lambda _: layer.run(c.x, None, c.state), range(12)):
            check(c, y, last)


# One step at a time


@settings(ordinary, max_examples=200)
@given(p=problems(), isa=st.sampled_from(ISAS), cut=st.integers(0, 17), batch=st.sampled_from([1, 1, 2, 9]))
def test_steps_are_the_time_loop_and_whole_is_split(on: Any, p: Problem, isa: str, cut: int, batch: int) -> None:
    if isa != "none" and (native.core() is None or isa not in native.core().isas()):  # type: ignore[union-attr]
        isa = "none"
    on(isa)
    c = case(dataclasses.replace(p, batch=batch, steps=min(p.steps, 17), ragged=False))
    layer, cut = c.layer(), min(cut, c.p.steps)
    stepper = layer.stepper(batch)
    state, outputs = None if c.state is None else c.state[0], []
    for step in range(c.p.steps):
        y, state = stepper.step(c.x[:, step], state)
        outputs.append(y)
    if outputs:
        assert state is not None
        check(c, np.stack(outputs, axis=1), [state])
    first, middle = layer.run(c.x[:, :cut], None, c.state)
    second, last = layer.run(c.x[:, cut:], None, middle)
    check(c, np.concatenate([first, second], axis=1), last)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("batch", "int8"), [(1, False), (3, False), (1, True), (3, True)])
@pytest.mark.parametrize("kind", native.KINDS)
def test_steps_by_number_are_steps_by_vector(on: Any, kind: str, batch: int, int8: bool, isa: str) -> None:
    on(isa)
    c = case(Problem(kind, batch=batch, steps=5, features=7, hidden=19, ragged=False, double=not int8))
    known = np.concatenate([c.x[:, step] for step in range(5)])
    layer = c.layer(products="int8" if int8 else "", known=known)
    mine = theirs = None
    for step in range(5):
        y, mine = layer.step(np.arange(step * batch, (step + 1) * batch), mine)
        wanted, theirs = layer.step(c.x[:, step], theirs)
        np.testing.assert_allclose(y, wanted, atol=1e-6 if int8 else 1e-13)
        for a, b in zip(mine, theirs, strict=True):
            np.testing.assert_allclose(a, b, atol=1e-6 if int8 else 1e-13)
    for wrong in (-1, 5 * batch, 2**62):
        with pytest.raises(IndexError):
            layer.step(np.full(batch, wrong), mine)
    for nothing in (np.zeros(batch, np.int32), np.zeros((batch, 1), np.int64), np.zeros(batch), [0] * batch):
        with pytest.raises((TypeError, ValueError)):
            layer.step(nothing, mine)
    with pytest.raises(IndexError):
        c.layer().step(np.zeros(batch, np.int64))


@pytest.mark.parametrize("isa", ISAS)
def test_threads_that_step_one_layer_do_not_meet(on: Any, isa: str) -> None:
    on(isa)
    c = case(Problem("lstm", batch=1, steps=200, features=7, hidden=19, ragged=False))
    layer = c.layer()

    def alone(sign: float) -> np.ndarray:
        state = None
        for step in range(200):
            y, state = layer.step(sign * c.x[:, step], state)
        return y

    wanted = {sign: alone(sign) for sign in (1.0, -1.0)}
    with ThreadPoolExecutor(4) as pool:
        for sign, found in zip([1.0, -1.0] * 4, pool.map(alone, [1.0, -1.0] * 4), strict=True):
            np.testing.assert_array_equal(found, wanted[sign])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("kind", native.KINDS)
def test_steps_in_place_are_the_same_steps(on: Any, kind: str, batch: int, isa: str) -> None:
    on(isa)
    c = case(Problem(kind, batch=batch, steps=5, features=7, hidden=19, ragged=False))
    layer = c.layer()
    stepper, other = layer.stepper(batch), layer.stepper(batch)
    assert c.state is not None
    shown = [array for array in (stepper.h, stepper.c) if array is not None]
    assert len(shown) == layer.fields
    state = c.state[0]
    for mine, first in zip(shown, state, strict=True):
        mine[...] = first
    for step in range(5):
        stepper.x[...] = c.x[:, step]
        stepper.advance()
        y, state = other.step(c.x[:, step], state)
        np.testing.assert_array_equal(stepper.h, y)
        for mine, new in zip(shown, state, strict=True):
            np.testing.assert_array_equal(mine, new)
    assert off(stepper.h, c.y[:, -1]) <= FORWARD[True]


def test_a_stepper_answers_with_arrays_of_its_own_and_outlives_its_layer() -> None:
    c = case(Problem("lstm", batch=1, steps=2, ragged=False))
    stepper = c.layer().stepper()
    first, state = stepper.step(c.x[:, 0])
    kept = [array.copy() for array in state]
    h = stepper.h
    again, _ = stepper.step(c.x[:, 1], state)
    for array, copy in zip(state, kept, strict=True):
        np.testing.assert_array_equal(array, copy)
    assert not np.shares_memory(first, again)
    np.testing.assert_array_equal(h, again)
    del stepper
    np.testing.assert_array_equal(h, again)


def test_a_step_of_zeros_starts_without_a_state() -> None:
    c = case(Problem("lstm", batch=1, steps=1, ragged=False, state=False))
    stepper = c.layer().stepper()
    for _ in range(2):
        assert off(stepper.step(c.x[:, 0])[0], c.y[:, 0]) <= FORWARD[True]


# Bad input


def small(kind: str = "lstm", **more: Any) -> Case:
    return case(Problem(kind, batch=3, steps=5, features=2, hidden=3, **more))


@pytest.mark.parametrize(
    ("x", "error"),
    [
        (np.zeros((3, 5, 2), np.float32), TypeError),
        (np.zeros((3, 5, 2), ">f8"), TypeError),
        (np.zeros((3, 5, 2), np.int64), TypeError),
        (np.zeros((3, 5, 2), complex), TypeError),
        ([[[0.0, 0.0]]], TypeError),
        (torch.zeros(3, 5, 2, dtype=torch.float64), TypeError),
        (None, TypeError),
        (np.zeros((3, 5, 3)), ValueError),
        (np.zeros((5, 2)), ValueError),
        (np.zeros((1, 3, 5, 2)), ValueError),
    ],
)
def test_a_wrong_x_is_refused(x: Any, error: type[Exception]) -> None:
    layer = small().layer()
    with pytest.raises(error, match="x"):
        layer.run(x)
    with pytest.raises(error, match="x"):
        layer.stepper(3).step(x if not isinstance(x, np.ndarray) or x.ndim < 3 else x[:, 0])


@pytest.mark.parametrize(
    ("lengths", "error"),
    [
        ([1, 2], ValueError),
        ([[1, 2, 3]], ValueError),
        (3, ValueError),
        ([1, 2, 6], ValueError),
        ([1, -1, 2], ValueError),
        (np.array([1, 2, 2**64 - 1], np.uint64), ValueError),
        ([1, 2, 2**63], (TypeError, ValueError)),
        ([1.0, 2.0, 3.0], TypeError),
        ([1.0, float("nan"), 3.0], TypeError),
        ([True, False, True], TypeError),
        (["1", "2", "3"], TypeError),
    ],
)
def test_wrong_lengths_are_refused(lengths: Any, error: Any) -> None:
    with pytest.raises(error, match=r"length|Python int"):
        small().layer().run(np.zeros((3, 5, 2)), lengths)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"weight_ih": None}, ValueError),
        ({"bias_hh": None}, ValueError),
        ({"weight_pi": np.zeros(3)}, ValueError),
        ({"weight_hh": np.zeros((12, 4))}, ValueError),
        ({"weight_hh": np.zeros((12, 0))}, ValueError),
        ({"weight_hh": np.zeros(12)}, ValueError),
        ({"weight_hh": np.zeros((12, 3), np.float16)}, TypeError),
        ({"weight_hh": torch.zeros(12, 3, dtype=torch.float64)}, TypeError),
        ({"weight_ih": np.zeros((12, 2), np.float32)}, TypeError),
        ({"weight_ih": np.zeros((9, 2))}, ValueError),
        ({"bias_ih": np.zeros(11)}, ValueError),
        ({"bias_ih": np.zeros((12, 1))}, ValueError),
        ({"weight_hr": np.zeros((3, 3))}, ValueError),
    ],
)
def test_wrong_weights_are_refused(change: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"weight|bias"):
        Layer("lstm", small().weights[0] | change)  # type: ignore[arg-type]


def test_what_a_layer_cannot_be_is_refused() -> None:
    c, gru = small(), small("gru_after")
    weights: Any = c.weights[0]
    with pytest.raises(ValueError, match="rnn_tanh"):
        Layer("lstn", weights)
    with pytest.raises(ValueError, match="weights"):
        Layer("gru_after", gru.weights[0] | {f"weight_p{g}": np.zeros(3) for g in "ifo"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="two directions"):
        Layer("lstm", weights, case(Problem("lstm", hidden=4)).weights[0])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="float32"):
        Layer("lstm", weights, products="int8")
    for threads in (0, -1, 1 << 40):
        with pytest.raises(ValueError, match="threads"):
            c.layer(threads=threads)
    with pytest.raises(TypeError):
        c.layer(threads=1.5)
    infinite: Any = small(double=False).weights[0]
    infinite["weight_ih"][0, 0] = np.inf
    with pytest.raises(ValueError, match="weight_ih has numbers that are not finite"):
        Layer("lstm", infinite, products="int8")


@pytest.mark.parametrize(
    ("batch", "error"),
    [(0, ValueError), (-1, ValueError), (2**62, ValueError), (float("nan"), TypeError), (1.0, TypeError)],
)
def test_a_stepper_of_a_wrong_size_is_refused(batch: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        small().layer().stepper(batch)


def test_a_layer_in_both_directions_has_no_stepper() -> None:
    with pytest.raises(ValueError, match="both directions"):
        case(Problem("lstm"), 2).layer().stepper()


@pytest.mark.parametrize(
    ("state", "error"),
    [
        ((np.zeros((3, 3)),), ValueError),
        ((np.zeros((3, 3)),) * 3, ValueError),
        ((np.zeros((3, 3)), np.zeros((1, 3))), ValueError),
        ((np.zeros((3, 3)), np.zeros((3, 3), np.float32)), TypeError),
        ((np.zeros((3, 3)), None), TypeError),
    ],
)
def test_a_wrong_state_is_refused(state: Any, error: type[Exception]) -> None:
    layer = small().layer()
    with pytest.raises(error):
        layer.run(np.zeros((3, 5, 2)), None, [state])
    with pytest.raises(error):
        layer.stepper(3).step(np.zeros((3, 2)), state)


# Eight bits


def vector_in_eight(x: Array) -> tuple[Array, np.float32]:
    """As plain.py says, number by number, so that this is not its own judge."""
    largest = np.float32(max(map(abs, x.tolist()), default=0.0))
    if largest < np.float32(1e-30):
        return np.zeros(len(x), np.int64), np.float32(largest / np.float32(127))
    per_unit = np.float32(127) / largest
    return np.array([round(float(np.float32(v * per_unit))) for v in x], np.int64), np.float32(
        largest / np.float32(127)
    )


def product_in_eight(weight: Array, x: Array) -> Array:
    """What W x is, (R,) float32, the sums in whole numbers."""
    q, scale = vector_in_eight(x)
    rows = [vector_in_eight(row) for row in weight]
    sums = [sum(a * b for a, b in zip(row.tolist(), q.tolist(), strict=True)) for row, _ in rows]
    return np.array([np.float32(s) * (scale * r) for s, (_, r) in zip(sums, rows, strict=True)], np.float32)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [1, 2, 3, 15, 16, 17, 31, 64, 65, 130])
def test_eight_bits_are_the_exact_model_bit_for_bit(on: Any, isa: str, size: int) -> None:
    """An Elman network with relu and without biases shows its products as they are: W x from a state of 0, then
    U h from an x of 0. Numbers reach from nothing to large, ties and the ends of the range included."""
    on(isa)
    rng = np.random.default_rng(size)

    def numbers(*shape: int) -> Array:
        spread = np.float32(10.0) ** rng.integers(-40, 30, (*shape[:-1], 1))
        out = (rng.standard_normal(shape) * spread).astype(np.float32)
        out[..., 0] = np.abs(out).max(axis=-1) * rng.choice([-1, 1])
        return np.where(rng.random(shape) < 0.2, (out[..., :1] * rng.integers(-254, 255, shape) / 254), out).astype(
            np.float32
        )

    w, u = numbers(20, size), numbers(20, 20)
    layer = Layer("rnn_relu", {"weight_ih": w, "weight_hh": u}, products="int8")
    with np.errstate(over="ignore"):
        for _ in range(5):
            x, h = numbers(size), numbers(20)
            for given_x, given_h, wanted in ((x, 0 * h, product_in_eight(w, x)), (0 * x, h, product_in_eight(u, h))):
                wanted = np.maximum(wanted, 0)
                y, _ = layer.run(given_x[None, None], None, [(given_h[None],)])
                np.testing.assert_array_equal(y[0, 0], wanted)
                y, _ = layer.stepper().step(given_x[None], (given_h[None],))
                np.testing.assert_array_equal(y[0], wanted)


@pytest.mark.parametrize("isa", ISAS[:3])
def test_the_largest_sums_of_eight_bits_are_exact(on: Any, isa: str) -> None:
    on(isa)
    for depth in (1000, 1 << 16):
        for sign in (1, -1):
            weights = {"weight_ih": np.ones((16, depth), np.float32), "weight_hh": np.ones((16, 16), np.float32)}
            y, _ = Layer("rnn_relu", weights, products="int8").stepper().step(np.full((1, depth), sign, np.float32))
            one = np.float32(1) / np.float32(127)
            assert (y == max(0, sign) * np.float32(127 * 127 * depth) * (one * one)).all()


@settings(ordinary, max_examples=150)
@given(p=problems(), directions=st.integers(1, 2), threads=st.integers(1, 3), isa=st.sampled_from(ISAS[:3]))
def test_eight_bits_on_the_core_are_those_of_numpy(
    on: Any, p: Problem, directions: int, threads: int, isa: str
) -> None:
    """The gates' functions differ in their last bits, and a rounded q may follow; so one step is near, and many nearly."""
    on(isa)
    c = case(dataclasses.replace(p, double=False), directions)
    y, last = c.layer(products="int8", threads=threads).run(c.x, c.lengths, c.state)
    on("none")
    wanted, _ = c.layer(products="int8").run(c.x, c.lengths, c.state)
    assert off(y, wanted) <= (2e-6 if p.steps <= 1 else 2e-2)
    for field in last[0]:
        assert np.isfinite(field).all()
    if c.lengths is not None:
        assert not y[np.arange(p.steps) >= c.lengths[:, None]].any()


@pytest.mark.parametrize("isa", ISAS[:3])
@pytest.mark.parametrize("kind", native.KINDS)
def test_one_step_in_eight_bits_is_that_of_numpy(on: Any, kind: str, isa: str) -> None:
    c = case(Problem(kind, batch=3, steps=1, features=40, hidden=70, double=False, ragged=False))
    assert c.state is not None
    on("none")
    wanted, _ = c.layer(products="int8").stepper(3).step(c.x[:, 0], c.state[0])
    on(isa)
    layer = c.layer(products="int8")
    assert layer.kernel.startswith(f"native-{isa}, int8 by ")
    y, _ = layer.stepper(3).step(c.x[:, 0], c.state[0])
    assert off(y, wanted) <= (2e-2 if kind == "gru_before" else 2e-6)  # r * h is quantised after r's last bits differ
    if kind == "lstm":
        assert off(y, c.y[:, 0]) > 1e-5  # it is eight bits indeed


@pytest.mark.parametrize("kind", native.KINDS)
def test_eight_bits_are_near_the_float_layer(kind: str) -> None:
    c = case(Problem(kind, batch=4, steps=50, features=64, hidden=128, double=False))
    y, _ = c.layer(products="int8").run(c.x, c.lengths, c.state)
    assert 1e-5 < off(y, c.y) < 0.05


# What is said, and what is loaded


def test_without_the_core_numpy_serves_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ECHOIC_ISA", raising=False)
    monkeypatch.setattr(native, "core", lambda: None)
    c = small()
    with pytest.warns(RuntimeWarning, match="NumPy computes this layer, slowly: the native core was not built") as seen:
        layer = Layer("lstm", c.weights[0])  # type: ignore[arg-type]
    assert seen[0].filename == __file__
    assert (layer.kernel, layer.why) == ("numpy", "the native core was not built")
    check(c, *layer.run(c.x, c.lengths, c.state))


def test_the_core_serves_silently(core: Any, isa: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = small().layer()
    assert layer.kernel == f"native-{core.isas()[isa]}"
    assert (
        small(double=False).layer(products="int8").kernel == f"native-{core.isas()[isa]}, int8 by {core.int8_name(isa)}"
    )


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import echoic.kernels
import numpy as np
from echoic.kernels.door import Layer
rng = np.random.default_rng(0)
layer = Layer("gru_after", {"weight_ih": rng.standard_normal((9, 2)), "weight_hh": rng.standard_normal((9, 3))})
y, last = layer.run(rng.standard_normal((2, 4, 2)), [4, 1])
step, _ = layer.stepper().step(np.zeros((1, 2)))
heavy = {"torch", "scipy", "sklearn", "onnxruntime", "onnx", "pydantic"} & {name.split(".")[0] for name, m in sys.modules.items() if m}
print(y.shape, step.shape, np.isfinite(y).all(), sorted(heavy))
"""


def test_the_door_works_where_torch_is_not_installed() -> None:
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", WITHOUT_TORCH], capture_output=True, text=True)
    assert ran.stdout == "(2, 4, 3) (1, 3) True []\n", ran.stderr


def test_the_interpreter_is_free_during_a_run(core: Any, isa: int) -> None:
    c = case(Problem("lstm", batch=1, steps=64, features=16, hidden=64, double=False, ragged=False))
    layer = c.layer(threads=1)
    assert interpreter_is_free(lambda: layer.run(c.x))


def test_the_comparison_sees_a_planted_fault() -> None:
    c = case(Problem("lstm", batch=1, steps=9, hidden=20, ragged=False))
    u = c.weights[0]["weight_hh"]
    assert u is not None
    one, two, *others = np.split(u, 4)
    swapped = dataclasses.replace(c, weights=[c.weights[0] | {"weight_hh": np.concatenate([two, one, *others])}])
    with pytest.raises(AssertionError):
        check(c, *swapped.layer().run(c.x, c.lengths, c.state))


def test_what_plain_quantises_is_a_fixed_point() -> None:
    eight = plain.eight_of(np.array([[-127, 3, 64], [0, 0, 0], [1e-31, 0, -1e-31]], np.float32))
    np.testing.assert_array_equal(eight.values, [[-127, 3, 64], [0, 0, 0], [0, 0, 0]])
    assert eight.scale[0] == 1


@pytest.mark.parametrize("isa", [*ISAS, "amx"])
@pytest.mark.parametrize("kind", native.KINDS)
def test_a_step_adds_to_the_gates_what_more_says(on: Any, kind: str, isa: str) -> None:
    """W x in parts: the weights of some inputs, and what the others add, in the gates' order of the weights' rows."""
    on(isa)
    c = case(Problem(kind, batch=5, steps=1, features=9, hidden=19, ragged=False, double=False))
    (weights,) = c.weights
    assert weights["weight_ih"] is not None
    assert c.state is not None
    wanted, last = c.layer().step(c.x[:, 0], c.state[0])
    part = Layer(kind, {**weights, "weight_ih": weights["weight_ih"][:, :4].copy()}, known=c.x[:, 0, :4].copy())
    more = c.x[:, 0, 4:] @ weights["weight_ih"][:, 4:].T
    for x in (c.x[:, 0, :4], np.arange(5)):
        got, state = part.step(x, c.state[0], more)
        np.testing.assert_allclose(got, wanted, atol=1e-5)
        np.testing.assert_allclose(state[-1], last[-1], atol=1e-5)
        alone, _ = part.step(x, c.state[0])
        assert np.abs(alone - wanted).max() > 1e-3, "what was added stays for the next step"
    with pytest.raises(ValueError, match="more of shape"):
        part.step(c.x[:, 0, :4], c.state[0], more[:, :-1])
    with pytest.raises(IndexError):
        part.step(np.arange(5) - 1, c.state[0], more)
    np.testing.assert_array_equal(part.step(np.arange(5), c.state[0])[0], alone)


# Linear layers, and the likeliest


PRODUCTS = [
    ("avx512", ""),
    ("avx2", ""),
    ("portable", ""),
    ("none", ""),
    ("amx", "bfloat16"),
    ("avx512bf16", "bfloat16"),
]


@pytest.mark.parametrize(("isa", "products"), PRODUCTS)
@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(1, 7, 3), (5, 40, 33), (200, 65, 130), (0, 4, 4), (3, 1, 1)])
def test_a_linear_layer(on: Any, isa: str, products: Any, rows: int, inputs: int, outputs: int) -> None:
    on(isa)
    draw = np.random.default_rng(rows)
    weight, bias, x = (draw.normal(size=s).astype(np.float32) for s in ((outputs, inputs), outputs, (rows, inputs)))
    product = x.astype(np.float64) @ weight.T.astype(np.float64)
    wanted = product + bias
    allowed = {"atol": 0.02 * np.sqrt(inputs) if products else 1e-4}
    whole, alone = Linear(weight, bias, products=products), Linear(weight, products=products)
    np.testing.assert_allclose(whole(x), wanted, **allowed)
    np.testing.assert_allclose(alone(x[:, None])[:, 0], product, **allowed)
    weight[:], bias[:] = np.nan, np.nan
    np.testing.assert_allclose(whole(x), wanted, **allowed)


@pytest.mark.parametrize(("isa", "products"), PRODUCTS)
@pytest.mark.parametrize(("rows", "outputs", "k"), [(1, 7, 3), (40, 700, 12), (600, 33, 5), (2, 3, 9), (0, 4, 1)])
def test_the_likeliest_of_a_product_are_those_of_its_rows(
    on: Any, isa: str, products: Any, rows: int, outputs: int, k: int
) -> None:
    on(isa)
    draw = np.random.default_rng(rows)
    linear = Linear(*(draw.normal(size=s).astype(np.float32) - 9 for s in ((outputs, 20), outputs)), products=products)
    x = draw.normal(size=(rows, 20)).astype(np.float32)
    later = Pending(linear, x)
    np.testing.assert_array_equal(np.asarray(later), linear(x))
    for one, other in zip(likeliest(later, k), likeliest(linear(x), k), strict=True):
        np.testing.assert_allclose(np.sort(one), np.sort(other), rtol=1e-6)


def test_a_linear_layer_refuses_what_does_not_fit() -> None:
    weight = np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="bias of shape"):
        Linear(weight, np.zeros(4, np.float32))
    with pytest.raises(TypeError, match="float64"):
        Linear(weight.astype(np.float64))
    with pytest.raises(ValueError, match="x of shape"):
        Linear(weight)(np.zeros((2, 5), np.float32))
    with pytest.raises(ValueError, match="int8"):
        Linear(weight, products="int8")
    with pytest.raises(TypeError, match="got list"):
        Linear(weight)([[1.0] * 4])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="k=0"):
        likeliest(Pending(Linear(weight), np.zeros((2, 4), np.float32)), 0)
    with pytest.raises(ValueError, match="k=0"):
        Linear(weight).likeliest(np.zeros((2, 4), np.float32), 0)
    assert Linear(np.zeros((3, 0), np.float32))(np.zeros((2, 0), np.float32)).tolist() == [[0.0] * 3] * 2
    with pytest.raises(ValueError, match="wanted one of '', 'bfloat16', 'int8'"):
        Linear(weight, products="int4")  # type: ignore[arg-type]


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("size", [3, 64, 500, 1000])
@pytest.mark.parametrize("k", [1, 4, 10])
def test_the_likeliest_are_those_of_a_sort(on: Any, size: int, k: int, isa: str) -> None:
    on(isa)
    logits = np.random.default_rng(size).normal(size=(6, size)).astype(np.float32)
    logits[0, : size // 2] = -np.inf
    logits[1] = logits[1, 0]
    logits[2] = np.sort(logits[2])
    values, places, norms = likeliest(logits, k)
    assert values.shape == places.shape == (6, min(k, size))
    np.testing.assert_array_equal(-np.sort(-values, axis=1), -np.sort(-logits, axis=1)[:, : min(k, size)])
    np.testing.assert_array_equal(np.take_along_axis(logits, places, 1), values)
    assert all(len(set(row)) == len(row) for row in places.tolist())
    np.testing.assert_allclose(norms, np.log(np.exp(logits.astype(np.float64)).sum(1)), atol=1e-5)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("place", [0, 65, 199])
def test_what_is_no_number_is_told_by_the_sum(on: Any, place: int, isa: str) -> None:
    on(isa)
    logits = np.zeros((4, 200), np.float32)
    logits[1, place], logits[2, place], logits[3] = np.nan, np.inf, -np.inf
    assert np.isfinite(likeliest(logits, 3)[2]).tolist() == [True, False, False, False]


# Products of bfloat16


@pytest.mark.parametrize("isa", ["amx", "avx512bf16"])
@pytest.mark.parametrize("kind", native.KINDS)
@pytest.mark.parametrize("rows", [1, 3, 40])
def test_products_of_bfloat16_are_the_time_loop_but_for_rounding(on: Any, kind: str, rows: int, isa: str) -> None:
    on(isa)
    c = case(Problem(kind, batch=rows, steps=9, features=33, hidden=70, double=False, bias=True))
    layer = c.layer(products="bfloat16", known=c.x[:, 0].copy())
    assert layer.kernel == f"native-{isa}, products of bfloat16"
    y, last = layer.run(c.x, c.lengths, c.state)
    check(c, y, last, allowed=0.1)
    assert np.abs(y - c.layer().run(c.x, c.lengths, c.state)[0]).max() > 1e-5, "nothing was rounded"
    assert c.state is not None
    one, _ = layer.run(c.x[:, :1], None, c.state)
    for x in (c.x[:, 0], np.arange(rows)):
        stepped, _ = layer.step(x, c.state[0])
        np.testing.assert_allclose(stepped, one[:, 0], atol=1e-6)


def test_bfloat16_is_refused_where_there_is_none(on: Any) -> None:
    c = case(Problem("lstm", batch=2, double=False))
    for isa, why in (("avx2", "native-avx2 has no instruction for its products"), ("none", "ECHOIC_ISA=none")):
        on(isa)
        with pytest.raises(Unavailable, match=f"bfloat16: {why}"):
            c.layer(products="bfloat16")
    on("none")
    with pytest.raises(Unavailable, match="bfloat16"):
        Linear(np.zeros((2, 2), np.float32), products="bfloat16")


@pytest.mark.parametrize("isa", ISAS)
def test_a_step_reads_no_more_than_it_was_given(on: Any, isa: str) -> None:
    on(isa)
    weights = {"weight_ih": np.zeros((16, 3), np.float32), "weight_hh": np.zeros((16, 4), np.float32)}
    stepper = Layer("lstm", weights).stepper(2)
    for shape in ((2, 15), (1, 16), (16, 2)):
        with pytest.raises(ValueError, match="more"):
            stepper.advance(np.zeros(shape, np.float32))
    stepper.advance(np.zeros((2, 16), np.float32))

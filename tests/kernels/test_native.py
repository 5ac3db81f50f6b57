"""The core against the time loop, through its own door: every kind, size, option and instruction set."""

from __future__ import annotations

import dataclasses
import mmap
import os
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from echoic.kernels import native
from kernels import native_calls as calls
from kernels.native_calls import Numbers, Problem
from kernels.native_reference import compare, problems, reference

BIG = Problem(
    "lstm", batch=17, steps=7, features=33, hidden=129, hidden_mask=True, candidate_mask=True, zoneout="drawn"
)
"""Worth several threads, that share it by rows; with two rows they share its units."""

pytestmark = pytest.mark.usefixtures("core")
ordinary = settings(
    deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@settings(ordinary, max_examples=500)
@given(problem=problems(), threads=st.integers(1, 4), isa=st.integers(0, 3))
def test_the_core_is_the_time_loop(core: Any, problem: Problem, threads: int, isa: int) -> None:
    n = calls.draw(problem)
    wanted, kink = reference(problem, n)
    got = calls.both(core, isa % len(core.isas()), problem, n, threads)
    compare(got, wanted, problem.double, gradients=not kink)
    assert not got["y"][n.padding()].any()
    assert not got["d_x"][n.padding()].any()
    alone, _ = calls.forward(core, isa % len(core.isas()), problem, n, threads, train=False)
    for name, array in zip(("y", "last_h", "last_c"), alone, strict=False):
        np.testing.assert_array_equal(array, got[name], err_msg=f"{name} without a tape")


@pytest.mark.parametrize("rows", [2, 17])
@pytest.mark.parametrize("kind", native.KINDS)
def test_threads_share_rows_and_units_rightly(core: Any, kind: str, rows: int) -> None:
    problem = dataclasses.replace(BIG, kind=kind, batch=rows)
    n = calls.draw(problem)
    wanted, _ = reference(problem, n)
    for isa in range(len(core.isas())):
        for threads in (1, 2, 3, 4):
            compare(calls.both(core, isa, problem, n, threads), wanted, problem.double)


@pytest.mark.parametrize("threads", [2, 3])
@pytest.mark.parametrize("rows", [2, 17])
@pytest.mark.parametrize("kind", ["rnn_tanh", "lstm", "gru_before"])
def test_a_number_of_threads_gives_the_same_bits_in_every_run(core: Any, kind: str, rows: int, threads: int) -> None:
    problem = dataclasses.replace(BIG, kind=kind, batch=rows, double=False)
    n = calls.draw(problem)
    first = calls.both(core, 0, problem, n, threads)
    for _ in range(3):
        again = calls.both(core, 0, problem, n, threads)
        for name, array in first.items():
            np.testing.assert_array_equal(again[name], array, err_msg=name)


@pytest.mark.parametrize("spoiler", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("kind", native.KINDS)
def test_a_bad_number_in_one_row_reaches_no_other(core: Any, kind: str, threads: int, spoiler: float) -> None:
    problem = dataclasses.replace(BIG, kind=kind, ragged=False)
    n = calls.draw(problem)
    clean = calls.both(core, 0, problem, n, threads)
    assert n.inputs["x"] is not None
    n.inputs["x"][5, 3, 1] = spoiler
    dirty = calls.both(core, 0, problem, n, threads)
    if np.isnan(spoiler):
        assert np.isnan(dirty["y"][5, 3:]).all()
    np.testing.assert_array_equal(dirty["y"][5, :3], clean["y"][5, :3])
    others = np.arange(problem.batch) != 5
    for name in ("y", "last_h", "last_c", "d_x", "d_h", "d_c"):
        if name in clean:
            np.testing.assert_array_equal(dirty[name][others], clean[name][others], err_msg=name)


def test_the_gradient_of_x_is_made_only_where_it_is_wanted(core: Any) -> None:
    n = calls.draw(BIG)
    _, tape = calls.forward(core, 0, BIG, n, 1, train=True)
    every = calls.backward(core, 0, BIG, n, tape, 1)
    some = calls.backward(core, 0, BIG, n, tape, 1, want_x=False)
    assert set(every) - set(some) == {"x"}
    for name, array in some.items():
        np.testing.assert_array_equal(array, every[name], err_msg=name)


def swapped(n: Numbers) -> Numbers:
    """The first two gates of U in each other's place."""
    u = n.inputs["weight_hh"]
    assert u is not None
    one, two, *others = np.split(u, len(u) // u.shape[1])
    return dataclasses.replace(n, inputs=n.inputs | {"weight_hh": np.concatenate([two, one, *others])})


def first_row_longer(n: Numbers) -> Numbers:
    assert n.lengths is not None
    return dataclasses.replace(n, lengths=np.array([n.lengths[0] + 1, *n.lengths[1:]]))


def keeps_swapped(n: Numbers) -> Numbers:
    return dataclasses.replace(n, inputs=n.inputs | {"keep_h": n.inputs["keep_c"], "keep_c": n.inputs["keep_h"]})


@pytest.mark.parametrize("fault", [swapped, first_row_longer, keeps_swapped])
def test_the_comparison_sees_a_planted_fault(core: Any, fault: Callable[[Numbers], Numbers]) -> None:
    n = calls.draw(dataclasses.replace(BIG, seed=1))
    assert n.lengths is not None
    assert n.lengths[0] < BIG.steps
    n.inputs["x"] = np.nan_to_num(n.inputs["x"])
    wanted, _ = reference(BIG, n)
    with pytest.raises(AssertionError, match="is off by"):
        compare(calls.both(core, 0, BIG, fault(n)), wanted, BIG.double)


# Sizes


@settings(ordinary, max_examples=200)
@given(
    kind=st.integers(0, len(native.KINDS) - 1),
    batch=st.integers(0, 1 << 17),
    steps=st.integers(0, 1 << 17),
    hidden=st.integers(1, 1 << 16),
)
def test_a_tape_has_one_size(core: Any, kind: int, batch: int, steps: int, hidden: int) -> None:
    shape = core.Shape(kind, batch, steps, 1, hidden, 0, False, 1)
    assert core.tape_size(shape) == native.tape_size(kind, batch, steps, hidden)


def untouched(elements: int) -> np.ndarray[Any, Any]:
    """float32 zeros that take no memory until they are written."""
    if not sys.platform.startswith("linux"):
        pytest.skip("needs memory that is not there until it is touched")
    noreserve = 0x4000
    try:
        block = mmap.mmap(-1, 4 * elements, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | noreserve)
    except OSError as error:
        pytest.skip(f"{4 * elements} bytes of addresses: {error}")
    return np.frombuffer(block, np.float32)


def test_an_input_beyond_32_bits_is_read_in_the_right_place(core: Any) -> None:
    problem = Problem("gru_after", batch=65537, steps=1, features=65600, hidden=1, double=False, state=False)
    small = calls.draw(dataclasses.replace(problem, batch=1, ragged=False))
    wanted = calls.both(core, 0, dataclasses.replace(problem, batch=1), small)
    assert small.inputs["x"] is not None
    x = untouched(problem.batch * problem.features).reshape(problem.batch, 1, -1)
    assert x.size > 2**32
    x[-1] = small.inputs["x"]
    lengths = np.zeros(problem.batch, np.int64)
    lengths[-1] = 1
    dy = np.full((problem.batch, 1, 1), np.nan, np.float32)
    dy[-1] = small.dy[0]
    n = Numbers(small.inputs | {"x": x}, dy, [np.repeat(small.dlast[0], problem.batch, 0)], lengths)
    outputs, tape = calls.forward(core, 0, problem, n, 1, train=True)
    assert outputs[0][-1] == wanted["y"]
    assert not outputs[0][:-1].any()
    for name, array in calls.backward(core, 0, problem, n, tape, 1, want_x=False).items():
        np.testing.assert_array_equal(array, wanted[f"d_{name}"], err_msg=name)


def test_a_tape_beyond_31_bits_is_walked_rightly(core: Any) -> None:
    problem = Problem("lstm", batch=1, steps=1 << 25, features=1, hidden=1, double=False)
    short = dataclasses.replace(problem, steps=3, ragged=False)
    small = calls.draw(short)
    wanted = calls.both(core, 0, short, small)
    x, dy, y, tape = (untouched(size) for size in (problem.steps,) * 3 + (native.tape_size(3, 1, problem.steps, 1),))
    assert tape.size > 2**31
    assert small.inputs["x"] is not None
    x[:3], dy[:3] = small.inputs["x"].ravel(), small.dy.ravel()
    lengths = np.array([3])
    n = Numbers(small.inputs | {"x": x}, dy, small.dlast, lengths)
    h, c = np.zeros((2, 1), np.float32)
    shape = calls.shape_of(core, problem, lengths, 1)
    inputs = [calls.address(n.inputs[name]) for name in calls.NAMES]
    core.forward(0, False, shape, inputs, [*map(calls.address, (y, h, c, tape))])
    np.testing.assert_array_equal(y[:3], wanted["y"].ravel())
    assert (h, c) == (wanted["last_h"], wanted["last_c"])
    for name, array in calls.backward(core, 0, problem, n, tape, 1, want_x=False).items():
        np.testing.assert_array_equal(array, wanted[f"d_{name}"], err_msg=name)


# Memory, threads, processes


@pytest.mark.parametrize("double", [False, True])
def test_lasting_memory_is_aligned_and_its_owners_alone(core: Any, double: bool) -> None:
    sizes = [0, 1, 17, 1 << 18, (1 << 18) + 1, 1 << 20, 3 << 20]
    arrays = [core.lasting(size, double) for size in sizes]
    for place, array in enumerate(arrays):
        assert array.shape == (sizes[place],)
        assert array.dtype == (np.float64 if double else np.float32)
        assert array.size == 0 or array.ctypes.data % 64 == 0
        array[:] = place
    for turn in range(3):  # freed in another order each time, and taken again in another size
        for place in (3, 5, 4, 6)[turn:]:
            arrays[place] = None
            arrays[place] = core.lasting(sizes[place] + turn, double)
            arrays[place][:] = place
        for place, array in enumerate(arrays):
            assert (array == place).all()
    part = core.lasting(1 << 20, double)[5:9]
    part[:] = 1
    core.lasting(1 << 20, double)[:] = 2
    assert (part == 1).all()


def test_the_interpreter_is_free_during_a_call(core: Any) -> None:
    problem = Problem("lstm", batch=8, steps=200, features=16, hidden=64, double=False)
    n = calls.draw(problem)
    shape = calls.shape_of(core, problem, n.lengths, 1)
    inputs = [calls.address(n.inputs[name]) for name in calls.NAMES]
    out = [np.zeros(s, np.float32) for s in ((8, 200, 64), (8, 64), (8, 64))]
    places = [*map(calls.address, out), 0]
    assert calls.interpreter_is_free(lambda: core.forward(0, False, shape, inputs, places))


@pytest.mark.parametrize("rows", [2, 17])
def test_two_callers_at_once_get_each_its_own_answer(core: Any, rows: int) -> None:
    several = [dataclasses.replace(BIG, batch=rows, kind=kind, seed=seed) for seed, kind in enumerate(native.KINDS)]
    drawn = [calls.draw(problem) for problem in several]
    alone = [calls.both(core, 0, p, n, 2) for p, n in zip(several, drawn, strict=True)]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(3):
            together = list(pool.map(lambda p, n: calls.both(core, 0, p, n, 2), several, drawn))
            for got, wanted in zip(together, alone, strict=True):
                for name, array in wanted.items():
                    np.testing.assert_array_equal(got[name], array, err_msg=name)


WITHOUT_TORCH = """
import os, sys
import numpy as np
from echoic.kernels import native
from kernels import native_calls as calls
assert "torch" not in sys.modules
core, problem = native.core(), calls.Problem("lstm", batch={rows}, steps=7, features=33, hidden=129)
n = calls.draw(problem)
wanted = calls.both(core, 0, problem, n, 2)
child = os.fork()
for threads in (3, 2):
    got = calls.both(core, 0, problem, n, threads)
    if threads == 2:
        for name, array in wanted.items():
            np.testing.assert_array_equal(got[name], array)
if child == 0:
    os._exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
print("both")
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("rows", [2, 17])
def test_the_cores_own_threads_survive_a_fork(rows: int) -> None:
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH.format(rows=rows)],
        cwd=Path(__file__).parents[1],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ran.stdout == "both\n", ran.stderr

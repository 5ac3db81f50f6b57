"""The random comparison on a core that is not the installed one: sanitised.py CORE.so SECONDS

Run by test_sanitised.py under AddressSanitizer and UBSan. Exits 1 where an answer is wrong; a
sanitizer ends the process by itself.
"""

from __future__ import annotations

import dataclasses
import importlib.util
import os
import sys
import time
from importlib.machinery import ExtensionFileLoader
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))


def load(path: str) -> None:
    """Makes the file `echoic.kernels._native`."""
    name = "echoic.kernels._native"
    loader = ExtensionFileLoader(name, path)
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    sys.modules[name] = importlib.util.module_from_spec(spec)
    loader.exec_module(sys.modules[name])


def compare_for(seconds: float) -> int:
    """How many random problems were compared."""
    import random

    import torch

    from echoic.kernels import native
    from kernels import native_calls as calls
    from kernels.door_case import case
    from kernels.native_reference import HIDDEN, compare, reference

    torch.set_num_threads(1)
    rng, done, until, core = random.Random(0), 0, time.monotonic() + seconds, native.core()
    assert core is not None
    while time.monotonic() < until:
        kind = rng.choice(native.KINDS)
        problem = calls.Problem(
            kind,
            batch=rng.choice([0, 1, 2, 3, 8, 17, 33]),
            steps=rng.choice([0, 1, 2, 7, 12]),
            features=rng.choice([0, 1, 3, 16, 17, 40]),
            hidden=rng.choice(HIDDEN),
            double=rng.random() < 0.5,
            reverse=rng.random() < 0.5,
            ragged=rng.random() < 0.7,
            bias=rng.random() < 0.7,
            peephole=kind == "lstm" and rng.random() < 0.5,
            state=rng.random() < 0.5,
            hidden_mask=rng.random() < 0.4,
            candidate_mask=rng.random() < 0.4,
            zoneout=rng.choice(["", "drawn", "mean"]),
            seed=done,
        )
        n = calls.draw(problem)
        wanted, kink = reference(problem, n)
        for isa in range(len(core.isas())):
            got = calls.both(core, isa, problem, n, threads=rng.choice([1, 2, 3, 4]))
            if core.has_bfloat16(isa) and not problem.double:
                calls.both(core, isa, dataclasses.replace(problem, bfloat16=True), n, threads=rng.choice([1, 2, 3, 4]))
            calls.forward(core, isa, problem, n, 2, train=False)
            compare(got, wanted, problem.double, gradients=not kink)
        walk_through(case(plain_of(problem), rng.choice([1, 2])), rng)
        done += 1
    return done


def plain_of(problem: Any) -> Any:
    """The problem without what prediction does not know."""
    more = {"steps": 70} if problem.steps == 12 else {}
    return dataclasses.replace(problem, reverse=False, hidden_mask=False, candidate_mask=False, zoneout="", **more)


def walk_through(c: Any, rng: Any) -> None:
    """The NumPy door on every instruction set: a batch, single steps, and both in eight bits."""
    from echoic.kernels import native
    from echoic.kernels.linear import Linear, Pending, likeliest
    from kernels.door_case import check

    core: Any = native.core()
    for name in core.isas():
        os.environ["ECHOIC_ISA"] = name
        native.isa.cache_clear()
        for products in ("",) if c.p.double else ("", "int8", *["bfloat16"] * native.has_bfloat16()):
            known = c.x[:, 0].copy() if c.p.steps else None
            layer = c.layer(threads=rng.choice([1, 2, 3]), products=products, known=known)
            check(c, *layer.run(c.x, c.lengths, c.state), allowed=0.2 if products else None)
            if c.p.batch and c.p.steps and len(c.weights) == 1:
                stepper, state = layer.stepper(c.p.batch), None
                for step in range(min(3, c.p.steps)):
                    _, state = stepper.step(c.x[:, step], state)
                stepper.step(np.arange(c.p.batch), state)
            if c.p.batch and c.p.steps and len(c.weights) == 1:
                more = np.zeros((c.p.batch, layer.gates), layer.dtype)
                layer.step(c.x[:, 0], None, more)
            if products != "int8":
                rows, inputs, outputs = rng.choice([0, 1, 33, 513]), rng.choice([1, 17, 64]), rng.choice([1, 15, 70])
                linear = Linear(np.ones((outputs, inputs), np.float32), products=products)
                x = np.ones((rows, inputs), np.float32)
                assert (np.abs(linear(x) - inputs) < 1e-3).all()
                for logits in (Pending(linear, x), linear(x)):
                    assert (np.abs(likeliest(logits, 5)[0] - inputs) < 1e-3).all()
    del os.environ["ECHOIC_ISA"]
    native.isa.cache_clear()


if __name__ == "__main__":
    load(sys.argv[1])
    print(compare_for(float(sys.argv[2])), "problems compared")

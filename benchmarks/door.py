"""The NumPy door at a batch of one: against torch.nn, ONNX Runtime and, in eight bits, against itself.

    python benchmarks/door.py                # every row, about two minutes on an idle machine
    python benchmarks/door.py --threads 1    # one thread on all sides

`forward` is one sequence of 200 steps, `step` one step with D = H = 128, NumPy in and NumPy out, in which
torch is handed tensors and gives tensors. All sides have the same weights and run in turns, each after a
pause, in which the others' idle threads go to sleep; a row holds the median of the rounds' ratios and the
lowest and highest. ONNX Runtime runs with one thread and with as many as the others, and the faster
counts; torch too. `int8` is our own float32 time over our own int8 time, with the error that eight bits
make: the largest and the root of the mean square, against the float64 answer, over that answer's own
root of the mean square; for weights as they are drawn, and for weights trained to foretell a sum of sines.
Nothing else may run.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from importlib.metadata import version
from importlib.util import find_spec
from statistics import median
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from echoic.kernels.door import Layer
from kernels import in_turns
from record import save

CELLS = {"LSTM": "lstm", "GRU": "gru_after", "RNN": "rnn_tanh"}
STEPS, STEP_SIZE, PAUSE = 200, 128, 0.02
Array = NDArray[Any]
Call = Callable[[], Any]
ABSENT = find_spec("onnxruntime") is None or find_spec("onnx") is None


def turns(calls: list[Call], rounds: int) -> Array:
    """(calls, rounds) seconds."""
    return np.array(in_turns(calls, rounds, PAUSE))


def row(what: str, cell: str, hidden: int, against: str, theirs: Array, ours: Array) -> dict[str, Any]:
    """theirs: (forms, rounds), of which the fastest counts; ours: (rounds,)."""
    best = theirs.min(axis=0)
    ratios = best / ours
    out = {"what": what, "cell": cell, "shape": [1, 1 if "step" in what else STEPS, hidden, hidden], "against": against}
    for name, ratio in (("ratio", median(ratios)), ("lowest", ratios.min()), ("highest", ratios.max())):
        out[name] = round(float(ratio), 3)
    out |= {
        "microseconds": round(float(median(ours)) * 1e6, 2),
        "their_microseconds": round(float(median(best)) * 1e6, 2),
    }
    print(out, flush=True)
    return out


def absent(what: str, cell: str, hidden: int) -> dict[str, Any]:
    out = {"what": what, "cell": cell, "shape": [1, 1 if "step" in what else STEPS, hidden, hidden]}
    out |= {"against": "onnxruntime", "absent": "onnxruntime or onnx is not installed"}
    print(out, flush=True)
    return out


def numbers(module: torch.nn.Module) -> dict[str, Array]:
    return {name.removesuffix("_l0"): p.detach().numpy().copy() for name, p in module.named_parameters()}


ONNX_ORDER = {"LSTM": [0, 3, 1, 2], "GRU": [1, 0, 2], "RNN": [0]}
"""torch's gates in ONNX's order: i o f c, z r h."""


def session(cell: str, weights: dict[str, Array], steps: int, threads: int) -> Any:
    """An ONNX Runtime session of one node: X (T, 1, D), h0 and, of an LSTM, c0 (1, 1, H)."""
    import onnxruntime
    from onnx import TensorProto, helper, numpy_helper

    hidden, features = weights["weight_hh"].shape[1], weights["weight_ih"].shape[1]

    def ordered(name: str) -> Array:
        blocks = np.split(weights[name], len(ONNX_ORDER[cell]))
        return np.concatenate([blocks[gate] for gate in ONNX_ORDER[cell]])[None]

    given = {"W": ordered("weight_ih"), "R": ordered("weight_hh")}
    given["B"] = np.concatenate([ordered("bias_ih"), ordered("bias_hh")], axis=1)
    states = ["h0", "c0"] if cell == "LSTM" else ["h0"]
    outputs = ["Y", "Y_h", "Y_c"][: 1 + len(states)]
    more = {"linear_before_reset": 1} if cell == "GRU" else {}
    node = helper.make_node(cell, ["X", "W", "R", "B", "", *states], outputs, hidden_size=hidden, **more)

    def value(name: str, shape: list[int] | None) -> Any:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    graph = helper.make_graph(
        [node],
        cell,
        [value("X", [steps, 1, features]), *(value(name, [1, 1, hidden]) for name in states)],
        [value(name, None) for name in outputs],
        [numpy_helper.from_array(array, name) for name, array in given.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def torch_call(module: torch.nn.Module, *given: Any) -> Call:
    def run() -> Any:
        with torch.inference_mode():
            return module(*given)

    return run


def with_threads(call: Call, threads: int) -> Call:
    def run() -> Any:
        torch.set_num_threads(threads)
        return call()

    return run


def same(got: Array, wanted: Array) -> None:
    error = np.abs(got.reshape(-1) - wanted.reshape(-1)).max()
    if error > 1e-5:
        raise SystemExit(f"two sides differ by {error:.1e}: nothing is to be compared")


def forward(threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    for cell, kind in CELLS.items():
        for hidden in (128, 256, 512):
            torch.manual_seed(0)
            module = getattr(torch.nn, cell)(hidden, hidden, batch_first=True)
            x = np.random.default_rng(0).standard_normal((1, STEPS, hidden)).astype(np.float32)
            layer = Layer(kind, numbers(module), threads=threads)
            forms = sorted({1, threads})
            theirs = [with_threads(torch_call(module, torch.from_numpy(x)), n) for n in forms]
            same(layer.run(x)[0], theirs[0]()[0].numpy())
            runtimes = []
            if not ABSENT:
                given = {"X": x.transpose(1, 0, 2).copy(), "h0": np.zeros((1, 1, hidden), np.float32)}
                given |= {"c0": given["h0"]} if cell == "LSTM" else {}
                for n in forms:
                    made = session(cell, numbers(module), STEPS, n)
                    runtimes.append(lambda made=made, given=given: made.run(None, given))
                same(layer.run(x)[0], runtimes[0]()[0])
            times = turns([*theirs, *runtimes, lambda layer=layer, x=x: layer.run(x)], rounds)
            yield row("forward", cell, hidden, "torch", times[: len(forms)], times[-1])
            if ABSENT:
                yield absent("forward", cell, hidden)
            else:
                yield row("forward", cell, hidden, "onnxruntime", times[len(forms) : -1], times[-1])


def steps(threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    for cell, kind in CELLS.items():
        torch.manual_seed(0)
        module = getattr(torch.nn, f"{cell}Cell")(STEP_SIZE, STEP_SIZE)
        rng = np.random.default_rng(0)
        x, h, c = (rng.standard_normal((1, STEP_SIZE)).astype(np.float32) for _ in range(3))
        state = (h, c) if cell == "LSTM" else (h,)
        stepper = Layer(kind, numbers(module)).stepper()
        tensors = tuple(map(torch.from_numpy, state))
        theirs = with_threads(torch_call(module, torch.from_numpy(x), tensors if cell == "LSTM" else tensors[0]), 1)
        wanted = theirs()
        same(stepper.step(x, state)[0], (wanted[0] if cell == "LSTM" else wanted).numpy())
        calls = [theirs]
        if not ABSENT:
            made = session(cell, numbers(module), 1, 1)
            given = {"X": x[None], **{f"{name}0": field[None] for name, field in zip("hc", state, strict=False)}}
            calls.append(lambda made=made, given=given: made.run(None, given))
            same(stepper.step(x, state)[0], calls[-1]()[0])
        calls += [lambda s=stepper, x=x, state=state: s.step(x, state), stepper.advance]
        times = turns(calls, rounds)
        for what, ours in (("step", times[-2]), ("step in place", times[-1])):
            yield row(what, cell, STEP_SIZE, f"torch.nn.{cell}Cell", times[:1], ours)
            yield (
                absent(what, cell, STEP_SIZE) if ABSENT else row(what, cell, STEP_SIZE, "onnxruntime", times[1:2], ours)
            )


def waves(rows: int, steps: int, features: int, seed: int) -> torch.Tensor:
    """(rows, steps, features): sums of three sines each, with a little noise."""
    g = torch.Generator().manual_seed(seed)
    t = torch.arange(steps)[None, :, None]
    parts = [torch.sin(t * (0.02 + 0.3 * torch.rand(rows, 1, features, generator=g)) + 6.3 * torch.rand(rows, 1, features, generator=g)) for _ in range(3)]  # fmt: skip
    return sum(parts) / 3 + 0.05 * torch.randn(rows, steps, features, generator=g)


def trained(cell: str, features: int, hidden: int, updates: int = 150) -> torch.nn.Module:
    """A layer that has learned to foretell the next number of each wave."""
    torch.manual_seed(1)
    module = getattr(torch.nn, cell)(features, hidden, batch_first=True)
    head = torch.nn.Linear(hidden, features)
    adam = torch.optim.Adam([*module.parameters(), *head.parameters()], 2e-3)
    for update in range(updates):
        x = waves(16, 65, features, update)
        loss = (head(module(x[:, :-1])[0]) - x[:, 1:]).square().mean()
        adam.zero_grad()
        loss.backward()
        adam.step()
    return module


def errors(module: torch.nn.Module, kind: str, x: Array) -> dict[str, float]:
    wide = {name: array.astype(np.float64) for name, array in numbers(module).items()}
    wanted = Layer(kind, wide).run(x.astype(np.float64))[0]
    off, size = Layer(kind, numbers(module), products="int8").run(x)[0] - wanted, np.sqrt((wanted**2).mean())
    return {
        "largest": round(float(np.abs(off).max() / size), 4),
        "rms": round(float(np.sqrt((off**2).mean()) / size), 4),
    }


def int8(threads: int, rounds: int) -> Iterator[dict[str, Any]]:
    for cell, kind in CELLS.items():
        for hidden in (256, 512):
            torch.manual_seed(0)
            module = getattr(torch.nn, cell)(hidden, hidden, batch_first=True)
            x = np.random.default_rng(0).standard_normal((1, STEPS, hidden)).astype(np.float32)
            layers = [Layer(kind, numbers(module), threads=threads, products=each) for each in ("", "int8")]
            times = turns([lambda layer=layer, x=x: layer.run(x) for layer in layers], rounds)
            found = row("int8", cell, hidden, "our float32", times[:1], times[1])
            found["error_drawn"] = errors(module, kind, x)
            if hidden == 256:
                found["error_trained"] = errors(trained(cell, 16, hidden), kind, waves(8, STEPS, 16, 10**6).numpy())
            yield found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = [found for part in (forward, steps, int8) for found in part(options.threads, options.rounds)]
    one = np.ones((1, 1), np.float32)
    kernel = Layer("rnn_tanh", {"weight_ih": one, "weight_hh": one}, products="int8").kernel
    runtime = "absent" if ABSENT else version("onnxruntime")
    save("kernels/door", {"threads": options.threads, "kernel": kernel, "onnxruntime": runtime, "rounds": options.rounds, "rows": rows})  # fmt: skip


if __name__ == "__main__":
    main()

"""The torch.nn door against torch.nn itself, and Keras's weights against Keras's equations in NumPy."""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.nn.utils.rnn import pack_padded_sequence

from echoic import nn

B, T, D, H = 3, 5, 4, 6
LENGTHS = torch.tensor([3, 1, 5])  # the order that sorts them is not its own inverse

KINDS: dict[str, tuple[type, type, dict[str, Any]]] = {
    "rnn_tanh": (nn.RNN, torch.nn.RNN, {}),
    "rnn_relu": (nn.RNN, torch.nn.RNN, {"nonlinearity": "relu"}),
    "lstm": (nn.LSTM, torch.nn.LSTM, {}),
    "gru": (nn.GRU, torch.nn.GRU, {}),
}
LAYOUTS = ["batched", "batch_first", "unbatched", "packed", "packed_sorted"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """Tensors this small are slower on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def tensors(out: Any) -> list[Tensor]:
    """All tensors of a module's answer, in order; a PackedSequence gives its batch sizes and orders too."""
    if isinstance(out, Tensor):
        return [out]
    return [t for part in out if part is not None for t in tensors(part)]


def pair(kind: str, dtype: torch.dtype = torch.float64, **options: Any) -> tuple[torch.nn.Module, torch.nn.Module]:
    """Ours with torch's weights, and torch's."""
    ours, theirs, fixed = KINDS.get(kind) or (nn.LSTM, torch.nn.LSTM, {"proj_size": 2})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(1)
        reference = theirs(D, H, **fixed, **options, dtype=dtype)
        module = ours(D, H, **fixed, **options, dtype=dtype)
    module.load_state_dict(reference.state_dict(), strict=True)
    return module, reference


def inputs(layout: str, x: Tensor) -> Any:
    """x (B, T, D) as the layout wants it."""
    if layout == "unbatched":
        return x[0]
    if layout.startswith("packed"):
        ordered = layout == "packed_sorted"
        rows, lengths = (x[[2, 0, 1]], LENGTHS[[2, 0, 1]]) if ordered else (x, LENGTHS)
        return pack_padded_sequence(rows, lengths, batch_first=True, enforce_sorted=ordered)
    x = x[:, :1] if layout.startswith("one step") else x
    return x if layout.endswith("batch_first") else x.transpose(0, 1)


def states(kind: str, layout: str, count: int, dtype: torch.dtype = torch.float64) -> Any:
    sizes = {"lstm": (H, H), "proj": (2, H)}.get(kind, (H,))
    batch = () if layout == "unbatched" else (B,)
    fields = [draw(count, *batch, size, seed=5 + i).to(dtype).requires_grad_() for i, size in enumerate(sizes)]
    return fields[0] if len(fields) == 1 else tuple(fields)


@pytest.mark.parametrize("layout", [*LAYOUTS, "one step", "one step, batch_first"])
@pytest.mark.parametrize("kind", [*KINDS, "proj"])
def test_numbers_and_gradients_are_torchs(kind: str, layout: str) -> None:
    for layers, both, bias in itertools.product([1, 2], [False, True], [True, False]):
        given = bias == (layers == 2)
        options = {
            "num_layers": layers,
            "bidirectional": both,
            "bias": bias,
            "batch_first": layout.endswith("batch_first"),
        }
        answers, gradients = [], []
        for module in pair(kind, **options):
            x, hx = draw(B, T, D).requires_grad_(), states(kind, layout, layers * (1 + both)) if given else None
            out = tensors(module(inputs(layout, x), hx))
            floats = [t for t in out if t.is_floating_point()]
            loss = sum((t * draw(*t.shape, seed=9)).sum() for t in floats)
            sources = {"x": x, **dict(module.named_parameters())}
            sources |= {f"hx{i}": t for i, t in enumerate(tensors(hx))} if given else {}
            answers.append(out)
            gradients.append(dict(zip(sources, torch.autograd.grad(loss, list(sources.values())), strict=True)))
        for ours, theirs in zip(*answers, strict=True):
            assert ours.shape == theirs.shape
            assert torch.allclose(ours, theirs, rtol=0, atol=1e-12), options
        assert list(gradients[0]) == list(gradients[1])
        for name in gradients[0]:
            assert torch.allclose(gradients[0][name], gradients[1][name], rtol=1e-10, atol=1e-11), (name, options)


@pytest.mark.parametrize("kind", KINDS)
def test_float32_is_torchs_too(kind: str) -> None:
    ours, theirs = pair(kind, torch.float32, num_layers=2, bidirectional=True)
    x = draw(T, B, D).float()
    for one, other in zip(tensors(ours(x)), tensors(theirs(x)), strict=True):
        assert torch.allclose(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", [*KINDS, "proj"])
def test_state_dicts_go_both_ways_with_the_same_names_in_the_same_order(kind: str) -> None:
    ours, theirs = pair(kind, num_layers=2, bidirectional=True)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    ours.reset_parameters()
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = draw(T, B, D)
    assert torch.allclose(ours(x)[0], theirs(x)[0], rtol=0, atol=1e-12)
    assert [len(group) for group in ours.all_weights] == [len(group) for group in theirs.all_weights]
    with pytest.raises(RuntimeError, match="Unexpected key"):
        ours.load_state_dict({**theirs.state_dict(), "weight_xx_l0": x})


@pytest.mark.parametrize("kind", KINDS)
def test_first_weights_are_torchs_to_the_bit(kind: str) -> None:
    (ours, theirs, fixed), first = KINDS[kind], []
    for make in (ours, theirs):
        torch.manual_seed(3)
        first.append(make(D, H, 2, bidirectional=True, **fixed).state_dict())
    assert all(torch.equal(first[0][name], first[1][name]) for name in first[1])


@pytest.mark.parametrize("kind", ["RNN", "LSTM", "GRU"])
def test_the_signature_is_torchs_positions_included(kind: str) -> None:
    ours = list(inspect.signature(getattr(nn, kind).__init__).parameters)[1:]
    order = ["input_size", "hidden_size", "num_layers", "nonlinearity", "bias", "batch_first", "dropout"]
    order += ["bidirectional", "proj_size", "device", "dtype"]
    assert [name for name in ours if name not in ("peephole", "reset")] == [n for n in order if n in ours]
    own = {"RNN": ("relu",), "LSTM": (), "GRU": ()}[kind]
    args = (D, H, 2, *own, False, True, 0.0, True)
    assert str(getattr(nn, kind)(*args)).split("nonlin")[0].rstrip(", )") == str(getattr(torch.nn, kind)(*args)).rstrip(
        ")"
    )
    assert list(getattr(nn, kind)(*args).state_dict()) == list(getattr(torch.nn, kind)(*args).state_dict())


def test_names_stay_torchs_inside_a_parent() -> None:
    parent = torch.nn.Sequential(nn.GRU(D, H))
    assert next(name for name, _ in parent.named_parameters()) == "0.weight_ih_l0"
    assert len(list(parent.parameters())) == 4


COPIES = {
    "deepcopy": copy.deepcopy,
    "double": lambda module: copy.deepcopy(module).float().to(torch.float64),
}


@pytest.mark.parametrize("how", COPIES)
def test_a_copy_computes_the_same_with_weights_of_its_own(how: str) -> None:
    module = nn.LSTM(D, H, 2, peephole=True, bidirectional=True).double()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(parameter.float())
    x = draw(T, B, D)
    expected, twin = module(x)[0], COPIES[how](module)
    assert torch.equal(twin(x)[0], expected)
    with torch.no_grad():
        twin.weight_hh_l1.zero_()
        twin.weight_pi_l0.add_(1)
    assert not torch.allclose(twin(x)[0], expected)
    assert torch.equal(module(x)[0], expected)


def test_a_saved_state_dict_comes_back() -> None:
    module, other = nn.GRU(D, H, reset="before"), nn.GRU(D, H, reset="before")
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    x = draw(T, B, D).float()
    assert torch.equal(module(x)[0], other(x)[0])


def test_weights_put_in_place_from_outside_are_the_ones_that_run() -> None:
    module, x = nn.GRU(D, H).double(), draw(T, B, D)
    zero = {name: torch.zeros_like(p) for name, p in module.named_parameters()}
    assert (torch.func.functional_call(module, zero, (x,))[0] == 0).all()
    assert (module(x)[0] != 0).any()
    module.load_state_dict(zero, assign=True)
    assert (module(x)[0] == 0).all()
    module.weight_ih_l0 = torch.nn.Parameter(torch.ones_like(module.weight_ih_l0))
    assert (module(x)[0] != 0).any()


def test_threads_may_share_a_module() -> None:
    module, xs = nn.LSTM(D, H, 2, bidirectional=True).double(), [draw(T, B, D, seed=i) for i in range(40)]
    expected = [module(x)[0] for x in xs]
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda x: module(x)[0], xs))
    assert all(torch.equal(a, e) for a, e in zip(answers, expected, strict=True))


@pytest.mark.parametrize("options", [{}, {"peephole": True}, {"proj_size": 2}])
@pytest.mark.filterwarnings("ignore:proj_size")
def test_lengths_are_as_packing(options: dict[str, Any]) -> None:
    module, x = nn.LSTM(D, H, 2, batch_first=True, bidirectional=True, **options).double(), draw(B, T, D)
    y, last = module(x, lengths=LENGTHS)
    for row, n in enumerate(LENGTHS):
        alone, (h, c) = module(x[row : row + 1, :n])
        assert torch.allclose(y[row, :n], alone[0], rtol=0, atol=1e-12)
        assert (y[row, n:] == 0).all()
        assert torch.allclose(last[0][:, row], h[:, 0], rtol=0, atol=1e-12)
        assert torch.allclose(last[1][:, row], c[:, 0], rtol=0, atol=1e-12)
    packed, last_packed = module(inputs("packed", x))
    data = pack_padded_sequence(y, LENGTHS, batch_first=True, enforce_sorted=False).data
    assert torch.allclose(packed.data, data, rtol=0, atol=1e-12)
    assert torch.allclose(last_packed[1], last[1], rtol=0, atol=1e-12)


def test_a_row_of_length_zero_keeps_its_state() -> None:
    module, hx = nn.GRU(D, H, batch_first=True).double(), draw(1, B, H)
    y, last = module(draw(B, T, D), hx, lengths=torch.tensor([2, 0, 5]))
    assert (y[1] == 0).all()
    assert torch.equal(last[:, 1], hx[:, 1])


def test_an_empty_batch_has_torchs_shapes() -> None:
    for kind in KINDS:
        ours, theirs = pair(kind, num_layers=2, bidirectional=True)
        x = torch.zeros(T, 0, D, dtype=torch.float64)
        assert [t.shape for t in tensors(ours(x))] == [t.shape for t in tensors(theirs(x))]


@pytest.mark.parametrize("kind", ["rnn_tanh", "gru"])
def test_one_step_keeps_its_precision_under_autocast(kind: str) -> None:
    module, x = pair(kind, torch.float32)[0], draw(1, B, D).float()
    with torch.autocast("cpu", torch.bfloat16):
        y, last = module(x)
    assert (y.dtype, last.dtype) == (torch.float32, torch.float32)


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("steps", [T, 1])
def test_dropout_between_layers_while_training_alone(kind: type[Any], steps: int) -> None:
    module, x = kind(D, H, 2, dropout=0.5), draw(steps, B, D).float()
    torch.manual_seed(0)
    first, second = module(x)[0], module(x)[0]
    torch.manual_seed(0)
    assert torch.equal(module(x)[0], first)
    assert not torch.equal(first, second)
    module.eval()
    before = torch.get_rng_state()
    assert torch.equal(module(x)[0], module(x)[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_does_nothing_or_is_slow_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.warns(UserWarning, match="it does nothing"):
        nn.GRU(D, H, dropout=0.5)
    with pytest.warns(UserWarning, match="reference path"):
        module = nn.LSTM(D, H, proj_size=2)
    assert "reference" in module.kernels()[0]
    monkeypatch.setenv("ECHOIC_ISA", "none")
    assert "reference" in nn.GRU(D, H, reset="before").kernels()[0]
    assert "torch:" in nn.GRU(D, H).kernels()[0]


def test_peepholes_and_reset_are_options_that_act() -> None:
    x = draw(T, B, D)
    plain, peephole = nn.LSTM(D, H).double(), nn.LSTM(D, H, peephole=True).double()
    missing = peephole.load_state_dict(plain.state_dict(), strict=False).missing_keys
    assert missing == ["weight_pi_l0", "weight_pf_l0", "weight_po_l0"]
    assert not torch.allclose(plain(x)[0], peephole(x)[0])
    with torch.no_grad():
        for name in missing:
            getattr(peephole, name).zero_()
    assert torch.allclose(plain(x)[0], peephole(x)[0], rtol=0, atol=1e-12)
    after, before = nn.GRU(D, H).double(), nn.GRU(D, H, reset="before").double()
    before.load_state_dict(after.state_dict())
    assert not torch.allclose(after(x)[0], before(x)[0])


X = torch.zeros(T, B, D)
BAD_INPUT: dict[str, tuple[Any, dict[str, Any], type[Exception], str]] = {
    "no tensor": ([[1.0]], {}, TypeError, "input: expected a Tensor or a PackedSequence, got list"),
    "none": (None, {}, TypeError, "input: .* got NoneType"),
    "1-D": (X[0, 0], {}, ValueError, "input: expected 3 dimensions, or 2 if unbatched, got 1"),
    "4-D": (X[None], {}, ValueError, "input: expected 3 dimensions, or 2 if unbatched, got 4"),
    "features": (X[..., :3], {}, ValueError, r"input: expected 4 features \(input_size\), got 3"),
    "no steps": (X[:0], {}, ValueError, "input: expected at least 1 step, got 0"),
    "float64": (X.double(), {}, ValueError, "input: expected torch.float32, got torch.float64"),
    "ids": (X.long(), {}, ValueError, "input: expected torch.float32, got torch.int64"),
    "half": (X.half(), {}, ValueError, "input: expected torch.float32, got torch.float16"),
    "complex": (X.to(torch.complex64), {}, ValueError, "input: expected torch.float32, got torch.complex64"),
    "sparse": (X.to_sparse(), {}, TypeError, "input: expected a dense tensor, got torch.sparse_coo"),
    "device": (X.to("meta"), {}, ValueError, "input: expected device cpu, got meta"),
    "hx is one": (X, {"hx": torch.zeros(2, B, H)}, TypeError, r"hx: expected a tuple of two Tensors .*, got Tensor"),
    "hx of three": (X, {"hx": (X, X, X)}, TypeError, "hx: expected a tuple of two Tensors"),
    "hx layers": (
        X,
        {"hx": (torch.zeros(1, B, H),) * 2},
        ValueError,
        r"hx\[0\]: expected shape \(2, 3, 6\), got \(1, 3, 6\)",
    ),
    "hx batch": (X, {"hx": (torch.zeros(2, B, H), torch.zeros(2, 1, H))}, ValueError, r"hx\[1\]: .* got \(2, 1, 6\)"),
    "hx unbatched": (
        X,
        {"hx": (torch.zeros(2, H),) * 2},
        ValueError,
        r"hx\[0\]: expected shape \(2, 3, 6\), got \(2, 6\)",
    ),
    "hx batched": (X[:, 0], {"hx": (torch.zeros(2, 1, H),) * 2}, ValueError, r"hx\[0\]: expected shape \(2, 6\)"),
    "hx dtype": (X, {"hx": (torch.zeros(2, B, H).double(),) * 2}, ValueError, r"hx\[0\]: expected torch.float32"),
    "lengths count": (X, {"lengths": LENGTHS[:2]}, ValueError, r"lengths: expected shape \(3,\), got \(2,\)"),
    "lengths long": (X, {"lengths": LENGTHS + 1}, ValueError, "lengths: expected 0 to 5 steps, got 2 to 6"),
    "lengths negative": (X, {"lengths": LENGTHS - 2}, ValueError, "lengths: expected 0 to 5 steps, got -1 to 3"),
    "lengths float": (X, {"lengths": LENGTHS.float()}, TypeError, "lengths: expected whole numbers, got torch.float32"),
    "lengths bool": (X, {"lengths": LENGTHS > 1}, TypeError, "lengths: expected whole numbers, got torch.bool"),
    "lengths unbatched": (X[:, 0], {"lengths": LENGTHS}, ValueError, "lengths: expected None for unbatched input"),
    "lengths packed": (
        inputs("packed", draw(B, T, D).float()),
        {"lengths": LENGTHS},
        ValueError,
        "lengths: expected None",
    ),
    "packed features": (inputs("packed", draw(B, T, 2).float()), {}, ValueError, "input: expected 4 features"),
}


@pytest.mark.parametrize("row", BAD_INPUT)
def test_a_wrong_input_is_named(row: str) -> None:
    given, more, error, message = BAD_INPUT[row]
    with pytest.raises(error, match=message):
        nn.LSTM(D, H, 2)(given, **more)


BAD_SETTING: dict[str, tuple[str, dict[str, Any], type[Exception], str]] = {
    "input 0": ("LSTM", {"input_size": 0}, ValueError, "input_size: expected at least 1, got 0"),
    "hidden 0": ("LSTM", {"hidden_size": 0}, ValueError, "hidden_size: expected at least 1, got 0"),
    "hidden float": ("GRU", {"hidden_size": 5.0}, TypeError, "hidden_size: expected an int, got float"),
    "layers 0": ("RNN", {"num_layers": 0}, ValueError, "num_layers: expected at least 1, got 0"),
    "layers text": ("RNN", {"num_layers": "2"}, TypeError, "num_layers: expected an int, got str"),
    "bias": ("RNN", {"bias": 1}, TypeError, "bias: expected a bool, got int"),
    "dropout 2": ("GRU", {"dropout": 2}, ValueError, r"dropout: expected a number in \[0, 1\), got 2"),
    "dropout nan": ("GRU", {"dropout": float("nan")}, ValueError, "dropout: expected a number"),
    "projection": ("LSTM", {"proj_size": H}, ValueError, "proj_size: expected 0 to hidden_size - 1, got 6"),
    "negative projection": ("LSTM", {"proj_size": -1}, ValueError, "proj_size: expected 0 to hidden_size - 1, got -1"),
    "GRU projection": ("GRU", {"proj_size": 2}, ValueError, "proj_size: expected 0, as only LSTM projects"),
    "nonlinearity": ("RNN", {"nonlinearity": "gelu"}, ValueError, "nonlinearity"),
    "reset": ("GRU", {"reset": "never"}, ValueError, "reset"),
}


@pytest.mark.parametrize("row", BAD_SETTING)
def test_a_wrong_setting_is_named(row: str) -> None:
    kind, settings, error, message = BAD_SETTING[row]
    with pytest.raises(error, match=message):
        getattr(nn, kind)(**{"input_size": D, "hidden_size": H, **settings})


def sigmoid(a: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-a))


def keras_layer(kind: str, x: np.ndarray, arrays: list[np.ndarray], reset_after: bool, backwards: bool) -> np.ndarray:
    """One direction of Keras's SimpleRNN, LSTM or GRU over x (B, T, D), from its documented equations."""
    kernel, recurrent, *rest = arrays
    gates, size = kernel.shape[1] // recurrent.shape[0], recurrent.shape[0]
    bias = rest[0] if rest else np.zeros((2, gates * size) if reset_after else gates * size)
    h, c, out = np.zeros((len(x), size)), np.zeros((len(x), size)), np.zeros((*x.shape[:2], size))

    def part(a: np.ndarray, gate: int) -> np.ndarray:
        return a[..., gate * size : (gate + 1) * size]

    for t in range(x.shape[1])[:: -1 if backwards else 1]:
        if kind == "RNN":
            h = np.tanh(x[:, t] @ kernel + bias + h @ recurrent)
        elif kind == "LSTM":
            a = x[:, t] @ kernel + h @ recurrent + bias
            c = sigmoid(part(a, 1)) * c + sigmoid(part(a, 0)) * np.tanh(part(a, 2))
            h = sigmoid(part(a, 3)) * np.tanh(c)
        else:
            a = x[:, t] @ kernel + (bias[0] if reset_after else bias)
            u = h @ recurrent + bias[1] if reset_after else h @ recurrent
            z, r = sigmoid(part(a, 0) + part(u, 0)), sigmoid(part(a, 1) + part(u, 1))
            inner = r * part(u, 2) if reset_after else (r * h) @ part(recurrent, 2)
            h = z * h + (1 - z) * np.tanh(part(a, 2) + inner)
        out[:, t] = h
    return out


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("kind", "gates", "reset"), [("RNN", 1, ""), ("LSTM", 4, ""), ("GRU", 3, "after"), ("GRU", 3, "before")]
)
def test_keras_weights_give_keras_numbers(kind: str, gates: int, reset: str, bidirectional: bool, bias: bool) -> None:
    rng, arrays, x = np.random.default_rng(0), [], np.random.default_rng(1).normal(size=(B, T, D))
    y = x
    for _ in range(2):
        outputs = []
        for backwards in (False, True)[: 1 + bidirectional]:
            shapes = [(y.shape[2], gates * H), (H, gates * H), (2, gates * H) if reset == "after" else (gates * H,)]
            layer = [rng.normal(size=shape) for shape in shapes[: 2 + bias]]
            outputs.append(keras_layer(kind, y, layer, reset == "after", backwards))
            arrays += layer
        y = np.concatenate(outputs, axis=2)
    options = {"reset": reset} if reset else {}
    module = getattr(nn, kind).from_keras(arrays, bidirectional=bidirectional, bias=bias, **options)
    assert (module.input_size, module.hidden_size, module.num_layers, module.batch_first) == (D, H, 2, True)
    assert np.allclose(module(torch.from_numpy(x))[0].detach().numpy(), y, rtol=0, atol=1e-12)


def test_keras_arrays_that_do_not_fit_are_named() -> None:
    arrays = [np.zeros((D, 3 * H)), np.zeros((H, 3 * H)), np.zeros((2, 3 * H))]
    with pytest.raises(ValueError, match="arrays: expected 3 a layer, got 2"):
        nn.GRU.from_keras(arrays[:2])
    with pytest.raises(ValueError, match=r"arrays\[2\]: expected shape \(18,\), got \(2, 18\)"):
        nn.GRU.from_keras(arrays, reset="before")
    with pytest.raises(ValueError, match=r"arrays\[0\]: expected shape \(4, 24\), got \(4, 18\)"):
        nn.LSTM.from_keras(arrays)
    with pytest.raises(ValueError, match="arrays: expected the first two"):
        nn.GRU.from_keras([arrays[0], np.zeros(3), arrays[2]])


def test_gradients_forwards_are_refused_and_never_lost() -> None:
    layer = nn.GRU(3, 4).requires_grad_(False)
    with forward_ad.dual_level():
        x = forward_ad.make_dual(torch.randn(5, 2, 3), torch.randn(5, 2, 3))
        try:
            y = layer(x)[0]
        except NotImplementedError as error:
            assert "forwards" in str(error)
        else:
            assert forward_ad.unpack_dual(y).tangent is not None

"""The native core as torch operators: one to infer, one to train, whose tape is an output.

    y, h, c       = echoic::recur(...)               no gradient
    y, h, c, tape = echoic::recur_train(...)         the tape is what backward wants
    gradients     = echoic::recur_backward(dy, dh, dc, tape, ..., wanted)

Arguments are those of `Inputs` in csrc/recurrence.h, in its order, None where a cell has none, then
lengths, the kind, the direction and whether the products are of bfloat16. No operator changes an argument or returns one, so autograd and
torch.compile may do with them what they like. c and its gradient have no elements where a cell has
no memory; neither has a gradient that nobody wanted.

A plain call goes past the operators to what they are made of, by an autograd function of torch's older
kind: the way through torch.library takes longer, in Python, than a short sequence is computed.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.autograd.function import once_differentiable
from torch.library import custom_op, register_autograd, register_fake

from echoic.cells.base import NO_MASKS, NO_ZONEOUT, Cell, Masks, Zoneout
from echoic.kernels import native


def _lend_threads() -> None:
    """Gives the core torch's OpenMP threads, so that two pools do not spin against each other. Where
    torch has another kind of threads the core uses its own."""
    found = sorted((Path(torch.__file__).parent / "lib").glob("libgomp*.so*"))
    core: Any = native.core()
    if core is None or not found:
        return
    openmp = ctypes.CDLL(str(found[0]))
    parallel, size = (
        ctypes.cast(openmp[name], ctypes.c_void_p).value for name in ("GOMP_parallel", "omp_get_num_threads")
    )
    core.lend_threads(parallel, size)


_lend_threads()

LEARNED = 10
"""How many of the inputs, from the first, have gradients: x, the weights, the first states."""


def run(
    cell: Cell,
    x: Tensor,
    lengths: Tensor | None,
    state: Any,
    *,
    kind: int,
    reverse: bool = False,
    masks: Masks = NO_MASKS,
    zoneout: Zoneout = NO_ZONEOUT,
    bfloat16: bool = False,
) -> tuple[Tensor, Any]:
    """A cell on the core, which calls its recurrence `kind`: as `layers.unroll.unroll`, whose padding it never reads.

    `bfloat16` rounds what is multiplied, in this pass and in the one back; sums and all else stay float32."""
    batch, steps, _ = x.shape
    x = x.float() if bfloat16 else x  # autocast's linear layers give bfloat16
    fields = len(cell.State._fields)
    keep = zoneout.keep
    if zoneout.rate and keep is None:  # the expectation
        keep = (x.new_full((steps, batch, cell.hidden_size), 1.0 - zoneout.rate),) * fields
    peepholes = [getattr(cell, f"weight_p{gate}", None) for gate in "ifo"]
    inputs = [x, cell.weight_ih, cell.weight_hh, cell.bias_ih, cell.bias_hh, *peepholes]
    inputs += [*(state or ()), None, None][:2]
    inputs += [masks.hidden, masks.candidate]
    inputs += [*(k.to(x.dtype) for k in keep or ()), None, None][:2]
    if forward_ad._current_level >= 0 and any(map(_has_tangent, inputs)):
        raise NotImplementedError("the native core gives no gradients forwards; ECHOIC_ISA=none takes torch's kernels")
    learn = torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in inputs[:LEARNED])
    if type(x) is Tensor and not torch.compiler.is_compiling():
        call = train_plainly if learn else infer_plainly
    else:
        call = recur_train if learn else recur
    y, h, c, *_ = call(*inputs, lengths, kind, reverse, bfloat16)
    return y, cell.State(*(h, c)[:fields])


def _has_tangent(t: Tensor | None) -> bool:
    return t is not None and forward_ad.unpack_dual(t).tangent is not None  # type: ignore[no-untyped-call]


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None or tensor.numel() == 0 else tensor.data_ptr()


def _step_of(y: Tensor) -> int | None:
    """Elements from one step of y (B, T, H) to the next, if the core can walk it; half of a
    bidirectional layer's output can be walked too."""
    batch, steps, hidden = y.shape
    dense = (hidden <= 1 or y.stride(2) == 1) and (batch <= 1 or y.stride(0) == steps * y.stride(1))
    return y.stride(1) if dense and steps > 1 and y.stride(1) >= hidden else None


def _check(inputs: list[Tensor | None], lengths: Tensor | None, kind: int) -> None:
    """Raises TypeError or ValueError: the core believes what it is told."""
    x, w, u = inputs[:3]
    assert x is not None
    assert w is not None
    assert u is not None
    if not 0 <= kind < len(native.KINDS):
        raise ValueError(f"kind {kind}, wanted 0 to {len(native.KINDS) - 1}")
    _check_places(inputs)
    if x.dtype not in (torch.float32, torch.float64) or x.device.type != "cpu":
        raise TypeError(f"{x.dtype} on {x.device}, wanted float32 or float64 on the cpu")
    if x.dim() != 3 or u.dim() != 2:
        raise ValueError(f"x of shape {tuple(x.shape)} and U of shape {tuple(u.shape)}, wanted (B, T, D) and (G*H, H)")
    (batch, steps, features), hidden, gates = x.shape, u.shape[1], native.GATES[kind]
    row, unit, rows = (batch, hidden), (hidden,), (gates * hidden,)
    wanted = [x.shape, (*rows, features), (*rows, hidden), rows, rows, unit, unit, unit, row, row, row, row]
    wanted += [(steps, *row)] * 2
    for tensor, shape in zip(inputs, wanted, strict=True):
        if tensor is not None and tuple(tensor.shape) != tuple(shape):
            raise ValueError(f"a tensor of shape {tuple(tensor.shape)} where {tuple(shape)} is wanted")
    if inputs[9] is not None and not native.has_memory(kind):
        raise ValueError(f"{native.KINDS[kind]} has no c, and takes no c0")
    if (inputs[3] is None) != (inputs[4] is None) or len({t is None for t in inputs[5:8]}) > 1:
        raise ValueError("both biases or none, and all peepholes or none")
    if lengths is None:
        return
    if lengths.dtype != torch.int64 or lengths.device.type != "cpu":
        raise TypeError(f"lengths are {lengths.dtype} on {lengths.device}, wanted int64 on the cpu")
    if tuple(lengths.shape) != (batch,):
        raise ValueError(f"lengths of shape {tuple(lengths.shape)}, wanted ({batch},)")
    if batch and not (int(lengths.min()) >= 0 and int(lengths.max()) <= steps):
        raise ValueError(f"lengths from {int(lengths.min())} to {int(lengths.max())}, but there are {steps} steps")


def _check_places(tensors: Sequence[Tensor | None], lengths: Tensor | None = None) -> None:
    """Raises TypeError unless all stand where the first does, and are of its type (lengths of their own)."""
    first = next(t for t in tensors if t is not None)
    for tensor in tensors:
        if tensor is not None and (tensor.dtype != first.dtype or tensor.device != first.device):
            raise TypeError(f"{tensor.dtype} on {tensor.device} beside {first.dtype} on {first.device}")
    if lengths is not None and lengths.device != first.device:
        raise TypeError(f"lengths on {lengths.device} beside {first.dtype} on {first.device}")


def _check_given(given: list[Tensor | None], tape: Tensor, x: Tensor, hidden: int, kind: int) -> None:
    """Raises TypeError or ValueError where gradients or the tape are not those of this layer."""
    batch, steps, _ = x.shape
    _check_places([x, tape, *given])
    wanted = [(batch, steps, hidden), (batch, hidden), (batch, hidden) if native.has_memory(kind) else (0,)]
    for tensor, shape in zip(given, wanted, strict=True):
        if tensor is not None and tuple(tensor.shape) != shape:
            raise ValueError(f"a gradient of shape {tuple(tensor.shape)} where {shape} is wanted")
    size = native.tape_size(kind, batch, steps, hidden)
    if tuple(tape.shape) != (size,) or not tape.is_contiguous():
        raise ValueError(f"a tape of shape {tuple(tape.shape)}, wanted ({size},) without gaps")


def _prepared(
    inputs: list[Tensor | None], lengths: Tensor | None, kind: int, reverse: bool
) -> tuple[Any, list[Tensor | None], list[Any]]:
    """(the core's Shape, the inputs dense, everything that must outlive the call)"""
    core: Any = native.core()
    dense = [None if t is None else t.resolve_neg().contiguous() for t in inputs]
    x, u = dense[0], dense[2]
    assert x is not None
    assert u is not None
    lengths = None if lengths is None else lengths.contiguous()
    shape = core.Shape(kind, *x.shape, u.shape[1], _address(lengths), reverse, torch.get_num_threads())
    return shape, dense, [lengths]


def _numbers(x: Tensor, bfloat16: bool) -> int:
    """What the core calls the type of its numbers. Raises TypeError or ValueError where it has none."""
    if not bfloat16:
        return int(x.dtype == torch.float64)
    if x.dtype != torch.float32:
        raise TypeError(f"{x.dtype}, wanted float32 for products of bfloat16")
    if not native.has_bfloat16():
        raise ValueError(f"{native.name()} has no products of bfloat16")
    return 2


def _forward(
    inputs: list[Tensor | None], lengths: Tensor | None, kind: int, reverse: bool, bfloat16: bool, train: bool
) -> list[Tensor]:
    """[y (B, T, H), h (B, H), c (B, H) or (0,), tape or (0,)]"""
    _check(inputs, lengths, kind)
    core: Any = native.core()
    shape, dense, _held = _prepared(inputs, lengths, kind, reverse)
    x, u = dense[0], dense[2]
    assert x is not None
    assert u is not None
    numbers = _numbers(x, bfloat16)
    outputs = _empty_outputs(x, u, kind, train=False)
    if train:
        outputs[3] = torch.from_numpy(core.lasting(core.tape_size(shape), x.dtype == torch.float64))
    core.forward(native.isa(), numbers, shape, [_address(t) for t in dense], [_address(t) for t in outputs])
    return outputs


def _empty_outputs(x: Tensor, u: Tensor, kind: int, train: bool) -> list[Tensor]:
    (batch, steps, _), hidden = x.shape, u.shape[1]
    c = x.new_empty(batch, hidden) if native.has_memory(kind) else x.new_empty(0)
    tape = x.new_empty(native.tape_size(kind, batch, steps, hidden) if train else 0)
    return [x.new_empty(batch, steps, hidden), x.new_empty(batch, hidden), c, tape]


INPUTS = """Tensor x, Tensor weight_ih, Tensor weight_hh, Tensor? bias_ih, Tensor? bias_hh,
    Tensor? peephole_i, Tensor? peephole_f, Tensor? peephole_o, Tensor? h0, Tensor? c0,
    Tensor? mask_hidden, Tensor? mask_candidate, Tensor? keep_h, Tensor? keep_c,
    Tensor? lengths, int kind, bool reverse, bool bfloat16"""


def infer_plainly(*arguments: Any) -> tuple[Tensor, ...]:
    """What `recur` does."""
    *inputs, lengths, kind, reverse, bfloat16 = arguments
    return tuple(_forward(inputs, lengths, kind, reverse, bfloat16, train=False)[:3])


def _train(*arguments: Any) -> tuple[Tensor, ...]:
    *inputs, lengths, kind, reverse, bfloat16 = arguments
    return tuple(_forward(inputs, lengths, kind, reverse, bfloat16, train=True))


@custom_op("echoic::recur", mutates_args=(), schema=f"({INPUTS}) -> (Tensor, Tensor, Tensor)")
def recur(*arguments: Any) -> tuple[Tensor, ...]:
    """(y, h, c)"""
    return infer_plainly(*arguments)


@custom_op("echoic::recur_train", mutates_args=(), schema=f"({INPUTS}) -> (Tensor, Tensor, Tensor, Tensor)")
def recur_train(*arguments: Any) -> tuple[Tensor, ...]:
    """(y, h, c, tape)"""
    return _train(*arguments)


@custom_op(
    "echoic::recur_backward",
    mutates_args=(),
    schema=f"(Tensor? dy, Tensor? dh, Tensor? dc, Tensor tape, {INPUTS}, bool[] wanted) -> Tensor[]",
)
def recur_backward(*arguments: Any) -> list[Tensor]:
    """Gradients of the first ten inputs. Those of x and of the first states are made only if `wanted`."""
    dy, dh, dc, tape, *inputs, lengths, kind, _reverse, _bfloat16, _wanted = arguments
    _check(inputs, lengths, kind)
    _check_given([dy, dh, dc], tape, inputs[0], inputs[2].shape[1], kind)
    return [inputs[0].new_empty(0) if gradient is None else gradient for gradient in _gradients(*arguments)]


def _gradients(*arguments: Any) -> list[Tensor | None]:
    """Of the first ten inputs, those that are wanted. The arguments are those of `recur_backward`, checked."""
    dy, dh, dc, tape, *inputs, lengths, kind, reverse, bfloat16, wanted = arguments
    shape, dense, _held = _prepared(inputs, lengths, kind, reverse)
    core: Any = native.core()
    x, hidden = inputs[0], inputs[2].shape[1]
    given = x.new_zeros(*x.shape[:2], hidden) if dy is None else dy.resolve_neg()
    y_step = _step_of(given)
    if y_step is None:
        given, y_step = given.contiguous(), hidden
    last = [None if t is None or t.numel() == 0 else t.resolve_neg().contiguous() for t in (dh, dc)]
    out = [None if size is None else x.new_empty(size) for size in _gradient_shapes(inputs, wanted)]
    core.backward(
        native.isa(),
        _numbers(x, bfloat16),
        shape,
        [_address(t) for t in dense],
        _address(tape),
        [_address(given), *(_address(t) for t in last)],
        y_step,
        [_address(t) for t in out],
    )
    return out


def _gradient_shapes(inputs: Sequence[Tensor | None], wanted: Sequence[bool]) -> list[torch.Size | None]:
    """Of each gradient that is made: all the weights' together, the others' where they are wanted."""
    pairs = enumerate(zip(inputs[:LEARNED], wanted, strict=True))
    return [t.shape if t is not None and (want or 0 < i < 8) else None for i, (t, want) in pairs]


@register_fake("echoic::recur")  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> tuple[Tensor, ...]:
    x, _w, u, *_, kind, _reverse, _bfloat16 = arguments
    _check_places(arguments[:14], arguments[14])
    return tuple(_empty_outputs(x, u, kind, train=False)[:3])


@register_fake("echoic::recur_train")  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> tuple[Tensor, ...]:
    x, _w, u, *_, kind, _reverse, _bfloat16 = arguments
    _check_places(arguments[:14], arguments[14])
    return tuple(_empty_outputs(x, u, kind, train=True))


@register_fake("echoic::recur_backward")  # type: ignore[untyped-decorator]
def _(*arguments: Any) -> list[Tensor]:
    _check_places(arguments[4:18], arguments[18])
    _check_places([arguments[4], *arguments[:4]])
    x, shapes = arguments[4], _gradient_shapes(arguments[4:], arguments[-1])
    return [x.new_empty(0 if size is None else size) for size in shapes]


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.kind, ctx.reverse, ctx.bfloat16 = inputs
    ctx.save_for_backward(output[3], *tensors)
    ctx.set_materialize_grads(False)


def _backward(ctx: Any, dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, _tape: None) -> tuple[Any, ...]:
    return _backward_by(recur_backward, ctx, dy, dh, dc)


def _backward_by(made_by: Any, ctx: Any, *given: Tensor | None) -> tuple[Any, ...]:
    wanted = list(ctx.needs_input_grad[:LEARNED])
    gradients = made_by(*given, *ctx.saved_tensors, ctx.kind, ctx.reverse, ctx.bfloat16, wanted)
    kept = [gradient if want else None for gradient, want in zip(gradients, wanted, strict=True)]
    return (*kept, *[None] * (len(ctx.needs_input_grad) - LEARNED))


register_autograd("echoic::recur_train", _backward, setup_context=_remember)


class _Trained(torch.autograd.Function):
    forward = staticmethod(_train)
    setup_context = staticmethod(_remember)

    @staticmethod
    @once_differentiable  # type: ignore[untyped-decorator]
    def backward(ctx: Any, dy: Tensor | None, dh: Tensor | None, dc: Tensor | None, _tape: None) -> tuple[Any, ...]:
        return _backward_by(_gradients, ctx, dy, dh, dc)


def train_plainly(*arguments: Any) -> tuple[Tensor, ...]:
    """What `recur_train` does."""
    outputs: tuple[Tensor, ...] = _Trained.apply(*arguments)  # type: ignore[no-untyped-call]
    return outputs

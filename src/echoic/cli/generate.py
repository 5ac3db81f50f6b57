"""`echoic generate`: a language model writes on from a prompt."""

from __future__ import annotations

import sys
import unicodedata
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from echoic.cli.evaluate import open_model
from echoic.cli.options import Precision, RunFolder, Talk, verb
from echoic.cli.output import hint, listener, say, say_json, write
from echoic.cli.predict import record_dict
from echoic.core.errors import DataError, UsageError, show
from echoic.decode import prompts

if TYPE_CHECKING:
    from echoic.decode.writer import Writer
    from echoic.kernels.door import Products
    from echoic.prepare.text import TextPreparer

TURNING = "\u202a\u202b\u202d\u202e\u2066\u2067\u2068"
"""Characters that turn the direction of what follows them on a terminal."""


@verb
def generate(
    run: RunFolder,
    talk: Talk,
    precision: Precision,
    prompt: Annotated[str, typer.Option("--prompt", help="What is gone on from; all of it is read first.")] = "",
    length: Annotated[int, typer.Option(min=0, help="Tokens to write, as the model counts them.")] = 200,
    temperature: Annotated[float, typer.Option(help="Below 1 safer, above 1 wilder; 0: always the likeliest.")] = 1.0,
    top_k: Annotated[int, typer.Option(help="Only the K likeliest tokens; 0: all.")] = 0,
    top_p: Annotated[float, typer.Option(help="Only the likeliest tokens that reach P together.")] = 1.0,
    min_p: Annotated[float, typer.Option(help="Only tokens this share as likely as the likeliest.")] = 0.0,
    repetition_penalty: Annotated[float, typer.Option(help="Above 1: tokens that were there get rarer.")] = 1.0,
    seed: Annotated[int, typer.Option(min=0, help="The same seed writes the same text.")] = 0,
    stop: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help="End before this text; repeatable. A line end: $'\\n'.")
    ] = None,
    beam: Annotated[int, typer.Option(min=0, help="Search for the likeliest text, N hypotheses wide; 0: draw.")] = 0,
    samples: Annotated[int, typer.Option(min=1, help="Several continuations of the same prompt.")] = 1,
    stream: Annotated[bool, typer.Option("--stream", help="Print while it is written.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, or another of torch's names.")] = None,
) -> None:
    """Let a language model write on from a prompt.

    Prints prompt and continuation; --json gives {"text": the prompt, "continuation"}.
    """
    if stream and (talk.json or samples > 1 or beam):
        raise UsageError("--stream prints one text as it grows; leave out --json, --samples and --beam")
    _whole(prompt)
    text, writer = open_writing(run, device, listener(talk.quiet), precision.products)
    asked: dict[str, Any] = {
        "temperature": temperature,
        "top_k": top_k,
        "top_p": top_p,
        "min_p": min_p,
        "repetition_penalty": repetition_penalty,
        "seed": seed,
        "stop": tuple(stop or ()),
        "samples": samples,
    }
    if not talk.quiet:
        _tell(text, prompt, top_k)
    if stream:
        write(shown(prompt))
        for piece in writer(prompt, **asked).stream(length):
            write(shown(piece))
        say()
        return
    record = prompts.answer(writer, prompt, length, {**asked, "beam": beam})
    if talk.json:
        say_json({"text": record.text, "continuation": record.continuation} | record_dict(record))
        return
    texts = record.continuations or [record.continuation]
    for number, each in enumerate(texts, 1):
        if len(texts) > 1:
            say(f"{'' if number == 1 else chr(10)}--- {number} ---")
        say(shown(prompt + each))


def _whole(prompt: str) -> None:
    try:
        prompt.encode()
    except UnicodeEncodeError:
        raise DataError(f"--prompt {show(prompt)}: holds bytes that are not UTF-8") from None


def open_writing(
    run: str, device: str | None, said: Callable[[str], None], products: Products = ""
) -> tuple[TextPreparer, Callable[..., Writer]]:
    """(a language model's tokens, what makes a writer of a prompt): without torch, or where that cannot be, or
    another device than the CPU is named, in torch. Raises UsageError for another model, and for `products` in torch."""
    from echoic.serve.author import open_author
    from echoic.serve.opening import NeedsTorch

    if device in (None, "cpu"):
        try:
            author = open_author(run, products=products)
        except NeedsTorch as why:
            reason = why.reason
        else:
            kernel, why_numpy = author.kernel
            if kernel == "numpy":
                said(f"NumPy computes the recurrence, slowly: {why_numpy}")
            return author.text, author.writer
    else:
        reason = f"--device {show(device)}"
    model = open_model(run, device)
    if not model.task.streams:
        raise UsageError(f"{show(run, 200)}: does {model.config.task.kind}; only a language model generates")
    if products:
        raise UsageError(f"--{products}: {reason} runs in torch alone, in float32")
    if device is None:
        said(f"{reason} runs in torch alone, so torch answers")
    return model.task.text, partial(model.task.writer, model.network)


def _tell(text: TextPreparer, prompt: str, top_k: int) -> None:
    """What is otherwise than somebody may think."""
    unseen = prompts.unseen(text, prompt)
    if unseen:
        listed = ", ".join(f"'{show(each, 20)}'" for each in unseen[:8]) + (", …" if len(unseen) > 8 else "")
        hint(f"not in the training text, and read as <unk>: {listed}")
    if not prompt:
        hint("no --prompt: it begins as its training texts begin")
    known = len(text.vocabulary)
    if top_k > known:
        hint(f"--top-k {top_k:,} is above the vocabulary of {known:,} tokens, so nothing is cut off")


def shown(text: str) -> str:
    """On a terminal, control characters other than line ends and tabs are escaped; into a file or pipe the text goes
    as it is."""
    if not sys.stdout.isatty():
        return text
    return "".join(_safe(c) for c in text)


def _safe(c: str) -> str:
    bad = c in TURNING or (unicodedata.category(c) == "Cc" and c not in "\n\t")
    return c.encode("unicode_escape").decode() if bad else c

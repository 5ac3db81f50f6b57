"""A language model's bundle that writes on, where torch need not be installed.

    author = open_author(path)                    manifest and hashes checked, as for echoic.load
    author.generate("Once upon", length=100, temperature=0.8)      the record of Model.generate, from the same seed

The same draws from the same logits, so the same text, but where two numbers are so near that rounding decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from echoic.core.bundle import Bundle
from echoic.core.config import Config
from echoic.decode import prompts
from echoic.decode.prompts import Generated
from echoic.decode.writer import Writer
from echoic.kernels.door import Products
from echoic.prepare.text import TextPreparer
from echoic.serve.network import LanguageNetwork
from echoic.serve.opening import WEIGHTS, NeedsTorch, language_network_of, opened_at


@dataclass(frozen=True)
class Author:
    """A language model ready to write. Never changes; many threads may ask it at once."""

    config: Config
    text: TextPreparer
    ends: bool
    network: LanguageNetwork
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def kernel(self) -> tuple[str, str]:
        """(what computes the recurrence, why)"""
        return self.network.layers[0].kernel, self.network.layers[0].why

    def writer(self, prompt: str, **options: Any) -> Writer:
        """A writer that has read the whole prompt; options are those of `decode.prompts.writer`."""
        return prompts.writer(self.network.step, self.text, self.ends, prompt, **options)

    def generate(self, prompt: str, *, length: int = 200, **options: Any) -> Generated:
        """`length` more tokens, fewer where a text ends. Options are `writer`'s."""
        return prompts.answer(self.writer, prompt, length, options)


def open_author(path: str | Path, *, threads: int = 1, products: Products = "") -> Author:
    """A run folder or a bundle -> Author; the arguments are those of `predictor.open_predictor`.

    Raises BundleError, naming the file, if a bit is wrong or the files are not of one model; NeedsTorch for a
    model that runs in torch alone, or is no language model; Unavailable for bfloat16 where there is none.
    """
    with opened_at(path) as (opened, config):
        return author_of(opened, config, threads=threads, products=products)


def author_of(opened: Bundle, config: Config, *, threads: int = 1, products: Products = "") -> Author:
    """The same of a bundle that was read."""
    if config.task.kind != "generate":
        raise NeedsTorch(f"writing on by a model that does {config.task.kind}")
    text, ends = TextPreparer.from_files(opened.files), prompts.read_ends(opened.files)
    size = len(text.vocabulary)
    network = language_network_of(config, opened.files[WEIGHTS], size, threads=threads, products=products)
    return Author(config, text, ends, network, opened.about)

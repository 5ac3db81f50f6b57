"""A translator's bundle that answers, where torch need not be installed.

    interpreter = open_interpreter(path)              manifest and hashes checked, as for echoic.load
    interpreter.predict(["a text", ...], beam_size=5)      the records of Model.predict

The same search over the same scores, so the same answers, but where two hypotheses are so near that rounding decides.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from echoic.core.bundle import Bundle
from echoic.core.config import Config
from echoic.decode.translations import Decoder, Sides, Translation, translate
from echoic.kernels.door import MOST_THREADS, Products
from echoic.serve.opening import WEIGHTS, NeedsTorch, opened_at, translator_network_of
from echoic.serve.predictor import require_list
from echoic.serve.seq2seq import TranslatorNetwork, take


@dataclass(frozen=True)
class Interpreter:
    """A translator ready to answer. Never changes; many threads may ask it at once."""

    config: Config
    sides: Sides
    network: TranslatorNetwork
    about: dict[str, Any] = field(default_factory=dict)
    threads: int = 1
    """Batches that are searched at once."""

    @property
    def kernel(self) -> tuple[str, str]:
        """(what computes the recurrence, why)"""
        return self.network.encoder[0].kernel, self.network.encoder[0].why

    def predict(self, texts: Sequence[str], **options: Any) -> list[Translation]:
        """A record of each text, in their order. Options are those of `decode.translations.translate`, which says what
        it raises."""
        require_list(texts)
        decoder = Decoder(self.network.begin, self.network.step, take, self.network.attends, self.threads)
        return translate(self.sides, decoder, texts, **options)

    def predict_stream(self, texts: Iterable[str], chunk: int = 1024, **options: Any) -> Iterator[Translation]:
        """The same for any number of texts, `chunk` of them in memory at a time."""
        require_list(texts)
        texts, first = iter(texts), 1
        while waiting := list(islice(texts, chunk)):
            yield from self.predict(waiting, first=first, **options)
            first += len(waiting)


def open_interpreter(path: str | Path, *, threads: int = 1, products: Products = "") -> Interpreter:
    """A run folder or a bundle -> Interpreter; the arguments are those of `predictor.open_predictor`,
    but that each of the threads searches for texts of its own.

    Raises BundleError, naming the file, if a bit is wrong or the files are not of one model; NeedsTorch for a
    model that runs in torch alone, or is no translator; Unavailable for bfloat16 where there is none.
    """
    with opened_at(path) as (opened, config):
        return interpreter_of(opened, config, threads=threads, products=products)


def interpreter_of(opened: Bundle, config: Config, *, threads: int = 1, products: Products = "") -> Interpreter:
    """The same of a bundle that was read."""
    if config.task.kind != "translate":
        raise NeedsTorch(f"translating by a model that does {config.task.kind}")
    if not 1 <= threads <= MOST_THREADS:
        raise ValueError(f"threads={threads}, wanted 1 to {MOST_THREADS}")
    sides = Sides.from_files(opened.files, config.text.lowercase)
    sizes = len(sides.text.vocabulary), None if sides.own is None else len(sides.own.vocabulary)
    network = translator_network_of(config, opened.files[WEIGHTS], *sizes, products=products)
    return Interpreter(config, sides, network, opened.about, threads)

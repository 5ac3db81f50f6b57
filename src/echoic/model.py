"""A trained model in the hand: what it answers, how it is saved, and how it is opened again."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor, nn

from echoic.batch.buckets import plan
from echoic.core import bundle, registry
from echoic.core.config import Config
from echoic.core.errors import BundleError, EchoicError, Unavailable, UsageError, show
from echoic.core.types import Example
from echoic.evaluate.baselines import ARRAYS, Baseline
from echoic.evaluate.ngram_model import FILE as NGRAMS
from echoic.evaluate.ngram_model import NgramModel
from echoic.evaluate.word_table import FILE as WORDS
from echoic.evaluate.word_table import WordTable
from echoic.read.keys import text_key
from echoic.tasks.base import Dataset, Task

PREDICT_TOKENS = 65_536
"""Tokens with padding in one batch while predicting; changes speed and memory, no answer."""

FOREIGN = (KeyError, ValueError, TypeError, IndexError, OverflowError, RuntimeError, SafetensorError)
"""What files that echoic did not write can raise where they are read."""


@dataclass
class Model:
    """A trained task and its network, ready to answer."""

    config: Config
    task: Any
    network: nn.Module
    about: dict[str, Any] = field(default_factory=dict)
    baseline: Any = None
    """The simple model beside it: `evaluate.baselines.Baseline`, for a language model `NgramModel`, for a
    translator `WordTable`."""
    seen: np.ndarray | None = None
    """Sorted 64-bit fingerprints of the training texts, so that an evaluation can tell which of its
    rows were trained on."""

    def outputs(self, inputs: Sequence[Any]) -> np.ndarray:
        """The network's outputs for these inputs, in their order: (N, C) logits for `classify`."""
        _require_list(inputs)
        return self.outputs_of(self.task.encode([Example(x) for x in inputs]))

    def outputs_of(self, data: Dataset) -> np.ndarray:
        """The same of examples that are encoded, with their targets where the task reads those too."""
        return map_batches(lambda x, n: [self.network(x, n)], data, self.task, self.config)[0]

    def predict(self, inputs: Sequence[Any], **options: Any) -> list[Any]:
        """Records, one an input. Options are the task's own (`min_confidence` for `classify`)."""
        _require_list(inputs)
        if len(inputs) == 0:
            return []
        if self.task.streams or self.task.pairs:
            return list(self.task.generate(self.network, inputs, **options))
        return list(self.task.decode(inputs, self.outputs(inputs), **options))

    def generate(self, prompt: str, **options: Any) -> Any:
        """How a language model writes on from `prompt`: a record with `continuation`, and with several
        `samples` all `continuations`. Options are `length` and those of `tasks.generate.Generate.writer`."""
        if not self.task.streams:
            raise UsageError(f"this model does {self.config.task.kind}; only a language model generates")
        return self.predict([prompt], **options)[0]

    def explain(
        self, inputs: Sequence[str], method: str = "integrated-gradients", label: str | None = None
    ) -> list[Any]:
        """Why it answers as it does: an `explain.record.Explanation` of each input, of the label answered unless
        another is named; of a translator an `explain.alignment.Alignment`, which has no method and no label.
        Raises UsageError for a method that this model has not."""
        _require_list(inputs)
        if self.task.pairs:
            from echoic.explain.alignment import align

            network: Any = self.network
            return [align(self.task, network, text) for text in inputs]
        from echoic.explain.classifier import explain

        return [explain(self.task, self.network, text, method, label) for text in inputs]

    def predict_stream(self, inputs: Iterable[Any], chunk: int = 1024, **options: Any) -> Iterator[Any]:
        """The same for any number of inputs, `chunk` of them in memory at a time."""
        _require_list(inputs)
        waiting = iter(inputs)
        while part := list(islice(waiting, chunk)):
            yield from self.predict(part, **options)

    def files(self) -> dict[str, bytes]:
        """Everything that decides an answer."""
        return {
            "config.json": bundle.canonical(self.config.model_dump(mode="json", exclude_none=True)),
            "model.safetensors": save_tensors({k: v.contiguous() for k, v in self.network.state_dict().items()}),
            **self.task.files(),
        }

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Writes the bundle: everything an answer needs, and a manifest that knows every bit of it. half: weights of 16
        bits, which are widened when they are read: half the size, three digits."""
        files = {**self.files(), "README.md": _card(self).encode()}
        if half:
            state = self.network.state_dict().items()
            files["model.safetensors"] = save_tensors(
                {name: (t.half() if t.dtype == torch.float32 else t).contiguous() for name, t in state}
            )
        if self.baseline is not None:
            files |= self.baseline.files()
        if self.seen is not None:
            files["seen.bin"] = self.seen.astype("<u8").tobytes()
        bundle.write(Path(path), "bundle", self.about, files)


def load(path: str | Path, device: str = "cpu") -> Model:
    """A run folder, a bundle or the name of an installed base -> Model on `device`, whichever it was trained on.

    Raises BundleError, naming the file, if a bit is wrong or the files are not of one model;
    Unavailable if the device is not here.
    """
    opened = bundle.read(bundle.find(path), "bundle")
    try:
        model = _open(opened, device)
    except BundleError as error:
        raise BundleError(f"{show(opened.path, 300)}: {error}") from None
    except EchoicError:
        raise
    except FOREIGN as error:
        what = show(f"{type(error).__name__}: {error}", 200)
        raise BundleError(f"{show(opened.path, 300)}: not a model that this release can open ({what})") from None
    model.network.to(device_of(model.config))
    return model


def _open(opened: bundle.Bundle, device: str) -> Model:
    """The model of verified files, still in the memory of the CPU."""
    for name in ("config.json", "model.safetensors"):
        if name not in opened.files:
            raise BundleError(f"{name}: missing")
    config = Config.parse(opened.json("config.json"), show(opened.path / "config.json", 300))
    config = config.model_copy(update={"device": device})
    task = registry.get("task", config.task.kind).from_files(opened.files, config)
    tensors = load_tensors(opened.files["model.safetensors"])
    network = task.restore({name: t.float() if t.dtype == torch.float16 else t for name, t in tensors.items()})
    kinds: dict[str, Any] = {ARRAYS: Baseline, NGRAMS: NgramModel, WORDS: WordTable}
    found = next((kind for file, kind in kinds.items() if file in opened.files), None)
    baseline = None if found is None else found.from_files(opened.files)
    seen = np.frombuffer(opened.files["seen.bin"], "<u8") if "seen.bin" in opened.files else None
    return Model(config, task, network, opened.about, baseline, seen)


def fingerprints(texts: Sequence[str]) -> np.ndarray:
    """(N,) uint64, equal for texts that differ only in width, case or white space; 0 for no text."""
    return np.array([int.from_bytes(text_key(text)[:8], "little") for text in texts], np.uint64)


def map_batches(
    function: Callable[[Tensor, Tensor], Sequence[Tensor]], data: Dataset, task: Task, config: Config
) -> list[np.ndarray]:
    """Runs `function(inputs, lengths) -> [(B, ...), ...]` over a data set, results in its order.

    Over no rows it runs once, on a batch of none, which tells the other sizes of the empty results.
    """
    out: list[np.ndarray] = []
    device = device_of(config)
    with torch.inference_mode():
        for index in plan(data.lengths, 256, PREDICT_TOKENS) or [np.empty(0, np.int64)]:
            batch = task.collate(data, index)
            inputs, lengths = torch.from_numpy(batch.inputs).to(device), torch.from_numpy(batch.lengths).to(device)
            results = function(inputs if len(index) else inputs.new_zeros(0, 1, *inputs.shape[2:]), lengths)
            for i, result in enumerate(results):
                if len(out) <= i:
                    out.append(np.empty((len(data), *result.shape[1:]), np.float32))
                out[i][index] = result.float().cpu().numpy()
    return out


def device_of(config: Config) -> torch.device:
    try:
        device = torch.device(config.device)
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("meta holds no numbers")
    except (RuntimeError, AssertionError, NotImplementedError, ImportError):
        present = ["cpu"] + [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        raise Unavailable(f"device {show(config.device)!r} is not here (present: {', '.join(present)})") from None
    return device


def _require_list(inputs: Any) -> None:
    """A bare text is a sequence too, of its characters, and each would be answered."""
    if isinstance(inputs, str | bytes):
        raise UsageError(f"predict wants a list of texts, got one text: put it in a list ({show(inputs, 40)!r})")


def _card(model: Model) -> str:
    facts = "\n".join(f"- {name}: {value}" for name, value in model.about.items() if not isinstance(value, dict))
    return f'# A model made by echoic\n\n{facts}\n\nUse it: `echoic predict PATH "a text"`, or `echoic.load(PATH).predict(["a text"])`.\n'

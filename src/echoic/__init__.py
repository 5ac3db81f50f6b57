"""echoic: recurrent sequence models, from a raw file to a trained, measured model.

The public door. Names load on first use, so that `import echoic` stays light and loads no torch.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_DOOR = {
    "LanguageModel": "echoic.language_model",
    "SequenceClassifier": "echoic.estimators",
    "Translator": "echoic.translator",
    "load": "echoic.pipeline",
    "train": "echoic.pipeline",
    "Config": "echoic.core.config",
    "Example": "echoic.core.types",
    "EchoicError": "echoic.core.errors",
    "nn": "echoic.nn",
}

__all__ = [
    "Config",
    "EchoicError",
    "Example",
    "LanguageModel",
    "SequenceClassifier",
    "Translator",
    "__version__",
    "load",
    "nn",
    "train",
]


def __getattr__(name: str) -> Any:
    if name not in _DOOR:
        raise AttributeError(f"module 'echoic' has no attribute {name!r}")
    module = importlib.import_module(_DOOR[name])
    return module if name == "nn" else getattr(module, name)


def __dir__() -> list[str]:
    return sorted(__all__)

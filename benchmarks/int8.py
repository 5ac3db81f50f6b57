"""What eight bits cost a trained classifier in accuracy, and what they save in size.

    python benchmarks/int8.py runs/accuracy/chnsenticorp-default-0 chnsenticorp
    python benchmarks/int8.py runs/accuracy/imdb-default-0 imdb --texts 5000       # the first rows only

The rows of the test part are answered by the bundle's predictor in float32 and in eight bits, and by its ONNX file in
both, texts one by one as a server gets them: accuracy, the rows that are answered otherwise, the bytes of each file.
Nothing is chosen by it. Kept in results/int8/<run's name>.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from echoic.export.onnx import export
from echoic.export.sealed import session
from echoic.model import load
from echoic.serve.predictor import open_predictor
from record import save
from sets import SETS


def by_file(run: Path, int8: bool) -> tuple[Callable[[np.ndarray], np.ndarray], int]:
    model = load(run)
    data = export(model.task, model.network, "", int8=int8).data
    runtime = session(data)

    def answer(ids: np.ndarray) -> np.ndarray:
        given = {"ids": ids[None].astype(np.int64), "lengths": np.array([len(ids)])}
        return np.asarray(runtime.run(["logits"], given)[0])

    return answer, len(data)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--texts", type=int)
    chosen = parser.parse_args()
    test = SETS[chosen.set]()["test"][: chosen.texts]
    whole, eight = open_predictor(chosen.run), open_predictor(chosen.run, products="int8")
    (file, size), (small, small_size) = by_file(chosen.run, False), by_file(chosen.run, True)
    ways: dict[str, Callable[[np.ndarray], np.ndarray]] = {
        "predictor": lambda ids: whole.network.logits([ids]),
        "predictor int8": lambda ids: eight.network.logits([ids]),
        "onnx": file,
        "onnx int8": small,
    }
    rows = whole.text.encode([e.input for e in test])
    targets = np.array([whole.names.index(str(e.target)) for e in test])
    answers = {name: np.array([int(way(ids)[0].argmax()) for ids in rows]) for name, way in ways.items()}
    found: list[dict[str, Any]] = []
    for name, each in answers.items():
        other = answers[name.removesuffix(" int8")]
        row: dict[str, Any] = {"way": name, "accuracy": round(float((each == targets).mean()), 4)}
        row |= {"otherwise": int((each != other).sum())} if "int8" in name else {}
        row |= {"bytes": small_size if "int8" in name else size} if "onnx" in name else {}
        found.append(row)
        print(row, flush=True)
    model = whole.config.model
    facts = {
        "set": chosen.set,
        "run": chosen.run.name,
        "texts": len(test),
        "cell": model.cell.kind,
        "hidden": model.hidden,
    }
    save(f"int8/{chosen.run.name}", {**facts, "rows": found})


if __name__ == "__main__":
    main()

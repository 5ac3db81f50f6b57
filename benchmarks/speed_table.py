"""The READMEs' table of speed: a line for each thing people wait for, from the records of the other pages of tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from markdown import Record, records, table

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": ("measured on an ordinary CPU", "echoic", "beside it", "times as fast"),
        "train": "training on IMDb, tokens a second, two cores",
        "padded": "{:,.0f} torch, padded rows",
        "keras": "the same without the adversarial step",
        "on keras": "{:,.0f} Keras on TensorFlow",
        "step": "one step of an LSTM of 128, NumPy in and out",
        "torch cell": "{:.0f} µs torch.nn.LSTMCell",
        "write": "writing a character, LSTM of 512",
        "torch loop": "{:.0f} µs a loop in torch",
        "cold": "`echoic predict` of a film review, from a cold start",
        "import": '{:.2f} s `python -c "import torch"`',
        "texts": "film reviews classified a second, one thread",
        "torch": "{:,.0f} the same model in torch",
        "ways": {"echoic": "{:,.0f}", "echoic int8": "{:,.0f} in eight bits", "echoic bfloat16": "{:,.0f} in bfloat16"},
        "and": "; ",
        "beam": "sentences translated a second, beam of 5, two cores",
        "torch beam": "{:,.0f} the same in torch.nn, batched",
        "rounded beam": "the same, both multiplying bfloat16",
    },
    "zh": {
        "head": ("在普通 CPU 上测得", "echoic", "对照", "快几倍"),
        "train": "在 IMDb 上训练，每秒词数，两个核",
        "padded": "{:,.0f} torch，补齐的行",
        "keras": "同上，不做对抗训练",
        "on keras": "{:,.0f} Keras（TensorFlow）",
        "step": "128 单元的 LSTM 走一步，NumPy 进出",
        "torch cell": "{:.0f} 微秒 torch.nn.LSTMCell",
        "write": "写一个字符，512 单元的 LSTM",
        "torch loop": "{:.0f} 微秒 torch 循环",
        "cold": "冷启动，用 `echoic predict` 判一条影评",
        "import": '{:.2f} 秒 `python -c "import torch"`',
        "texts": "每秒分类的影评数，单线程",
        "torch": "{:,.0f} 同一个模型用 torch",
        "ways": {"echoic": "{:,.0f}", "echoic int8": "八位整数 {:,.0f}", "echoic bfloat16": "bfloat16 {:,.0f}"},
        "and": "；",
        "beam": "每秒翻译的句子数，束宽 5，两个核",
        "torch beam": "{:,.0f} 同一个模型用 torch.nn，批量搜索",
        "rounded beam": "同上，两边都用 bfloat16 相乘",
    },
}
UNITS = {"en": ("µs", "s"), "zh": ("微秒", "秒")}


def speed_table(folder: Path, language: str) -> str:
    """Markdown, empty where nothing was recorded. folder: results/."""
    rows = list(_rows(folder, WORDS[language], *UNITS[language]))
    return table(WORDS[language]["head"], rows) if rows else ""


def _rows(folder: Path, words: dict[str, Any], micro: str, second: str) -> Iterator[tuple[str, ...]]:
    for _, record in records(folder / "kernels", "end_to_end.json"):
        pace, ratios = record["tokens_per_second"], {(r["of"], r["against"]): r["ratio"] for r in record["rows"]}
        for own, other, what, beside in (
            ("echoic", "torch, padded", "train", "padded"),
            ("echoic, plain", "keras", "keras", "on keras"),
        ):
            yield words[what], f"{pace[own]:,.0f}", words[beside].format(pace[other]), _times(ratios[own, other])
    for _, record in records(folder / "throughput", "imdb*.json"):
        pace = {row["way"]: row["texts_a_second"] for row in record["rows"]}
        own = words["and"].join(how.format(pace[way]) for way, how in words["ways"].items() if way in pace)
        yield words["texts"], own, words["torch"].format(pace["torch"]), _times(pace["echoic"] / pace["torch"])
    for name, what in (("speed", "beam"), ("speed-bfloat16", "rounded beam")):
        for _, record in records(folder / "translate", f"{name}.json"):
            pace = record["beam5_sentences_per_second"]
            beside = words["torch beam"].format(pace["torch"])
            yield words[what], f"{pace['echoic']:,.0f}", beside, _times(pace["echoic"] / pace["torch"])
    for _, record in records(folder / "kernels", "door.json"):
        row = _one(record, what="step", cell="LSTM", against="torch.nn.LSTMCell")
        beside = words["torch cell"].format(row["their_microseconds"])
        yield words["step"], f"{row['microseconds']:.0f} {micro}", beside, _times(row["ratio"])
    for _, record in records(folder, "generate.json"):
        own, other = (_one(record, cell="lstm", way=way)["microseconds"] for way in ("echoic", "torch, cell"))
        yield words["write"], f"{own:.0f} {micro}", words["torch loop"].format(other), _times(other / own)
    for _, record in records(folder / "predict", "imdb.json"):
        starts = record["cold_start_seconds"]
        own, other = (sorted(each)[len(each) // 2] for each in (starts["predict"], starts["import_torch"]))
        yield words["cold"], f"{own:.2f} {second}", words["import"].format(other), _times(other / own)


def _one(record: Record, **wanted: str) -> Record:
    (row,) = [row for row in record["rows"] if all(row[key] == value for key, value in wanted.items())]
    return row


def _times(ratio: float) -> str:
    return f"**{ratio:.1f}**"

"""RESULTS.md, and the tables between the markers of both READMEs and docs/inside.md, from the records in results/.

    python benchmarks/results.py            # writes the pages
    python benchmarks/results.py --check    # writes nothing, exits with 1 if a page is not up to date

A figure is the median over the seeds. The difference and its 95 % interval are those of one seed, the one
whose default scored the median (the lower of the two middle ones if their number is even): McNemar's pairing
for accuracy, a paired bootstrap for macro F1. What was not measured is a dash.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import insight_table
import kernel_table
import language_table
import serving_table
from echoic.evaluate.intervals import Paired, mcnemar, paired_bootstrap
from echoic.evaluate.metrics import macro_f1
from speed_table import speed_table

ROOT = Path(__file__).parent.parent
RECORDS = Path(__file__).parent / "results" / "accuracy"
START, END = "<!-- results:start -->", "<!-- results:end -->"
DASH = "–"

Record = Mapping[str, Any]
Records = Mapping[tuple[str, str], Sequence[Record]]
"""{(set, variant): its records, by seed}"""


@dataclass(frozen=True)
class Row:
    set: str
    metric: str = "accuracy"
    unseen: bool = False
    """Only the test rows whose text is in no other part, case, width and white space folded."""


ROWS = (
    Row("imdb"),
    Row("20newsgroups"),
    Row("20newsgroups-stripped"),
    Row("rotten_tomatoes_mr"),
    Row("airline_tweets"),
    Row("airline_tweets", "macro_f1"),
    Row("trec"),
    Row("trec", "macro_f1"),
    Row("chnsenticorp"),
    Row("chnsenticorp", unseen=True),
    Row("smp2020_ewect"),
    Row("smp2020_ewect", unseen=True),
    Row("smp2020_ewect", "macro_f1"),
    Row("tnews"),
    Row("tnews", unseen=True),
    Row("tnews", "macro_f1"),
)
COLUMNS = (
    ("alone", "default"),
    ("alone", "vectors"),
    ("ngrams", "default"),
    ("default", "default"),
    ("tfidf_lr", "default"),
)
"""(path, variant) of each column of scores."""

PUBLISHED = (
    ("imdb", "BiLSTM", 86.2, "bentrevett/pytorch-sentiment-analysis", ""),
    ("imdb", "UnICORNN", 88.4, "tk-rusch/unicornn", ""),
    ("imdb", "fastText (1, 2)-grams", 90.56, "keras-team/keras", ""),
    ("imdb", "NB-SVM (1, 3)-grams", 91.82, "mesnilgr/nbsvm", ""),
    ("imdb", "VAT LSTM", 94.1, "sebastianruder/NLP-progress", "pretrained"),
    ("imdb", "ULMFiT", 94.51, "fastai/fastai", "pretrained"),
    ("imdb", "BERT base", 95.63, "sebastianruder/NLP-progress", "pretrained"),
    ("20newsgroups", "SA-LSTM", 84.4, "Dai & Le 2015", "pretrained second"),
    ("20newsgroups", "TextGCN", 86.34, "Yao et al. 2019", "second"),
    ("chnsenticorp", "Bi-GRU", 87.85, "PaddlePaddle/PaddleNLP", ""),
    ("chnsenticorp", "Bi-LSTM", 89.83, "PaddlePaddle/PaddleNLP", ""),
    ("chnsenticorp", "TextCNN", 91.07, "PaddlePaddle/PaddleNLP", ""),
    ("chnsenticorp", "BERT base", 94.7, "ymcui/Chinese-BERT-wwm", "pretrained"),
)
"""(set, model, test accuracy, a GitHub repository or a paper, what to say of it). Read there, not measured here."""

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "head": ("data set", "score", "network alone", "+ word vectors", "n-grams alone", "default", "TF-IDF + LR", "default − TF-IDF [95 %]", "seeds", "seconds"),
        "accuracy": "accuracy",
        "macro_f1": "macro F1",
        "20newsgroups": "20newsgroups, headers kept",
        "20newsgroups-stripped": "20newsgroups, headers, footers, quotes removed",
        "unseen": "{}, without the test rows that are in train or dev",
        "seed": ("1 seed", "{} seeds"),
        "how": "Network alone: the recurrent network from scratch (`model.ngrams=false`); default: with an n-gram path beside it. Test part, per cent; each column has its own median over the seeds (with vectors some sets have one: RESULTS.md), the best of a row is bold. TF-IDF + LR is measured here, on the same rows. Differences in points, paired, of the seed where they are the median. Seconds: the default's training, all of it. {dash}: not measured.",
        "made": "Made by `python benchmarks/accuracy.py all --seeds 0,1,2` and, for word vectors, the same with `--variant vectors`; written by `python benchmarks/results.py`.",
        "machine": "Measured on {}.",
        "cores": "{} ({} cores, {}, torch {})",
        "more": " Macro F1, and the scores without test rows that are also in train: [RESULTS.md](RESULTS.md).",
        "speed": "Both sides of a ratio took turns in one run, each row on one machine, but not all rows on the same one; machines, commands, spreads and the rows where torch is faster: [RESULTS.md](RESULTS.md).",
        "settings": "`{}` was trained with `--set {}`.",
        "published": "Published by others on the same test parts, some with pretrained word vectors; read at the source named, not measured here:",
        "published head": ("data set", "model", "accuracy", "source"),
        "aside": "{} ({})",
        "pretrained": "pretrained on unlabelled text",
        "second": "read in a secondary copy",
    },
    "zh": {
        "head": ("数据集", "指标", "只用循环网络", "加预训练词向量", "只用 n-gram", "默认", "TF-IDF + LR", "默认 − TF-IDF [95 %]", "种子", "秒"),
        "accuracy": "准确率",
        "macro_f1": "宏 F1",
        "20newsgroups": "20newsgroups，保留信头",
        "20newsgroups-stripped": "20newsgroups，去掉信头、签名和引文",
        "unseen": "{}，去掉在训练集或验证集里出现过的测试行",
        "seed": ("1 个种子", "{} 个种子"),
        "how": "只用循环网络：从零训练（`model.ngrams=false`）；默认：旁边再加一条 n-gram 通路。测试集，百分数，每一列各取各种子的中位数（带词向量的一列有的只跑了一个种子，见 RESULTS.md），一行里最好的用粗体。TF-IDF + LR 也在这里、在同样的行上测得。差值以百分点计，逐行配对，取差值为中位数的那个种子。秒：默认配置训练的全部时间。{dash}：还没有测。",
        "made": "由 `python benchmarks/accuracy.py all --seeds 0,1,2` 测得，词向量一列另加 `--variant vectors`；本表由 `python benchmarks/results.py` 写出。",
        "machine": "测试机器：{}。",
        "cores": "{}（{} 核，{}，torch {}）",
        "more": "宏 F1、去掉训练集里也有的测试行之后的分数，见 [RESULTS.md](RESULTS.md)（英文）。",
        "speed": "比值两边都在同一次运行里轮流测得；每一行都在一台机器上测得，各行的机器不尽相同；机器、命令、波动范围，以及 torch 更快的那些形状，见 [RESULTS.md](RESULTS.md)（英文）。",
        "settings": "`{}` 训练时用了 `--set {}`。",
        "published": "别人在同样的测试集上公布的数字，有的用了预训练词向量；抄自所注来源，不是在这里测的：",
        "published head": ("数据集", "模型", "准确率", "来源"),
        "aside": "{}（{}）",
        "pretrained": "先用无标签文本预训练",
        "second": "转引",
    },
}  # fmt: skip
PAGES = {"README.md": "en", "README.zh-CN.md": "zh"}


def read(folder: Path = RECORDS) -> Records:
    """The records of `folder`, which may not exist. Refuses seeds of one row that are not of one experiment."""
    found: dict[tuple[str, str], list[Record]] = {}
    for path in sorted(folder.glob("*.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault((record["set"], record["variant"]), []).append(record)
    for (name, variant), records in found.items():
        records.sort(key=lambda record: record["seed"])
        for what in ("settings", "rows"):
            stated = {json.dumps(_compared(record, what)) for record in records}
            if len(stated) > 1:
                raise SystemExit(f"{name}, {variant}: its seeds differ in {what}: {', '.join(sorted(stated))}")
    return found


def _compared(record: Record, what: str) -> Any:
    """Training rows may differ between seeds by a block that a split kept together; test rows may not."""
    return record["rows"]["test"] if what == "rows" else record[what]


def score(record: Record, path: str, row: Row) -> float | None:
    scores = record["scores"].get(path)
    if scores is not None and row.unseen:
        scores = scores.get("unseen")
    return None if scores is None else scores.get(row.metric)


def middle(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


def difference(records: Sequence[Record], row: Row) -> tuple[float, Paired | None] | None:
    """default less TF-IDF, of the seed where it is the median, with its interval where the record holds what that takes."""
    scored = [(score(r, "default", row), score(r, "tfidf_lr", row), r) for r in records]
    found = [(own - simple, r["seed"], r) for own, simple, r in scored if own is not None and simple is not None]
    if not found:
        return None
    value, _, record = sorted(found, key=lambda each: each[:2])[(len(found) - 1) // 2]
    return value, _interval(record, row)


def _interval(record: Record, row: Row) -> Paired | None:
    a, b = (record["scores"][path] for path in ("default", "tfidf_lr"))
    rows = record["rows"]["test"]
    kept = np.ones(rows, bool)
    if row.unseen:
        if "seen" not in record:
            return None
        kept = ~unpacked(record["seen"], rows)
    if row.metric == "accuracy":
        return mcnemar(unpacked(a["right"], rows)[kept], unpacked(b["right"], rows)[kept])
    if record.get("targets") is None or a.get("answers") is None or b.get("answers") is None:
        return None
    truth, own, other = (np.array(each)[kept] for each in (record["targets"], a["answers"], b["answers"]))
    classes = 1 + int(max(truth.max(), own.max(), other.max()))
    measure: Callable[[np.ndarray, np.ndarray], float] = lambda answers, truth: macro_f1(answers, truth, classes)  # noqa: E731
    return paired_bootstrap(measure, own, other, truth)


def unpacked(bits: str, rows: int) -> np.ndarray:
    """(rows,) bool from the hexadecimal of `accuracy.bits`."""
    return np.unpackbits(np.frombuffer(bytes.fromhex(bits), np.uint8))[:rows].astype(bool)


def accuracy_table(records: Records, language: str, rows: Sequence[Row] = ROWS) -> str:
    words = WORDS[language]
    lines = [_line(words["head"]), _line(["---", "---", *["---:"] * 8])]
    for row in rows:
        mine = records.get((row.set, "default"), ())
        other = records.get((row.set, "vectors"), ())
        columns = [
            middle(score(record, path, row) for record in (mine if variant == "default" else other))
            for path, variant in COLUMNS
        ]
        cells = [_percent(value) for value in columns]
        best = max(cells, key=lambda cell: -1.0 if cell == DASH else float(cell))
        cells = [f"**{cell}**" if cell == best != DASH else cell for cell in cells]
        seconds = middle(record["seconds"]["fit"] for record in mine)
        title = words.get(row.set, row.set)
        lines.append(
            _line(
                [
                    words["unseen"].format(title) if row.unseen else title,
                    words[row.metric],
                    *cells,
                    _signed(difference(mine, row)),
                    words["seed"][len(mine) > 1].format(len(mine)) if mine else DASH,
                    DASH if seconds is None else f"{seconds:,.0f}",
                ]
            )
        )
    return "\n".join(lines)


def _percent(value: float | None) -> str:
    return DASH if value is None else f"{100 * value:.1f}"


def _signed(found: tuple[float, Paired | None] | None) -> str:
    if found is None:
        return DASH
    value, interval = found
    between = "" if interval is None else f" [{100 * interval.low:+.1f}, {100 * interval.high:+.1f}]"
    return f"{100 * value:+.1f}{between}".replace("-", "−")


def _line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def published_table(language: str) -> str:
    words = WORDS[language]
    lines = [_line(words["published head"]), _line(["---", "---", "---:", "---"])]
    for name, model, accuracy, source, notes in PUBLISHED:
        where = f"[{source}](https://github.com/{source})" if "/" in source else source
        shown = words["aside"].format(model, words["pretrained"]) if "pretrained" in notes else model
        where = words["aside"].format(where, words["second"]) if "second" in notes else where
        lines.append(_line([name, shown, f"{accuracy:g}", where]))
    return "\n".join(lines)


def window(records: Records, folder: Path, language: str) -> str:
    """What stands between a README's markers. folder: results/."""
    words = WORDS[language]
    rows = [row for row in ROWS if row.metric == "accuracy" and not row.unseen]
    parts = [accuracy_table(records, language, rows), words["how"].format(dash=DASH) + words["more"]]
    parts += [words["published"], published_table(language), speed_table(folder, language), words["speed"]]
    return "\n\n".join(filter(None, parts))


def block(records: Records, language: str) -> str:
    """The table of accuracy with all that is to be said of it."""
    words = WORDS[language]
    parts = [accuracy_table(records, language), words["how"].format(dash=DASH)]
    parts += [words["settings"].format(name, " --set ".join(s)) for name, s in settings(records).items()]
    parts.append(words["made"] + _machines(records, words))
    parts += [words["published"], published_table(language)]
    return "\n\n".join(parts)


def settings(records: Records) -> dict[str, list[str]]:
    """{set: the settings that were not the default's}"""
    stated = {f"{name} ({variant})": list(found[0]["settings"]) for (name, variant), found in records.items()}
    return {name: given for name, given in stated.items() if given}


def _machines(records: Records, words: Mapping[str, Any]) -> str:
    found = sorted(
        {
            (m["processor"], m["cores"], m["system"], record["versions"]["torch"])
            for each in records.values()
            for record in each
            for m in [record["machine"]]
        }
    )
    return " " + words["machine"].format("; ".join(words["cores"].format(*each) for each in found)) if found else ""


def results_page(records: Records) -> str:
    """RESULTS.md: the README's tables, then every record by itself."""
    head = ("set", "variant", "seed", "network alone", "n-grams alone", "default", "TF-IDF + LR", "epochs", "parameters", "seconds", "MiB", "time (UTC)")  # fmt: skip
    lines = [_line(head), _line(["---", "---", *["---:"] * 9, "---"])]
    commands: dict[str, None] = {}
    for (name, variant), found in sorted(records.items()):
        for record in found:
            four = (_percent(score(record, path, Row(name))) for path in ("alone", "ngrams", "default", "tfidf_lr"))
            counts = (f"{record[key]:,}" for key in ("epochs", "parameters"))
            cost = (f"{record['seconds']['fit']:,.0f}", f"{record['peak_memory_mib']:,}", record["time"])
            lines.append(_line([name, variant, str(record["seed"]), *four, *counts, *cost]))
            commands[record["command"]] = None
    versions = sorted({json.dumps(record["versions"]) for found in records.values() for record in found})
    parts = [
        "# Results",
        "Written by `python benchmarks/results.py` from the records in `benchmarks/results/`; change nothing here by hand. "
        "How the figures come about: [docs/how-it-measures.md](docs/how-it-measures.md).",
        "## Accuracy",
        block(records, "en"),
        "## Every seed",
        "\n".join(lines) if records else "No record yet.",
    ]
    if records:
        parts += ["## Commands and versions", "```\n" + "\n".join(commands) + "\n```"]
        parts += [
            "- " + ", ".join(f"{name} {number}" for name, number in json.loads(each).items()) for each in versions
        ]
    return "\n\n".join(parts) + "\n"


def between(page: str, inside: str, name: str) -> str:
    """`page` with `inside` between its markers."""
    if page.count(START) != 1 or page.count(END) != 1 or page.index(START) > page.index(END):
        raise SystemExit(f"{name}: wants {START} and after it {END}, once each")
    head, _, rest = page.partition(START)
    return f"{head}{START}\n{inside}\n{END}{rest.partition(END)[2]}"


def pages(root: Path = ROOT, folder: Path = RECORDS) -> dict[Path, str]:
    """{path: the text it should hold} of every page with results."""
    records = read(folder)
    results = folder.parent
    more = (
        kernel_table.section(results / "kernels"),
        language_table.section(results),
        serving_table.section(results),
        insight_table.section(results),
    )
    out = {root / "RESULTS.md": "\n".join([results_page(records), *filter(None, more)])}
    for name, language in PAGES.items():
        out[root / name] = between((root / name).read_text(encoding="utf-8"), window(records, results, language), name)
    inside = root / "docs" / "inside.md"
    tables = "\n\n".join(insight_table.of_cells(results))
    out[inside] = between(inside.read_text(encoding="utf-8"), tables, str(inside.relative_to(root)))
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1 if a page is not up to date")
    chosen = parser.parse_args()
    wanted = {p: text for p, text in pages().items() if not p.exists() or p.read_text(encoding="utf-8") != text}
    for path, text in wanted.items():
        print(path.relative_to(ROOT))
        if not chosen.check:
            path.write_text(text, encoding="utf-8")
    sys.exit(1 if chosen.check and wanted else 0)


if __name__ == "__main__":
    main()

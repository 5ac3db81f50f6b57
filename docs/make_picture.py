"""docs/picture.svg and docs/picture.zh-CN.svg: a file, the network that reads it, the run folder it leaves.

    python docs/make_picture.py            # writes both
    python docs/make_picture.py --check    # writes nothing, exits with 1 if one is not up to date

A diagram: it shows how things are joined, and no measured number.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
WIDTH, HEIGHT = 960, 356

STYLE = """
text { font: 13px system-ui, -apple-system, "Segoe UI", "Noto Sans", "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", sans-serif; fill: #24292f; }
.mono { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "Noto Sans Mono CJK SC", monospace; font-size: 12px; }
.title { font-weight: 600; font-size: 14px; }
.soft { fill: #636c76; font-size: 12px; }
.card { fill: #f6f8fa; stroke: #d0d7de; }
.token { fill: #ffffff; stroke: #8c959f; }
.forward { fill: #0969da; } .backward { fill: #8250df; } .gram { fill: #bc4c00; }
.line { stroke: #8c959f; fill: none; stroke-width: 1.4; } .head { fill: #8c959f; }
.forwards { stroke: #0969da; fill: none; stroke-width: 1.6; } .backwards { stroke: #8250df; fill: none; stroke-width: 1.6; }
.grams { stroke: #bc4c00; fill: none; stroke-width: 1.6; }
.cell { fill: #ffffff; stroke-width: 1.6; } .cell.f { stroke: #0969da; } .cell.b { stroke: #8250df; }
@media (prefers-color-scheme: dark) {
  text { fill: #e6edf3; } .soft { fill: #9198a1; } .card { fill: #151b23; stroke: #3d444d; }
  .token, .cell { fill: #0d1117; } .token { stroke: #656c76; } .line { stroke: #656c76; } .head { fill: #656c76; }
  .forward { fill: #58a6ff; } .backward { fill: #bc8cff; } .gram { fill: #f0883e; }
  .forwards, .cell.f { stroke: #58a6ff; } .backwards, .cell.b { stroke: #bc8cff; } .grams { stroke: #f0883e; }
}
"""

WORDS: dict[str, dict[str, Any]] = {
    "en": {
        "about": "A labelled file is trained on by a recurrent network with an n-gram path beside it; what is left is a run folder with a model and a report.",
        "file": "a labelled file",
        "rows": ("label,text", "pos,a warm film", "neg,it drags on", "neg,not a good film", "…"),
        "file note": ("csv tsv jsonl", "parquet txt", "plain or compressed"),
        "network": "a network that reads in order",
        "tokens": ("not", "a", "good", "film"),
        "forward": "forwards",
        "backward": "backwards",
        "grams": "n-grams",
        "pool": "pool",
        "sum": "the sum, each path with its scale: a probability for each label",
        "folder": "a run folder",
        "holds": (("bundle/", "the model"), ("report.html", "beside TF-IDF"), ("metrics.jsonl", "every epoch"), ("config.toml", "every setting"), ("checkpoints/", "to go on from")),
    },
    "zh": {
        "about": "带标签的文件用来训练一个循环网络，旁边有一条 n-gram 通路；最后留下一个运行目录，里面有模型和报告。",
        "file": "带标签的文件",
        "rows": ("label,text", "好评,房间干净", "差评,隔音太差", "差评,服务不好", "…"),
        "file note": ("csv tsv jsonl", "parquet txt", "压缩与否均可"),
        "network": "按顺序读字的网络",
        "tokens": ("服", "务", "不", "好"),
        "forward": "从前往后",
        "backward": "从后往前",
        "grams": "n-gram",
        "pool": "池化",
        "sum": "两路各乘一个系数再相加，得到每个标签的概率",
        "folder": "运行目录",
        "holds": (("bundle/", "模型"), ("report.html", "与 TF-IDF 并列"), ("metrics.jsonl", "每一轮"), ("config.toml", "全部设置"), ("checkpoints/", "断点续训")),
    },
}  # fmt: skip


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text x="{x:g}" y="{y:g}" class="{kind}" text-anchor="{anchor}">{escape(words)}</text>'


def box(x: float, y: float, width: float, height: float, kind: str, round_: float = 8) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{width:g}" height="{height:g}" rx="{round_:g}" class="{kind}"/>'


def arrow(points: Sequence[tuple[float, float]], kind: str = "line", head: str = "head") -> str:
    """A line through the points with a head at its end."""
    path = "M" + " L".join(f"{x:g} {y:g}" for x, y in points)
    return f'<path d="{path}" class="{kind}" marker-end="url(#{head})"/>'


def marker(name: str) -> str:
    shape = f'<path d="M0 0 L8 4 L0 8 Z" class="{name}"/>'
    return f'<marker id="{name}" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">{shape}</marker>'


def file_card(words: dict[str, Any], x: float) -> list[str]:
    out = [
        box(x, 40, 176, 252, "card"),
        text(x + 16, 66, words["file"], "title"),
        box(x + 14, 80, 148, 122, "token", 4),
    ]
    out += [text(x + 24, 102 + 22 * i, row, "mono soft" if i == 0 else "mono") for i, row in enumerate(words["rows"])]
    return out + [text(x + 16, 228 + 20 * i, note, "soft") for i, note in enumerate(words["file note"])]


def network_card(words: dict[str, Any], x: float) -> list[str]:
    """Four tokens, a state forwards and one backwards over each, pooled; beside them the n-grams; the sum."""
    out = [box(x, 16, 420, 300, "card"), text(x + 16, 42, words["network"], "title")]
    at = [x + 100 + 58 * i for i in range(len(words["tokens"]))]
    rows = {"backward": 92, "forward": 140}
    token, gram = 196, 252
    for name, y in rows.items():
        out.append(text(x + 16, y + 4, words[name], f"{name}"))
    out.append(text(x + 16, gram + 4, words["grams"], "gram"))
    for i, centre in enumerate(at):
        out += [
            box(centre - 24, token - 15, 48, 30, "token", 5),
            text(centre, token + 5, words["tokens"][i], "", "middle"),
        ]
        out.append(arrow([(centre, token - 15), (centre, rows["forward"] + 13)]))
        out.append(
            f'<path d="M{centre - 18:g} {token - 15} C{centre - 24:g} 150 {centre - 22:g} 122 {centre - 9:g} {rows["backward"] + 11}" class="line"/>'
        )
        for name, y in rows.items():
            out.append(f'<circle cx="{centre:g}" cy="{y}" r="12" class="cell {name[0]}"/>')
        if i:
            out.append(
                arrow([(at[i - 1] + 12, rows["forward"]), (centre - 13, rows["forward"])], "forwards", "forward")
            )
            out.append(
                arrow([(centre - 12, rows["backward"]), (at[i - 1] + 13, rows["backward"])], "backwards", "backward")
            )
            left, right = at[i - 1] - 16, centre + 16
            y = gram - 16 + 14 * (i % 2)
            out.append(f'<path d="M{left:g} {y - 6} V{y} H{right:g} V{y - 6}" class="grams"/>')
    out.append(f'<path d="M{at[0] - 16:g} {gram + 10} V{gram + 16} H{at[2] + 16:g} V{gram + 10}" class="grams"/>')
    pool, plus = x + 352, (x + 376, 196)
    out += [box(pool - 4, 100, 58, 32, "token", 5), text(pool + 25, 121, words["pool"], "", "middle")]
    edge = at[-1] + 26
    out.append(f'<path d="M{edge - 6} 78 H{edge} V154 H{edge - 6}" class="line"/>')
    out.append(arrow([(edge, 116), (pool - 5, 116)]))
    out.append(f'<circle cx="{plus[0]}" cy="{plus[1]}" r="13" class="token"/>')
    out.append(text(plus[0], plus[1] + 5, "+", "title", "middle"))
    out += [
        arrow([(plus[0], 132), (plus[0], plus[1] - 14)]),
        arrow([(at[-1] + 22, gram), (plus[0], gram), (plus[0], plus[1] + 14)]),
    ]
    out.append(text(x + 16, 300, words["sum"], "soft"))
    return out


def folder_card(words: dict[str, Any], x: float) -> list[str]:
    out = [box(x, 40, 236, 252, "card"), text(x + 16, 66, words["folder"], "title"), text(x + 16, 94, "run/", "mono")]
    for i, (name, note) in enumerate(words["holds"]):
        y = 118 + 24 * i
        out += [text(x + 30, y, name, "mono"), text(x + 136, y, note, "soft")]
    out.append(f'<path d="M{x + 14} 234 H{x + 222}" class="line"/>')
    commands = ("echoic evaluate run test.csv", "echoic predict run TEXT")
    return [*out, *(text(x + 16, 256 + 22 * i, command, "mono") for i, command in enumerate(commands))]


def draw(language: str) -> str:
    words = WORDS[language]
    parts = file_card(words, 16) + network_card(words, 248) + folder_card(words, 708)
    parts += [arrow([(192, 166), (246, 166)]), arrow([(668, 166), (706, 166)])]
    parts += [text(458, 342, "echoic train reviews.csv --out run", "mono", "middle")]
    defs = "".join(marker(name) for name in ("head", "forward", "backward"))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">'
    body = "\n".join(parts)
    return f"{head}\n<title>{escape(words['about'])}</title>\n<style>{STYLE}</style>\n<defs>{defs}</defs>\n{body}\n</svg>\n"


PICTURES = {HERE / "picture.svg": "en", HERE / "picture.zh-CN.svg": "zh"}


def main() -> int:
    fresh = {path: draw(language) for path, language in PICTURES.items()}
    if "--check" in sys.argv[1:]:
        return int(any(path.read_text(encoding="utf-8") != drawn for path, drawn in fresh.items()))
    for path, drawn in fresh.items():
        path.write_text(drawn, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""The drawings of a report as one picture, with matplotlib, for a slide or a paper."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from echoic.core import durable
from echoic.core.errors import Unavailable, show
from echoic.evaluate.plots import BLUE, ORANGE
from echoic.evaluate.report import ReportFacts

CJK = ("Noto Sans CJK", "Source Han Sans", "WenQuanYi", "PingFang", "Microsoft YaHei", "SimHei", "Heiti", "Hiragino")


def write_png(path: str | Path, facts: ReportFacts, said: Callable[[str], None]) -> None:
    """The learning curves, the confusion matrix and the reliability diagram side by side, 200 dots an
    inch. Names that no installed font can show become their numbers, and `said` is told so once.
    Raises Unavailable without matplotlib."""
    try:
        from matplotlib import rc_context
        from matplotlib.figure import Figure
    except ImportError:
        raise Unavailable("a PNG needs matplotlib: pip install 'echoic[train]'") from None
    names, fonts = _shown(facts.names, said)
    own = facts.scores["model"]
    with rc_context({"font.family": fonts, "axes.grid": True, "grid.alpha": 0.3, "axes.axisbelow": True}):
        figure = Figure(figsize=(15, 4.6), layout="constrained")
        left, middle, right = figure.subplots(1, 3)
        _png_curves(left, facts.history)
        _png_confusion(middle, own.get("confusion"), names)
        right.plot([0, 1], [0, 1], "--", color="grey")
        right.plot([b["confidence"] for b in own["bins"]], [b["accuracy"] for b in own["bins"]], "o-", color=BLUE)
        right.set(xlabel="stated probability", ylabel="share that came true")
        data = io.BytesIO()
        figure.savefig(data, format="png", dpi=200, metadata={"Software": None})
    durable.write_file(Path(path), data.getvalue())


def _png_curves(axes: Any, history: Sequence[Mapping[str, float]]) -> None:
    for key in dict.fromkeys(key for epoch in history for key in epoch if "loss" in key):
        solid = "train" in key
        line = [(e.get("epoch", i + 1), e[key]) for i, e in enumerate(history) if key in e]
        axes.plot(
            *zip(*line, strict=True),
            "o-" if solid else "s--",
            color=BLUE if solid else ORANGE,
            label=key.replace("_", " "),
        )
    axes.set(xlabel="epoch", ylabel="loss")
    if history:
        axes.legend()


def _png_confusion(axes: Any, matrix: Sequence[Sequence[int]] | None, names: Sequence[str]) -> None:
    axes.grid(False)
    if matrix is None:
        axes.set_axis_off()
        return
    axes.imshow([[count / (sum(row) or 1) for count in row] for row in matrix], cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) <= 4 else 90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="answered", ylabel="labelled")
    for i, row in enumerate(matrix if len(names) <= 12 else []):
        for j, count in enumerate(row):
            axes.text(
                j,
                i,
                f"{count:,}",
                ha="center",
                va="center",
                color="white" if count > 0.55 * (sum(row) or 1) else "black",
            )


def _shown(names: Sequence[str], said: Callable[[str], None]) -> tuple[list[str], list[str]]:
    """(names that can be drawn, the fonts to draw them with)."""
    names = [show(name, 24) for name in names]
    wanted = {ord(c) for name in names for c in name}
    fonts = fonts_for(wanted)
    if fonts is not None:
        return [name.replace("$", r"\$") for name in names], fonts
    said(
        "no installed font shows all class names, so the PNG numbers them; install one, as fonts-noto-cjk (the HTML report needs none)"
    )
    return [str(i + 1) for i in range(len(names))], ["DejaVu Sans"]


def fonts_for(wanted: set[int]) -> list[str] | None:
    """Installed font families that together have a glyph for every code point, or None if there are none."""
    fonts, missing = covering(wanted)
    return None if missing else fonts


def covering(wanted: set[int]) -> tuple[list[str], set[int]]:
    """(installed font families that together have as many of these code points as can be had, those they have not):
    matplotlib's own first, then those for Chinese, Japanese and Korean, then the rest by name. (Last
    Resort, which comes with matplotlib, has a box for everything and does not count.)"""
    from matplotlib.font_manager import fontManager, get_font

    files = {
        font.name: font.fname
        for font in sorted(fontManager.ttflist, key=lambda f: f.fname)
        if "Last Resort" not in font.name
    }
    chosen, missing = ["DejaVu Sans"], set(wanted)
    for name in sorted(files, key=lambda name: (name != "DejaVu Sans", not name.startswith(CJK), name)):
        if not missing:
            break
        try:
            has = set(get_font(files[name]).get_charmap())
        except (OSError, RuntimeError):
            continue
        if missing & has and name not in chosen:
            chosen.append(name)
        missing -= has
    return chosen, missing

"""What people see: the page (parsed, and opened in a browser where one is installed), the terminal, the picture."""

from __future__ import annotations

import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from echoic.core.errors import CannotCreate
from echoic.evaluate import png
from echoic.explain import page, picture, terminal
from echoic.explain.faithful import summary
from echoic.explain.page import html, write_page
from echoic.explain.picture import COLUMNS, columns, write_png
from echoic.explain.pieces import pieces, strongest, visible
from echoic.explain.record import Explanation, Token, Turn
from explain.toys import NASTY, untrained

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


def made(text: str, *tokens: tuple[int, int, float], **more: object) -> Explanation:
    listed = [Token(text=text[a:b], start=a, end=b, score=score) for a, b, score in tokens]
    given = {"method": "occlusion", "label": "pos", "probability": 0.75, **more}
    return Explanation(text=text, tokens=listed, **given)


PLAIN = made("A good, dull film.", (0, 1, 0.0), (2, 6, 2.0), (6, 7, 0.1), (8, 12, -1.0), (13, 17, 0.3), (17, 18, -0.3))
TRACE = made(
    "好 but <b>bad</b>",
    (0, 1, 0.3),
    (2, 5, -0.1),
    (9, 12, -0.5),
    method="trace",
    label="p<o>s",
    beliefs={"p<o>s": [0.8, 0.7, 0.2], "neg": [0.2, 0.3, 0.8]},
    turns=[Turn(token=2, before="p<o>s", after="neg")],
)
HOSTILE = made(
    '<script>document.title="run"</script><img src=x onerror=alert(1)>" onmouseover="alert(1) \u202e\x00\x1b[31m',
    (0, 8, 1.0),
    (8, 60, -1.0),
    (60, 70, 0.4),
    label="</title><script>1</script>",
    notes=["<i>note</i>"],
)


class Read(HTMLParser):
    """The tags of a page with their attributes, and the text inside its element of class `text`."""

    def __init__(self, source: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text, self.inside = "", False
        self.feed(source)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.tags.append((tag, values))
        self.inside |= values.get("class") == "text"

    def handle_endtag(self, tag: str) -> None:
        self.inside &= tag != "p"

    def handle_data(self, data: str) -> None:
        self.text += data if self.inside else ""


def nasty() -> list[Explanation]:
    model = untrained("text.tokenizer=bytes", "text.max_vocab=1000")
    return [PLAIN, TRACE, HOSTILE, *model.explain([NASTY, ""], "trace"), *model.explain([NASTY], "occlusion")]


def test_the_page_is_safe_whole_and_needs_nothing() -> None:
    found = nasty()
    source = html(found)
    read = Read(source)
    assert not {tag for tag, _ in read.tags} & {"script", "img", "link", "iframe", "object", "base", "form"}
    names = {name for _, values in read.tags for name in values}
    assert not names & {"src", "href", "srcset", "action"}
    assert not [name for name in names if name.startswith("on")]
    assert not re.search(r"url\(|@import|https?:", source)
    assert (
        "meta",
        {"http-equiv": "Content-Security-Policy", "content": "default-src 'none'; style-src 'unsafe-inline'"},
    ) in read.tags
    assert read.text == "".join(visible(each.text) or "(a text without words)" for each in found)
    assert "\x00" not in source
    assert "\u202e" not in source


def test_the_sign_of_a_token_is_told_without_colour() -> None:
    spans = {values["data-tip"]: values for tag, values in Read(html([PLAIN])).tags if "data-tip" in values}
    assert spans["+2.0000"]["class"] == "t above"
    assert spans["-1.0000"]["class"] == "t below"
    assert spans["-1.0000"]["style"] == "--s:0.500"
    assert ".t.below" in page.OWN_STYLE


def test_the_curve_of_a_trace_stands_above_its_text() -> None:
    source = html([TRACE])
    assert 0 < source.index('<svg class="curve"') < source.index('class="text"')
    assert source.count('<path class="one"') == source.count('<path class="two"') == 1
    assert "at <b>bad</b> (token 3) from p&lt;o&gt;s to neg" in source
    assert "<svg" not in html([PLAIN])
    assert "→ 20.0%" in source


def test_a_page_that_cannot_be_written_is_73(tmp_path: Path) -> None:
    with pytest.raises(CannotCreate):
        write_page(tmp_path / "none" / "page.html", [PLAIN])


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium is installed")
def test_the_page_in_a_browser(tmp_path: Path) -> None:
    """Nothing runs, nothing is asked of a network, the console stays empty, and the picture has both colours."""
    write_page(tmp_path / "page.html", nasty())
    line = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path / 'profile'}"]
    line += ["--host-resolver-rules=MAP * ~NOTFOUND", "--enable-logging=stderr", "--window-size=900,1200"]
    where = (tmp_path / "page.html").as_uri()
    shot = tmp_path / "page.png"
    done = subprocess.run(
        [*line, f"--screenshot={shot}", where], capture_output=True, text=True, timeout=300, check=False
    )
    assert "CONSOLE" not in done.stderr
    dom = subprocess.run([*line, "--dump-dom", where], capture_output=True, text=True, timeout=300, check=False)
    assert "CONSOLE" not in dom.stderr
    assert "<title>6 explanations</title>" in dom.stdout, "a script has changed it"
    assert "好</span>" in dom.stdout
    from matplotlib.image import imread

    red, _, blue = (imread(shot)[:, :, i] for i in range(3))
    assert (blue - red > 0.3).sum() > 100
    assert (red - blue > 0.3).sum() > 100


# Pieces


def test_tokens_that_share_a_character_or_continue_one_are_one_piece() -> None:
    text = "e\u0301 👍🏽 好"
    tokens = [(0, 1, 1.0), (1, 2, 0.5), (3, 4, 1.0), (4, 5, -3.0), (6, 7, 0.25), (6, 7, 0.25)]
    found = pieces(made(text, *tokens))
    assert [text[p.start : p.end] for p in found] == ["e\u0301", "👍🏽", "好"]
    assert [p.score for p in found] == [1.5, -2.0, 0.5]
    assert [p.strength for p in found] == [0.75, 1.0, 0.25]
    assert [(p.first, p.last) for p in found] == [(0, 1), (2, 3), (4, 5)]
    assert [p.level for p in found] == [3, 3, 1]
    assert [text[p.start : p.end] for p in strongest(made(text, *tokens), 2)] == ["👍🏽", "e\u0301"]


def test_scores_of_nothing_have_no_strength() -> None:
    assert [p.strength for p in pieces(made("a b", (0, 1, 0.0), (2, 3, 0.0)))] == [0, 0]
    assert strongest(made("a b", (0, 1, 0.0), (2, 3, 0.0)), 5) == []


def test_what_cannot_be_seen_is_spelled_out() -> None:
    assert visible("a\x1b[0m\u202e\x00é\n👨\u200d👩") == "a\\x1b[0m\\u202e\\x00é\n👨\u200d👩"


# The terminal


def drawn(thing: object, width: int = 60, **how: object) -> str:
    out = io.StringIO()
    Console(file=out, width=width, highlight=False, **how).print(thing)  # type: ignore[arg-type]
    return out.getvalue()


def test_marks_say_sign_and_size_where_there_is_no_colour() -> None:
    text = drawn(terminal.render(PLAIN))
    assert "\x1b" not in text
    assert "A good⁺⁺⁺, dull⁻⁻ film⁺.⁻" in text
    assert "pos: 75.0%   by occlusion" in text
    assert "+2.000  ████████████████  good" in text
    assert "-1.000  ▒▒▒▒▒▒▒▒" in text


def test_characters_of_a_word_that_are_marked_alike_are_marked_once() -> None:
    text = "很好看 不好"
    scores = (1.0, 1.0, -1.0, 0.2, 1.0, 1.0)
    shown = drawn(terminal.render(made(text, *[(i, i + 1, score) for i, score in enumerate(scores)])))
    assert "很好⁺⁺⁺看⁻⁻⁻ ⁺不好⁺⁺⁺" in shown
    assert "(space)" in shown


def test_colours_are_there_on_a_terminal_and_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    with_colour = drawn(terminal.render(PLAIN), force_terminal=True, color_system="truecolor")
    assert "48;2;0;114;178" in with_colour
    monkeypatch.setenv("NO_COLOR", "1")
    assert "48;2" not in drawn(terminal.render(PLAIN), force_terminal=True, color_system="truecolor")


@pytest.mark.parametrize("width", [4, 10, 40, 110])
def test_lines_are_no_wider_than_the_terminal_and_hold_the_whole_text(width: int) -> None:
    text = "这部 电影很好看 " * 6 + "averyveryverylongword" * 3
    spans = [(m.start(), m.end(), 0.0) for m in re.finditer(r"\S+", text)]
    found = made(text, *spans)
    from rich.cells import cell_len

    lines = drawn(terminal._Marked(found), width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_the_belief_stands_above_the_words() -> None:
    lines = drawn(terminal.render(TRACE)).splitlines()
    row = next(i for i, line in enumerate(lines) if line.startswith("好"))
    assert lines[row - 1].startswith("▇▇")
    assert "▂" in lines[row - 1]
    assert any("“bad” (token 3) the answer turned from p<o>s to neg" in line for line in lines)


def test_no_control_character_reaches_the_terminal() -> None:
    text = drawn(terminal.render(HOSTILE))
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", text)
    assert "[/]" not in text


def test_a_long_text_is_cut_and_says_so() -> None:
    text = "word " * 5000
    found = made(text, *[(5 * i, 5 * i + 4, 1.0) for i in range(5000)])
    shown = drawn(terminal.render(found))
    assert "4,600 tokens more" in shown
    assert len(shown) < 10_000


def test_the_table_of_methods() -> None:
    draws = np.random.default_rng(0)
    text = drawn(
        terminal.render_faithfulness(summary(0.1 * draws.normal(size=(50, 3)) + [0.4, 0.0, 0.02], ["a", "b"])), 110
    )
    assert re.search(r"a +\+0\.\d+ +\d+\.\d +\+0\.\d+ to \+0\.\d+ +faithful", text)
    assert "The most faithful method on these texts is a." in text


# The picture


def test_the_picture_is_one(tmp_path: Path) -> None:
    said: list[str] = []
    write_png(
        tmp_path / "p.png",
        [PLAIN, TRACE, *untrained("text.tokenizer=bytes", "text.max_vocab=1000").explain([""])],
        said.append,
    )
    from matplotlib.image import imread

    image = imread(tmp_path / "p.png")
    assert image.shape[0] > 500
    assert (image[:, :, 2] - image[:, :, 0] > 0.3).any()
    assert (image[:, :, 0] - image[:, :, 2] > 0.3).any()


def test_a_character_without_a_glyph_is_a_box_and_that_is_said_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(picture, "covering", lambda wanted: (["DejaVu Sans"], {c for c in wanted if c > 0x2FFF}))
    said: list[str] = []
    found = made("好看 $x_1$", (0, 1, 1.0), (1, 2, -1.0), (3, 8, 0.5), label="好")
    write_png(tmp_path / "p.png", [found, found], said.append)
    assert len(said) == 1
    assert "▯" in said[0]


def test_a_picture_too_long_is_cut_and_that_is_said(tmp_path: Path) -> None:
    text = "word " * 3000
    said: list[str] = []
    write_png(tmp_path / "p.png", [made(text, *[(5 * i, 5 * i + 4, 1.0) for i in range(3000)])], said.append)
    assert "60 lines" in said[0]


def test_the_grid_keeps_words_apart() -> None:
    words, lines = picture._laid_out(made("好看 " * 60, *[(3 * i, 3 * i + 2, 1.0) for i in range(60)]))
    ends: dict[int, int] = {}
    for word in words:
        assert word.column >= ends.get(word.line, 0)
        ends[word.line] = word.column + word.width
    assert max(ends.values()) <= COLUMNS
    assert lines == len(ends)
    assert columns("e\u0301好") == 3


def test_fonts_cover_what_they_can() -> None:
    fonts, missing = png.covering({ord("a"), 0x10FFFD})
    assert (fonts, missing) == (["DejaVu Sans"], {0x10FFFD}) or fonts[0] == "DejaVu Sans"
    assert 0x10FFFD in missing

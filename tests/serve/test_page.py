"""The page in headless Chromium, where there is one: typing, a file, hostile strings, keys, both languages."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echoic.serve import page as served_page
from export.models import language
from serve.bundles import make, saved, translator
from serve.clients import Served, serving

HOSTILE = [
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", "<body onload=alert(1)>", "<iframe src=javascript:alert(1)>",
    "\"><script>alert(1)</script>", "'><img src=x onerror=alert(1)>", "javascript:alert(1)", "<a href=javascript:alert(1)>x</a>", "<b>bold</b>",
    "<style>*{display:none}</style>", "<link rel=stylesheet href=//evil.example/x>", "<base href=//evil.example>", "<meta http-equiv=refresh content=0>",
    "<object data=//evil.example>", "<embed src=//evil.example>", "<form action=//evil.example><input>", "<math><mi//xlink:href=data:x>", "<video><source onerror=alert(1)>",
    "<details open ontoggle=alert(1)>", "<marquee onstart=alert(1)>", "<input autofocus onfocus=alert(1)>", "<textarea>", "</textarea><script>alert(1)</script>",
    "</title><script>alert(1)</script>", "</style><script>alert(1)</script>", "</script><script>alert(1)</script>", "<!--", "--><script>alert(1)</script>", "<![CDATA[x]]>",
    "&lt;script&gt;", "&#60;script&#62;", "&amp;", "{{7*7}}", "${7*7}", "#{7*7}", "<%= 7*7 %>", "`alert(1)`", "\\u003cscript\\u003e", "%3Cscript%3E",
    "=cmd()|calc", "+1+1", "@SUM(1)", "%s%n", "../../etc/passwd", "\u202egnp.exe", "\u2066x\u2069", "\u200b\u200d", "\ufeff", "e" + "\u0301" * 60,
    "\U0001f468\u200d\U0001f469\u200d\U0001f467", "\U0001f1eb\U0001f1f7", "\x1b[31mred", "\x07", "null", "undefined", "__proto__", "constructor", "'; DROP TABLE x; --", "\u2028x",
]  # fmt: skip


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bundles")
    paths = {
        "films": saved(make(), folder / "a"),
        "hostile": saved(make(labels=(HOSTILE[0], HOSTILE[1], "__proto__"), seed=2), folder / "b"),
        "many": saved(make("task.several=true", labels=[(str(i),) for i in range(12)]), folder / "c"),
    }
    with serving({name: str(path) for name, path in paths.items()}) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    with api.sync_playwright() as playwright:
        try:
            chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        except api.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield chromium
        chromium.close()


@pytest.fixture
def server() -> str:
    """The fixture that has it."""
    return "served"


@pytest.fixture
def page(browser: Any, server: str, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page, which must end without a dialog, an error or a request to anybody else."""
    context = browser.new_context(locale="en-GB")
    opened = context.new_page()
    wrong: list[str] = []
    home = f"http://127.0.0.1:{request.getfixturevalue(server).port}/"
    opened.on("console", lambda message: wrong.append(message.text) if message.type in ("error", "warning") else None)
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    opened.on("dialog", lambda dialog: (wrong.append("a dialog"), dialog.dismiss()))
    opened.on(
        "request",
        lambda request: None if request.url.startswith((home, "data:", "blob:")) else wrong.append(request.url),
    )
    opened.goto(home)
    yield opened
    context.close()
    assert wrong == []


def words(page: Any, text: str) -> None:
    """Waits until this text is the one that is explained."""
    page.wait_for_function("text => document.getElementById('words').textContent === text", arg=text)


def test_type_and_see_the_answer(page: Any, served: Served) -> None:
    page.locator("#text").press_sequentially("not good")
    words(page, "not good")
    (wanted,) = served.ask("/v1/predict", {"texts": ["not good"]}).json["predictions"]
    assert page.locator("#label").inner_text().splitlines()[0] == wanted["label"]
    assert page.locator("#bars b").inner_text() == f"{100 * wanted['confidence']:.1f} %"
    assert page.locator("#words .t").count() == 2
    assert page.locator("#curve path.one").count() == 1
    page.locator("#words .t").nth(1).hover()
    page.wait_for_selector("#words .t.at")
    assert f"{100 * wanted['confidence']:.1f} %" in page.locator("#curve").text_content()


def test_keys(page: Any) -> None:
    page.fill("#text", "good")
    words(page, "good")
    page.press("#text", "Escape")
    assert page.input_value("#text") == ""
    assert page.is_hidden("#answer")
    page.focus("#tab-text")
    page.keyboard.press("ArrowRight")
    assert page.is_visible("#panel-file")
    page.keyboard.press("ArrowLeft")
    assert page.is_visible("#panel-text")


def test_both_languages_and_both_lights(page: Any) -> None:
    assert page.locator("#tab-file").inner_text() == "File"
    page.click("#language")
    assert page.locator("#tab-file").inner_text() == "文件"
    assert page.locator("html").get_attribute("lang") == "zh-CN"
    assert page.evaluate("Object.keys(WORDS.en).join() === Object.keys(WORDS.zh).join()")
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.click("#theme")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before
    page.reload()
    assert page.locator("#tab-file").inner_text() == "文件"


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose models only write."""
    folder = tmp_path_factory.mktemp("writers")
    names = {"letters": language(), "others": language("model.cell.kind=gru")}
    with serving({name: str(saved(model, folder / name)) for name, model in names.items()}) as found:
        yield found


def written(page: Any) -> str:
    """What stands behind the prompt when it is done."""
    page.wait_for_function("() => document.getElementById('write-status').textContent.includes('character')")
    return str(page.evaluate("document.getElementById('written').lastChild.data"))


def asked(desk: Served, **how: Any) -> str:
    body = {"prompt": "ab", "length": 300, "temperature": 0.8, **how}
    return str(desk.ask("/v1/generate", body).json["continuation"])


@pytest.mark.parametrize("server", ["desk"])
def test_it_writes_on(page: Any, desk: Served) -> None:
    page.wait_for_selector("#tab-write:visible")
    assert page.is_hidden("#tab-text")
    assert page.is_hidden("#tab-file")
    page.fill("#prompt", "ab")
    page.press("#prompt", "Control+Enter")
    assert written(page) == asked(desk)
    assert page.locator("#written b").inner_text() == "ab"
    page.click("#another")
    assert written(page) == asked(desk, seed=1)
    page.evaluate("knob => { knob.value = 2; knob.oninput(); knob.onchange(); }", page.query_selector("#temperature"))
    assert page.locator("#degrees").inner_text() == "2.00"
    assert written(page) == asked(desk, seed=1, temperature=2.0)
    page.select_option("#model", "others")
    assert written(page) == asked(desk, seed=1, temperature=2.0, model="others")


@pytest.mark.parametrize("server", ["desk"])
def test_hostile_prompts_are_text(page: Any, desk: Served) -> None:
    page.fill("#prompt", "\n".join(HOSTILE))
    page.click("#write")
    written(page)
    assert page.locator("#written b").text_content() == page.input_value("#prompt")
    assert page.locator("#written b *").count() == 0


@pytest.mark.parametrize("server", ["desk"])
def test_writing_is_stopped(page: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    stopped = threading.Event()

    def without_end(*_: object) -> Iterator[str]:
        yield from "xxxxx"
        stopped.wait(60)

    monkeypatch.setattr("echoic.decode.writer.Writer.stream", without_end)
    page.click("#write")
    page.wait_for_function("() => document.getElementById('written').textContent.length > 3")
    assert page.locator("#write").inner_text() == "Stop"
    page.click("#write")
    assert page.locator("#write").inner_text() == "Write"
    stopped.set()
    monkeypatch.undo()
    page.click("#write")
    assert "x" not in written(page)


@pytest.fixture(scope="module")
def booth(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A server whose model translates."""
    with serving({"german": str(saved(translator(), tmp_path_factory.mktemp("booth") / "german"))}) as found:
        yield found


@pytest.mark.parametrize("server", ["booth"])
def test_it_translates_line_by_line(page: Any, booth: Served) -> None:
    page.wait_for_selector("#tab-translate:visible")
    assert page.is_hidden("#tab-text")
    lines = ["ein Hund sieht", "", "<b>den Ball</b>", *HOSTILE[:5]]
    page.fill("#source", "\n".join(lines))
    page.wait_for_function("() => document.getElementById('translate-status').textContent.includes('character')")
    lines = page.input_value("#source").split("\n")
    wanted = booth.ask("/v1/translate", {"texts": lines}).json["translations"]
    assert any(each["translation"] for each in wanted)
    assert page.locator("#translation").text_content() == "\n".join(each["translation"] for each in wanted)
    assert page.locator("#translation *").count() == 0
    page.press("#source", "Escape")
    page.wait_for_function("() => !document.getElementById('translation').textContent")


def test_no_tab_to_write_where_nothing_writes(page: Any) -> None:
    page.fill("#text", "good")
    words(page, "good")
    assert page.is_hidden("#tab-write")
    assert page.is_hidden("#tab-translate")


def test_hostile_strings_are_text(page: Any) -> None:
    assert len(HOSTILE) == 60
    text = "\n".join(HOSTILE)
    page.select_option("#model", "hostile")
    page.fill("#text", text)
    words(page, text)
    assert page.locator("#words script, #words img, #words b, #label b").count() == 0
    shown = page.locator("#bars span[title]").all_text_contents()
    assert set(shown) == {HOSTILE[0], HOSTILE[1], "__proto__"}


def test_a_file_of_hostile_strings(page: Any, tmp_path: Path) -> None:
    place = tmp_path / "<img src=x onerror=alert(1)>.jsonl"
    place.write_text("".join(json.dumps({"id": "x", "text": each}) + "\n" for each in HOSTILE), encoding="utf-8")
    page.click("#tab-file")
    page.set_input_files("#file", place)
    page.wait_for_selector("#save:visible")
    cells = page.locator("#rows td:last-child").all_text_contents()
    assert cells == HOSTILE
    with page.expect_download() as download:
        page.click("#save")
    saved_file = Path(download.value.path()).read_text(encoding="utf-8-sig")
    assert (
        saved_file.splitlines()[0]
        == '"text","label","confidence","probabilities.maybe","probabilities.no","probabilities.yes"'
    )
    broken = tmp_path / "<b>broken.jsonl"
    broken.write_text("{")
    page.set_input_files("#file", broken)
    page.wait_for_selector("#file-status.bad")
    assert "<b>broken.jsonl" in page.locator("#file-status").text_content()


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a.txt", "good film\r\n\r\nbad\n", ["good film", "bad"]),
        ("a.csv", 'id,text\n1,"good, ""very""\nfilm"\n2,bad', ['good, "very"\nfilm', "bad"]),
        ("a.tsv", "\ufeff评论\tn\n好 电影\t1\n", ["好 电影"]),
        ("a.jsonl", '{"n": 1, "review": "good"}\n"bad"\n', ["good", ""]),
    ],
)
def test_files(page: Any, tmp_path: Path, name: str, content: str, wanted: list[str]) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8", newline="")
    page.click("#tab-file")
    page.set_input_files("#file", tmp_path / name)
    page.wait_for_selector("#save:visible")
    assert page.locator("#rows td:last-child").all_text_contents() == wanted


def test_many_labels(page: Any) -> None:
    page.select_option("#model", "many")
    page.fill("#text", "good bad")
    words(page, "good bad")
    assert page.locator("#bars i").count() == 8
    assert page.locator("#more").inner_text() == "and 4 more"


def test_the_policy_names_every_script_and_style() -> None:
    assert served_page.HTML.count("<script") == served_page.HTML.count("<style") == 1
    assert served_page.POLICY.count("sha256-") == 2
    assert "style=" not in served_page.HTML.replace("rel=stylesheet", "")

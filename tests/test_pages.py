"""The pages in a browser: tokens, colours, Chinese, hovering; no request leaves the file, nothing is said in the console.

Needs playwright and a Chromium, its own or one of the system (ECHOIC_CHROMIUM names another); skipped where there is none.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from echoic.explain.alignment_shown import write_page as write_alignment
from echoic.explain.alike import alike
from echoic.explain.flow import flows
from echoic.explain.inside import inside
from echoic.explain.inside_page import write_page
from echoic.explain.page import write_page as write_explanation
from explain.toys import NASTY, untrained
from tasks.test_translate import fitted

sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install 'echoic[dev]'")

TEXT = f"这部电影很好看 the film was good </script><script>document.title = 'run'</script> {NASTY}"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    found = os.environ.get("ECHOIC_CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    with sync_api.sync_playwright() as driver:
        try:
            opened = driver.chromium.launch(executable_path=found, args=["--no-sandbox"])
        except sync_api.Error as error:
            pytest.skip(f"no Chromium here: {str(error).splitlines()[0]}")
        yield opened
        opened.close()


class Page:
    """An opened file, and what it asked for and complained of."""

    def __init__(self, browser: Any, path: Path, scheme: str) -> None:
        self.view = browser.new_page(viewport={"width": 1000, "height": 800}, color_scheme=scheme)
        self.asked: list[str] = []
        self.said: list[str] = []
        self.view.on("request", lambda request: self.asked.append(request.url))
        self.view.on("console", lambda message: self.said.append(message.text))
        self.view.on("pageerror", lambda error: self.said.append(str(error)))
        self.view.goto(path.as_uri())
        self.path = path

    def finish(self) -> None:
        assert self.asked == [self.path.as_uri()]
        assert self.said == []
        assert self.view.title() != "run"
        self.view.close()


@pytest.fixture(scope="module")
def inspected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages") / "inside.html"
    model = untrained("model.layers=2", "model.hidden=12")
    found = inside(model.task, model.network, TEXT)
    places, notes = alike(model.task, model.network, found, ["这部电影很好看", "the <i>plot</i> is bad", NASTY])
    write_page(path, found, flows(model.task, model.network, TEXT), places, notes)
    return path


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_inspect(browser: Any, inspected: Path, scheme: str) -> None:
    page = Page(browser, inspected, scheme)
    view = page.view
    tokens = view.locator("#text .t")
    assert tokens.first.inner_text() == "这"
    assert "</script>" in view.locator("#text").inner_text()
    tokens.nth(2).hover()
    assert view.locator("#token").inner_text().startswith("电 · token 3 of")
    colours = {tokens.nth(i).evaluate("each => getComputedStyle(each).backgroundColor") for i in range(8)}
    assert len(colours) > 3
    assert view.locator("#gates tr").count() == 6
    assert view.locator("#gates th").all_inner_texts() == ["i", "f", "g", "o", "h", "c"]
    assert view.locator("#curves svg").count() == 6
    before = view.locator("#token").inner_text(), view.locator("#highest").inner_text()
    box = view.locator("#map").bounding_box()
    view.mouse.click(box["x"] + 5, box["y"] + box["height"] - 3)
    after = view.locator("#token").inner_text(), view.locator("#highest").inner_text()
    assert before[0] != after[0]
    assert "这 · token 1 of" in after[0]
    assert before[1] != after[1]
    assert view.locator("#nearest li").first.inner_text().startswith("1.00")
    page.finish()


def test_inspect_by_keys_and_by_choices(browser: Any, inspected: Path) -> None:
    page = Page(browser, inspected, "light")
    view = page.view
    view.locator("#text .t").nth(3).hover()
    view.mouse.move(1, 1)
    view.locator("#map").focus()
    view.keyboard.press("ArrowRight")
    assert "token 5 of" in view.locator("#token").inner_text()
    unit = view.locator("#token").inner_text().rpartition(" ")[2]
    view.keyboard.press("ArrowDown")
    assert view.locator("#token").inner_text().rpartition(" ")[2] != unit
    picture = "() => document.getElementById('map').toDataURL()"
    seen = {view.evaluate(picture)}
    view.locator("#fields button", has_text="f").click()
    assert view.locator("#fields [aria-pressed=true]").inner_text() == "f"
    seen.add(view.evaluate(picture))
    view.locator("#cell").select_option("3")
    seen.add(view.evaluate(picture))
    view.locator("#order").select_option("number")
    seen.add(view.evaluate(picture))
    assert len(seen) == 4
    assert view.locator("svg.flow path").count() > 6
    page.finish()


@pytest.mark.parametrize("text", ["好", "", "the film " * 10_000])
def test_inspect_of_any_text(browser: Any, tmp_path: Path, text: str) -> None:
    model = untrained()
    write_page(tmp_path / "p.html", inside(model.task, model.network, text), flows(model.task, model.network, text))
    page = Page(browser, tmp_path / "p.html", "light")
    assert page.view.locator("#text .t").count() == min(512, max(1, len(model.task.text.encode([text])[0])))
    page.view.locator("#text .t").first.hover()
    page.finish()


def test_explain(browser: Any, tmp_path: Path) -> None:
    found = untrained().explain([TEXT], "occlusion")
    write_explanation(tmp_path / "p.html", found)
    page = Page(browser, tmp_path / "p.html", "light")
    token = page.view.locator(".text .t").first
    tip = "each => getComputedStyle(each, '::after').content"
    assert token.evaluate(tip) == "none"
    token.hover()
    assert token.evaluate(tip).strip('"') == token.get_attribute("data-tip")
    assert token.inner_text() == "这"
    page.finish()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_an_alignment(browser: Any, tmp_path: Path, scheme: str) -> None:
    found = fitted().model.explain([TEXT])
    write_alignment(tmp_path / "p.html", found)
    page = Page(browser, tmp_path / "p.html", scheme)
    cells = page.view.locator(".alignment tbody td[style]")
    assert cells.count() == len(found[0].source) * len(found[0].target)
    seen = {
        cells.nth(i).evaluate("each => getComputedStyle(each).backgroundColor") for i in range(len(found[0].source))
    }
    assert len(seen) > 1
    page.finish()

"""`echoic export --web`: the page answers in a browser, without a server, as the predictor does; its texts are cut as
`TextPreparer` cuts them. The network runs where ECHOIC_RUNTIME names the `dist` of onnxruntime-web."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
import socketserver
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cli.commands import Answer
from echoic.cli.main import main
from echoic.core import bundle
from echoic.core.config import TextConfig
from echoic.core.errors import UsageError
from echoic.export import sealed, web
from echoic.prepare.text import TextPreparer
from echoic.prepare.tokenizers.words import Words
from echoic.serve import http, page
from echoic.serve.predictor import METHODS, Predictor, open_predictor
from export.models import classifier, language
from prepare.naughty import LONG, NAUGHTY
from serve import test_page
from serve.bundles import make, saved, texts

browser = test_page.browser  # the fixture

Call = Callable[..., Answer]
DIST = os.environ.get("ECHOIC_RUNTIME", "")
runs = pytest.mark.skipif(not DIST, reason="ECHOIC_RUNTIME names no dist of onnxruntime-web")

# The tokenizers

ODD = [
    "", " ", " \t ", "\r", "a\rb\r\nc", "\x00", "a\x00b", "\x1c\x1d x \x1f", "\x85\u2028\ufeff\u200b", "\u3000全角\u3000ＡＢｃ１２！",
    "İstanbul ıIiİ", "ΟΔΟΣ ΣΑΣ ς", "Straße STRASSE ẞ", "ﬁ ﬆ ǅ ǆ Ⅷ ⅷ Ⓐ", "e\u0301 \u0301 \u0301e '\u0301", "👨‍👩‍👧 👍🏽👍 ❤️ 🏴󠁧󠁢󠁥󠁮󠁧󠁿 🇫🇷🇩🇪🇫 ‍ a‍b", "这部电影very好看 iPhone15手机",
    "かな カタカナ ｶﾅ 한국어", "it's it’s 'tis rock'n'roll o''o '", "<br /><BR/>x</p><a href='y'>z</a>", "<a b c>d</a >", "<a b=<c>", "<b x==>y", "<b =>", "<strong><ﬆrong><ﬅyle><ſtrong><ſpan><linK>",
    "<lİ><i̇><h1><h7><blockquote><blockquotes>", "<\u3000b><b\u3000><b\x85/><b /  ><b\x1c>", "</ b><//b><b//></b/>", "<<<b>>>", "<3 a<b and c>d", "<pad> <unk> <empty> <PAD> <pad>x x<pad> <<pad>\n<pad>",
    "<|endoftext|>", "<0x41>", "\ufffd", "\uffff \U0010ffff \ue000", "\U00011f04 \ua7d2 \u1c89 \U00010d50 \U00016ea0", "constructor __proto__ toString", "٣٤ ၃ ²³ ½", "<" * 500, "<a " * 300 + "=>", "🇫" * 301,
]  # fmt: skip
NASTY = [*ODD, *test_page.HOSTILE, *NAUGHTY]
PIECES = ["<", ">", "/", "=", "'", "’", " ", "\n", "<b", "<br/>", "ſ", "ﬆ", "K", "\u200d", "🇫", "\u0301", "\ufe0f", "🏽", "👍", "İ", "Σ", "好", "あ", "①", "\x85", "\x1c", "\u3000", "<pad>", "a", "Z", "9"]  # fmt: skip
drawn = st.one_of(
    st.text(max_size=40),
    st.lists(st.one_of(st.sampled_from(PIECES), st.characters(exclude_categories=["Cs"])), max_size=30).map("".join),
)


def preparer(kind: str, lowercase: bool = True, max_tokens: int = 0) -> TextPreparer:
    config = TextConfig(tokenizer=kind, lowercase=lowercase, min_count=1, max_tokens=max_tokens)
    return TextPreparer.fit([*NASTY, "constructor toString hasOwnProperty"], config)


class Reader:
    """`tokens.js` in a browser."""

    def __init__(self, browser: Any, text: TextPreparer) -> None:
        self.text = text
        self.page = browser.new_page()
        self.page.add_script_tag(content=web.script("tokens.js"))
        self.page.evaluate("told => { window.read = tokenizer(told); }", web.tokenizer(text))

    def agrees(self, given: list[str]) -> None:
        """Its ids and offsets of these texts are those of Python."""
        found = self.page.evaluate("texts => JSON.stringify(texts.map(text => read(text)))", given)
        for text, each in zip(given, json.loads(found), strict=True):
            ids, spans = self.text.encode_with_offsets(text)
            assert each["ids"] == ids.tolist() == self.text.encode([text])[0].tolist(), repr(text[:200])
            assert each["spans"] == [list(span) for span in spans], repr(text[:200])


@pytest.fixture(scope="module", params=[(kind, low) for kind in web.READ for low in (True, False)], ids=str)
def reader(request: pytest.FixtureRequest, browser: Any) -> Iterator[Reader]:
    found = Reader(browser, preparer(*request.param))
    yield found
    found.page.close()


def test_nasty_texts_are_cut_alike(reader: Reader) -> None:
    reader.agrees([*NASTY, "\n".join(NASTY), " ".join(NASTY)])


def test_long_texts_are_cut_alike(reader: Reader) -> None:
    most = 100_000 if reader.text.kind == "words" else 5_000
    reader.agrees([text[:most] for text in LONG.values()])


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(drawn, max_size=20))
def test_drawn_texts_are_cut_alike(reader: Reader, given: list[str]) -> None:
    reader.agrees(given)


def every(parts: int) -> list[str]:
    """Every code point, beside what makes it count: within a word, an apostrophe, a mark, a joiner, a tag."""
    codes = [code for code in range(1, 0x110000) if not 0xD800 <= code < 0xE000]
    return ["".join(f"a{c}'{c}\u0301{c}\u200d{c}<b{c}>" for c in map(chr, codes[k::parts])) for k in range(parts)]


def test_some_of_every_code_points_are_cut_alike(reader: Reader) -> None:
    reader.agrees(every(400)[7:8])


@pytest.mark.deep
def test_every_code_point_is_cut_alike(reader: Reader) -> None:
    for text in every(400)[:: 1 if reader.text.kind in ("words", "chars", "spaced") else 20]:
        reader.agrees([text])


def test_a_text_is_cut_off_alike(browser: Any) -> None:
    Reader(browser, preparer("words", max_tokens=3)).agrees([*NASTY, "a b c d"])


def test_half_a_character_is_refused(reader: Reader) -> None:
    error = reader.page.evaluate("() => { try { read('a\\ud800b'); } catch (error) { return error.message; } }")
    assert error.startswith("lone surrogate")


def test_a_tokenizer_that_no_browser_has_is_refused() -> None:
    for kind in ("bpe", "unigram"):
        with pytest.raises(UsageError, match=f"the page cannot read by the tokenizer {kind}"):
            web.tokenizer(preparer(kind))


def test_words_that_are_cut_by_other_rules_are_refused() -> None:
    text = preparer("words")
    changed = text.tokenizer.to_json().replace(b"blockquote", b"marquee")
    with pytest.raises(UsageError, match="by other rules"):
        web.tokenizer(TextPreparer("words", Words.from_json(changed), 0))


# The page

MODELS: dict[str, Callable[[], Any]] = {
    "single": lambda: make(labels=("no", "yes")),
    "odd": lambda: make("model.bidirectional=false", labels=(test_page.HOSTILE[0], "10", "__proto__"), seed=2),
    "several": lambda: make("task.several=true", labels=[(str(i),) for i in range(12)], seed=3),
    "chars": lambda: make("text.tokenizer=chars", "model.cell.kind=gru", "model.pool=attention", ngrams=False),
}
TEXTS = [*texts(12, seed=4), "good " * 150 + "bad", "It's NOT\r\n good\x00!", "电影 好 <b>好</b>"]


def export(given: Any, place: Path, *more: str) -> Path:
    assert main(["export", str(saved(given, place / "bundle")), "--web", str(place / "page"), "--quiet", *more]) == 0
    return place / "page"


@pytest.fixture(scope="module", params=MODELS)
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Predictor]:
    place = tmp_path_factory.mktemp(request.param)
    return export(MODELS[request.param](), place, "--runtime", DIST), open_predictor(place / "bundle")


class Quiet(SimpleHTTPRequestHandler):
    """Files for whoever asks, from wherever: what is refused, the page's own policy refuses."""

    def end_headers(self) -> None:
        self.send_header("access-control-allow-origin", "*")
        super().end_headers()

    def log_message(self, *_: Any) -> None:
        pass


def serving(folder: Path) -> socketserver.BaseServer:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


@pytest.fixture
def opened(browser: Any, exported: tuple[Path, Predictor]) -> Iterator[Any]:
    """The page, which must end without an error or a request to anybody else."""
    server = serving(exported[0])
    home = f"http://127.0.0.1:{server.server_address[1]}/"
    context = browser.new_context(locale="en-GB")
    opened, wrong = context.new_page(), []
    opened.on("console", lambda message: wrong.append(message.text))
    opened.on("pageerror", lambda error: wrong.append(str(error)))
    context.on("request", lambda request: None if request.url.startswith((home, f"blob:{home}")) else wrong.append(request.url))  # fmt: skip
    opened.goto(home)
    yield opened
    context.close()
    server.shutdown()
    server.server_close()
    assert wrong == []


def near(found: Any, wanted: Any) -> None:
    """The same, numbers to 1e-5."""
    if isinstance(wanted, float):
        assert found == pytest.approx(wanted, abs=1e-5, rel=1e-5)
    elif isinstance(wanted, dict):
        assert set(found) == set(wanted)
        for name, each in wanted.items():
            near(found[name], each)
    elif isinstance(wanted, list):
        assert len(found) == len(wanted)
        for one, other in zip(found, wanted, strict=True):
            near(one, other)
    else:
        assert found == wanted


def ask(page: Any, path: str, body: Any = None) -> Any:
    """As JSON: playwright's own way back loses a key named __proto__."""
    return json.loads(page.evaluate("([path, body]) => ask(path, body).then(JSON.stringify)", [path, body]))


@runs
def test_the_answers_are_the_predictors(opened: Any, exported: tuple[Path, Predictor]) -> None:
    predictor = exported[1]
    wanted = [each.model_dump(exclude_defaults=True) for each in predictor.predict(TEXTS)]
    near(ask(opened, "v1/predict", {"texts": TEXTS}), {"model": "model", "predictions": wanted})
    if predictor.several:
        assert len({len(each["labels"]) for each in wanted}) > 2
    assert ask(opened, "v1/predict", {"texts": []})["predictions"] == []
    (about,) = ask(opened, "v1/models")["models"]
    assert set(about) == set(http.About.model_fields)
    assert about["labels"] == predictor.names


@runs
@pytest.mark.parametrize("method", METHODS)
def test_the_explanations_are_the_predictors(opened: Any, exported: tuple[Path, Predictor], method: str) -> None:
    for text in TEXTS[:6] + TEXTS[-3:]:  # of 64 tokens, and of more
        for label in (None, exported[1].names[0]):
            wanted = exported[1].explain(text, method, label, http.MOST_STEPS).document()
            body = {"text": text, "method": method} | ({} if label is None else {"label": label})
            near(ask(opened, "v1/explain", body), {"model": "model", **wanted})


@runs
def test_type_and_see_the_answer(opened: Any, exported: tuple[Path, Predictor]) -> None:
    opened.locator("#text").press_sequentially("not good")
    test_page.words(opened, "not good")
    (wanted,) = exported[1].predict(["not good"])
    given = wanted.label if wanted.labels is None else ", ".join(wanted.labels)
    assert opened.locator("#label").inner_text().splitlines()[0] == (given or "no answer")
    ranked = sorted(wanted.probabilities.values(), reverse=True)
    assert opened.locator("#bars > :nth-child(3)").inner_text() == f"{100 * ranked[0]:.1f} %"
    assert opened.locator("#curve path.one").count() == 1
    assert opened.locator("footer").inner_text() == "Everything is computed in this browser. No text leaves it."
    assert opened.evaluate("() => Object.keys(WORDS.en).join() === Object.keys(WORDS.zh).join()")
    opened.click("#language")
    assert opened.locator("footer").inner_text() == "所有计算都在您的浏览器里完成，文本不会离开这里。"
    assert opened.locator("[role=tab]:visible").count() == 2


@runs
@pytest.mark.parametrize("exported", ["single"], indirect=True)
def test_an_answer_that_nobody_waits_for_any_more_is_given_up(opened: Any) -> None:
    ask(opened, "v1/models")
    (worker,) = opened.workers
    worker.evaluate("() => model.then(it => { it.calls = 0; const { run } = it; it.run = (...all) => { it.calls++; return run(...all); }; })")  # fmt: skip
    name = opened.evaluate(
        """() => { const stop = new AbortController(), text = "good ".repeat(5000);
                   const left = ask("v1/explain", { text, method: "occlusion" }, stop.signal).catch(error => error.name);
                   stop.abort();
                   return Promise.race([left, ask("v1/predict", { texts: ["good"] })]); }"""
    )
    assert name == "AbortError"
    assert ask(opened, "v1/predict", {"texts": ["good"]})["predictions"][0]["text"] == "good"
    assert worker.evaluate("() => model.then(it => it.calls)") < 10


@runs
@pytest.mark.parametrize("exported", ["single"], indirect=True)
def test_nobody_else_can_be_asked(browser: Any, exported: tuple[Path, Predictor]) -> None:
    """Neither by the page nor by its worker, which has the page's policy."""
    server, heard = serving(exported[0]), []
    opened = browser.new_page()
    opened.on("request", lambda request: heard.append(request.url))
    opened.goto(f"http://127.0.0.1:{server.server_address[1]}/")
    ask(opened, "v1/models")
    other = f"http://localhost:{server.server_address[1]}/model.json"
    refused = "url => fetch(url).then(() => 'let through', error => error.name)"
    assert [each.evaluate(refused, other) for each in (opened, opened.workers[0])] == ["TypeError"] * 2
    assert opened.workers[0].evaluate(refused, other.replace("localhost", "127.0.0.1")) == "let through"
    opened.close()
    server.shutdown()
    server.server_close()


@runs
@pytest.mark.parametrize("exported", ["single"], indirect=True)
def test_files_that_are_missing_are_said(browser: Any, exported: tuple[Path, Predictor], tmp_path: Path) -> None:
    for name, said in (("model.onnx", "model.onnx: 404"), ("worker.js", "cannot be read")):
        shutil.copytree(exported[0], tmp_path / name)
        (tmp_path / name / name).unlink()
        server, opened = serving(tmp_path / name), browser.new_page()
        opened.goto(f"http://127.0.0.1:{server.server_address[1]}/")
        opened.wait_for_selector("#status.bad")
        assert said in opened.locator("#status").inner_text()
        opened.close()
        server.shutdown()
        server.server_close()


# The folder


@pytest.fixture
def dist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A runtime that is none, for what does not run it."""
    folder = tmp_path / "dist"
    folder.mkdir()
    for name in web.RUNTIME:
        (folder / name).write_bytes(name.encode())
        monkeypatch.setitem(web.RUNTIME, name, hashlib.sha256(name.encode()).hexdigest())
    return folder


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Gives a command in this process."""

    def give(*arguments: object) -> Answer:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Answer(code, *capsys.readouterr())

    return give


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(classifier("text.tokenizer=chars"), tmp_path_factory.mktemp("run") / "bundle")


def test_a_folder_that_says_what_it_holds(call: Call, run: Path, tmp_path: Path, dist: Path) -> None:
    place = tmp_path / "page"
    facts = call("export", run, "--web", place, "--runtime", dist, "--json").json
    assert call("export", run, tmp_path / "m.onnx").code == 0
    assert (place / "model.onnx").read_bytes() == (tmp_path / "m.onnx").read_bytes()
    assert facts["path"] == str(place)
    assert facts["checked"]["largest_difference"] <= 1e-5
    found = bundle.read(place, web.KIND)
    assert found.about["runtime"] == f"onnxruntime-web {web.VERSION}"
    assert found.about["bundle"] == sealed.read(place / "model.onnx").about["bundle"]
    assert set(found.files) == {
        *("index.html", "tokens.js", "worker.js", "model.json", "model.onnx"),
        *("runtime/ort.wasm.bundle.min.js", "runtime/ort-wasm-simd-threaded.wasm"),
    }
    assert set(found.json("model.json")) == {"about", "text", "thresholds"}
    before = {name: bytes(data) for name, data in found.files.items()}
    assert call("export", run, "--web", place, "--runtime", dist, "--force", "--quiet").code == 0
    assert bundle.read(place, web.KIND).files == before


def test_what_stands_there_is_kept(call: Call, run: Path, tmp_path: Path, dist: Path) -> None:
    place = tmp_path / "page"
    given = ("export", run, "--web", place, "--runtime", dist)
    place.mkdir()
    assert call(*given).code == 0
    call(*given).refused(73, "page: exists already; --force replaces it")
    (place / "CNAME").write_text("example.org")
    call(*given, "--force").refused(73, "page: exists, and is not just what --web wrote")
    (place / "CNAME").unlink()
    with (place / "index.html").open("a") as file:
        file.write("<p>mine</p>")
    call(*given, "--force").refused(73, "not just what --web wrote")
    call("export", run, "--web", run, "--runtime", dist, "--force").refused(73, "not just what --web wrote")
    call("export", run, "--web", dist / "x" / "y", "--runtime", dist).refused(73, "parent folder does not exist")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--web", "p", "m.onnx"], "one of the two"),
        ([], "want OUT.onnx for a file, or --web DIR"),
        (["m.onnx", "--runtime", "."], "--runtime: of use with --web DIR alone"),
        (["--web", "p", "--states"], "--states: makes a file that reads pieces"),
    ],
)
def test_options_that_do_not_go_together(
    call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    call("export", run, *arguments).refused(2, said)
    assert list(tmp_path.iterdir()) == []


def test_no_runtime(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dist: Path) -> None:
    how = f"npm install onnxruntime-web@{web.VERSION}"
    monkeypatch.chdir(tmp_path)
    call("export", run, "--web", "p").refused(69, str(web.USUAL), "is missing", how)
    (dist / "ort-wasm-simd-threaded.wasm").write_bytes(b"another")
    call("export", run, "--web", "p", "--runtime", dist).refused(69, "is not that of onnxruntime-web", how)
    assert not (tmp_path / "p").exists()


def test_models_that_the_page_cannot_show(call: Call, tmp_path: Path, dist: Path) -> None:
    given = ("--web", tmp_path / "p", "--runtime", dist)
    call("export", saved(language(), tmp_path / "l"), *given).refused(2, "this model does generate")
    subwords = saved(classifier("text.tokenizer=bpe"), tmp_path / "b")
    call("export", subwords, *given).refused(2, "the page cannot read by the tokenizer bpe")
    assert not (tmp_path / "p").exists()


def test_a_page_without_its_sections_is_no_page() -> None:
    with pytest.raises(AssertionError, match="no section"):
        web.index(page.HTML.replace("/* The server */", ""))
    assert 'data-say="here"' in page.HTML
    assert "loading:" not in page.HTML


def test_the_policy_lets_in_nothing_inline() -> None:
    policy = web.index(page.HTML).split('Security-Policy" content="')[1].split('"')[0]
    assert "unsafe-inline" not in policy
    assert " 'unsafe-eval'" not in policy
    assert policy.count("sha256-") == 2
    assert "http" not in policy

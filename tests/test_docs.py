"""What a stranger reads is true: commands exist, links lead somewhere, examples run, generated pages are current."""

from __future__ import annotations

import importlib.util
import json
import re
import runpy
import shlex
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from typer.main import get_command

import echoic
from echoic.cli.main import application
from echoic.core.config import Config
from echoic.evaluate.intervals import mcnemar

ROOT = Path(__file__).parent.parent
READMES = ["README.md", "README.zh-CN.md"]
PAGES = [*READMES, "RESULTS.md", *(f"docs/{p.name}" for p in sorted((ROOT / "docs").glob("*.md")))]
TWINS = {"README.md": "README.zh-CN.md", "docs/quickstart.md": "docs/quickstart.zh-CN.md"}
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def script(path: str) -> ModuleType:
    """A script that is in no package, as a module."""
    spec = importlib.util.spec_from_file_location(Path(path).stem + "_script", ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    sys.path.append(str((ROOT / path).parent))  # a script finds its neighbours
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.pop()
    return module


results = script("benchmarks/results.py")


# Commands


def commands(text: str) -> list[list[str]]:
    """Every line of a code block without a language, and every `echoic ...` in prose, as words."""
    lines = [line for kind, block in FENCE.findall(text) if kind == "" for line in block.splitlines()]
    prose = FENCE.sub("", text)
    lines += re.findall(r"`((?:echoic|make|python) [a-z][^`]*)`", prose)
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def mistake(words: list[str]) -> str | None:
    """What is wrong with a command, or None."""
    programme, *rest = words
    if programme == "make":
        targets = re.findall(r"^([\w-]+):", page("Makefile"), re.MULTILINE)
        return next((f"no target {each}" for each in rest if each not in targets), None)
    if programme == "python":
        return None if (ROOT / rest[0]).is_file() else f"no file {rest[0]}"
    if programme == "echoic":
        return echoic_mistake(rest)
    return None if programme in ("git", "cd", ".", "pip") else f"no programme {programme}"


def echoic_mistake(words: list[str]) -> str | None:
    """Parsed by the command line itself, with a file in the place of each file; settings by the configuration."""
    verbs: dict[str, Any] = get_command(application()).commands  # type: ignore[attr-defined]
    name, *rest = words
    if name not in verbs:
        return f"no verb {name}"
    known = {option: p for p in verbs[name].params for option in p.opts if option.startswith("-")}
    place = 0
    while place < len(rest):
        word = rest[place]
        if word.startswith("--") and word not in known and word != "--help":
            return f"{name} has no option {word}"
        if word == "--set":
            Config().override([rest[place + 1]])
        place += 1 + (word in known and not known[word].is_flag)
    return None


@pytest.mark.parametrize("name", PAGES)
def test_every_command_exists(name: str) -> None:
    wrong = {shlex.join(words): why for words in commands(page(name)) if (why := mistake(words))}
    assert wrong == {}


@pytest.mark.parametrize(
    "line",
    [
        "echoic trane x.csv",
        "echoic train x.csv --uot run",
        "make rnu",
        "python benchmarks/acuracy.py",
        "ecohic train x",
    ],
)
def test_a_wrong_command_is_found(line: str) -> None:
    assert mistake(shlex.split(line)) is not None


def test_a_wrong_setting_is_found() -> None:
    with pytest.raises(echoic.EchoicError, match="hidden"):
        mistake(shlex.split("echoic train x.csv --set model.hiden=3"))


@pytest.mark.parametrize("english", TWINS)
def test_both_languages_show_the_same_verbs_and_options(english: str) -> None:
    def shown(name: str) -> set[tuple[str, ...]]:
        blocks = "".join(f"{match.group()}\n" for match in FENCE.finditer(page(name)))
        return {tuple(w for i, w in enumerate(words) if i < 2 or w.startswith("--")) for words in commands(blocks)}

    assert shown(english) - shown(TWINS[english]) == set()


@pytest.mark.parametrize("name", [*READMES, "docs/quickstart.md", "docs/quickstart.zh-CN.md"])
def test_python_examples_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = "\n".join(block for kind, block in FENCE.findall(page(name)) if kind == "python")
    assert source
    (tmp_path / "example.py").write_text(source, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    runpy.run_path("example.py")


# Links and lists


@pytest.mark.parametrize("name", PAGES)
def test_links_inside_the_repository_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page(name)))
    inside = [link.partition("#")[0] for link in links if "://" not in link and not link.startswith("#")]
    assert [link for link in inside if not ((ROOT / name).parent / link).exists()] == []


def test_every_page_is_in_the_index() -> None:
    listed = set(re.findall(r"\]\(([\w.-]+\.md)\)", page("docs/index.md")))
    assert {p.name for p in (ROOT / "docs").glob("*.md")} - {"index.md"} == listed


def test_every_code_of_the_checks_and_every_exit_code_is_listed() -> None:
    from echoic.core import errors
    from echoic.read import check

    data = page("docs/data.md")
    assert set(re.findall(r"^\| ([A-Z]+\d{3})", str(check.__doc__), re.MULTILINE)) == set(
        re.findall(r"^\| ([A-Z]+\d{3})", data, re.MULTILINE)
    )
    codes = re.findall(r"\| (\d+) +\|", str(errors.__doc__))
    assert codes
    assert re.findall(r"\| (\d+) +\|", data.partition("## Exit codes")[2]) == codes


@pytest.mark.parametrize("name", READMES)
def test_a_readme_names_every_verb(name: str) -> None:
    from echoic.cli.main import VERBS

    assert [verb for verb in VERBS if f"`{verb}`" not in page(name)] == []


def test_no_path_of_somebodys_machine() -> None:
    assert [name for name in PAGES if re.search(r"/(work|home|root|Users|tmp)/", page(name))] == []


# Generated pages


@pytest.mark.parametrize("path", ["docs/make_config.py", "docs/make_cells.py", "docs/make_picture.py"])
def test_generated_pages_are_current(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [path, "--check"])
    assert script(path).main() == 0, f"run: python {path}"


def test_result_pages_are_current() -> None:
    stale = [path.name for path, text in results.pages().items() if path.read_text(encoding="utf-8") != text]
    assert stale == [], "run: python benchmarks/results.py"


# benchmarks/results.py on records made here

TRUTH = np.tile([0, 1, 2, 1], 50)


def packed(right: np.ndarray) -> str:
    return np.packbits(right).tobytes().hex()


def record(name: str, variant: str = "default", seed: int = 0, wrong: int = 20, **changes: Any) -> dict[str, Any]:
    """A record as accuracy.py writes it, on 200 test rows: the default has its first `wrong` rows wrong, TF-IDF 40."""
    scores = {}
    for path, count in {"alone": wrong + 10, "ngrams": 30, "default": wrong, "tfidf_lr": 40}.items():
        answers = TRUTH.copy()
        answers[:count] = (answers[:count] + 1) % 3
        right = answers == TRUTH
        scores[path] = {
            "accuracy": float(right.mean()),
            "macro_f1": results.macro_f1(answers, TRUTH, 3),
            "right": packed(right),
            "answers": answers.tolist(),
            "unseen": {"accuracy": float(right[100:].mean()), "macro_f1": 1.0},
        }
    return {
        "set": name,
        "variant": variant,
        "seed": seed,
        "settings": [],
        "rows": {"train": 900, "valid": 100, "test": 200},
        "seconds": {"fit": 60.0 + seed},
        "epochs": 3,
        "parameters": 1234,
        "peak_memory_mib": 500,
        "scores": scores,
        "command": f"python benchmarks/accuracy.py {name}",
        "versions": {"torch": "2.13.0"},
        "machine": {"processor": "a processor", "cores": 2, "system": "Linux"},
        "time": "2026-01-01 00:00:00",
    } | changes


def kept(folder: Path, *records: dict[str, Any]) -> Any:
    for each in records:
        path = folder / f"{each['set']}-{each['variant']}-{each['seed']}.json"
        path.write_text(json.dumps(each), encoding="utf-8")
    return results.read(folder)


def cells(table: str, start: str) -> list[str]:
    line = next(line for line in table.splitlines() if line.startswith(f"| {start} |"))
    return [cell.strip() for cell in line.strip("|").split("|")]


@pytest.mark.parametrize("language", ["en", "zh"])
def test_without_records_every_figure_is_a_dash(tmp_path: Path, language: str) -> None:
    table = results.accuracy_table(results.read(tmp_path / "none"), language)
    rows = [line.strip("|").split("|")[2:] for line in table.splitlines()[2:]]
    assert len(rows) == len(results.ROWS)
    assert {cell.strip() for row in rows for cell in row} == {results.DASH}
    assert "No record yet." in results.results_page({})


def test_one_seed_says_so(tmp_path: Path) -> None:
    table = results.accuracy_table(kept(tmp_path, record("imdb")), "en")
    found = cells(table, "imdb")
    assert found[2:7] == ["85.0", results.DASH, "85.0", "**90.0**", "80.0"]
    assert found[8:] == ["1 seed", "60"]


def test_three_seeds_give_the_median_and_the_interval_of_its_seed(tmp_path: Path) -> None:
    records = kept(
        tmp_path, record("imdb", seed=2, wrong=4), record("imdb", seed=0, wrong=44), record("imdb", seed=1, wrong=12)
    )
    found = cells(results.accuracy_table(records, "en"), "imdb")
    assert found[5] == "**94.0**"
    assert found[8:] == ["3 seeds", "61"]
    right = np.arange(200) >= 12
    pair = mcnemar(right, np.arange(200) >= 40)
    assert found[7] == f"+14.0 [{100 * pair.low:+.1f}, {100 * pair.high:+.1f}]"
    assert cells(results.accuracy_table(records, "zh"), "imdb")[8] == "3 个种子"


def test_a_default_below_the_baseline_is_shown_as_such(tmp_path: Path) -> None:
    found = cells(results.accuracy_table(kept(tmp_path, record("imdb", wrong=60)), "en"), "imdb")
    assert found[7].startswith("−10.0 [−")


def test_word_vectors_are_the_network_alone_of_their_variant(tmp_path: Path) -> None:
    records = kept(tmp_path, record("imdb"), record("imdb", "vectors", wrong=0))
    assert cells(results.accuracy_table(records, "en"), "imdb")[3:6] == ["**95.0**", "85.0", "90.0"]


def test_macro_f1_and_its_interval_need_the_targets(tmp_path: Path) -> None:
    without = cells(results.accuracy_table(kept(tmp_path, record("trec")), "en"), "trec | macro F1")
    assert "[" not in without[7]
    known = cells(
        results.accuracy_table(kept(tmp_path, record("trec", targets=TRUTH.tolist())), "en"), "trec | macro F1"
    )
    assert re.fullmatch(r"\+\d+\.\d \[\+\d+\.\d, \+\d+\.\d\]", known[7])
    assert known[5] == f"**{100 * record('trec')['scores']['default']['macro_f1']:.1f}**"


def test_unseen_rows_have_a_row_of_their_own(tmp_path: Path) -> None:
    name = "chnsenticorp, without the test rows that are in train or dev"
    seen = np.arange(200) < 10
    first = cells(results.accuracy_table(kept(tmp_path, record("chnsenticorp")), "en"), name)
    assert first[5] == "**100.0**"
    assert "[" not in first[7]
    second = kept(tmp_path, record("chnsenticorp", seen=packed(seen)))
    pair = results._interval(second["chnsenticorp", "default"][0], results.Row("chnsenticorp", unseen=True))
    assert pair == mcnemar(np.arange(10, 200) >= 20, np.arange(10, 200) >= 40)


def test_a_record_without_the_ngram_path_has_dashes(tmp_path: Path) -> None:
    alone = record("imdb")
    del alone["scores"]["default"], alone["scores"]["ngrams"]
    assert cells(results.accuracy_table(kept(tmp_path, alone), "en"), "imdb")[4:8] == ["–", "–", "80.0", "–"]


def test_settings_other_than_the_defaults_are_named(tmp_path: Path) -> None:
    records = kept(tmp_path, record("imdb", settings=["model.hidden=64"]))
    assert "`imdb (default)` was trained with `--set model.hidden=64`." in results.block(records, "en")


@pytest.mark.parametrize("change", [{"settings": ["seed=1"]}, {"rows": {"train": 900, "valid": 100, "test": 199}}])
def test_seeds_of_different_experiments_are_not_mixed(tmp_path: Path, change: dict[str, Any]) -> None:
    with pytest.raises(SystemExit, match="imdb, default: its seeds differ"):
        kept(tmp_path, record("imdb"), record("imdb", seed=1, **change))


def test_bits_are_read_as_accuracy_writes_them() -> None:
    right = np.random.default_rng(0).random(13) < 0.5
    assert (results.unpacked(packed(right), 13) == right).all()


def test_only_what_stands_between_the_markers_is_replaced() -> None:
    old = f"a\n{results.START}\nold\n{results.END}\nb\n"
    new = results.between(old, "new", "page")
    assert new == f"a\n{results.START}\nnew\n{results.END}\nb\n"
    assert results.between(new, "new", "page") == new
    with pytest.raises(SystemExit, match="page: wants"):
        results.between("no markers", "new", "page")


def test_the_whole_page_has_every_seed_its_command_and_versions(tmp_path: Path) -> None:
    text = results.results_page(kept(tmp_path, record("imdb"), record("imdb", seed=1)))
    assert text.count("| imdb | default | ") == 2
    assert "python benchmarks/accuracy.py imdb" in text
    assert "torch 2.13.0" in text

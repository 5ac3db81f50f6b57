"""docs/config.md, from the configuration itself: every setting, its default and what it does.

    python docs/make_config.py            # writes the page
    python docs/make_config.py --check    # writes nothing, exits with 1 if the page is not up to date

`make_config.page` is a function of the source alone: no date, no machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from echoic import transplant
from echoic.core import registry
from echoic.core.config import Config, describe

PAGE = Path(__file__).parent / "config.md"
SECTIONS = {
    "task": "what is learned",
    "data": "how a file is read and split",
    "text": "how texts become tokens",
    "model": "the network",
    "train": "how it is trained",
}
FINETUNED = {
    "classify": "the classifier",
    "language": "its language model (besides those of `task.kind = generate`)",
    "adapt": "its language model where it begins from a base",
}
"""The parts of finetune.toml."""
HEAD = """# Settings

Written by `python docs/make_config.py` from `echoic.core.config`; change nothing here by hand. `echoic train --settings` lists them too, `echoic cells` and `echoic tasks` the options of each cell and task.

A setting is changed with `--set section.key=value` (repeatable), in a TOML file given with `--config`, or in Python with `Config().override(["section.key=value"])`. What is named later wins: defaults (a task and `echoic finetune` have some of their own, listed below), `--config`, `--set`, then the flags such as `--seed`. An unknown key is refused with the nearest name. A run folder holds its own `config.toml` with every default filled in. A dash means: not set.

```
echoic train reviews.csv --out gru-run --set model.cell.kind=gru --set train.lr=0.001
```
"""


def page() -> str:
    known = describe()
    parts = [HEAD.strip()]
    for section, title in SECTIONS.items():
        rows = {key: value for key, value in known.items() if key.startswith(f"{section}.")}
        parts.append(f"## {section}: {title}\n\n{table(rows)}")
        if section == "task":
            parts += options("task", "task")
            named = {f"`task.kind = {name}`": registry.flat_defaults("task", name) for name in registry.names("task")}
            parts += [defaults(f"with {name}", found) for name, found in named.items() if found]
            parts += [
                defaults(f"with `echoic finetune`, {part}", registry.flat(transplant.recipe(stage)))
                for stage, part in FINETUNED.items()
            ]
        if section == "model":
            parts += options("cell", "model.cell")
    rest = {key: value for key, value in known.items() if "." not in key}
    assert len(known) == len(rest) + sum(key.startswith(f"{s}.") for key in known for s in SECTIONS)
    return "\n\n".join([*parts, f"## The whole run\n\n{table(rest)}"]) + "\n"


def options(kind: str, section: str) -> list[str]:
    """A table of each registered thing's own options, for those that have any."""
    found = {name: describe(registry.get(kind, name).Options, f"{section}.") for name in registry.names(kind)}
    return [f"With `{section}.kind = {name}`:\n\n{table(own)}" for name, own in found.items() if own]


def defaults(where: str, found: dict[str, Any]) -> str:
    """Defaults that are others than those of this page."""
    listed = ", ".join(f"`{key} = {shown(value).strip('`')}`" for key, value in found.items())
    return f"Defaults that are others {where}, for whatever nobody named: {listed}."


def table(settings: dict[str, tuple[Any, str]]) -> str:
    lines = ["| setting | default | what it does |", "| --- | --- | --- |"]
    for key, (default, description) in settings.items():
        lines.append(f"| `{key}` | {shown(default)} | {description.replace('<', '&lt;').replace('|', '&#124;')} |")
    return "\n".join(lines)


def shown(default: Any) -> str:
    """A default as TOML writes it."""
    if default is None or default == ():
        return "–"
    if isinstance(default, str):
        return f'`"{default}"`'.replace("|", "\\|")
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"


def main() -> int:
    assert Config()  # the defaults are legal
    fresh = page()
    if "--check" in sys.argv[1:]:
        return int(PAGE.read_text(encoding="utf-8") != fresh)
    PAGE.write_text(fresh, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""`echoic cells`: the recurrences there are, and the options of each."""

from __future__ import annotations

from typing import Any

from echoic.cli.options import Talk, verb
from echoic.cli.output import render, say_json, table
from echoic.core import registry
from echoic.core.config import describe


@verb
def cells(talk: Talk) -> None:
    """List the recurrent cells and their options."""
    found = listing("cell")
    if talk.json:
        say_json({"cells": found})
    else:
        show_listing(found, "model.cell")


def listing(kind: str) -> list[dict[str, Any]]:
    """Every registered thing of a kind: its name, the first line of its page, its options."""
    out = []
    for name, summary in registry.summaries(kind).items():
        options = describe(registry.get(kind, name).Options)
        stated = {key: {"default": default, "description": text} for key, (default, text) in options.items()}
        out.append({"name": name, "summary": summary, "options": stated})
    return out


def show_listing(found: list[dict[str, Any]], section: str) -> None:
    """A line for each, and under it a line for each of its options."""
    rows = []
    for each in found:
        rows.append([each["name"], each["summary"]])
        for key, option in each["options"].items():
            rows.append([f"  {section}.{key}", f"{option['description']} (default {option['default']})"])
    render(table({"name": "left", "what it is": "left"}, rows))

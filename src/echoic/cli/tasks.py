"""`echoic tasks`: what can be learned, the options of each task, and what an answer looks like."""

from __future__ import annotations

from echoic.cli.cells import listing, show_listing
from echoic.cli.options import Talk, verb
from echoic.cli.output import say_json
from echoic.core import registry


@verb
def tasks(talk: Talk) -> None:
    """List the tasks and their options; --json adds the schema of an answer."""
    found = listing("task")
    if talk.json:
        for each in found:
            each["record"] = registry.get("task", each["name"]).Record.model_json_schema()
        say_json({"tasks": found})
    else:
        show_listing(found, "task")

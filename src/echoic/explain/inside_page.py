"""The inside of a text as one HTML page: a heat map of units by tokens, and whatever is under the pointer.

Hover a token: its gates, of the picked unit and over all of them. Click a unit: its curve for each gate and
state, the text in its colours, and where else in a file it is highest and lowest. The arrow keys do the same. The page is one
file: it loads nothing, and its policy lets no script run but its own, known by its hash (`inside.js`). Numbers are
kept in 8 bits, which a screen does not tell from more; `--json` has four digits.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from echoic.core import durable
from echoic.evaluate.page import STYLE, table
from echoic.explain.alike import Alike
from echoic.explain.flow import Flow, sentence
from echoic.explain.flow_shown import rows, svg
from echoic.explain.inside import Inside, Watched
from echoic.explain.page import say
from echoic.explain.pieces import visible

SCRIPT = Path(__file__).with_name("inside.js")


def write_page(
    path: str | Path, found: Inside, flows: Sequence[Flow] = (), alike: Sequence[Alike] = (), notes: Sequence[str] = ()
) -> None:
    """Writes the HTML file. Raises core.errors' kinds where the disk refuses."""
    durable.write_file(Path(path), html(found, flows, alike, notes).encode())


def html(found: Inside, flows: Sequence[Flow] = (), alike: Sequence[Alike] = (), notes: Sequence[str] = ()) -> str:
    script = SCRIPT.read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    title = f"Inside: {visible(found.label)} {found.probability:.1%}"
    said = "".join(f"<li>{say(note)}</li>" for note in (*found.notes, *notes))
    watched = _map(bool(alike)) if found.cells else ""
    scripts = (
        f'<script type="application/json" id="data">{_json(_data(found, alike))}</script><script>{script}</script>'
        if found.cells
        else ""
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        '<meta name="color-scheme" content="light dark">'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">'
        f"<title>{say(title)}</title><style>{STYLE}{OWN_STYLE}</style></head>\n"
        f"<body><main><h1>{say(title)}</h1>{f'<ul>{said}</ul>' if said else ''}\n{watched}\n{_flow(flows)}</main>\n"
        f"{scripts}</body></html>\n"
    )


def _map(alike: bool) -> str:
    places = (
        '<h2>Where else</h2><div class="lists"><div><h3>this unit is highest</h3><ol id="highest"></ol></div>'
        '<div><h3>this unit is lowest</h3><ol id="lowest"></ol></div>'
        '<div><h3>the whole state is most like this token’s</h3><ol id="nearest"></ol></div></div>'
        if alike
        else ""
    )
    return (
        "<noscript><p>This page draws with a script of its own, which is switched off here.</p></noscript>"
        '<p class="controls"><label>cell <select id="cell"></select></label> <span id="fields" role="group" '
        'aria-label="gate or state"></span> <label>units <select id="order"><option value="number">by number</option>'
        '<option value="moves">most moving first</option></select></label></p>'
        '<p class="text" id="text" dir="auto"></p>'
        '<div class="wide"><div class="map"><canvas id="map" tabindex="0" aria-label="units by tokens; arrow keys '
        'move"></canvas><div id="column"></div><div id="row"></div></div></div>'
        '<p class="soft">a row a unit, a column a token; <span class="key for"></span> above zero, <span class="key '
        'against"></span> below; hover a token, click a unit</p>'
        '<p><b id="token" role="status"></b></p><div class="wide"><table class="gates"><thead><tr><th scope="col"></th>'
        '<th scope="col">this unit</th><th scope="col">mean</th><th scope="col">all units</th></tr></thead>'
        '<tbody id="gates"></tbody></table></div>'
        f'<h2>This unit, gate by gate</h2><div id="curves"></div>{places}'
    )


def _flow(flows: Sequence[Flow]) -> str:
    drawn = svg(flows) if flows else ""
    if not drawn:
        return ""
    heads, body = rows(flows)
    cells = [[say(cell) for cell in row] for row in body]
    about = (
        "The norm of dL/dh, L being a loss at the last token alone: how much of it reaches the state of each token before. "
        "Down: it vanishes. Up: it explodes. Dashed: after clipping, which lowers a curve and bends none. "
        "Dotted: the norm of dL/dc, of a cell that keeps a memory beside its output. "
        "The others are cells of the same size that were not trained, on the same text."
    )
    return f"<h2>Where the gradient goes</h2><p>{say(sentence(flows))}</p>{drawn}<p class='soft'>{about}</p>{table(heads, cells)}"


def _data(found: Inside, alike: Sequence[Alike]) -> dict[str, Any]:
    tokens, place = [], found.spans[0][0] if found.spans else 0
    for start, end in found.spans:
        tokens.append({"gap": visible(found.text[place:start]), "word": visible(found.text[max(start, place) : end])})
        place = max(place, end)
    others: list[Alike | None] = [*alike] or [None] * len(found.cells)
    cells = [_cell(cell, other) for cell, other in zip(found.cells, others, strict=True)]
    return {"tokens": tokens, "first": found.first, "total": found.total, "starts": found.starts, "cells": cells}


def _cell(cell: Watched, alike: Alike | None) -> dict[str, Any]:
    fields = {}
    for name, values in cell.fields.items():
        scale = max(1.0, float(np.abs(values).max(initial=0.0)))
        small = np.rint(np.nan_to_num(values) / scale * 127).astype(np.int8)
        signed = bool((values < 0).any())
        fields[name] = {"data": base64.b64encode(small.tobytes()).decode(), "scale": scale, "signed": signed}
    out = {"name": cell.name, "units": cell.units, "output": cell.output, "fields": fields}
    return out if alike is None else out | {"alike": _visible(alike.document())}


def _visible(value: Any) -> Any:
    """Every text in it safe to draw."""
    if isinstance(value, str):
        return visible(value)
    if isinstance(value, dict):
        return {name: _visible(each) for name, each in value.items()}
    return [_visible(each) for each in value] if isinstance(value, list) else value


def _json(value: Any) -> str:
    """JSON that no text in it can end as HTML."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).replace("<", "\\u003c").replace("&", "\\u0026")


OWN_STYLE = """
:root { --for: 0 114 178; --against: 194 78 0 }
@media (prefers-color-scheme: dark) { :root { --for: 86 180 233; --against: 240 160 75 } }
main { max-width: 64rem } .soft, .text i, small { color: var(--soft) } .text i { font-style: normal }
.controls { display: flex; flex-wrap: wrap; gap: .5rem 1.25rem; align-items: baseline }
select, button { font: inherit; color: inherit; background: var(--pane); border: 1px solid var(--line); padding: .15rem .6rem }
button[aria-pressed=true] { background: var(--ink); color: var(--page) } button { cursor: pointer; margin-right: .2rem }
.text { font-size: 1.1rem; line-height: 1.9; white-space: pre-wrap; overflow-wrap: anywhere; background: var(--pane); padding: .75rem 1rem;
  max-height: 16rem; overflow-y: auto }
.t { padding: .15em .05em; cursor: pointer } .t.here { outline: 2px solid var(--ink) }
.map { position: relative; width: max-content; border: 1px solid var(--line) } canvas { display: block } #map { cursor: crosshair }
#map:focus { outline: 2px solid var(--ink) }
#column, #row { position: absolute; left: 0; top: 0; pointer-events: none; outline: 1px solid var(--ink) }
.key { display: inline-block; width: 1em; height: .8em; background: rgb(var(--for)) } .key.against { background: rgb(var(--against)) }
.gates td:last-child { text-align: left } .gates canvas { border: 1px solid var(--line) } .strip { display: block; width: 100%; margin: .15rem 0 }
.lists { display: grid; grid-template-columns: repeat(auto-fit, minmax(17rem, 1fr)); gap: 1rem } h3 { font-size: 1rem; font-weight: 600; margin: .5rem 0 }
ol { padding-left: 1.2rem; margin: 0 } li { overflow-wrap: anywhere } svg .dot-two { fill: var(--two) } .flow { display: block; margin: .5rem 0 }
@media (prefers-color-scheme: dark) { .flow { background: #e6e9ed; color: #1b1f24 } .flow text { fill: #1b1f24 } .flow .axis { stroke: #c3cad2 } .flow .soft { fill: #47505a } }
"""

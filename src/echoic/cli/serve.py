"""`echoic serve`: models over HTTP on this machine, and a page at /."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from echoic.cli.options import Precision, Talk, verb
from echoic.cli.output import hint, listener, say_json


@verb
def serve(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Run folders or bundles, or NAME=RUN.")],
    talk: Talk,
    precision: Precision,
    host: Annotated[str, typer.Option(help="Where to listen; beyond this machine it wants a token.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free port, which is printed.")] = 8000,
    token_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Its token is asked of everybody (or ECHOIC_TOKEN).")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="Another name this server is asked for by; repeatable.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, max=1024, help="Threads of a batch.")] = 1,
) -> None:
    """Serve models over HTTP, with a page to try them.

    Ctrl-C finishes what has begun and leaves; a HUP signal reads the models again.
    """
    from echoic.serve.models import Models, named
    from echoic.serve.running import serve as run
    from echoic.serve.running import token_of

    token = token_of(token_file, os.environ.get("ECHOIC_TOKEN"))
    models = Models(named(runs), threads, precision.products)
    said = listener(talk.quiet)
    run(
        models,
        host=host,
        port=port,
        token=token,
        allow_hosts=allow_host or (),
        said=said,
        log=(lambda line: None) if talk.quiet else hint,
        ready=lambda server, real: say_json({"host": host, "port": real}, line=True) if talk.json else None,
    )

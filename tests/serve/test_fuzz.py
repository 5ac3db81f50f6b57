"""Requests made from the server's own description of itself: no answer is a 500, and each is as described."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from export.models import language
from serve.bundles import make, saved, translator
from serve.clients import Served, serving

schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis: pip install 'echoic[dev]'")

EXAMPLES = 1000 if os.environ.get("ECHOIC_DEEP") == "1" else 50
"""Of each route that computes."""


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder = tmp_path_factory.mktemp("bundles")
    places = {
        "one": saved(make("model.bidirectional=false"), folder / "a"),
        "writer": saved(language(), folder / "b"),
        "german": saved(translator(), folder / "c"),
    }
    with serving({name: str(place) for name, place in places.items()}) as found:
        yield found


@pytest.mark.parametrize("route", ["/v1/predict", "/v1/explain", "/v1/stream", "/v1/generate", "/v1/translate"])
def test_what_is_described_is_what_is_answered(served: Served, route: str) -> None:
    from schemathesis.checks import CHECKS

    operation = schemathesis.openapi.from_url(f"http://127.0.0.1:{served.port}/openapi.json")[route]["POST"]
    right, wrong = (operation.as_strategy(generation_mode=mode) for mode in schemathesis.GenerationMode)
    checks = [CHECKS.get_one(f"{name}_conformance") for name in ("response_schema", "content_type", "status_code")]
    seen: Counter[int] = Counter()

    @settings(
        max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None, derandomize=True
    )
    @given(st.one_of(right, wrong))
    def ask(case: Any) -> None:
        answer = case.call()
        seen[answer.status_code] += 1
        assert answer.status_code < 500 or answer.status_code in (501, 503), answer.text
        case.validate_response(answer, checks=checks)

    ask()
    assert seen[200] >= EXAMPLES / 10
    assert sum(seen.values()) - seen[200] >= EXAMPLES / 10

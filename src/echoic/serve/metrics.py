"""Counts and times in Prometheus' text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Upper bounds of the classes of seconds."""

COUNTERS = {
    "echoic_requests_total": "Requests, by route and status.",
    "echoic_texts_total": "Texts answered, by model.",
    "echoic_prompts_total": "Prompts written on, by model.",
    "echoic_batches_total": "Batches computed.",
    "echoic_batch_texts_total": "Texts in those batches.",
    "echoic_reloads_total": "Reloads, by result.",
}

Labels = tuple[tuple[str, str], ...]


class Metrics:
    """Asked and told on the event loop's thread alone. `gauges`: what is read when somebody asks."""

    def __init__(self, gauges: dict[str, tuple[str, Callable[[], float]]] | None = None) -> None:
        self.gauges = gauges or {}
        self._counts: dict[str, Counter[Labels]] = {name: Counter() for name in COUNTERS}
        self._classes: Counter[tuple[str, float]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._times: Counter[str] = Counter()

    def count(self, name: str, by: float = 1, **labels: str) -> None:
        self._counts[name][tuple(sorted(labels.items()))] += by  # type: ignore[assignment]

    def took(self, route: str, seconds: float) -> None:
        self._times[route] += 1
        self._seconds[route] += seconds  # type: ignore[assignment]
        for bound in BOUNDS:
            self._classes[route, bound] += seconds <= bound

    def text(self) -> str:
        lines = []
        for name, about in COUNTERS.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} counter"]
            lines += [f"{name}{_labels(labels)} {value}" for labels, value in sorted(self._counts[name].items())]
        for name, (about, read) in self.gauges.items():
            lines += [f"# HELP {name} {about}", f"# TYPE {name} gauge", f"{name} {read()}"]
        name = "echoic_request_seconds"
        lines += [f"# HELP {name} Seconds from a request to its answer, by route.", f"# TYPE {name} histogram"]
        for route, times in sorted(self._times.items()):
            for bound in BOUNDS:
                labels = _labels((("le", f"{bound:g}"), ("route", route)))
                lines.append(f"{name}_bucket{labels} {self._classes[route, bound]}")
            lines.append(f"{name}_bucket{_labels((('le', '+Inf'), ('route', route)))} {times}")
            lines.append(f"{name}_sum{_labels((('route', route),))} {self._seconds[route]:.6f}")
            lines.append(f"{name}_count{_labels((('route', route),))} {times}")
        return "\n".join(lines) + "\n"


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{key}="{_escaped(value)}"' for key, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")

"""What attention is for, drawn from the records: BLEU by the length of the source, with attention and without.

    python benchmarks/by_length.py      # docs/by-length.png, of the sets that translate.py has trained both ways

The plot of Bahdanau et al. 2015, figure 2. Lengths are in the model's tokens; groups of fewer than 20 pairs are left out.
"""

from __future__ import annotations

from pathlib import Path

from language_table import with_twins
from markdown import Record, records
from record import RESULTS

PICTURE = Path(__file__).parent.parent / "docs" / "by-length.png"


def draw(pairs: list[tuple[str, Record, Record]], path: Path) -> None:
    """pairs: (set, its record with attention, the one without)."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.2 * len(pairs), 3.4), layout="constrained")
    for axes, (name, own, plain) in zip(figure.subplots(1, len(pairs), squeeze=False)[0], pairs, strict=True):
        for record, how, style in ((own, "with attention", "o-"), (plain, "without", "s--")):
            groups = [each for each in record["scores"]["by_length"] if each["rows"] >= 20]
            axes.plot([each["tokens"] for each in groups], [each["bleu"] for each in groups], style, label=how)
        axes.set(title=name, xlabel="tokens of the source, from", ylim=(0, None))
        axes.grid(alpha=0.3)
    axes = figure.axes[0]
    axes.set_ylabel("BLEU")
    axes.legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    draw(with_twins([record for _, record in records(RESULTS / "translate")]), PICTURE)
    print(PICTURE)

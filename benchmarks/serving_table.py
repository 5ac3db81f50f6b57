"""The part of RESULTS.md about answering: a cold start, one text by each way out, the server under load."""

from __future__ import annotations

from pathlib import Path

from markdown import Record, about, records, table


def section(folder: Path) -> str:
    """Markdown, empty where nothing was recorded. folder: results/."""
    parts = [
        *(cold_start(name, record) for name, record in records(folder / "predict")),
        *(throughput(record) for _, record in records(folder / "throughput")),
        *(export(record) for _, record in records(folder, "export.json")),
        eight_bits([record for _, record in records(folder / "int8")]),
        *(writing(record) for _, record in records(folder, "generate.json")),
        *(served(name, record) for name, record in records(folder / "serve")),
    ]
    return "\n\n".join(["## Answering", *filter(None, parts)]) + "\n" if any(parts) else ""


def cold_start(name: str, record: Record) -> str:
    share, pace = record["cold_start_share_of_import_torch"], record["texts_a_second"]
    first = record["milliseconds_for_the_first_text"]
    return "\n\n".join(
        [
            f"### From a cold start, and many texts ({name})",
            f"{about(record)} {record['texts']:,} texts, {record['tokens']:,} tokens, one thread on both sides.",
            table(
                ("", "predictor", "the same kernels through torch"),
                [
                    ("texts a second", f"{pace['predictor']:,.0f}", f"{pace['torch']:,.0f}"),
                    ("milliseconds for one text", f"{first['predictor']:.2f}", f"{first['torch']:.2f}"),
                ],
            ),
            f"`echoic predict` of one text, from nothing to the answer, takes {share['clock']:.2f} of the time of "
            f'`python -c "import torch"` ({share["processor"]:.2f} of the processor\'s).',
        ]
    )


def throughput(record: Record) -> str:
    rows = [
        (
            " ".join(filter(None, [row["way"], f"({row['settings']})" if row["settings"] else ""])),
            f"{row['texts_a_second']:,.0f}",
            f"{100 * row['accuracy']:.2f}" if "accuracy" in row else "the same",
        )
        for row in record["rows"]
    ]
    said = (
        f"{about(record)} {record['cell']}, both ways, with n-grams; {record['texts']:,} texts, {record['tokens']:,} tokens, from "
        f"raw text to label, one thread; medians by turns. fastText {record['fasttext']} with words and pairs of words, TF-IDF "
        "and logistic regression by scikit-learn over the same; torch's recurrences are its own kernels."
    )
    return "\n\n".join(
        [
            f"### Texts a second, and how many are right ({record['set']})",
            said,
            table(("by", "texts/s", "accuracy, %"), rows),
        ]
    )


def export(record: Record) -> str:
    rows = []
    for row in record["rows"]:
        size = f"{row['bytes']:,}" if "bytes" in row else ""
        off = f"{100 * row['rms']:.2f} %" if "int8" in row["way"] else ""
        rows.append((row["cell"], str(row["hidden"]), row["way"], f"{row['milliseconds']:.2f}", off, size))
    head = ("cell", "H", "by", "milliseconds", "logits off by", "bytes of the file")
    said = f"{about(record)} {record['steps']} tokens, read both ways, one thread; medians of {record['rounds']} rounds in turns."
    return "\n\n".join(["### One text, from ids to logits", said, table(head, rows)])


def eight_bits(found: list[Record]) -> str:
    if not found:
        return ""
    rows = [
        (
            f"{record['run']}, {record['cell']} {record['hidden']}",
            row["way"],
            f"{100 * row['accuracy']:.2f} %",
            f"{row['otherwise']:,} of {record['texts']:,}" if "otherwise" in row else "",
            f"{row['bytes']:,}" if "bytes" in row else "",
        )
        for record in found
        for row in record["rows"]
    ]
    head = ("run", "by", "accuracy", "answered otherwise", "bytes of the file")
    return "\n\n".join(["### What eight bits cost", *map(about, found), table(head, rows)])


def writing(record: Record) -> str:
    rows = [
        (row["cell"], row["way"], f"{row['microseconds']:,.1f}", f"{row['times torch']:.2f}") for row in record["rows"]
    ]
    said = (
        f"{about(record)} {record['kernel']}; one layer of {record['hidden']} units, one sample, one thread, "
        f"{record['tokens']} characters; medians of {record['rounds']} rounds in turns."
    )
    head = ("cell", "by", "microseconds a character", "times torch's speed")
    return "\n\n".join(["### Writing on, a character at a time", said, table(head, rows)])


def served(name: str, record: Record) -> str:
    one, rows = record["one"], []
    for load in ("held", "flood", "after"):
        found = record[load]
        refused = sum(count for status, count in found["statuses"].items() if status != "200")
        answered, no = found["answered_ms"] or {}, found["refused_ms"] or {}
        faults = found["broken"] + found["wrong"] + found["refusals_without_retry_after"]
        rows.append(
            (
                load,
                f"{found['clients']:,}",
                f"{found['texts_a_second']:,.0f}",
                *(f"{answered[q]:,.1f}" if answered else "" for q in ("p50", "p99")),
                f"{refused:,}",
                f"{no['p99']:,.1f}" if no else "",
                f"{found['healthz_ms']['p99']:,.1f}",
                f"{faults:,}",
            )
        )
    head = ("load", "clients", "answered a second", "p50 ms", "p99 ms", "refused", "p99 ms of a refusal", "p99 ms of /healthz", "faults")  # fmt: skip
    return "\n\n".join(
        [
            f"### Served over HTTP ({name})",
            f"{about(record)} One text a request; the clients are on the same processor, so these are lower bounds. "
            "A fault is a broken connection, an answer that is not the predictor's own, or a refusal without Retry-After.",
            table(head, rows),
            f"A lone request takes {one['served_ms']:.2f} ms, the predictor called directly {one['predictor_ms']:.2f}. "
            f"Memory: {record['memory_mib']['before']} MiB before, {record['memory_mib']['after']} after.",
        ]
    )

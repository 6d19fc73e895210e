"""The page of a set of benchmark records: results/reference/benchmarks.md from benchmarks.json."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

HEAD = """\
# Benchmarks

Made by `make bench` (tests/benchmarks); [docs/performance.md](../../docs/performance.md) explains the limits and the misses.
"Result" is the median over pairs of neighbouring runs of both ways, with the smallest and the largest; a share is of the
peer's time (less is better), "×" how many times less ours took. "Processor" is the same of the processor time of all threads.
Memory is what a way needed at its peak beyond what the process held before it. "Of the rate" is the share of the machine's own
matrix-product rate that our way reached, counting only operations that the work needs.
"""


def markdown(records: Mapping[str, Record]) -> str:
    """The whole page; `records` by name, in the order of the page."""
    quick = sorted(name for name, record in records.items() if record["quick"])
    warning = f"Of small sizes, to exercise the code, and no measurements: {', '.join(quick)}.\n" if quick else ""
    parts = [HEAD, warning, _machines(records.values()), _results(records)]
    for name, record in records.items():
        body = [_growth(one) for one in record["growth"]] + [f"{note}\n" for note in record["notes"]]
        if body:
            parts.append(f"## {name}\n")
            parts += body
    return "\n".join(parts)


def _machines(records: Iterable[Record]) -> str:
    """A line for each set of commit, machine and threads that the records are of."""
    lines: dict[str, list[str]] = {}
    for record in records:
        made = record["made"]
        rates = record["rates"]
        libraries = ", ".join(f"{name} {made['libraries'][name]}" for name in _NAMED if made["libraries"].get(name))
        where = made.get("device") or f"{made['processor']}, {record['threads']} threads of {made['cores']} cores"
        line = f"{where}; commit {(made['git_commit'] or 'unknown')[:12]}, Python {made['python']}, {libraries}"
        reached = f"{rates['matrix_gflops']:g} GFLOP/s, {rates['memory_gb_per_second']:g} GB/s"
        lines.setdefault(line, []).append(f"{record['name']} ({made['date'][:16]}Z, {reached})")
    told = [f"- {line}. Date and the machine's own rates then: {'; '.join(names)}." for line, names in lines.items()]
    return "\n".join(told) + "\n"


_NAMED = ("torch", "transformers", "sentence-transformers", "faiss-cpu", "mteb", "scikit-learn", "snakemake")


def _results(records: Mapping[str, Record]) -> str:
    heads = ("what", "work", "peer", "result", "processor", "target", "met", "ours, s", "peer, s", "ours, MiB", "peer, MiB",
             "of the rate", "checked")  # fmt: skip
    rows = []
    for record in records.values():
        if record["absent"]:
            rows.append((record["name"], f"not run: {record['absent']}", *[""] * (len(heads) - 2)))
        for line in record["rows"]:
            rows.append((
                line["name"], line["work"] + (f" ({line['scaled']})" if line["scaled"] else ""), line["peer"],
                _spread(line["values"], line["kind"]), _spread(line["cpu_values"], line["kind"]), line["target"] or "",
                {True: "yes", False: "**no**", None: ""}[line["met"]], *(_number(line[key]) for key in _COSTS),
                f"{line['share']:.0%}" if line["share"] else "", line["agreement"]["text"] if line["agreement"] else "",
            ))  # fmt: skip
    return _table(heads, rows)


_COSTS = ("ours_seconds", "peer_seconds", "ours_mb", "peer_mb")


def _spread(values: Sequence[float], kind: str) -> str:
    if not values:
        return ""
    ordered = sorted(values)
    middle = len(ordered) // 2
    median = ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
    unit = {"share": "", "times": " ×", "seconds": " s"}[kind]
    between = "" if len(ordered) == 1 else f" ({_number(ordered[0])}-{_number(ordered[-1])})"
    return f"{_number(median)}{unit}{between}"


def _number(value: float | None) -> str:
    """Three significant digits."""
    if value is None:
        return ""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _growth(growth: Mapping[str, Any]) -> str:
    title = growth["title"]
    return f"{title[0].upper()}{title[1:]}:\n\n" + _table(growth["columns"], growth["rows"])


def _table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(str(value) for value in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"

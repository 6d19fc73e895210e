"""Tables of methods at the named sizes, one column per test set: the form of tables A1 and A2 of arXiv 2410.13230.

A size is a named cell (layer, dim) such as Demi (2, 32); where the two sides of retrieval differ, its layer is that of
the query side. Values are means over seeds of the native runs.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from matryobench.analysis.blocks import MISSING, Block, number, to_latex, to_markdown
from matryobench.analysis.cells import AVERAGE, LINE, select
from matryobench.analysis.frames import csv_text
from matryobench.analysis.means import mark, titles_of
from matryobench.errors import InputError, unknown_name
from matryobench.files import write_text
from matryobench.grid import Cell

DAGGER, SUSPECT = "\N{DAGGER}", "\N{DOUBLE DAGGER}"
AFTER = "average of unflagged sets"  # name of the column in csv files

Flag = tuple[str, str, str]
"""method, size, dataset of a value that is suspect."""

_CELL = ["size", "layer", "dim"]
_ROW = ["recipe", "size", "method", "variant"]


@dataclass(frozen=True)
class _Look:
    """How values are printed: decimals, and the keys (recipe, size, method, variant, column) that carry a sign.

    `tainted` are suspect values and the means with one.
    """

    decimals: int
    differ: Collection[tuple[str, ...]]
    tainted: Collection[tuple[str, ...]]


def at_sizes(frame: pd.DataFrame, sizes: Mapping[str, Cell], sets: Mapping[str, str]) -> pd.DataFrame:
    """The native rows of `sets` (dataset -> its metric) at the sizes, in their order, with the column `size`.

    `layer` is the query layer. Raises InputError as `cells.select` does, for no size or set, for two sizes of one cell,
    and where no run has any of the sizes.
    """
    if not sizes or not sets:
        raise InputError("sizes: no size or no test set is named; name at least one of each.")
    if len(set(sizes.values())) < len(sizes):
        raise InputError(f"sizes: two of {', '.join(sizes)} are the same (layer, dim); name every cell once.")
    names = {tuple(cell): name for name, cell in sizes.items()}
    parts = []
    for dataset, metric in sets.items():
        rows = select(frame, dataset, metric)
        named = [names.get(cell, "") for cell in zip(rows["layer"], rows["dim"], strict=True)]
        parts.append(rows.assign(size=named))
    found = pd.concat(parts, ignore_index=True)
    found = found[found["size"] != ""]
    if found.empty:
        asked = ", ".join(f"{name} ({layer}, {dim})" for name, (layer, dim) in sizes.items())
        raise InputError(f"sizes: no run was evaluated at any of {asked}; name cells of the grid.")
    rank = {name: place for place, name in enumerate(sizes)}
    return found.sort_values("size", key=lambda column: column.map(rank), kind="stable", ignore_index=True)


def mean_over(rows: pd.DataFrame, column: str, wanted: Collection[str]) -> pd.DataFrame:
    """Means per run over the `wanted` datasets (column "dataset") or sizes ("size") of `at_sizes`; runs that lack one
    of them have none. A mean over sizes has no layer and dim; `column` holds "average" in all rows.
    """
    inside = rows[rows[column].isin(wanted)]
    by = [*LINE, "seed", *(_CELL if column == "dataset" else ["dataset"])]
    means = inside.groupby(by, as_index=False, sort=False).agg(value=("value", "mean"), held=(column, "nunique"))
    return means[means["held"] == len(set(wanted))].drop(columns="held").assign(**{column: AVERAGE})


def write_sizes(
    frame: pd.DataFrame,
    stem: Path,
    *,
    sizes: Mapping[str, Cell],
    sets: Mapping[str, str],
    average: Sequence[str] | None = None,
    flags: Sequence[Flag] = (),
    significance: pd.DataFrame | None = None,
    note: str = "",
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes methods x sizes by `sets` (dataset -> its metric) as `stem`.csv (exact), .md and .tex; returns the paths.

    Last come the average over the sets in `average` (default: all, or none where metrics differ; one set has none) and,
    with `flags`, the one over those that no flag names, the same for all rows so that they stay comparable. A second table
    gives the mean over the sizes. The best printed value of each size is bold; flagged ones do not compete, while means
    with one do, with its sign.
    `significance` (see the module of that name) sets a dagger, which `note` explains. Rows are ordered by size, then as
    in `titles` (methods -> titles). Raises InputError as `at_sizes`, for flags of unknown names and for an average over
    sets of different metrics.
    """
    rows = at_sizes(frame, sizes, sets)
    averaged = _averaged(sets, average)
    _check_flags(flags, rows, sizes, sets)
    kept = [name for name in averaged if name not in {dataset for _, _, dataset in flags}]
    titles = titles_of(rows["method"], titles)
    columns = _columns(sets, averaged, kept)
    parts = [rows]
    for name, wanted in ((AVERAGE, averaged), (AFTER, kept)):
        if name in columns:
            parts.append(mean_over(rows, "dataset", wanted).assign(dataset=name))
    values = pd.concat(parts, ignore_index=True)
    rank = {method: place for place, method in enumerate(titles)}
    suspect, with_suspect = _suspect(values, flags, averaged)
    look = _Look(decimals, _differing(significance), with_suspect)
    blocks, tables = [], []
    for title, own, rivals_not in (
        (f"{_metrics(sets)} at the sizes{_seeds(values)}", values, suspect),
        (f"{_metrics(sets)}, mean over the {len(sizes)} sizes", mean_over(values, "size", list(sizes)), set()),
    ):
        cells = _over_seeds(own, rank, list(sizes))
        if cells.empty:  # no row has all sizes
            continue
        blocks.append(_block(title, _marked(cells, rivals_not, decimals), columns, sizes, titles, look))
        tables.append(_wide(cells, list(columns), sizes, flags))
    notes = _notes(flags, bool(look.differ), note, [name for name in averaged if name not in kept])
    return _write(stem, csv_text(pd.concat(tables, ignore_index=True)), blocks, notes)


def _averaged(sets: Mapping[str, str], average: Sequence[str] | None) -> list[str]:
    if average is None:
        return list(sets) if len(set(sets.values())) == 1 and len(sets) > 1 else []
    for name in average:
        if name not in sets:
            raise unknown_name("sizes", "set of the average", name, sets)
    if len({sets[name] for name in average}) > 1:
        raise InputError(f"sizes: the sets {', '.join(average)} have different metrics; average those of one metric.")
    return list(average) if len(average) > 1 else []


def _check_flags(flags: Sequence[Flag], rows: pd.DataFrame, sizes: Mapping[str, Cell], sets: Mapping[str, str]) -> None:
    for method, size, dataset in flags:
        for kind, name, valid in (
            ("method", method, set(rows["method"])),
            ("size", size, set(sizes)),
            ("dataset", dataset, set(sets)),
        ):
            if name not in valid:
                raise unknown_name("flags", kind, name, valid)


def _columns(sets: Mapping[str, str], averaged: Sequence[str], kept: Sequence[str]) -> dict[str, str]:
    """Names of the columns with their printed headers."""
    several = len(set(sets.values())) > 1
    columns = {name: f"{name} ({metric})" if several else name for name, metric in sets.items()}
    if averaged:
        part = f" of {len(averaged)}" if len(averaged) < len(sets) else ""
        columns[AVERAGE] = f"average{part}"
    if kept and len(kept) < len(averaged):
        left_out = [name for name in averaged if name not in kept]
        columns[AFTER] = f"average without {', '.join(left_out)}"
    return columns


def _metrics(sets: Mapping[str, str]) -> str:
    return ", ".join(dict.fromkeys(sets.values()))


def _seeds(values: pd.DataFrame) -> str:
    count = values.groupby([*LINE, "size", "dataset"])["seed"].nunique()
    low, high = int(count.min()), int(count.max())
    if high == 1:
        return ""
    return f" (mean ± sd over {high if low == high else f'{low} to {high}'} seeds)"


def _differing(significance: pd.DataFrame | None) -> set[tuple[str, ...]]:
    if significance is None:
        return set()
    marked = significance[significance["significant"]]
    return set(marked[[*_ROW, "dataset"]].itertuples(index=False, name=None))


def _suspect(
    values: pd.DataFrame, flags: Sequence[Flag], averaged: Sequence[str]
) -> tuple[set[tuple[str, ...]], set[tuple[str, ...]]]:
    """Keys of the flagged values, and of these and the means with one, over sets and over sizes."""
    single: set[tuple[str, ...]] = set()
    tainted: set[tuple[str, ...]] = set()
    for recipe, size, method, variant, dataset in set(values[[*_ROW, "dataset"]].itertuples(index=False, name=None)):
        if (method, size, dataset) in set(flags):
            single.add((recipe, size, method, variant, dataset))
            columns = [dataset, *[AVERAGE] * (dataset in averaged)]
            tainted |= {(recipe, at, method, variant, column) for at in (size, AVERAGE) for column in columns}
    return single, tainted


def _over_seeds(values: pd.DataFrame, rank: Mapping[str, int], sizes: Sequence[str]) -> pd.DataFrame:
    """Means and deviations over seeds per row of the table and dataset, in the table's order."""
    means = values.groupby([*_ROW, "dataset"], sort=False)["value"].agg(mean="mean", sd="std").reset_index()
    place = {size: at for at, size in enumerate(sizes)}
    means["at"], means["rank"] = means["size"].map(place), means["method"].map(rank)
    return means.sort_values(["recipe", "at", "rank", "variant"], ignore_index=True).drop(columns=["at", "rank"])


def _marked(cells: pd.DataFrame, suspect: Collection[tuple[str, ...]], decimals: int) -> pd.DataFrame:
    keys = cells[[*_ROW, "dataset"]].itertuples(index=False, name=None)
    cells = cells.assign(suspect=[key in suspect for key in keys])
    rivals = mark(cells[~cells["suspect"]], ["recipe", "size", "dataset"], decimals)
    return cells.assign(best=rivals["best"].reindex(cells.index, fill_value=False))


def _block(
    title: str,
    cells: pd.DataFrame,
    columns: Mapping[str, str],
    sizes: Mapping[str, Cell],
    titles: Mapping[str, str],
    look: _Look,
) -> Block:
    recipes, variants = cells["recipe"].nunique() > 1, cells.groupby("method")["variant"].nunique()
    several = set(variants[variants > 1].index)
    by_size = set(cells["size"]) != {AVERAGE}
    header = (*["recipe"] * recipes, *["size"] * by_size, "method")
    held = cells.set_index([*_ROW, "dataset"])[["mean", "sd", "best"]].to_dict("index")
    rows, bold = [], set()
    for at, row in enumerate(cells[_ROW].drop_duplicates().itertuples(index=False, name=None)):
        recipe, size, method, variant = row
        name = f"{titles[method]} ({variant})" if method in several else titles[method]
        place = f"{size} ({', '.join(map(str, sizes[size]))})" if by_size else ""
        texts = [*[recipe] * recipes, *[place] * by_size, name]
        for column in columns:
            key = (*row, column)
            value = held.get(key)
            if value and value["best"]:
                bold.add((at, len(texts)))
            signs = DAGGER * (key in look.differ) + SUSPECT * (key in look.tainted)
            texts.append(number(value["mean"], look.decimals, value["sd"]) + signs if value else MISSING)
        rows.append(tuple(texts))
    labels = len(header)
    return Block(title, (*header, *columns.values()), tuple(rows), labels, max(1, labels - 1), frozenset(bold))


def _wide(
    cells: pd.DataFrame, columns: Sequence[str], sizes: Mapping[str, Cell], flags: Sequence[Flag]
) -> pd.DataFrame:
    """A row per row of the table: exact means, deviations where there are several seeds, and the flagged sets."""
    wide = cells.pivot(index=_ROW, columns="dataset", values=["mean", "sd"])
    wide = wide.reindex(pd.MultiIndex.from_frame(cells[_ROW].drop_duplicates()))
    spread = bool(cells["sd"].notna().any())
    order = [(name, key) for key in columns for name in ("mean", "sd")[: 1 + spread]]
    exact = wide.reindex(columns=pd.MultiIndex.from_tuples(order))
    exact = exact.set_axis([key + " sd" * (name == "sd") for name, key in order], axis=1).reset_index()
    if set(exact["size"]) == {AVERAGE}:
        exact["size"] = "mean of sizes"
    place: Mapping[str, tuple[int | None, int | None]] = {**sizes}
    for at, name in enumerate(("layer", "dim")):
        exact.insert(2 + at, name, pd.array([place.get(size, (None, None))[at] for size in exact["size"]], "Int64"))
    flagged = [
        ", ".join(dataset for one, its_size, dataset in flags if (one, its_size) == (method, size))
        for method, size in zip(exact["method"], exact["size"], strict=True)
    ]
    return exact.assign(flagged=flagged)


def _notes(flags: Sequence[Flag], daggers: bool, note: str, left_out: Sequence[str]) -> list[str]:
    notes = ["Bold: the best printed value" + (", flagged ones left aside." if flags else ".")]
    if daggers:
        notes.append(f"{DAGGER} {note or 'Differs significantly from the reference method at the same size.'}")
    if flags:
        reading = (
            f"; {', '.join(left_out)} {'is' if len(left_out) == 1 else 'are'} left out of all rows of the last column"
        )
        notes.append(f"{SUSPECT} Flagged as suspect, or a mean with such a value{reading if left_out else ''}.")
    return notes


def _write(stem: Path, exact: str, blocks: Sequence[Block], notes: Sequence[str]) -> list[Path]:
    """As `blocks.write`, with the notes below the tables and the signs in LaTeX's own form."""
    signs = {DAGGER: r"$^{\dagger}$", SUSPECT: r"$^{\ddagger}$"}
    latex = to_latex(blocks) + "\n" + "".join(rf"\par\noindent{{\footnotesize {line}}}" + "\n" for line in notes)
    for sign, command in signs.items():
        latex = latex.replace(sign, command)
    markdown = to_markdown(blocks) + "\n" + "\n\n".join(notes) + "\n"
    found = []
    for suffix, text in ((".csv", exact), (".md", markdown), (".tex", latex)):
        found.append(stem.with_name(stem.name + suffix))
        write_text(found[-1], text)
    return found

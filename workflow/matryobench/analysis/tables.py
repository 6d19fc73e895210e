"""Grid tables of one dataset and metric (csv, markdown, LaTeX), and their means per layer, per dim and wins per method.

All of them hold means over seeds. What is compared is what is printed: bold, ties and "strictly best" follow the values
rounded to `decimals`, so that a reader can recount them from the page. Missing cells print as an en dash and never
enter a mean silently: a mean over dims (or layers) is given only to rows that have all of them, and where some row has
not, a second table gives the means over the cells that all rows share.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from matryobench.analysis.cells import LINE, over_seeds, select
from matryobench.errors import InputError
from matryobench.files import write_text

MISSING = "\N{EN DASH}"
_OTHER = {"layer": "dim", "dim": "layer"}


@dataclass(frozen=True)
class Block:
    """A printed table of text cells.

    The first `labels` columns name a row, the first `group` of these bind rows together; `bold` holds (row, column).
    """

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    labels: int
    group: int
    bold: frozenset[tuple[int, int]] = frozenset()


def grid(
    frame: pd.DataFrame, *, dataset: str, metric: str, decimals: int = 4, titles: Mapping[str, str] | None = None
) -> pd.DataFrame:
    """Per recipe, layer, method, variant and dim: title, mean, sd (n - 1; NaN for one seed), seeds, shown, best, sole.

    `shown` is the mean at the printed precision; `best` marks the highest of at least two shown values of one (recipe,
    layer, dim), `sole` a best without a tie. `titles` maps methods to titles and gives their order (default: the names,
    alphabetically). Raises InputError for a method without a title, and as `cells.select` does.
    """
    cells = over_seeds(select(frame, dataset, metric))
    titles = {name: name for name in sorted(cells["method"].unique())} if titles is None else titles
    bare = sorted(set(cells["method"]) - set(titles))
    if bare:
        raise InputError(f"cells table: no title for the method(s) {', '.join(bare)}; add one for each of them.")
    cells["title"] = cells["method"].map(dict(titles))
    cells["rank"] = cells["method"].map({method: place for place, method in enumerate(titles)})
    cells["shown"] = cells["mean"].map(lambda value: float(f"{value:.{decimals}f}"))
    rivals = cells.groupby(["recipe", "layer", "dim"])["shown"]
    cells["best"] = (cells["shown"] == rivals.transform("max")) & (rivals.transform("size") > 1)
    winners = cells.groupby(["recipe", "layer", "dim"])["best"].transform("sum")
    cells["sole"] = cells["best"] & (winners == 1)
    return cells.sort_values(["recipe", "layer", "rank", "variant", "dim"], ignore_index=True).drop(columns="rank")


def marginal_means(cells: pd.DataFrame, over: str, *, shared: bool = False) -> pd.DataFrame:
    """Means of a `grid` over one axis ("layer" or "dim") per recipe, method, variant and the other axis: value, cells.

    Only rows that have all cells of their recipe there; with `shared`, all rows, over the cells that all of them have.
    """
    at = _OTHER[over]
    if shared:
        rows = cells[LINE].drop_duplicates().groupby("recipe").size()
        held = cells.groupby(["recipe", "layer", "dim"])["mean"].transform("size")
        cells = cells[held == cells["recipe"].map(rows)]
    by = [*LINE, "title", at]
    means = cells.groupby(by, as_index=False, sort=False).agg(value=("mean", "mean"), cells=("mean", "size"))
    full = means["recipe"].map(cells.groupby("recipe")[over].nunique())
    return means if shared else means[means["cells"] == full].reset_index(drop=True)


def wins(cells: pd.DataFrame) -> pd.DataFrame:
    """Per recipe, method, variant of a `grid`: its cells, those with a rival (compared), strictly_best, tied_best."""
    compared = cells.groupby(["recipe", "layer", "dim"])["mean"].transform("size") > 1
    marked = cells.assign(compared=compared, tied=cells["best"] & ~cells["sole"])
    return marked.groupby([*LINE, "title"], as_index=False, sort=False).agg(
        cells=("mean", "size"), compared=("compared", "sum"), strictly_best=("sole", "sum"), tied_best=("tied", "sum")
    )


def write_grid(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the full grid as `stem`.csv (exact values, empty where missing), .md and .tex; returns the three paths."""
    cells = grid(frame, dataset=dataset, metric=metric, decimals=decimals, titles=titles)
    wide = cells.pivot(index=["recipe", "layer", "method", "variant"], columns="dim", values=["mean", "sd"])
    wide = wide.reindex(pd.MultiIndex.from_frame(cells[list(wide.index.names)].drop_duplicates()))
    spread = bool(cells["sd"].notna().any())
    columns = [(name, dim) for dim in sorted(cells["dim"].unique()) for name in ("mean", "sd")[: 1 + spread]]
    exact = wide[columns].set_axis([f"{dim}" if name == "mean" else f"{dim} sd" for name, dim in columns], axis=1)
    text = exact.reset_index().to_csv(index=False, lineterminator="\n")
    return _write(stem, text, [_grid_block(cells, dataset, metric, decimals)])


def write_summary(
    frame: pd.DataFrame,
    stem: Path,
    *,
    dataset: str,
    metric: str,
    decimals: int = 4,
    titles: Mapping[str, str] | None = None,
) -> list[Path]:
    """Writes the means per layer and per dim and the counts of best cells as `stem`.csv (tidy), .md and .tex."""
    cells = grid(frame, dataset=dataset, metric=metric, decimals=decimals, titles=titles)
    partial = _is_partial(cells)
    tidy, blocks = [], []
    for shared in (False, True)[: 1 + partial]:
        for over in ("dim", "layer"):
            means = marginal_means(cells, over, shared=shared)
            scope = "shared_cells" if shared else "all_cells"
            tidy.append(means.assign(statistic=f"mean_over_{over}s", scope=scope))
            blocks.append(_means_block(cells, means, over, shared, dataset, metric, decimals))
    counts = wins(cells)
    for name in ("compared", "strictly_best", "tied_best"):
        one = counts[[*LINE, "cells"]].assign(value=counts[name], statistic=name, scope="all_cells")
        tidy.append(one)
    columns = ["statistic", "scope", *LINE, "layer", "dim", "value", "cells"]
    exact = pd.concat(tidy, ignore_index=True).reindex(columns=columns)
    exact[["layer", "dim"]] = exact[["layer", "dim"]].astype("Int64")
    rows = [tuple(str(entry) for entry in row) for row in counts.drop(columns="method").itertuples(index=False)]
    labels = [(recipe, title, variant) for recipe, variant, title, *_ in rows]
    header = ("recipe", "method", "variant", "cells", "compared", "strictly best", "tied best")
    body = tuple((*label, *row[3:]) for label, row in zip(labels, rows, strict=True))
    blocks.append(
        Block(f"{metric}, {dataset}, cells where a method is best among those that have the cell", header, body, 3, 1)
    )
    return _write(stem, exact.to_csv(index=False, lineterminator="\n"), blocks)


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as pipe tables under their titles, numbers right-aligned."""
    parts = []
    for block in blocks:
        lines = [f"**{block.title}**", "", _pipe(block.header)]
        lines.append(_pipe([":--"] * block.labels + ["--:"] * (len(block.header) - block.labels)))
        for at, row in enumerate(block.rows):
            plain = [entry.replace("|", "\\|") for entry in row]
            lines.append(_pipe(f"**{e}**" if (at, place) in block.bold else e for place, e in enumerate(plain)))
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


def to_latex(blocks: Sequence[Block]) -> str:
    """The blocks as tabulars for the package booktabs, a rule between groups, repeated group labels blank."""
    parts = []
    for block in blocks:
        columns = "l" * block.labels + "r" * (len(block.header) - block.labels)
        lines = [f"% {block.title}", rf"\begin{{tabular}}{{{columns}}}", r"\toprule"]
        lines += [" & ".join(map(_escaped, block.header)) + r" \\", r"\midrule"]
        before: tuple[str, ...] = ()
        for at, row in enumerate(block.rows):
            key = row[: block.group]
            if before and key != before:
                lines.append(r"\midrule")
            texts = [_escaped(entry) for entry in row]
            texts = [rf"\textbf{{{e}}}" if (at, place) in block.bold else e for place, e in enumerate(texts)]
            shared = [place for place in range(block.group) if before[: place + 1] == key[: place + 1]]
            texts = ["" if place in shared else entry for place, entry in enumerate(texts)]
            lines.append(" & ".join(texts) + r" \\")
            before = key
        parts.append("\n".join([*lines, r"\bottomrule", r"\end{tabular}"]) + "\n")
    return "\n".join(parts)


def _grid_block(cells: pd.DataFrame, dataset: str, metric: str, decimals: int) -> Block:
    dims = sorted(cells["dim"].unique())
    rows, bold = [], set()
    for at, (_, line) in enumerate(cells.groupby(["recipe", "layer", "method", "variant"], sort=False)):
        printed = {
            d: _printed(mean, sd, decimals) for d, mean, sd in zip(line["dim"], line["mean"], line["sd"], strict=True)
        }
        best = set(line["dim"][line["best"]])
        bold |= {(at, 4 + place) for place, dim in enumerate(dims) if dim in best}
        names = [str(line[name].iloc[0]) for name in ("recipe", "layer", "title", "variant")]
        rows.append((*names, *(printed.get(dim, MISSING) for dim in dims)))
    seeds = sorted(cells["seeds"].unique())
    count = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    title = f"{metric}, {dataset}, per layer and dim" + ("" if seeds == [1] else f" (mean ± sd over {count} seeds)")
    header = ("recipe", "layer", "method", "variant", *map(str, dims))
    return Block(title, header, tuple(rows), 4, 2, frozenset(bold))


def _means_block(
    cells: pd.DataFrame, means: pd.DataFrame, over: str, shared: bool, dataset: str, metric: str, decimals: int
) -> Block:
    at = _OTHER[over]
    keys = sorted(cells[at].unique())
    value = {(*map(str, row[:3]), row[4]): float(row[5]) for row in means.itertuples(index=False)}
    shown = {key: float(f"{number:.{decimals}f}") for key, number in value.items()}
    rows, bold = [], set()
    lines = cells[[*LINE, "title"]].drop_duplicates()
    for place, line in enumerate(lines.itertuples(index=False)):
        texts = []
        for column, key in enumerate(keys):
            own = (line.recipe, line.method, line.variant, key)
            rivals = [number for other, number in shown.items() if other[0] == line.recipe and other[3] == key]
            texts.append(_printed(value[own], math.nan, decimals) if own in value else MISSING)
            if own in shown and len(rivals) > 1 and shown[own] == max(rivals):
                bold.add((place, 3 + column))
        rows.append((str(line.recipe), str(line.title), str(line.variant), *texts))
    scope = " in the cells that all rows of the recipe have (compare within a column)" if shared else ""
    header = ("recipe", "method", "variant", *(f"{at} {key}" for key in keys))
    return Block(f"{metric}, {dataset}, mean over {over}s{scope}", header, tuple(rows), 3, 1, frozenset(bold))


def _is_partial(cells: pd.DataFrame) -> bool:
    held = cells.groupby(LINE)["mean"].transform("size")
    by_recipe = cells.groupby("recipe")
    return bool((held < by_recipe["layer"].transform("nunique") * by_recipe["dim"].transform("nunique")).any())


def _write(stem: Path, exact: str, blocks: Sequence[Block]) -> list[Path]:
    texts = {".csv": exact, ".md": to_markdown(blocks), ".tex": to_latex(blocks)}
    paths = [stem.with_name(stem.name + suffix) for suffix in texts]
    for path, text in zip(paths, texts.values(), strict=True):
        write_text(path, text)
    return paths


def _printed(mean: float, sd: float, decimals: int) -> str:
    text = f"{mean:.{decimals}f}"
    return text if math.isnan(sd) else f"{text} ± {sd:.{decimals}f}"


def _pipe(entries: Iterator[str] | Sequence[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def _escaped(text: str) -> str:
    special = {c: rf"\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
    special |= {"^": r"\textasciicircum{}", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}"}
    special |= {"±": r"$\pm$", MISSING: "--", "→": r"$\rightarrow$"}
    return "".join(special.get(letter, letter) for letter in text)

"""Published beside ours: per recipe a row of published panels, a row of ours, and a row (or column) of differences.

Both are drawn by the code of the panels and of the heat-maps. Between backbones of different shape, layers and dims are
matched by relative depth and width; the figure then stands on the published layers and dims and says what was matched.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import CenteredNorm
from matplotlib.figure import Figure

from matryobench.analysis.matching import ROW, Scale, matched
from matryobench.analysis.published import SHAPE
from matryobench.figures import differences, heatmaps, matrices, theme
from matryobench.figures.lines import add_legend
from matryobench.figures.matrices import draw_matrix
from matryobench.figures.panels import ROW as PANEL_HEIGHT
from matryobench.figures.panels import draw_panel
from matryobench.figures.theme import Line, Style
from matryobench.grid import Cell

SIDES = ("published", "ours", "ours \N{MINUS SIGN} published")


class Options(TypedDict, total=False):
    """What both figures may be told. `shape` and `published_shape` are (L, H) of the backbones, see
    `analysis.matching.matched`. `recipes` gives recipes their titles and order, `methods` restricts the figure to some,
    and `titles` gives methods other titles in it.
    """

    shape: Cell | None
    published_shape: Cell
    recipes: Mapping[str, str] | None
    methods: Sequence[str] | None
    titles: Mapping[str, str] | None


@dataclass(frozen=True)
class _Shown:
    """What both figures stand on: `rows` of `matched`, the published layers and dims, recipe -> title, and the note."""

    rows: pd.DataFrame
    rule: Scale
    layers: list[int]
    dims: list[int]
    recipes: dict[str, str]
    note: str


def draw(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    **options: Unpack[Options],
) -> Figure:
    """A column per (published) layer, dims on x, and per recipe three rows: published, ours, ours minus published.

    `frame` and `published` are cells tables; only lines and cells that both have are drawn, and the first two rows have
    one y axis. With several seeds ours is their mean and range. Raises InputError as `matched` and `theme.lines` do.
    """
    shown = _shown(frame, published, dataset, metric, options)
    rule, layers, dims, named = shown.rule, shown.layers, shown.dims, shown.recipes
    sides = _sides(shown.rows)
    lines = {recipe: _lines(sides, recipe, styles, options.get("titles")) for recipe in named}
    entries = {line.title: line for line in _ordered(lines.values(), styles)}
    legend = theme.legend_columns(list(entries), theme.WIDTH)
    with theme.context():
        height = PANEL_HEIGHT * len(SIDES) * len(named) + 0.6 + 0.16 * math.ceil(len(entries) / legend)
        height += 0.12 * shown.note.count("\n")
        figure = Figure(figsize=(theme.WIDTH, height), layout=theme.layout())
        axes = figure.subplots(len(SIDES) * len(named), len(layers), squeeze=False)
        panel = (theme.WIDTH - 0.7) / len(layers) - 0.08
        for block, (recipe, title) in enumerate(named.items()):
            own = [side[side["recipe"] == recipe] for side in sides]
            for at, side in enumerate(SIDES):
                row = axes[block * len(SIDES) + at]
                for layer, ax in zip(layers, row, strict=True):
                    draw_panel(ax, own[at][own[at]["layer"] == layer], lines[recipe][min(at, 1)], dims, panel)
                    ax.tick_params(labelbottom=at == len(SIDES) - 1, labelleft=layer == layers[0])
                    if at == 2:
                        ax.axhline(0.0, color="0.6", linewidth=0.7, zorder=1)
                    elif at == 0:
                        ax.set_title(_layer_title(rule, layer), pad=3)
                label = side if len(named) == 1 else f"{title}, {side}"
                row[0].set_ylabel(theme.wrapped(label, PANEL_HEIGHT * theme.POINTS * 0.9), labelpad=2)
            _share_y([*axes[block * len(SIDES)], *axes[block * len(SIDES) + 1]])
            _share_y(list(axes[block * len(SIDES) + 2]))
        figure.supxlabel(f"embedding dimension{'' if rule.same else ' (published)'}\n{shown.note}".rstrip())
        figure.supylabel(theme.wrapped(theme.metric_title(metric, dataset), (height - 0.4) * theme.POINTS))
        add_legend(figure, list(entries.values()), legend)
    return figure


def draw_heatmaps(
    frame: pd.DataFrame,
    published: pd.DataFrame,
    styles: Mapping[str, Style],
    *,
    dataset: str,
    metric: str,
    **options: Unpack[Options],
) -> Figure:
    """A row per recipe and line of ours with three heat-maps: published, ours (one colour scale), ours minus published.

    The parameters are those of `draw`; blue is above the published value, red below, hatched cells are not in both.
    """
    shown = _shown(frame, published, dataset, metric, options)
    rows, layers, dims = shown.rows, shown.layers, shown.dims
    maps = []
    for recipe in shown.recipes:
        of_recipe = rows[rows["recipe"] == recipe]
        for line in theme.lines(of_recipe, styles, options.get("titles")):
            maps.append((theme.line_title(line, recipe, shown.recipes), theme.rows_of(of_recipe, line, recipe)))
    values = pd.concat([rows["ours"], rows["published"]])
    change = rows["ours"] - rows["published"]
    norms = (
        matrices.normalised(values.min(), values.max()),
        CenteredNorm(0.0, max(1e-3, float(change.abs().max()))),
    )
    plain, signed = (ScalarMappable(*one) for one in zip(norms, (heatmaps.COLOURS, differences.COLOURS), strict=True))
    printers = (*[matrices.compact(list(values), signed=False)] * 2, matrices.compact(list(change), signed=True))
    with theme.context():
        height = (len(maps) * (len(layers) * matrices.LINE_HEIGHT + 26) + 96) / theme.POINTS + 0.12 * shown.note.count(
            "\n"
        )
        figure = Figure(figsize=(theme.WIDTH, height), layout=theme.layout())
        axes = figure.subplots(len(maps), len(SIDES), squeeze=False)
        room = (theme.WIDTH * theme.POINTS - 60) / len(SIDES) / len(dims)
        size = min(matrices.TEXT, room / (5 * theme.CHARACTER))  # "+.123"
        for at, (name, own) in enumerate(maps):
            grid = _on_published(own)
            grid["change"] = grid["ours"] - grid["published"]
            for place, column in enumerate(("published", "ours", "change")):
                ax, (norm, scale) = axes[at, place], (norms[1], signed) if column == "change" else (norms[0], plain)
                one = matrices.Panel("", name, matrices.on_grid(grid, column, layers, dims))
                draw_matrix(ax, one, norm, scale, printers[place], size)
                ax.set_title(f"{name}: {SIDES[place]}" if place == 0 else SIDES[place], pad=3)
                ax.tick_params(labelleft=place == 0, labelbottom=True)
            axes[at, 0].set_ylabel("layer", labelpad=2)
        label = theme.metric_title(metric, dataset)
        for scale, columns, text in ((plain, slice(0, 2), label), (signed, slice(2, 3), SIDES[2])):
            bar = figure.colorbar(scale, ax=axes[:, columns], location="bottom", fraction=0.05, aspect=30, shrink=0.8,
                                  pad=min(0.06, 0.14 / height))  # fmt: skip
            bar.set_label(text)
            bar.outline.set_linewidth(0.4)
        figure.supxlabel(f"layers and dims are the published ones\n{shown.note}" if shown.note else "")
    return figure


def _shown(frame: pd.DataFrame, published: pd.DataFrame, dataset: str, metric: str, options: Options) -> _Shown:
    methods = options.get("methods")
    if methods is not None:
        frame = frame[frame["method"].isin(methods)]
        published = published[published["method"].isin(methods)]
    rows, rule = matched(
        frame, published, dataset=dataset, metric=metric, shape=options.get("shape"),
        published_shape=options.get("published_shape", SHAPE),
    )  # fmt: skip
    layers, dims = sorted(rows["published_layer"].unique()), sorted(rows["published_dim"].unique())
    named = theme.recipe_titles(rows, options.get("recipes"))
    return _Shown(rows, rule, layers, dims, named, _note(rule, theme.WIDTH))


def _on_published(rows: pd.DataFrame) -> pd.DataFrame:
    """`matched` rows with the published layers and dims as layer and dim."""
    return rows.drop(columns=["layer", "dim"]).rename(columns={"published_layer": "layer", "published_dim": "dim"})


def _sides(rows: pd.DataFrame) -> list[pd.DataFrame]:
    """Published, ours and their difference as rows of `over_seeds` on the published layers and dims."""
    at = _on_published(rows)
    flat = at.assign(variant=at["published_variant"], mean=at["published"], seeds=1)
    theirs = flat.assign(low=flat["mean"], high=flat["mean"]).drop_duplicates([*ROW, "layer", "dim"])
    change = at.assign(mean=at["ours"] - at["published"])
    change[["low", "high"]] = at[["low", "high"]].sub(at["published"], axis=0)
    return [theirs, at.assign(mean=at["ours"]), change]


def _lines(
    sides: Sequence[pd.DataFrame], recipe: str, styles: Mapping[str, Style], titles: Mapping[str, str] | None
) -> tuple[list[Line], list[Line]]:
    """The published lines of a recipe and ours; where both have one of a method, they have one title in the legend."""
    theirs, ours = (theme.lines(side[side["recipe"] == recipe], styles, titles) for side in sides[:2])
    return theirs, ours


def _ordered(lines: Iterable[tuple[list[Line], list[Line]]], styles: Mapping[str, Style]) -> list[Line]:
    """All lines, those of a method together, published before ours."""
    rank = {method: place for place, method in enumerate(styles)}
    return sorted((line for pair in lines for own in pair for line in own), key=lambda line: rank[line.method])


def _layer_title(rule: Scale, layer: int) -> str:
    if rule.same:
        return f"layer {layer}"
    own = {other: number for number, other in rule.layers.items()}
    return f"layer {layer} (ours {own[layer]})"


def _note(rule: Scale, width: float) -> str:
    """What was matched with what, in lines that fit into `width` inches; nothing where the cells are the same."""
    text = f"ours → published, {rule.words()}; the values have different scales, so compare the shapes"
    return "" if rule.same else theme.wrapped(text, width * theme.POINTS)


def _share_y(axes: Sequence[Axes]) -> None:
    ends = [ax.get_ylim() for ax in axes if ax.has_data()]
    low, high = min(end[0] for end in ends), max(end[1] for end in ends)
    room = 0.04 * (high - low)  # a panel's own margin can be less than a marker in the common range
    for ax in axes:
        ax.set_ylim(low - room, high + room)

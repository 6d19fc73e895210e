"""The figures: what is drawn equals the table, gaps stay gaps, styles are honoured, files are whole and repeatable."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes
from matplotlib.colors import rgb_to_hsv, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Text

from matryobench.analysis import cells
from matryobench.errors import InputError
from matryobench.figures import differences, heatmaps, matrices, panels, theme
from matryobench.figures.theme import Style

STS: dict[str, Any] = {"dataset": "average", "metric": "spearman_cosine"}
STYLES = {
    "bert": Style("BERT", "#000000", "o"),
    "bert-s": Style("BERT-S", "#009E73", "s"),
    "mse": Style("MSE", "#E69F00", "^"),
    "2dmse": Style("2DMSE", "#0072B2", "D"),
    "srl": Style("SRL", "#CC79A7", "x"),
}
PUBLISHED = Path(__file__).parents[2].parent / "shared" / "published" / "sts_grid.csv"
PUBLISHED_RETRIEVAL = PUBLISHED.with_name("retrieval_grid.csv")


def grid(
    method: str, layers: tuple[int, ...] = (1, 2), dims: tuple[int, ...] = (8, 16, 32, 64), *, variant: str = "paper",
    recipe: str = "v1", seed: int = 0, shift: float = 0.0,
) -> pd.DataFrame:  # fmt: skip
    """A method whose value at (layer, dim) is layer / 10 + dim / 1000 + shift."""
    rows = [
        ("tiny", "sts", "average", "spearman_cosine", method, variant, recipe, "native", seed, la, la, d,
         la / 10 + d / 1000 + shift, 10, f"{method}-{variant}-{recipe}-{seed}")
        for la in layers for d in dims
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=list(cells.COLUMNS))


def published() -> pd.DataFrame:
    if not PUBLISHED.exists():
        pytest.skip("../shared/published/sts_grid.csv is not here")
    raw = pd.read_csv(PUBLISHED).rename(columns={"implementation": "recipe"})
    constant = {"experiment": "published", "task": "sts", "dataset": "average", "metric": "spearman_cosine"}
    return raw.assign(
        **constant,
        variant="paper",
        backend="native",
        seed=42,
        query_layer=raw["layer"],
        n_items=1,
        run_id=raw["method"],
    )[list(cells.COLUMNS)]


def drawn(ax: Axes) -> dict[str, list[float]]:
    """The y values of each line of a panel by colour and dash, NaN where the line has a gap."""
    return {f"{line.get_color()}": list(np.asarray(line.get_ydata(), dtype=float)) for line in ax.get_lines()}


def visible(figure: Figure) -> list[Axes]:
    return [ax for ax in figure.axes if ax.axison]


def matrices_of(figure: Figure) -> dict[str, list[list[str]]]:
    """The printed texts of each heat-map, row by row ("" for a missing cell)."""
    found = {}
    for ax in visible(figure):
        if ax.get_title():
            table = [["" for _ in ax.get_xticks()] for _ in ax.get_yticks()]
            for text in ax.texts:
                column, row = text.get_position()
                table[int(row)][int(column)] = text.get_text()
            found[ax.get_title()] = table
    return found


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Pairs of texts whose boxes overlap, and texts that leave the figure."""
    figure.draw_without_rendering()
    skipped = _hidden_tick_labels(figure)
    boxes = []
    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        off = text.axes is not None and not text.axes.axison
        if text.get_visible() and text.get_text().strip() and id(text) not in skipped and not off:
            box = text.get_window_extent()
            side = min(box.width, box.height)  # a font's box has room above and below its digits
            boxes.append((text.get_text(), box.padded(-0.15 * side)))
    page = figure.bbox
    out = [(n, "page") for n, b in boxes if b.x0 < page.x0 or b.y0 < page.y0 or b.x1 > page.x1 or b.y1 > page.y1]
    return out + [(a, b) for (a, box), (b, other) in combinations(boxes, 2) if box.overlaps(other)]


def _hidden_tick_labels(figure: Figure) -> set[int]:
    hidden = set()
    for ax in figure.axes:
        for axis in (ax.xaxis, ax.yaxis):
            low, high = sorted(axis.get_view_interval())
            for tick in axis.get_major_ticks():
                inside = low <= tick.get_loc() <= high
                hidden |= {id(label) for label in (tick.label1, tick.label2) if not (label.get_visible() and inside)}
    return hidden


def test_a_panel_per_layer_holds_a_line_per_method() -> None:
    frame = pd.concat([grid("bert"), grid("mse", shift=0.1)])
    figure = panels.draw(frame, STYLES, **STS)
    assert [ax.get_title() for ax in visible(figure)] == ["layer 1", "layer 2"]
    for layer, ax in enumerate(visible(figure), start=1):
        expected = np.array([8, 16, 32, 64]) / 1000 + layer / 10
        lines = drawn(ax)
        assert lines["#000000"] == pytest.approx(list(expected))
        assert lines["#E69F00"] == pytest.approx(list(expected + 0.1))
        assert ax.get_xscale() == "log" and list(ax.get_xticks()) == [8, 16, 32, 64]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["BERT", "MSE"]
    assert len({ax.get_ylim() for ax in visible(figure)}) == 1


def test_only_neighbouring_dims_are_joined() -> None:
    known = grid("bert-s", layers=(1,))
    known = known[known["dim"].isin([8, 32, 64])]
    figure = panels.draw(pd.concat([grid("bert"), known]), STYLES, **STS)
    first, second = (drawn(ax) for ax in visible(figure))
    assert np.isnan(first["#009E73"]).tolist() == [False, True, False, False]
    assert "#009E73" not in second


def test_each_recipe_has_its_row_and_wrapped_layers_keep_theirs() -> None:
    frame = pd.concat([grid("bert"), grid("bert", recipe="v2", shift=0.3)])
    figure = panels.draw(frame, STYLES, recipes={"v2": "V2", "v1": "V1"}, **STS)
    rows = [ax.texts[0].get_text() for ax in visible(figure) if ax.texts]
    assert rows == ["V2", "V1"]
    assert drawn(visible(figure)[0])["#000000"][0] == pytest.approx(0.408)
    wrapped = panels.draw(grid("bert", layers=(1, 2, 3, 4, 5)), STYLES, columns=3, **STS)
    assert [ax.get_title() for ax in visible(wrapped)] == [f"layer {layer}" for layer in (1, 2, 3, 4, 5)]


def test_seeds_are_drawn_as_mean_and_range() -> None:
    frame = pd.concat([grid("bert", seed=seed, shift=shift) for seed, shift in enumerate((0.0, 0.1, 0.5))])
    ax = visible(panels.draw(frame, STYLES, **STS))[0]
    assert drawn(ax)["#000000"][0] == pytest.approx(0.108 + 0.2)
    band = np.asarray(ax.collections[0].get_paths()[0].vertices)
    assert band[:, 1].min() == pytest.approx(0.108) and band[:, 1].max() == pytest.approx(0.164 + 0.5)
    assert not visible(panels.draw(grid("bert"), STYLES, **STS))[0].collections


def test_variants_share_hue_and_marker_and_differ_in_dashes_and_shade() -> None:
    names = ("paper", "released", "a", "b", "c", "d", "e")
    other = grid("bert", variant="two")
    lines = theme.lines(pd.concat([*(grid("mse", variant=name) for name in names), other]), STYLES)
    assert [line.title for line in lines[:3]] == ["BERT", "MSE (paper)", "MSE (released)"]
    mse = lines[1:]
    assert {line.marker for line in mse} == {"^"} and mse[0].colour == STYLES["mse"].colour
    assert len({line.dashes for line in mse}) == len({line.colour for line in mse}) == len(names)
    hues = [rgb_to_hsv(to_rgb(line.colour))[0] for line in mse]
    assert hues == pytest.approx([hues[0]] * len(names), abs=0.01)
    assert lines[0].dashes == mse[0].dashes == "solid"  # the only variant of a method is drawn plainly
    assert [line.hollow for line in mse] == [False, True, False, True, False, True, False]


def test_shades_start_with_the_colour_and_stay_visible() -> None:
    assert theme.shades("#0072B2", 0) == [] and theme.shades("#0072B2", 1) == ["#0072B2"]
    found = theme.shades("#56B4E9", 5)
    assert len(set(found)) == 5 and all(max(to_rgb(colour)) - min(to_rgb(colour)) > 0.15 for colour in found)


@pytest.mark.parametrize("draw", [panels.draw, heatmaps.draw])
def test_a_method_without_a_usable_style_is_refused(draw: Any) -> None:
    frame = grid("bert")
    with pytest.raises(InputError, match="method 'bert' has no style; give it a title, a colour and a marker"):
        draw(frame, {"mse": STYLES["mse"]}, **STS)
    for style, word in ((Style("B", "blakc", "o"), "colour 'blakc'"), (Style("B", "k", "oo"), "marker 'oo'"),
                        (Style(" ", "k", "o"), "empty title")):  # fmt: skip
        with pytest.raises(InputError, match=word):
            draw(frame, {"bert": style}, **STS)
    with pytest.raises(InputError, match="unknown dataset 'avrage'; did you mean average"):
        draw(frame, STYLES, dataset="avrage", metric="spearman_cosine")


def test_heatmaps_print_every_cell_of_every_method() -> None:
    partial = grid("bert-s")[lambda frame: frame["layer"] == 2]
    figure = heatmaps.draw(pd.concat([grid("bert"), partial]), STYLES, **STS)
    assert matrices_of(figure) == {
        "BERT": [[".108", ".116", ".132", ".164"], [".208", ".216", ".232", ".264"]],
        "BERT-S": [["", "", "", ""], [".208", ".216", ".232", ".264"]],
    }
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["not evaluated"]
    assert not heatmaps.draw(grid("bert"), STYLES, **STS).legends


def test_differences_are_signed_and_blank_where_the_baseline_is_missing() -> None:
    base = grid("bert-s", dims=(8, 32))
    frame = pd.concat([base, grid("bert", shift=-0.05), grid("mse", shift=0.1), grid("srl", layers=(3,))])
    figure = differences.draw(frame, STYLES, baseline="bert-s", **STS)
    gap = ["", "", "", ""]
    minus = "\N{MINUS SIGN}.050"
    assert matrices_of(figure) == {  # srl shares no cell with the baseline
        "BERT": [[minus, "", minus, ""], [minus, "", minus, ""], gap],
        "MSE": [["+.100", "", "+.100", ""], ["+.100", "", "+.100", ""], gap],
    }
    assert "difference from BERT-S" in figure.axes[-1].get_xlabel()
    low, high = figure.axes[-1].get_xlim()
    assert low == -high == pytest.approx(-0.1)


def test_differences_stay_within_a_recipe() -> None:
    frame = pd.concat(
        [grid("bert"), grid("mse", shift=0.1), grid("bert", recipe="v2"), grid("mse", recipe="v2", shift=-0.1)]
    )
    found = matrices_of(differences.draw(frame, STYLES, baseline="bert", **STS))
    assert found["MSE, v1"][0][0] == "+.100" and found["MSE, v2"][0][0] == "\N{MINUS SIGN}.100"


def test_the_baseline_must_be_there_and_be_one() -> None:
    frame = pd.concat([grid("bert"), grid("bert", variant="released"), grid("srl", layers=(5,))])
    with pytest.raises(InputError, match="unknown baseline method 'brt'; did you mean bert"):
        differences.draw(frame, STYLES, baseline="brt", **STS)
    with pytest.raises(InputError, match="'bert' has the variants paper, released; name one"):
        differences.draw(frame, STYLES, baseline="bert", **STS)
    with pytest.raises(InputError, match="unknown variant of baseline 'bert' 'relased'"):
        differences.draw(frame, STYLES, baseline="bert", variant="relased", **STS)
    found = matrices_of(differences.draw(frame, STYLES, baseline="bert", variant="paper", **STS))
    assert list(found) == ["BERT (released)"] and found["BERT (released)"][0][0] == ".000"
    with pytest.raises(InputError, match="no method shares a cell with baseline 'srl'"):
        differences.draw(frame, STYLES, baseline="srl", **STS)


def test_printed_values_are_short_and_exact() -> None:
    plain = matrices.compact([0.5, 1.0], signed=False)
    assert [plain(v) for v in (0.8164, 1.0, 0.0, -0.05)] == [".816", "1.000", ".000", "\N{MINUS SIGN}.050"]
    signed = matrices.compact([0.5], signed=True)
    assert [signed(v) for v in (0.0162, -0.0004, 0.0004)] == ["+.016", ".000", ".000"]
    percent = matrices.compact([81.64], signed=True)
    assert percent(81.64) == "+81.6"


def test_text_on_a_cell_has_the_higher_contrast() -> None:
    assert matrices.readable((1, 1, 1, 1)) == matrices.readable((1, 0.9, 0.2, 1)) == "black"
    assert matrices.readable((0, 0, 0, 1)) == matrices.readable((0.1, 0.1, 0.5, 1)) == "white"


def test_labels_that_would_touch_are_thinned_from_the_last_down() -> None:
    assert theme.thinned([0, 10, 20, 24], 8) == [0, 1, 3]
    assert theme.thinned([0, 10, 20], 5) == [0, 1, 2] and theme.thinned([3], 5) == [0]


def test_no_text_overlaps_or_leaves_the_page() -> None:
    long = {name: Style(f"{s.title}, trained as in release 5.1", s.colour, s.marker) for name, s in STYLES.items()}
    small = pd.concat([grid(name, shift=place / 50) for place, name in enumerate(STYLES)])
    single = grid("bert", layers=(6,), dims=(64, 128, 256, 384, 512, 640, 768))
    for figure in (
        panels.draw(small, long, **STS), heatmaps.draw(small, long, **STS), panels.draw(single, STYLES, **STS),
        differences.draw(small, long, baseline="mse", **STS), heatmaps.draw(single, STYLES, **STS),
    ):  # fmt: skip
        assert overlaps(figure) == []
        assert figure.get_size_inches()[0] <= theme.WIDTH


def test_published_grid_is_drawn_without_overlap_and_as_published() -> None:
    frame = published()
    figures = [panels.draw(frame, STYLES, **STS), heatmaps.draw(frame, STYLES, **STS)]
    figures.append(differences.draw(frame, STYLES, baseline="bert-s", **STS))
    for figure in figures:
        assert overlaps(figure) == []
    values = frame[(frame["recipe"] == "v2") & (frame["method"] == "2dmse")].sort_values(["layer", "dim"])["value"]
    last_row = visible(figures[0])[6:]
    assert [y for ax in last_row for y in drawn(ax)["#0072B2"]] == list(values)
    printed = matrices_of(figures[1])["2DMSE, v2"]
    assert [float(text) for row in printed for text in row] == list(values)


def published_retrieval() -> pd.DataFrame:
    """MRR@10 on MS MARCO dev, the dim lists of +DIMS as its variants and the documents of FIX-DOC at layer 12."""
    if not PUBLISHED_RETRIEVAL.exists():
        pytest.skip("../shared/published/retrieval_grid.csv is not here")
    raw = pd.read_csv(PUBLISHED_RETRIEVAL)
    raw = raw[(raw["metric"] == "mrr@10") & ~raw["method"].isin(["+dims", "paired-doc"])]
    raw = raw.drop_duplicates(["method", "layer", "dim"]).rename(columns={"method": "line"})
    named = raw["line"].str.extract(r"^(?P<method>[^\[]+)(?:\[(?P<variant>[\d,]+)\])?(?P<more>\+full-dim)?$")
    raw["method"] = named["method"] + named["more"].fillna("")
    raw["variant"] = named["variant"].fillna("paper")
    constant = {"experiment": "published", "task": "retrieval", "dataset": "msmarco-dev", "recipe": "tevatron"}
    raw = raw.assign(**constant, backend="native", seed=42, query_layer=raw["layer"], n_items=6980, run_id=raw["line"])
    raw.loc[raw["method"] == "fix-doc", "layer"] = 12
    return raw[list(cells.COLUMNS)]


RETRIEVAL: dict[str, Any] = {"dataset": "msmarco-dev", "metric": "mrr@10"}
RETRIEVAL_STYLES = STYLES | {
    "score": Style("SCORE", "#999933", "v"),
    "full-dim": Style("FULL-DIM", "#882255", "<"),
    "+dims": Style("+DIMS", "#56B4E9", ">"),
    "+dims+full-dim": Style("+DIMS+FULL-DIM", "#D55E00", "X"),
    "fix-doc": Style("FIX-DOC", "#117733", "d"),
}


def test_published_retrieval_figures_are_drawn_without_overlap() -> None:
    frame = published_retrieval()
    losses = ["bert-s", "2dmse", "score", "full-dim", "+dims", "+dims+full-dim"]
    documents: dict[str, Any] = {
        "methods": ["bert-s", "2dmse", "fix-doc"], "titles": {"2dmse": "Paired-doc (2DMSE)"}, **RETRIEVAL,
    }  # fmt: skip
    figures = {
        "2": panels.draw(frame, RETRIEVAL_STYLES, methods=["bert", "bert-s", "mse", "2dmse"], **RETRIEVAL),
        "4": panels.draw(frame, RETRIEVAL_STYLES, methods=losses, **RETRIEVAL),
        "5": panels.draw(frame, RETRIEVAL_STYLES, **documents),
        "5 differences": differences.draw(frame, RETRIEVAL_STYLES, baseline="2dmse", **documents),
        "all": heatmaps.draw(frame, RETRIEVAL_STYLES, **RETRIEVAL),
    }
    for name, figure in figures.items():
        assert overlaps(figure) == [], name
        assert figure.get_size_inches()[0] <= theme.WIDTH
    legend = [text.get_text() for text in figures["4"].legends[0].get_texts()]
    assert [text for text in legend if text.startswith("+DIMS (")] == [
        "+DIMS (32,128)", "+DIMS (8,16,32,64,128,512)", "+DIMS (8,32,128,512)"
    ]  # fmt: skip
    assert [text.get_text() for text in figures["5"].legends[0].get_texts()] == [
        "BERT-S", "Paired-doc (2DMSE)", "FIX-DOC"
    ]  # fmt: skip
    published = frame[(frame["method"] == "fix-doc") & (frame["query_layer"] == 6)].sort_values("dim")["value"]
    assert drawn(visible(figures["5"])[2])["#117733"] == list(published)
    assert "difference from Paired-doc (2DMSE)" in figures["5 differences"].axes[-1].get_xlabel()
    assert matrices_of(figures["5 differences"])["FIX-DOC"][2][4] == "+.022"  # .3031 - .2812 at layer 6, dim 128


def test_figures_are_restricted_to_methods_and_put_the_query_layer_on_the_axis() -> None:
    fixed = grid("srl").assign(layer=2)  # documents always at layer 2
    frame = pd.concat([grid("bert"), grid("mse", shift=0.1), fixed, grid("bert").assign(backend="tevatron")])
    figure = panels.draw(frame, STYLES, methods=["srl", "mse"], titles={"srl": "Fixed", "bert": "unused"}, **STS)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["MSE", "Fixed"]
    assert drawn(visible(figure)[0])["#CC79A7"][0] == pytest.approx(0.108)
    assert list(matrices_of(heatmaps.draw(frame, STYLES, methods=["srl"], **STS))) == ["SRL"]
    found = matrices_of(differences.draw(frame, STYLES, baseline="bert", methods=["srl"], **STS))
    assert found == {"SRL": [[".000"] * 4] * 2}
    for draw in (panels.draw, heatmaps.draw):
        with pytest.raises(InputError, match="unknown method 'sr'; did you mean srl"):
            draw(frame, STYLES, methods=["sr"], **STS)


def test_many_lines_get_larger_panels() -> None:
    layers = (1, 2, 3, 4, 5, 6)
    few = pd.concat([grid("mse", layers, variant=f"v{place}") for place in range(9)])
    many = pd.concat([few, grid("bert", layers)])
    assert panels.draw(few, STYLES, **STS).axes[0].get_subplotspec().get_gridspec().ncols == 6
    figure = panels.draw(many, STYLES, **STS)
    assert figure.axes[0].get_subplotspec().get_gridspec().get_geometry() == (2, 3)
    assert overlaps(figure) == []


def test_saved_files_repeat_and_carry_their_provenance(tmp_path: Path) -> None:
    note = {"input": "0f" * 32, "experiment": "tiny $_& <é>"}
    frame = pd.concat([grid("bert"), grid("bert-s", layers=(1,))])
    paths = theme.save(heatmaps.draw(frame, STYLES, **STS), tmp_path / "a" / "fig.1", note)
    assert [path.name for path in paths] == ["fig.1.svg", "fig.1.png", "fig.1.pdf"]
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == sorted(path.name for path in paths)
    code = (
        "import sys; sys.path[:0] = sys.argv[1:3]; from test_figures import *; "
        "theme.save(heatmaps.draw(pd.concat([grid('bert'), grid('bert-s', layers=(1,))]), STYLES, **STS), "
        "Path(sys.argv[3]), json.loads(sys.argv[4]))"
    )
    library = str(Path(theme.__file__).parents[2])
    again = tmp_path / "b" / "fig.1"
    subprocess.run(
        [sys.executable, "-c", code, library, str(Path(__file__).parent), str(again), json.dumps(note)], check=True
    )
    for path in paths:
        assert path.read_bytes() == (again.parent / path.name).read_bytes(), path.name
    svg, png, pdf = (path.read_bytes() for path in paths)
    described = ElementTree.fromstring(svg).find(".//{http://purl.org/dc/elements/1.1/}description")
    assert described is not None and json.loads(described.text or "") == note
    assert b"<text" in svg and b"dc:date" not in svg
    assert png[:4] == b"\x89PNG" and json.dumps(note, sort_keys=True).encode() in png
    assert pdf[:5] == b"%PDF-" and b"0f" * 32 in pdf and b"CreationDate" not in pdf and b"/FontFile2" in pdf


def test_a_failed_save_leaves_no_part_behind(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        theme.save(Figure(), tmp_path / "x", {"value": float("nan")})
    assert list(tmp_path.iterdir()) == []


def test_the_overlap_check_sees_overlaps() -> None:
    figure = heatmaps.draw(grid("bert"), STYLES, **STS)
    figure.text(0.5, 0.5, "a title that lies over the values")
    figure.text(0.95, 0.5, "a title that leaves the page")
    assert {"page"} < {second for _, second in overlaps(figure)}

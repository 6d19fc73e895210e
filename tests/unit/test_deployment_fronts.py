"""Quality joined with cost: the cells worth their cost, their table and their figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from deployment_cases import GRID, METRIC, STYLES, cells, cost_table, weighed
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure

from matryobench.deployment import recommend_printing
from matryobench.deployment.tables import write_deployment
from matryobench.deployment.weighing import FRONTS, front, weigh
from matryobench.errors import InputError
from matryobench.figures import pareto, theme

# --- fronts ----------------------------------------------------------------------------------------------------------


def test_the_fronts_of_a_hand_made_grid() -> None:
    table = weighed().set_index(["method", "layer", "dim"])
    marked = {mark: set(table.index[table[mark]]) for mark in FRONTS}
    # at 1 ms .6 is the best (both dims have it), at 2 ms .8; at 32 bytes .7 is (srl, 2 layers), at 64 bytes .8
    assert marked["front_query_ms"] == {("srl", 1, 8), ("srl", 1, 16), ("bert", 2, 16)}
    assert marked["front_bytes"] == {("srl", 2, 8), ("bert", 2, 16)}
    # together: (1,16) is beaten by the equal but narrower (1,8)
    assert marked["front"] == {("srl", 1, 8), ("srl", 2, 8), ("bert", 2, 16)}


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_the_front_is_what_comparing_all_pairs_gives(points: list[tuple[int, ...]]) -> None:
    def beats(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
        return all(a >= b for a, b in zip(one, other, strict=True)) and one != other

    expected = [not any(beats(other, point) for other in points) for point in points]
    assert front(np.array(points, dtype=np.float64)).tolist() == expected


def test_queries_and_documents_at_other_layers_cost_what_their_own_layers_cost() -> None:
    row = weighed(cells({("bert", 1, 2, 8): 0.5})).iloc[0]
    assert (row["layer"], row["document_layer"], row["query_ms"], row["texts_per_second"]) == (1, 2, 1.0, 500.0)
    assert (row["parameters"], row["bytes_per_document"]) == (20, 32)
    commands = recommend_printing.export_commands(Path("results/x"), row)
    assert [command.split("--")[1:] for command in commands] == [["layer 1 ", "dim 8"], ["layer 2 ", "dim 8"]]


def test_quality_is_the_mean_over_seeds_of_native_runs() -> None:
    library = cells({("bert", 1, 1, 8): 0.9}, backend="sentence-transformers", run_id="other")
    frame = pd.concat([cells({("bert", 1, 1, 8): 0.5}, seeds=(1, 3)), library], ignore_index=True)
    row = weighed(frame).iloc[0]
    assert row[["mean", "low", "high", "seeds", "run_id"]].tolist() == [0.51, 0.5, 0.52, 2, "sts-bert-s1"]


def test_cells_that_were_not_measured_are_named() -> None:
    with pytest.raises(InputError, match=r"layer 2 was evaluated and not measured \(layers 1 were\)"):
        weighed(table=cost_table(layers=(1,)))
    with pytest.raises(InputError, match=r"dim 16 was evaluated and not measured"):
        weighed(table=cost_table(dims=(8,)))
    with pytest.raises(InputError, match="has no rows of task 'mteb'; it has sts"):
        weigh(GRID, cost_table(), task="mteb", dataset="average", metric="accuracy")


def test_the_table_has_all_cells_and_prints_the_fronts(tmp_path: Path) -> None:
    titles = {name: style.title for name, style in STYLES.items()}
    paths = write_deployment(weighed(), tmp_path / "t", dataset="average", metric=METRIC, titles=titles)
    assert len(pd.read_csv(paths[0])) == 8
    text = paths[1].read_text(encoding="utf-8")
    assert text.count("| 2 | 16 | BERT | paper | v1 | 0.8000 | 100.0% | 2.00 | 4.00 | 500 | 64 |") == 3
    assert text.count("\n| 1 | 16 |") == 1  # an equal of (1, 8) by query time alone


# --- the figure ------------------------------------------------------------------------------------------------------


def many(layers: int = 12, dims: tuple[int, ...] = (8, 16, 32, 64, 128, 256, 512, 768)) -> pd.DataFrame:
    """A grid whose quality rises in layer and dim and saturates, so that every layer and every dim is on a front."""
    values = {
        (method, layer, layer, dim): 0.8 - 0.5 / layer - 1.5 / dim - (method == "bert") * 0.02
        for method in ("bert", "srl")
        for layer in range(1, layers + 1)
        for dim in dims
    }
    return weighed(cells(values), cost_table(tuple(range(1, layers + 1)), dims))


def test_front_labels_are_whole_and_do_not_overlap() -> None:
    figure = pareto.draw(many(), STYLES, dataset="average", metric=METRIC)
    with theme.context():
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        for ax, count in zip(figure.axes, (12, 8), strict=True):
            boxes = [text.get_window_extent(canvas.get_renderer()) for text in ax.texts]
            assert len(boxes) == count
            frame = ax.get_window_extent()
            assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 and box.y1 <= frame.y1 for box in boxes)
            pairs = [(one, other) for at, one in enumerate(boxes) for other in boxes[at + 1 :]]
            assert not any(one.overlaps(other) for one, other in pairs)


def test_lines_are_the_best_cell_per_cost_and_steps_the_front() -> None:
    figure = pareto.draw(weighed(), STYLES, dataset="average", metric=METRIC)
    milliseconds, index = figure.axes
    drawn = {line.get_color(): np.asarray(line.get_xydata()).tolist() for line in milliseconds.lines[1:]}
    assert drawn == {"#4D4D4D": [[1.0, 0.5], [2.0, 0.8]], "#0072B2": [[1.0, 0.6], [2.0, 0.7]]}
    assert np.asarray(milliseconds.lines[0].get_xydata())[:2].tolist() == [[1.0, 0.6], [2.0, 0.8]]
    assert [text.get_text() for text in index.texts] == ["(2,8)", "(2,16)"]


def test_recipes_have_rows_and_share_the_front() -> None:
    frame = pd.concat([GRID, GRID.assign(recipe="v2", value=GRID["value"] / 2, run_id="v2-" + GRID["run_id"])])
    figure = pareto.draw(weighed(frame), STYLES, dataset="average", metric=METRIC, recipes={"v1": "V1", "v2": "V2"})
    assert isinstance(figure, Figure) and [ax.get_title() for ax in figure.axes] == ["V1", "V1", "V2", "V2"]
    fronts = [np.asarray(ax.lines[0].get_xydata()).tolist() for ax in figure.axes]
    assert fronts[0] == fronts[2] and fronts[1] == fronts[3]
    assert not figure.axes[2].texts  # the front has no cell of V2


def test_a_single_cell_can_be_drawn() -> None:
    one = weighed(cells({("bert", 2, 2, 8): 0.0}))
    pareto.draw(one, STYLES, dataset="average", metric=METRIC)

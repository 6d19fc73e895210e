"""The streaming search: equal to brute force in float64 and to FAISS, exact ties, any order of pieces, shards."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from matryobench.errors import InputError
from matryobench.evaluation import running
from matryobench.evaluation.rankings import (
    EMPTY,
    Rankings,
    from_keys,
    merge,
    pack,
    read_rankings,
    to_keys,
    unpack,
    write_rankings,
)
from matryobench.evaluation.search import TileSize, TopK

SMALL = TileSize(16, 64)
DIMS = [3, 8, 24]


def embeddings(count: int, layers: list[int], seed: int, width: int = 24) -> dict[int, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {layer: torch.randn(count, width, generator=generator) for layer in layers}


def search(queries: dict, documents: dict, cells: list, k: int, *, pieces: list | None = None, **options) -> Rankings:
    """Feeds the documents in the given (start, stop) pieces, by default in one."""
    top = TopK(cells, queries, k, **{"tile": SMALL, **options})
    for start, stop in pieces or [(0, len(next(iter(documents.values()))))]:
        top.add({layer: values[start:stop] for layer, values in documents.items()}, start)
    return top.result()


def brute_force(queries: Tensor, documents: Tensor, dim: int, similarity: str, k: int) -> tuple[Tensor, Tensor]:
    left, right = queries[:, :dim].double(), documents[:, :dim].double()
    if similarity == "cosine":
        left, right = torch.nn.functional.normalize(left, dim=1), torch.nn.functional.normalize(right, dim=1)
    return (left @ right.T).sort(dim=1, descending=True, stable=True)  # stable: the lower number first


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("count", [5, 63, 700])
def test_every_cell_equals_brute_force_in_float64(similarity: str, count: int) -> None:
    cells = [(query, layer, dim) for query, layer in [(1, 1), (2, 2), (1, 2), (3, 2)] for dim in DIMS]
    queries, documents = embeddings(37, [1, 2, 3], 0), embeddings(count, [1, 2], 1)
    got = search(queries, documents, cells, 10, similarity=similarity)
    held = min(10, count)
    for cell, scores, numbers in zip(cells, got.scores, got.documents, strict=True):
        best, order = brute_force(queries[cell[0]], documents[cell[1]], cell[2], similarity, held)
        assert torch.allclose(scores[:, :held].double(), best[:, :held], atol=1e-5)
        # Only where neighbours are nearer than rounding may the order differ.
        edge = best[:, :held] - best.roll(-1, 1)[:, :held] > 1e-5
        edge[:, -1] |= held == count
        clear = edge & edge.roll(1, 1).index_fill(1, torch.tensor([0]), True)
        assert clear.float().mean() > 0.9
        assert torch.equal(numbers[:, :held][clear], order[:, :held][clear])
        assert (numbers[:, held:] == -1).all() and (scores[:, held:] == float("-inf")).all()


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_every_cell_equals_faiss_on_cut_vectors(similarity: str) -> None:
    faiss = pytest.importorskip("faiss")
    cells = [(1, 1, dim) for dim in DIMS]
    queries, documents = embeddings(40, [1], 2), embeddings(900, [1], 3)
    got = search(queries, documents, cells, 20, similarity=similarity, tile=None)
    for number, (_, _, dim) in enumerate(cells):
        left, right = (np.ascontiguousarray(values[1][:, :dim].numpy()) for values in (queries, documents))
        if similarity == "cosine":
            faiss.normalize_L2(left)
            faiss.normalize_L2(right)
        index = faiss.IndexFlatIP(dim)
        index.add(right)
        scores, numbers = index.search(left, 20)
        assert np.allclose(got.scores[number].numpy(), scores, atol=1e-5)
        assert (got.documents[number].numpy() == numbers).mean() > 0.99


def test_equal_scores_are_ordered_by_document_number_also_at_the_last_place() -> None:
    """Hand-made: documents 2, 3, 5 and 7 are one vector, 4 is better, all others worse; k = 3."""
    documents = torch.zeros(9, 2)
    documents[[2, 3, 5, 7], 0] = 1.0
    documents[4, 0] = 2.0
    documents[0, 0] = -1.0
    queries = {1: torch.tensor([[1.0, 0.0], [-1.0, 0.0]])}
    for pieces in ([(0, 9)], [(5, 9), (0, 5)], [(7, 9), (2, 3), (3, 7), (0, 2)]):
        got = search(queries, {1: documents}, [(1, 1, 1)], 3, pieces=pieces)
        assert got.documents[0].tolist() == [[4, 2, 3], [0, 1, 6]]
        assert got.scores[0].tolist() == [[2.0, 1.0, 1.0], [1.0, 0.0, 0.0]]
    parts = [search(queries, {1: documents}, [(1, 1, 1)], 3, pieces=[piece]) for piece in [(4, 9), (0, 4)]]
    assert merge(parts).documents[0].tolist() == [[4, 2, 3], [0, 1, 6]]


@pytest.mark.parametrize("count", [5, 37, 200])
def test_threads_side_by_side_find_what_one_finds_and_leave_torch_as_it_was(count: int) -> None:
    """Whole numbers, whose products round nowhere: equal to the last bit and the last tie."""
    generator = torch.Generator().manual_seed(9)
    queries, documents = ({1: torch.randint(-3, 4, (size, 24), generator=generator).float()} for size in (count, 500))
    excluded = torch.randint(-1, 500, (count,), generator=generator)
    cells, pieces, found = [(1, 1, dim) for dim in DIMS], [(0, 300), (300, 500)], []
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(search(queries, documents, cells, 20, pieces=pieces, excluded=excluded, tile=None))
            assert torch.get_num_threads() == threads
            with pytest.raises(InputError, match="not a finite number"):
                search(queries, {1: documents[1] * float("nan")}, cells, 20)
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        assert torch.equal(found[0].documents, other.documents) and torch.equal(found[0].scores, other.scores)


def test_equal_documents_have_equal_scores_wherever_they_stand() -> None:
    """A matrix product may round by position; the fixed, padded tiles keep equal rows equal, so ties stay ties."""
    generator = torch.Generator().manual_seed(4)
    vector, others = torch.randn(200, generator=generator), torch.randn(5000, 200, generator=generator)
    places = torch.randperm(5000, generator=generator)[:300].sort().values
    others[places] = vector
    queries = {1: vector + 0.1 * torch.randn(33, 200, generator=generator)}
    pieces = [(3001, 5000), (0, 17), (17, 3001)]
    for similarity in ("dot", "cosine"):
        cells = [(1, 1, 64), (1, 1, 200)]
        got = search(queries, {1: others}, cells, 200, pieces=pieces, similarity=similarity, tile=None)
        assert torch.equal(got.documents, places[:200].expand(2, 33, 200))


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_what_runs_on_a_gpu_gives_the_same_rankings(similarity: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The torch operations that stand in for numpy's off the CPU; on a GPU, where there is one, too."""
    cells = [(1, 2, dim) for dim in DIMS]
    queries, documents = embeddings(37, [1], 11), embeddings(700, [2], 12)
    on_cpu = search(queries, documents, cells, 10, similarity=similarity)
    monkeypatch.setattr(running, "_by_numpy", lambda values: False)
    by_torch = search(queries, documents, cells, 10, similarity=similarity, pieces=[(300, 700), (0, 300)])
    assert torch.equal(on_cpu.documents, by_torch.documents) and torch.equal(on_cpu.scores, by_torch.scores)
    if torch.cuda.is_available():
        queries = {1: queries[1].cuda()}
        on_gpu = search(queries, documents, cells, 10, similarity=similarity, tile=None)
        assert torch.allclose(on_cpu.scores, on_gpu.scores, atol=1e-5)


@given(st.data())
@settings(max_examples=40)
def test_pieces_in_any_order_and_shards_give_the_same_rankings(data: st.DataObject) -> None:
    """Whole-number embeddings: scores are exact and full of ties, so that all must agree bit for bit."""
    count, k = data.draw(st.integers(1, 150)), data.draw(st.integers(1, 12))
    values = np.random.default_rng(data.draw(st.integers(0, 99))).integers(-2, 3, (count + 9, 8)).astype(np.float32)
    documents, queries = torch.from_numpy(values[:count]), torch.from_numpy(values[count:])
    excluded = torch.from_numpy(np.random.default_rng(count).integers(-1, count, 9))
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=5))})
    pieces = data.draw(st.permutations(list(pairwise(cuts))))
    cells, options = [(1, 1, 2), (1, 1, 8)], {"excluded": excluded}
    one = search({1: queries}, {1: documents}, cells, k, **options)
    for number, (_, _, dim) in enumerate(cells):
        scores = (queries[:, :dim] @ documents[:, :dim].T).double()
        scores[torch.arange(9)[excluded >= 0], excluded[excluded >= 0]] = float("-inf")
        best, order = scores.sort(dim=1, descending=True, stable=True)
        order = torch.where(torch.isinf(best), -1, order)[:, :k]
        assert torch.equal(one.documents[number][:, : order.shape[1]], order)
    many = search({1: queries}, {1: documents}, cells, k, pieces=pieces, **options)
    merged = merge([search({1: queries}, {1: documents}, cells, k, pieces=[piece], **options) for piece in pieces])
    for other in (many, merged):
        assert torch.equal(one.documents, other.documents) and torch.equal(one.scores, other.scores)


@pytest.mark.parametrize("order", ["ascending", "descending", "equal"])
def test_corpora_in_the_worst_order(order: str) -> None:
    """Every document better than all before it, worse, or equal: more candidates than there is room for."""
    count = 500
    heights = {"ascending": torch.arange(count), "descending": -torch.arange(count), "equal": torch.zeros(count)}[order]
    got = search({1: torch.ones(3, 1)}, {1: heights.float()[:, None]}, [(1, 1, 1)], 7)
    expected = {"ascending": range(count - 1, count - 8, -1), "descending": range(7), "equal": range(7)}[order]
    assert got.documents[0].tolist() == [list(expected)] * 3


def test_a_querys_own_document_is_left_out_and_its_place_is_filled() -> None:
    documents = torch.tensor([[1.0], [3.0], [2.0], [0.5]])
    got = search({1: torch.ones(3, 1)}, {1: documents}, [(1, 1, 1)], 2, excluded=torch.tensor([1, -1, 0]))
    assert got.documents[0].tolist() == [[2, 0], [1, 2], [1, 2]]
    all_but_one = search({1: torch.ones(1, 1)}, {1: documents}, [(1, 1, 1)], 9, excluded=torch.tensor([1]))
    assert all_but_one.documents[0].tolist() == [[2, 0, 3, -1, -1, -1, -1, -1, -1]]


def test_a_restored_search_goes_on_to_the_same_rankings() -> None:
    cells = [(1, 1, 8), (1, 1, 24)]
    queries, documents = embeddings(20, [1], 5), embeddings(400, [1], 6)
    whole = search(queries, documents, cells, 15, pieces=[(0, 150), (150, 400)])
    first = TopK(cells, queries, 15, tile=SMALL)
    first.add({1: documents[1][:150]}, 0)
    second = TopK(cells, queries, 15, tile=SMALL)
    second.restore(first.keys())
    second.add({1: documents[1][150:]}, 150)
    assert torch.equal(second.result().documents, whole.documents)
    assert torch.equal(second.result().scores, whole.scores)


@pytest.mark.parametrize(("bad", "dim"), [(float("nan"), 8), (float("inf"), 8), (3e38, 8), (float("-inf"), 3)])
def test_a_score_that_is_not_finite_names_its_cell(bad: float, dim: int) -> None:
    queries, documents = embeddings(5, [2], 7), embeddings(100, [2], 8)
    queries[2][:] = 10.0
    documents[2][70, dim - 1] = bad
    cells = [(2, 2, dim) for dim in (2, 3, 8)]
    with pytest.raises(InputError, match=rf"fiqa: .* query layer 2, layer 2, dim {dim}; is the model damaged"):
        search(queries, documents, cells, 5, place="fiqa")


def test_enormous_but_finite_scores_are_ranked_and_zero_vectors_have_no_cosine() -> None:
    documents = torch.tensor([[1e18, 1.0], [3e18, 1.0]])
    assert search({1: documents[:1] * 10}, {1: documents}, [(1, 1, 1)], 2).documents[0].tolist() == [[1, 0]]
    zero = torch.tensor([[0.0, 1.0]])
    with pytest.raises(
        InputError, match="a document whose vector has no norm to divide by at query layer 1, layer 1, dim 1"
    ):
        search({1: documents}, {1: zero}, [(1, 1, 1)], 1, similarity="cosine")
    with pytest.raises(InputError, match="a query whose vector"):
        search({1: zero}, {1: documents}, [(1, 1, 1)], 1, similarity="cosine")


@given(st.lists(st.tuples(st.floats(width=32, allow_nan=False), st.integers(0, 2**32 - 2)), min_size=1, max_size=20))
def test_keys_order_as_scores_then_lower_numbers(items: list[tuple[float, int]]) -> None:
    scores = torch.tensor([score for score, _ in items], dtype=torch.float32)
    documents = torch.tensor([document for _, document in items])
    keys = pack(scores, documents)
    assert all(torch.equal(*pair) for pair in zip(unpack(keys), (scores, documents), strict=True))
    assert (keys > EMPTY).all()
    by_key = sorted(range(len(items)), key=lambda at: -int(keys[at]))
    by_rule = sorted(range(len(items)), key=lambda at: (-float(scores[at]), int(documents[at])))
    assert [items[at] for at in by_key] == [items[at] for at in by_rule]


def test_rankings_files_and_merge_refuse_what_does_not_fit(tmp_path: Path) -> None:
    queries, documents = embeddings(4, [1], 9), embeddings(30, [1], 10)
    one, two = (search(queries, documents, [(1, 1, 8)], 5, pieces=[piece]) for piece in [(0, 20), (18, 30)])
    write_rankings(one, tmp_path / "one.safetensors", {"start": 0, "stop": 20})
    back, meta = read_rankings(tmp_path / "one.safetensors")
    assert meta == {"start": 0, "stop": 20} and back.cells == one.cells
    assert torch.equal(back.scores, one.scores) and torch.equal(back.documents, one.documents)
    assert torch.equal(from_keys(one.cells, to_keys(one)).documents, one.documents)
    assert torch.equal(one.of(slice(1, 3)).documents, one.documents[:, 1:3])
    with pytest.raises(InputError, match="two shards hold the same document"):
        merge([one, one])
    with pytest.raises(InputError, match="differ in cells, queries or k"):
        merge([one, two.of(slice(0, 2))])
    (tmp_path / "bad.safetensors").write_bytes(b"no")
    with pytest.raises(InputError, match="remove it and search again"):
        read_rankings(tmp_path / "bad.safetensors")
    with pytest.raises(InputError, match="there is no such file"):
        read_rankings(tmp_path / "none.safetensors")


def test_memory_does_not_grow_with_the_corpus() -> None:
    """Peak resident memory of a search over 40,000 documents of width 256 (40 MB) and over ten times as many."""
    code = """
import resource, sys, torch
from matryobench.evaluation.search import TopK
torch.set_num_threads(1)
top = TopK([(1, 1, 32), (1, 1, 256)], {1: torch.randn(8, 256)}, 100)
def feed(start, stop):
    for first in range(start, stop, 4000):
        top.add({1: torch.randn(4000, 256)}, first)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
few = feed(0, 40_000)
print(few, feed(40_000, 400_000))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    few, many = map(int, done.stdout.split())
    assert many - few < 8_000  # KiB; the corpus itself would be 360,000

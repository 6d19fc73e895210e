"""Fake vectors through the real search: exact against brute force, known metrics, equal shards, flat memory."""

from __future__ import annotations

import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from test_cli import matryobench

from matryobench.data.doc_ids import StoredIds, are_descending, names_of, numbers_of
from matryobench.data.records import write_table
from matryobench.errors import InputError
from matryobench.evaluation.rankings import read_rankings
from matryobench.paths import ROOT
from matryobench.scale.files import doc_id, write_doc_ids
from matryobench.scale.settings import Simulation
from matryobench.scale.simulation import simulate
from matryobench.scale.vectors import CHUNK, EXCLUDED, LOST, PLANTED, RELEVANT, FakeVectors

SMALL = Simulation(9000, 30, 2, 24, (3, 8, 24), 100, 5, 1)


def corpus(vectors: FakeVectors, layer: int) -> torch.Tensor:
    queries = vectors.query_vectors(layer)
    stops = range(CHUNK, vectors.documents + CHUNK, CHUNK)
    return torch.cat([vectors.piece(layer, s - CHUNK, min(s, vectors.documents), queries) for s in stops])


def test_a_piece_does_not_depend_on_what_was_made_before_it_and_every_product_is_exact() -> None:
    vectors = FakeVectors(9000, 30, 24, 5)
    queries, every = vectors.query_vectors(2), corpus(vectors, 2)
    assert torch.equal(vectors.piece(2, 5000, 5100, queries), every[5000:5100])
    assert torch.equal(vectors.piece(2, 8999, 9000, queries), every[8999:])
    assert not torch.equal(corpus(vectors, 1), every)
    assert not torch.equal(corpus(FakeVectors(9000, 30, 24, 6), 2), every)
    assert torch.equal(every, every.round()) and every.abs().max() == 127
    others = every[np.setdiff1d(np.arange(9000), np.concatenate([vectors.numbers(n) for n in range(PLANTED)]))]
    assert others.mean() == pytest.approx(-0.5, abs=0.5) and others.std() == pytest.approx(36.9, abs=0.3)  # uniform
    assert torch.equal((queries @ every.T).long(), queries.long() @ every.long().T)
    with pytest.raises(ValueError, match="not in one chunk"):
        vectors.piece(2, 4000, 5000, queries)


def test_rankings_are_those_of_brute_force_to_the_last_tie(tmp_path: Path) -> None:
    simulate(SMALL, None, tmp_path)
    rankings, _ = read_rankings(tmp_path / "rankings.safetensors")
    vectors = SMALL.vectors()
    excluded = torch.from_numpy(vectors.numbers(EXCLUDED))
    ties = 0
    for cell, scores, documents in zip(rankings.cells, rankings.scores, rankings.documents, strict=True):
        _, layer, dim = cell
        exact = vectors.query_vectors(layer)[:, :dim].double() @ corpus(vectors, layer)[:, :dim].double().T
        exact.scatter_(1, excluded[:, None], float("-inf"))
        best, order = exact.sort(dim=1, descending=True, stable=True)
        assert torch.equal(documents, order[:, :100]) and torch.equal(scores.double(), best[:, :100])
        ties += int((best[:, :99] == best[:, 1:100]).sum())
        for which in (RELEVANT, LOST):
            own = torch.from_numpy(vectors.numbers(which))[:, None]
            rank = 1 + (order == own).int().argmax(dim=1)
            if which == RELEVANT:
                due = vectors.expected_ranks(layer, [dim], vectors.query_vectors(layer))[0]
                assert rank.tolist() == due.tolist() and (rank > 1).all()
            else:
                assert (rank > 9000 - 30 * PLANTED).all()
    assert ties > 30 * 6


def test_shards_give_the_files_of_one_job_byte_for_byte(tmp_path: Path) -> None:
    one = simulate(SMALL, None, tmp_path / "one")
    sharded = Simulation(9000, 30, 2, 24, (3, 8, 24), 100, 5, 3)
    assert [sharded.shard(number) for number in range(3)] == [(0, 4096), (4096, 8192), (8192, 9000)]
    folder = tmp_path / "many"
    alone = simulate(sharded, 1, folder)
    assert alone["documents_searched"] == 4096 and "metrics" not in alone
    many = simulate(sharded, None, folder)
    assert many["documents_searched"] == 9000 - 4096 and many["metrics"] == one["metrics"]
    for name in ("items.parquet", "run.trec.gz"):
        assert (folder / name).read_bytes() == (tmp_path / "one" / name).read_bytes()
    (left, _), (right, _) = (read_rankings(tmp_path / part / "rankings.safetensors") for part in ("one", "many"))
    assert torch.equal(left.documents, right.documents) and torch.equal(left.scores, right.scores)
    with pytest.raises(InputError, match="ranked with other settings; remove it"):
        simulate(Simulation(9000, 30, 2, 24, (3, 8, 24), 100, 6, 3), None, folder)


def test_a_wrong_ranking_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matryobench.scale import simulation

    class Broken(simulation.TopK):
        def add(self, documents, first):
            super().add({layer: values.flip(0) for layer, values in documents.items()}, first)

    monkeypatch.setattr(simulation, "TopK", Broken)
    with pytest.raises(InputError, match="the relevant document of query 0 has rank 0"):
        simulate(SMALL, None, tmp_path)


def test_memory_does_not_grow_with_the_documents() -> None:
    """Peak resident memory of a whole simulation over 40,000 documents and, in the same process, over ten times as many."""
    code = """
import sys, tempfile, torch
from pathlib import Path
from matryobench.scale.settings import Simulation
from matryobench.scale.simulation import simulate
torch.set_num_threads(1)
for documents in (40_000, 400_000):
    with tempfile.TemporaryDirectory() as folder:
        print(simulate(Simulation(documents, 8, 1, 64, (8, 64), 100, 0, 1), None, Path(folder))["peak_memory_mb"]["evaluate"])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    few, many = map(float, done.stdout.split())
    assert many - few < 12  # MiB; the vectors would be 98, the ids alone 6


@pytest.mark.parametrize("kind", ["list", "arrow", "file"])
def test_ids_in_memory_and_in_a_file_are_the_same(kind: str, tmp_path: Path) -> None:
    names = [doc_id(number, 70_000) for number in range(70_000)]
    write_doc_ids(70_000, tmp_path / "ids.parquet")
    ids = {
        "list": names,
        "arrow": pa.chunked_array([names[:10], [], names[10:]]),
        "file": StoredIds(tmp_path / "ids.parquet"),
    }[kind]
    assert len(ids) == 70_000 and are_descending(ids)
    assert numbers_of(ids, [names[69_999], "none", names[0]]) == {names[0]: 0, names[69_999]: 69_999}
    assert names_of(ids, np.array([69_999, 3, 65_536, 3])) == [names[at] for at in (69_999, 3, 65_536, 3)]
    assert names_of(ids, np.array([], dtype=np.int64)) == []


@pytest.mark.parametrize("at", [1, 65_535, 65_536])
def test_ids_that_do_not_descend_are_seen_wherever_they_stand(at: int, tmp_path: Path) -> None:
    names = [doc_id(number, 70_000) for number in range(70_000)]
    names[at] = names[at - 1]
    write_table(pa.table({"doc_id": names}), tmp_path / "ids.parquet", {})
    assert not are_descending(StoredIds(tmp_path / "ids.parquet")) and not are_descending(names)


def test_a_file_that_fetch_did_not_write_has_no_ids(tmp_path: Path) -> None:
    pq.write_table(pa.table({"doc_id": ["a"]}), tmp_path / "ids.parquet")
    with pytest.raises(InputError, match="lacks the metadata that 'fetch' writes"):
        StoredIds(tmp_path / "ids.parquet")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--dims", "8;16"), "--dims: '8;16' is not a comma-separated list of whole numbers; e.g. 8,64,768."),
        (("--dims", "16,8"), "--dims: [16, 8] is not an ascending list of widths; e.g. 8,64,768."),
        (("--width", "64"), "--dims: 768 is above --width 64; leave it out or widen."),
        (("--width", "4096"), "--width: 4096 is above 2048, to which scores are exact; lower it."),
        (("--top-k", "10"), "--top-k: 10 is below 100, which recall@100 needs; raise it."),
        (
            ("--queries", "900"),
            "--documents: 5000 cannot hold the 7 planted per query and 100 more; give at least 6400.",
        ),
        (
            ("--shards", "3"),
            "--shards: 5000 documents are 2 pieces of 4096, which do not make 3 shards; ask for fewer.",
        ),
        (("--shards", "2", "--shard", "2"), "--shard 2: there are --shards 2; name one from 0 on."),
        (("--out", "a.parquet"), "--out: a.parquet does not end in .json; name the record to write."),
    ],
)
def test_wrong_arguments_are_one_sentence(arguments: tuple[str, ...], sentence: str, tmp_path: Path) -> None:
    result = matryobench("simulate", "--documents", "5000", "--out", "a.json", *arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stderr == f"matryobench: {sentence}\n"
    assert not list(tmp_path.iterdir())


def test_the_page_has_the_table_of_what_was_measured() -> None:
    """And what it says of it: memory flat within 10 %, time linear."""
    tool = runpy.run_path(str(ROOT / "tools" / "measure_scale.py"))
    page, rows = tool["PAGE"].read_text(encoding="utf-8"), tool["read"](tool["OUT"])
    assert tool["with_table"](page, rows) == page
    growth = [row for row in rows if row["queries"] == "100"]
    assert max(int(row["documents"]) for row in growth) == 10_000_000
    peaks, rates = ([float(row[key]) for row in growth] for key in ("peak_mb", "documents_per_cpu_s"))
    assert max(peaks) < 1.1 * min(peaks) and max(rates) < 1.5 * min(rates)


def test_the_verb_writes_a_record(tmp_path: Path) -> None:
    small = ("simulate", "--documents", "9000", "--queries", "5", "--layers", "1", "--width", "16", "--dims", "8,16")
    result = matryobench(*small, "--shards", "2", "--shard", "0", "--out", "a.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "a" / "shards" / "0-of-2.json").is_file()
    result = matryobench(*small, "--shards", "2", "--out", "a.json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert "9000 documents searched" in result.stdout and "as the planted documents must give" in result.stdout
    assert sorted(path.name for path in (tmp_path / "a").iterdir()) == [
        "doc_ids.parquet", "items.parquet", "rankings.safetensors", "run.trec.gz",
    ]  # fmt: skip

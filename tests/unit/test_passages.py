"""A corpus is written in bounded memory to the bytes of the table that is sorted in memory, with the same refusals."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from test_records import jsonl, spec, write

from matryobench.data import passages
from matryobench.data.passages import write_passages
from matryobench.data.readers import Columns
from matryobench.data.records import PIECE, Places, read_meta, read_records, write_table
from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError


def rows(ids: list[str]) -> list[dict[str, str]]:
    return [{"_id": one, "title": "t" * (at % 3), "text": f"passage {one}"} for at, one in enumerate(ids)]


def in_memory(paths: list[Path], the_spec: DatasetSpec, out: Path) -> bytes:
    table = read_records(paths, the_spec, "tiny")
    write_table(table, out, {"dataset": "tiny", "rows": table.num_rows})
    return out.read_bytes()


def refusal(paths: list[Path], the_spec: DatasetSpec, out: Path) -> str:
    with pytest.raises(InputError) as caught:
        write_passages(paths, the_spec, "tiny", out, {})
    assert not list(out.parent.glob(f".{out.name}*")) and not out.exists()
    return str(caught.value)


def test_many_runs_and_row_groups_give_the_bytes_of_one_sort(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """140,000 passages are three row groups; runs of 200 kB are some thirty."""
    ids = [str(number) for number in range(140_000)]
    random.Random(0).shuffle(ids)
    paths = [write(tmp_path / f"{at}.jsonl", jsonl(rows(ids[at::2]))) for at in range(2)]
    monkeypatch.setattr(passages, "_RUN_BYTES", 200_000)
    monkeypatch.setitem(PIECE, "passages", 3_000)
    assert write_passages(paths, spec("passages"), "tiny", tmp_path / "a.parquet", {"dataset": "tiny"}) == 140_000
    assert (tmp_path / "a.parquet").read_bytes() == in_memory(paths, spec("passages"), tmp_path / "b.parquet")
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize("ids", [["one"], ["é", "z", "a", "zz", "", "10", "9"][:4], [f"{n:03d}" for n in range(50)]])
@pytest.mark.parametrize("run_bytes", [1, 10**9])
def test_small_corpora(ids: list[str], run_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages, "_RUN_BYTES", run_bytes)
    monkeypatch.setitem(PIECE, "passages", 7)
    path = write(tmp_path / "a.jsonl", jsonl(rows(ids)))
    assert write_passages([path], spec("passages"), "tiny", tmp_path / "a.parquet", {"dataset": "tiny"}) == len(ids)
    assert (tmp_path / "a.parquet").read_bytes() == in_memory([path], spec("passages"), tmp_path / "b.parquet")


@pytest.mark.parametrize("run_bytes", [1, 10**9])
def test_refusals_are_those_of_reading_and_leave_nothing(
    run_bytes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(passages, "_RUN_BYTES", run_bytes)
    monkeypatch.setitem(PIECE, "passages", 4)
    ids = [f"d{number}" for number in range(23)]
    path, out = tmp_path / "a.jsonl", tmp_path / "out" / "a.parquet"
    write(path, jsonl([*rows(ids), *rows(["d13"])]))
    sentence = f"{path} line 24: the doc_id 'd13' was already used by {path} line 14; make ids unique."
    assert refusal([path], spec("passages"), out) == sentence
    write(path, jsonl(rows(ids)))
    assert "23 rows were read and the entry of tiny says rows: 22" in refusal([path], spec("passages", rows=22), out)
    write(path, jsonl([*rows(ids), {"_id": "x", "text": 5}]))
    assert f"{path} line 24: 'text' must be a text and is 5" in refusal([path], spec("passages"), out)


def test_an_id_that_repeats_across_row_groups_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passages, "ROW_GROUP", 3)
    path = write(tmp_path / "a.jsonl", jsonl(rows(["a", "b", "c", "d", "e", "c"])))  # e d c | c b a
    assert "line 6: the doc_id 'c' was already used" in refusal([path], spec("passages"), tmp_path / "a.parquet")


def test_texts_that_stand_for_missing_ones_are_counted(tmp_path: Path) -> None:
    path, the_spec = tmp_path / "a.jsonl", spec("passages", missing_text="none")
    write(path, jsonl([{"_id": "a", "title": "t", "text": ""}, {"_id": "b", "title": "", "text": "u"}]))
    write_passages([path], the_spec, "tiny", tmp_path / "a.parquet", {})
    texts = [text for column in read_records([path], the_spec, "tiny").columns for text in column.to_pylist()]
    assert read_meta(tmp_path / "a.parquet")["missing_text"] == {"text": "none", "texts": texts.count("none")}
    assert "none" in texts


def test_places_keep_lines_that_follow_one_another_as_a_range() -> None:
    places = Places()
    places.add(Columns("a", {}, [2, 3, 4], "line"))
    places.add(Columns("b", {}, [2, 5], "line"))
    assert [part.lines for part in places.parts] == [range(2, 5), [2, 5]]
    assert [places.at(row) for row in (0, 2, 4)] == ["a line 2", "a line 4", "b line 5"]


def test_memory_does_not_grow_with_the_texts(tmp_path: Path) -> None:
    """Peak resident memory at 4 MB of texts, then at 80 MB: the ids alone may remain."""
    code = """
import json, resource, sys
from pathlib import Path
from test_records import spec
from matryobench.data import passages
passages._RUN_BYTES = 2**20
for count in (2_000, 40_000):
    path = Path(sys.argv[1]) / f"{count}.jsonl"
    with path.open("w") as stream:
        for number in range(count):
            print(json.dumps({"_id": str(number), "text": "word " * 400}), file=stream)
    passages.PIECE["passages"] = 500
    passages.ROW_GROUP, passages.SORTED = 1024, 32
    passages.write_passages([path], spec("passages"), "tiny", path.with_suffix(".parquet"), {})
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent,
    )
    few, many = map(int, done.stdout.split())
    assert many - few < 30_000  # KiB; the texts are 80,000

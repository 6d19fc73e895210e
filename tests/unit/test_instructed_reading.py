"""Rows with instructions: MEDI's forms and copies of it are read as one table, streamed, bad input named."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from instructed_cases import ASK, MEDI, SAY, SPEC

from matryobench.data import json_lists, readers
from matryobench.data.records import read_records
from matryobench.data.specs import COLUMNS
from matryobench.errors import InputError

ROW = {
    "query_instruction": ASK, "query": "who runs?", "positive_instruction": SAY, "positive": "the dog runs",
    "negative_instruction": SAY, "negative": "a red ball", "subset": "nq",
}  # fmt: skip


def written(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_medis_list_lines_and_flat_or_nested_copies_are_one_table(tmp_path: Path) -> None:
    flat = [
        {
            **{key: row[key][1] for key in ("query", "pos", "neg")},
            **{f"{key}_instruct": row[key][0] for key in ("query", "pos", "neg")},
            "task_name": row["task_name"],
        }
        for row in MEDI
    ]
    pq.write_table(pa.Table.from_pylist(MEDI), tmp_path / "nested.parquet")
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "flat.parquet")
    files = [
        written(tmp_path / "a.json", MEDI),
        written(tmp_path / "b.json", json.dumps(MEDI, indent=2, ensure_ascii=False)),
        written(tmp_path / "c.json.gz", gzip.compress(b"\xef\xbb\xbf" + json.dumps(MEDI).encode())),
        written(tmp_path / "d.jsonl", jsonl(MEDI)),
        written(tmp_path / "e.jsonl", jsonl(flat)),
        tmp_path / "nested.parquet",
        tmp_path / "flat.parquet",
    ]
    tables = [read_records([file], SPEC, "medi") for file in files]
    assert tables[0].slice(0, 1).to_pylist() == [ROW]
    assert tables[0].column_names == [*COLUMNS["instructed"], "subset"]
    assert all(table.to_pydict() == tables[0].to_pydict() for table in tables)
    together = read_records(files, SPEC, "medi")
    assert together.num_rows == 2 * len(files)


def test_a_text_that_is_a_number_is_written_out_as_the_released_script_does(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", [{**MEDI[0], "pos": [SAY, 7], "neg": [SAY, 2.5]}])
    row = read_records([file], SPEC, "medi").to_pylist()[0]
    assert (row["positive"], row["negative"]) == ("7", "2.5")


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"query": ["", "a"]}, "2: 'query_instruction' is empty; write an instruction, or use triplets for texts without one."),
        ({"pos": [" ", "a"]}, "2: 'positive_instruction' is empty; write an instruction"),
        ({"neg": [SAY, " "]}, "2: 'negative' is empty; remove the row."),
        ({"neg": None}, "2: there is no 'neg'; a row needs query, pos, neg, each [instruction, text]."),
        ({"query": [ASK]}, "2: 'query' must be [instruction, text] and is ['Represent the question for retrieval:']; correct"),
        ({"pos": [SAY, "a", "b"]}, "2: 'pos' must be [instruction, text] and is ["),
        ({"pos": "the dog runs"}, "2: 'pos' must be [instruction, text] and is 'the dog runs'; correct the row."),
        ({"pos": [SAY, True]}, "2: 'pos' must be [instruction, text] and is ["),
        ({"neg": [5, "a"]}, "2: 'neg' must be [instruction, text] and is [5, 'a']; correct the row."),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path: Path, ending: str, row: dict[str, Any], sentence: str) -> None:
    rows = [MEDI[0], {**MEDI[0], **row}, MEDI[1]]
    file = written(tmp_path / f"a.{ending}", rows if ending == "json" else jsonl(rows))
    with pytest.raises(InputError) as error:
        read_records([file], SPEC, "medi")
    assert str(error.value).startswith(f"{file} {'row' if ending == 'json' else 'line'} {sentence}")


def test_missing_text_never_fills_an_instruction(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"missing_text": " "})
    rows = [{key: value for key, value in ROW.items() if key != "query_instruction"} | {"query_instruction": None}]
    with pytest.raises(InputError, match="line 1: 'query_instruction' is empty"):
        read_records([written(tmp_path / "a.jsonl", jsonl(rows))], spec, "flat")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=6), lambda x: st.lists(x, max_size=3))


@given(
    st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=5),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from(["", " \n"]),
    st.integers(1, 40),
)
@settings(max_examples=50)
def test_a_streamed_list_is_what_json_reads(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    indent: int | None,
    escaped: bool,
    space: str,
    piece: int,
) -> None:
    file = tmp_path_factory.getbasetemp() / "streamed.json"
    text = space + json.dumps(rows, indent=indent, ensure_ascii=escaped) + space
    file.write_bytes(text.encode("utf-8", "surrogatepass") if escaped else text.encode("utf-8", "replace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", piece)
        assert list(json_lists.list_rows(file)) == json.loads(file.read_bytes())


def test_a_list_is_never_read_as_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> Any:
        raise AssertionError("MEDI is one line of 2.5 GB")

    monkeypatch.setattr(readers, "_lines", refused)
    assert read_records([written(tmp_path / "a.json", MEDI)], SPEC, "medi").num_rows == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"a": 1},\n {"a": 2,}]', " row 2 (line 2): this is not a valid JSON list of objects ("),
        ('[{"a": 1} {"a": 2}]', " row 1 (line 1): this is not a valid JSON list of objects (] or a comma is missing)"),
        ('[{"a": 1}, 5]', " row 2 (line 1): this is not a valid JSON list of objects (an object is needed)"),
        ('[{"a": 1}, {"a": "x', " row 2 (line 1): this is not a valid JSON list of objects (Unterminated string"),
        ('[{"a": 1},\n', " row 2 (line 2): this is not a valid JSON list of objects (an object is needed)"),
        ('[{"a": 1}] [', ": there is more after the list that ends with row 1; remove it."),
        (b'[{"a": "\xff"}]', ": after 0 bytes this is not UTF-8 (byte 0xff); save it as UTF-8."),
    ],
)
def test_a_broken_list_is_named(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    file = written(tmp_path / "a.json", content)
    with pytest.raises(InputError) as error:
        list(json_lists.list_rows(file))
    assert str(error.value).startswith(f"{file}{sentence}")


def test_a_list_cut_short_in_its_archive_is_named(tmp_path: Path) -> None:
    noise = [{"a": str(np.random.default_rng(0).integers(1 << 60, size=9))} for _ in range(50)]
    file = written(tmp_path / "a.json.gz", gzip.compress(json.dumps(noise).encode())[:-20])
    with pytest.raises(InputError, match=r"a\.json\.gz: after \d+ bytes the compressed file is damaged or cut short"):
        list(json_lists.list_rows(file))

"""Files of texts are read whole and exactly, or refused with one sentence that names file and line."""

from __future__ import annotations

import gzip
import json
import lzma
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from matryobench.data.records import from_columns, read_records, read_table, write_table, write_texts
from matryobench.data.registry import DatasetSpec
from matryobench.errors import InputError


def spec(kind: str = "scored-pairs", **more: Any) -> DatasetSpec:
    base: dict[str, Any] = {
        "kind": kind,
        "description": "a tiny set for tests",
        "citation": "none",
        "licence": "none",
        "local": {"files": ["unused"]},
    }
    if kind == "scored-pairs":
        base["score_range"] = (0, 5)
    return DatasetSpec(**(base | more))


PAIRS = [
    {"sentence1": "A man, running.", "sentence2": "Someone runs.", "score": 4.5},
    {"sentence1": 'She said "no".', "sentence2": "Il fait froid à Zürich.", "score": 0.0},
]


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def write(path: Path, content: str | bytes) -> Path:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def refusal(path: Path, the_spec: DatasetSpec) -> str:
    with pytest.raises(InputError) as caught:
        read_records([path], the_spec, "tiny")
    message = str(caught.value)
    assert message.startswith(str(path)) and message.endswith(".") and "\n" not in message
    return message.removeprefix(str(path))


# --- what is read ----------------------------------------------------------------------------------------------------


def test_every_format_gives_the_same_table(tmp_path: Path) -> None:
    quoted = (
        'sentence1,sentence2,score\n"A man, running.",Someone runs.,4.5\n"She said ""no"".",Il fait froid à Zürich.,0\n'
    )
    tabbed = quoted.replace('"A man, running."', "A man; running.").split("\n")[0].replace(",", "\t") + "\n"
    tabbed += 'A man, running.\tSomeone runs.\t4.5\nShe said "no".\tIl fait froid à Zürich.\t0.0\n'
    columns = {key: [row[key] for row in PAIRS] for key in PAIRS[0]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    files = [
        write(tmp_path / "a.jsonl", jsonl(PAIRS)),
        write(tmp_path / "bom.jsonl", b"\xef\xbb\xbf" + jsonl(PAIRS).encode()),
        write(tmp_path / "a.jsonl.gz", gzip.compress(jsonl(PAIRS).encode())),
        write(tmp_path / "a.jsonl.xz", lzma.compress(jsonl(PAIRS).encode())),
        write(tmp_path / "rows.json", json.dumps(PAIRS)),
        write(tmp_path / "columns.json", json.dumps(columns)),
        write(tmp_path / "a.csv", quoted),
        write(tmp_path / "a.csv.gz", gzip.compress(quoted.encode())),
        write(tmp_path / "crlf.csv", quoted.replace("\n", "\r\n")),
        write(tmp_path / "a.tsv", tabbed),
        tmp_path / "a.parquet",
        write(tmp_path / "a.parquet.gz", gzip.compress((tmp_path / "a.parquet").read_bytes())),
    ]
    for path in files:
        assert read_records([path], spec(rows=2), "tiny").to_pylist() == PAIRS, path.name


def test_text_files_hold_one_text_per_line(tmp_path: Path) -> None:
    raw = "first text\nsecond\u2028text, one line\r\nthird"
    want = ["first text", "second\u2028text, one line", "third"]
    for path in (write(tmp_path / "a.txt", raw), write(tmp_path / "b.txt.xz", lzma.compress(raw.encode()))):
        assert read_records([path], spec("text"), "tiny")["text"].to_pylist() == want


def test_files_are_joined_in_order_and_raw_columns_renamed(tmp_path: Path) -> None:
    first = write(tmp_path / "1.jsonl", jsonl([{"text": "a", "positive": "b", "negative": "c", "extra": 1}]))
    second = write(tmp_path / "2.jsonl", jsonl([{"text": "d", "positive": "e", "negative": "f"}]))
    table = read_records([first, second], spec("triplets", columns={"text": "anchor"}, rows=2), "tiny")
    assert table.column_names == ["anchor", "positive", "negative"]
    assert table["anchor"].to_pylist() == ["a", "d"]


def test_ids_and_subsets_are_kept_as_text(tmp_path: Path) -> None:
    rows = [{**row, "pair": number, "subset": "news"} for number, row in enumerate(PAIRS)]
    table = read_records([write(tmp_path / "a.jsonl", jsonl(rows))], spec(columns={"pair": "id"}), "tiny")
    assert table["id"].to_pylist() == ["0", "1"]
    assert table["subset"].to_pylist() == ["news", "news"]


def test_a_null_text_becomes_missing_text_when_the_entry_says_so(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"anchor": "a", "positive": None, "negative": "c"}]))
    assert "line 1: 'positive' is empty" in refusal(path, spec("triplets"))
    table = read_records([path], spec("triplets", missing_text=" "), "tiny")
    assert table["positive"].to_pylist() == [" "]
    path = write(tmp_path / "b.jsonl", jsonl([{"anchor": "a", "positive": "", "negative": "c"}]))
    assert "line 1: 'positive' is empty" in refusal(path, spec("triplets"))
    assert read_records([path], spec("triplets", missing_text=" "), "tiny")["positive"].to_pylist() == [" "]


def test_a_json_file_may_hold_an_object_per_line(tmp_path: Path) -> None:
    path = write(tmp_path / "a.json.gz", gzip.compress(jsonl(PAIRS).encode()))
    assert read_records([path], spec(), "tiny").num_rows == len(PAIRS)
    path = write(tmp_path / "b.json", jsonl(PAIRS) + "{\n")
    assert f" line {len(PAIRS) + 1}: this is not valid JSON" in refusal(path, spec())


def test_texts_are_written_piece_by_piece(tmp_path: Path) -> None:
    first = write(tmp_path / "a.txt", "".join(f"text {number}\n" for number in range(20_000)))
    second = write(tmp_path / "b.jsonl", jsonl([{"text": "last", "id": "x"}]))
    out = tmp_path / "out.parquet"
    assert write_texts([first, second], spec("text", rows=20_001), "tiny", out, {"dataset": "tiny"}) == 20_001
    table, meta = read_table(out)
    assert table.column_names == ["text"] and meta == {"dataset": "tiny", "rows": 20_001}
    assert table["text"].to_pylist() == [*(f"text {number}" for number in range(20_000)), "last"]
    assert pq.ParquetFile(out).metadata.num_row_groups == 4  # no piece is joined with another
    before = out.read_bytes()
    with pytest.raises(InputError, match="20001 rows were read and the entry of tiny says rows: 3"):
        write_texts([first, second], spec("text", rows=3), "tiny", out, {})
    third = write(tmp_path / "c.txt", "fine\n \n")
    with pytest.raises(InputError, match="c.txt line 2: 'text' is empty; remove the row"):
        write_texts([first, third], spec("text"), "tiny", out, {})
    assert out.read_bytes() == before and not list(tmp_path.glob("*.partial*"))


def test_columns_in_memory_pass_the_same_checks() -> None:
    values: dict[str, list[Any]] = {"sentence1": ["a", "b"], "sentence2": ["c", "d"], "score": [1, 2.5]}
    assert from_columns(values, "a world", spec(), "tiny")["score"].to_pylist() == [1.0, 2.5]
    with pytest.raises(InputError, match=r"^a world: the columns have unequal lengths \(sentence1 2, sentence2 1, "):
        from_columns({**values, "sentence2": ["c"]}, "a world", spec(), "tiny")
    with pytest.raises(InputError, match="^a world row 2: the score 9 is outside 0 to 5"):
        from_columns({**values, "score": [1, 9]}, "a world", spec(), "tiny")


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\r\n"), min_size=1).filter(str.strip)


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(texts, texts, st.floats(0, 5)), min_size=1, max_size=6))
def test_any_pairs_survive_json_lines_and_parquet(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, float]]
) -> None:
    folder = tmp_path_factory.mktemp("round")
    dicts = [{"sentence1": one, "sentence2": two, "score": score} for one, two, score in rows]
    table = read_records([write(folder / "a.jsonl", jsonl(dicts))], spec(), "tiny")
    assert table.to_pylist() == dicts
    write_table(table, folder / "a.parquet", {"rows": len(rows)})
    again, meta = read_table(folder / "a.parquet")
    assert again.equals(table) and meta == {"rows": len(rows)}


# --- retrieval's tables ----------------------------------------------------------------------------------------------

FORMS = [  # the same judgements as the usual files write them
    ("beir.tsv", "query-id\tcorpus-id\tscore\nq1\td1\t2\nq1\td2\t0\nq2\td1\t-1\n"),
    ("trec.txt", "q1 0 d1 2\nq1 Q0 d2 0\nq2\t0\td1 -1\n"),
    ("marco.tsv", "q1\t0\td1\t2\nq1\t0\td2\t0\nq2\t0\td1\t-1\n"),
    (
        "hub.jsonl",
        '{"query-id": "q1", "corpus-id": "d1", "score": 2.0}\n{"query-id": "q1", "corpus-id": "d2", "score": 0}\n'
        '{"query-id": "q2", "corpus-id": "d1", "score": "-1"}\n',
    ),
    ("own.csv", "qid,docid,relevance\nq1,d1,2\nq1,d2,0\nq2,d1,-1\n"),
]


@pytest.mark.parametrize(("name", "content"), FORMS)
def test_judgements_are_read_as_they_are_usually_written(tmp_path: Path, name: str, content: str) -> None:
    want = [
        {"query_id": "q1", "doc_id": "d1", "grade": 2},
        {"query_id": "q1", "doc_id": "d2", "grade": 0},
        {"query_id": "q2", "doc_id": "d1", "grade": -1},
    ]
    assert read_records([write(tmp_path / name, content)], spec("qrels", rows=3), "tiny").to_pylist() == want
    packed = write(tmp_path / f"{name}.gz", gzip.compress(content.encode()))
    assert read_records([packed], spec("qrels"), "tiny").to_pylist() == want


def test_a_header_can_be_given_for_files_without_one(tmp_path: Path) -> None:
    path = write(tmp_path / "collection.tsv", 'p1\ta "text\np10\tanother\n')
    table = read_records([path], spec("passages", header=["pid", "text"]), "tiny")
    assert table.to_pylist() == [
        {"doc_id": "p10", "title": "", "text": "another"},
        {"doc_id": "p1", "title": "", "text": 'a "text'},
    ]
    assert "line 1: this row has 2 fields and the header has 3" in refusal(
        path, spec("passages", header=["a", "b", "c"])
    )


def test_the_entrys_names_go_before_the_usual_ones(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl([{"_id": "x", "docid": "y", "text": "t", "title": "T"}]))
    assert read_records([path], spec("passages"), "tiny")["doc_id"].to_pylist() == ["x"]
    assert read_records([path], spec("passages", columns={"docid": "doc_id"}), "tiny")["doc_id"].to_pylist() == ["y"]
    asked = write(tmp_path / "q.jsonl", jsonl([{"_id": 3, "text": "t", "metadata": {}}]))
    assert read_records([asked], spec("queries"), "tiny").to_pylist() == [{"query_id": "3", "text": "t"}]


def test_a_corpus_of_many_pieces_is_one_table_and_knows_its_lines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [{"_id": f"d{n:02d}", "title": f"T{n}", "text": f"text {n}"} for n in range(23)]
    del rows[20]["title"]
    whole = read_records([write(tmp_path / "a.jsonl", jsonl(rows))], spec("passages", rows=23), "tiny")
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    split = [
        write(tmp_path / "1.jsonl.gz", gzip.compress(jsonl(rows[:9]).encode())),
        write(tmp_path / "2.tsv", "_id\ttitle\ttext\n" + "".join(f"d{n:02d}\tT{n}\ttext {n}\n" for n in range(9, 20))),
        write(tmp_path / "3.json", json.dumps(rows[20:])),
    ]
    for piece in (1, 4, 23):
        monkeypatch.setattr("matryobench.data.records.PIECE", {"passages": piece})
        for paths in ([tmp_path / "a.jsonl"], [tmp_path / "a.parquet"], split):
            assert read_records(paths, spec("passages"), "tiny").equals(whole)
        path = write(tmp_path / "b.jsonl", jsonl([*rows, rows[13]]))
        assert (
            refusal(path, spec("passages"))
            == f" line 24: the doc_id 'd13' was already used by {path} line 14; make ids unique."
        )
        path = write(tmp_path / "c.jsonl", jsonl([*rows[:17], {"_id": "x", "text": 5}]))
        assert " line 18: 'text' must be a text and is 5" in refusal(path, spec("passages"))
        path = write(tmp_path / "d.tsv", "_id\ttext\n" + "a\tb\n" * 1 + "c\n")
        assert " line 3: this row has 1 fields and the header has 2" in refusal(path, spec("passages"))
    assert [row["doc_id"] for row in whole.to_pylist()] == [f"d{n:02d}" for n in reversed(range(23))]


BAD_RETRIEVAL = [
    ("passages", "a.jsonl", '{"_id": "", "text": "t"}', " line 1: 'doc_id' is empty; every row needs an id."),
    ("passages", "a.jsonl", '{"_id": 1.5, "text": "t"}', " line 1: 'doc_id' must be a text and is 1.5"),
    ("passages", "a.jsonl", '{"_id": "a", "text": null}', " line 1: 'text' is empty; fill it in"),
    ("passages", "a.jsonl", '{"_id": "a", "body": "t"}', ": tiny needs the column 'text' and there is only"),
    ("queries", "a.jsonl", '{"_id": "a", "text": " "}', " line 1: 'text' is empty; remove the row."),
    (
        "queries",
        "a.jsonl",
        '{"_id": "1", "text": "t"}\n{"_id": 1, "text": "u"}',
        " line 2: the query_id '1' was already used by",
    ),
    ("qrels", "a.tsv", "query-id\tcorpus-id\tscore\na\tb\t1.5\n", " line 2: the grade '1.5' is not a whole number"),
    ("qrels", "a.jsonl", '{"qid": "a", "docid": "b", "rel": 1.5}', " line 1: the grade 1.5 is not a whole number"),
    ("qrels", "a.jsonl", '{"qid": "a", "docid": "b", "rel": true}', " line 1: the grade True is not a whole number"),
    ("qrels", "a.jsonl", '{"qid": "a", "docid": "b", "rel": 1e20}', " line 1: the grade 1e+20 is not a whole number"),
    ("qrels", "a.txt", "a 0 b 1\na 0 b\n", " line 2: a judgement in TREC's form has four fields"),
    (
        "qrels",
        "a.txt",
        "a 0 b 1\na 0 c 1\na 0 b 1\n",
        " line 3: the judgement of document 'b' for query 'a' was already",
    ),
    ("pairs", "a.jsonl", '{"anchor": "a", "positive": ""}', " line 1: 'positive' is empty; remove the row."),
]


@pytest.mark.parametrize(("kind", "name", "content", "sentence"), BAD_RETRIEVAL)
def test_a_bad_row_of_retrieval_is_named(tmp_path: Path, kind: str, name: str, content: str, sentence: str) -> None:
    assert sentence in refusal(write(tmp_path / name, content), spec(kind))


# --- what is refused -------------------------------------------------------------------------------------------------

BAD_LINES = [
    ('{"sentence1": "a", "sentence2": "b", "score": 1', " line 2: this is not valid JSON (Expecting"),
    ("", " line 2: this is not valid JSON (Expecting value at column 1)"),
    ('["a", "b", 1]', ' line 2: one JSON object per line is needed, not \'["a", "b", 1]\''),
    ('{"sentence1": "", "sentence2": "b", "score": 1}', " line 2: 'sentence1' is empty; remove the row."),
    ('{"sentence1": "a", "sentence2": " \\n", "score": 1}', " line 2: 'sentence2' is empty; remove the row."),
    ('{"sentence1": "a", "score": 1}', " line 2: 'sentence2' is empty; fill it in, remove the row"),
    ('{"sentence1": 7, "sentence2": "b", "score": 1}', " line 2: 'sentence1' must be a text and is 7"),
    ('{"sentence1": "a\\ud800", "sentence2": "b", "score": 1}', " line 2: 'sentence1' holds a broken \\u escape"),
    ('{"sentence1": "a", "sentence2": "b", "score": "high"}', " line 2: the score 'high' is not a number"),
    ('{"sentence1": "a", "sentence2": "b", "score": NaN}', " line 2: the score nan is not a number"),
    ('{"sentence1": "a", "sentence2": "b", "score": null}', " line 2: the score None is not a number"),
    ('{"sentence1": "a", "sentence2": "b", "score": true}', " line 2: the score True is not a number"),
    ('{"sentence1": "a", "sentence2": "b", "score": "1_0"}', " line 2: the score '1_0' is not a number"),
    ('{"sentence1": "a", "sentence2": "b", "score": 1e999}', " line 2: the score inf is outside 0 to 5"),
    ('{"sentence1": "a", "sentence2": "b", "score": 5.01}', " line 2: the score 5.01 is outside 0 to 5"),
    ('{"sentence1": "a", "sentence2": "b", "score": -1}', " line 2: the score -1 is outside 0 to 5"),
]


@pytest.mark.parametrize(("line", "sentence"), BAD_LINES)
def test_a_bad_line_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS[:1]) + line + "\n" + jsonl(PAIRS[1:]))
    assert sentence in refusal(path, spec())


BAD_FILES = [
    ("a.jsonl", b"", ": there are no rows"),
    ("a.csv", b"", ": there are no rows"),
    ("a.csv", b"sentence1,sentence2,score\n", ": there are no rows"),
    ("a.json", b"[]", ": there are no rows"),
    ("a.json", b'{\n"a": [1,]\n}', " line 2: this is not valid JSON"),
    ("a.json", b"7", ": a list of JSON objects, or one object of columns (lists), is needed"),
    ("a.json", b'{"sentence1": ["a"], "sentence2": ["b", "c"], "score": [1]}', ": the columns have unequal lengths"),
    ("a.json", b'[{"sentence1": "a", "sentence2": "b", "score": "x"}]', " row 1: the score 'x' is not a number"),
    ("a.csv", b"sentence1,score\na,1\n", ": tiny needs the column 'sentence2' and there is only sentence1, score"),
    ("a.csv", b"sentence1,sentence2,score\na,b,1\nc,d,e,2\n", " line 3: this row has 4 fields and the header has 3"),
    ("a.csv", b'sentence1,sentence2,score\n"a\nb",c,1\n"d\ne",f,x\n', " line 4: the score 'x' is not a number"),
    ("a.csv", b'sentence1,sentence2,score\na,b,1\n"c,d,2\n', " line 3: this row cannot be read"),
    ("a.csv", b"score,sentence1,sentence2,score\n1,a,b,1\n", " line 1: a column name is there twice"),
    ("a.csv", b"sentence1,sentence2,score\na,,1\n", " line 2: 'sentence2' is empty"),
    ("a.tsv", b"sentence1\tsentence2\tscore\na\tb\n", " line 2: this row has 2 fields and the header has 3"),
    ("a.jsonl", jsonl(PAIRS).encode() + "é".encode("latin-1"), " line 3: this is not UTF-8 (byte 0xe9 at 1)"),
    ("a.csv", "sentence1,sentence2,score\n".encode("utf-16"), " line 1: this is not UTF-8 (byte 0xff at 1)"),
    ("a.jsonl.gz", gzip.compress(jsonl(PAIRS * 50).encode())[:-20], "the compressed file is damaged or cut short"),
    ("a.jsonl.xz", lzma.compress(jsonl(PAIRS * 50).encode())[:-40], "the compressed file is damaged or cut short"),
    ("a.jsonl.gz", b"not compressed", ": after line 0 the compressed file is damaged"),
    ("a.parquet", b"PAR1 but not really", ": this is not a whole parquet file"),
    ("a.docx", b"", ": files ending in '.docx' cannot be read; use .jsonl"),
    ("plain", b"", ": files without an ending cannot be read"),
    ("a.txt", b"a\n", ": a .txt file holds one text per line and scored-pairs need columns"),
]


@pytest.mark.parametrize(("name", "content", "sentence"), BAD_FILES)
def test_a_bad_file_is_named(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    assert sentence in refusal(write(tmp_path / name, content), spec())


def test_a_missing_file_and_a_blank_line_of_text_are_refused(tmp_path: Path) -> None:
    assert ": there is no such file" in refusal(tmp_path / "a.jsonl", spec())
    assert " line 2: 'text' is empty" in refusal(write(tmp_path / "a.txt", "one\n\nthree\n"), spec("text"))


def test_a_different_number_of_rows_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS))
    assert ": 2 rows were read and the entry of tiny says rows: 3" in refusal(path, spec(rows=3))


def test_duplicate_ids_are_refused_even_across_files(tmp_path: Path) -> None:
    first = write(tmp_path / "1.jsonl", jsonl([{**PAIRS[0], "id": 7}]))
    second = write(tmp_path / "2.jsonl", jsonl([{**PAIRS[0], "id": 8}, {**PAIRS[1], "id": "7"}]))
    with pytest.raises(InputError) as caught:
        read_records([first, second], spec(), "tiny")
    assert str(caught.value) == f"{second} line 2: the id '7' was already used by {first} line 1; make ids unique."
    assert " line 1: the id is empty" in refusal(write(first, jsonl([{**PAIRS[0], "id": None}])), spec())


def test_renames_that_cannot_be_done_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", jsonl(PAIRS))
    assert ": the entry renames the column 'gold'" in refusal(path, spec(columns={"gold": "score"}))
    both = write(tmp_path / "b.jsonl", jsonl([{**PAIRS[0], "gold": 1}]))
    assert ": the file has both 'gold'" in refusal(both, spec(columns={"gold": "score"}))


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_table(pa.table({"text": ["old"]}), path, {"rows": 1})
    with pytest.raises(ValueError, match="Out of range float"):
        write_table(pa.table({"text": ["new"]}), path, {"rows": float("nan")})
    assert read_table(path)[0]["text"].to_pylist() == ["old"]
    assert [found.name for found in tmp_path.iterdir()] == ["a.parquet"]


def test_a_parquet_file_from_elsewhere_is_no_fetched_table(tmp_path: Path) -> None:
    pq.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    with pytest.raises(InputError, match="lacks the metadata that 'fetch' writes"):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(InputError, match="there is no such file"):
        read_table(tmp_path / "b.parquet")

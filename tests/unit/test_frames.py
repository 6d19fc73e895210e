"""Tables in files: what is written reads back, both files are whole, and what is wrong is one sentence."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from matryobench.analysis import frames
from matryobench.errors import InputError

TABLE = pd.DataFrame({"name": ["a", "b"], "layer": [1.0, None], "value": [0.1 + 0.2, 1 / 3]})


def test_a_table_reads_back_and_its_csv_holds_the_same_numbers(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "one.parquet"
    frames.write(TABLE, path, "a table of tests")
    assert frames.read(path, "a table of tests", tuple(TABLE.columns)).equals(TABLE)
    assert pd.read_csv(path.with_suffix(".csv"), float_precision="round_trip").equals(TABLE)
    assert sorted(file.name for file in path.parent.iterdir()) == ["one.csv", "one.parquet"]


def test_csv_text_orders_columns_and_keeps_layers_whole() -> None:
    text = "name,layer,kind,value\na,1,,0.30000000000000004\nb,,,0.3333333333333333\n"
    assert frames.csv_text(TABLE, ["name", "layer", "kind", "value"]) == text
    assert frames.csv_text(TABLE[["name"]]) == "name\na\nb\n"


def test_what_is_wrong_is_one_sentence(tmp_path: Path) -> None:
    path = tmp_path / "one.parquet"
    with pytest.raises(ValueError, match=r"a table of tests is written to a \.parquet path, not .*one\.csv"):
        frames.write(TABLE, path.with_suffix(".csv"), "a table of tests")
    with pytest.raises(InputError, match=r"one\.parquet does not exist; run the step that writes it first\.$"):
        frames.read(path, "a table of tests", ["name"])
    frames.write(TABLE, path, "a table of tests")
    with pytest.raises(InputError, match=r"one\.parquet is not a table of tests; its columns must be name, value\.$"):
        frames.read(path, "a table of tests", ["name", "value"])
    path.write_bytes(b"no parquet")
    with pytest.raises(InputError, match=r"one\.parquet cannot be read as a table of tests; write it again\.$"):
        frames.read(path, "a table of tests", ["name"])
    sentence = r"one\.parquet cannot be read as a table of tests \(the file is short\); write it again\.$"
    with pytest.raises(InputError, match=sentence), frames.reading(path, "a table of tests", reason=True):
        raise ValueError("the file is\nshort. More words")

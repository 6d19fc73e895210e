"""Atomic writes, source hashes and provenance."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from matryobench import dag
from matryobench.files import atomic_path, sha256_of, write_json, write_text
from matryobench.provenance import environment, peak_memory_mb


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a" / "table.csv"
    write_text(target, "old")
    with pytest.raises(RuntimeError), atomic_path(target) as partial:
        partial.write_text("half", encoding="utf-8")
        raise RuntimeError
    assert target.read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_a_folder_replaces_a_folder_whole(tmp_path: Path) -> None:
    for content in ("first", "second"):
        with atomic_path(tmp_path / "model") as partial:
            partial.mkdir()
            (partial / content).write_text(content, encoding="utf-8")
    assert [path.name for path in (tmp_path / "model").iterdir()] == ["second"]
    with pytest.raises(RuntimeError), atomic_path(tmp_path / "model") as partial:
        partial.mkdir()
        raise RuntimeError
    assert [path.name for path in tmp_path.rglob("*")] == ["model", "second"]


def test_json_refuses_what_is_not_a_number(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="JSON"):
        write_json(tmp_path / "x.json", {"value": float("nan")})
    assert not list(tmp_path.iterdir())


def test_sha256_of_a_known_file(tmp_path: Path) -> None:
    write_text(tmp_path / "x", "abc")
    assert sha256_of(tmp_path / "x").startswith("ba7816bf8f01cfea")


def test_source_hash_sees_meaning_and_not_layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dag, "PACKAGE", tmp_path)

    def hashed(text: str) -> str:
        (tmp_path / "module.py").write_text(text, encoding="utf-8")
        dag._meaning.cache_clear()
        return dag.source_hash("module.py")

    plain = hashed("def f(x):\n    return x + 1\n")
    assert plain == hashed("# why\ndef f(x):\n\n    return (x + 1)  # sum\n")
    assert plain != hashed("def f(x):\n    return x + 2\n")
    dag._meaning.cache_clear()


def test_provenance_names_code_libraries_and_machine() -> None:
    facts = environment()
    assert facts["libraries"]["torch"].startswith("2.13.0")
    assert facts["cores"] >= 1
    assert json.dumps(facts)
    assert peak_memory_mb() > 10

"""The mirror gives back exactly the files that its manifest lists, or one sentence that says what is wrong."""

from __future__ import annotations

import json
import os
import stat
import threading
from pathlib import Path

import pytest

from matryobench.data import mirror as mirror_module
from matryobench.data.mirror import Mirror, NotInMirror, copy_into
from matryobench.data.registry import DatasetSpec
from matryobench.errors import InputError
from matryobench.files import sha256_of

COMMIT, OTHER = "a" * 40, "b" * 40


def spec(**source: object) -> DatasetSpec:
    facts = {"kind": "text", "description": "a tiny set for tests", "citation": "none", "licence": "none"}
    return DatasetSpec.model_validate(facts | source)


def hub_spec(*files: str, revision: str | None = COMMIT) -> DatasetSpec:
    return spec(hub={"id": "org/name", "revision": revision, "files": list(files)})


def put(mirror: Mirror, entry: Path, files: dict[str, str], origin: str = "hub") -> Path:
    with mirror.incoming() as gathered:
        for name, content in files.items():
            (gathered / name).parent.mkdir(parents=True, exist_ok=True)
            (gathered / name).write_text(content)
        return mirror.add(entry, gathered, {"id": "org/name", "revision": COMMIT}, origin)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    mirror = Mirror(tmp_path / "mirror")
    put(mirror, mirror.entry("datasets", "org/name", COMMIT), {"test.txt": "one\n", "data/train.txt": "two\n"})
    return mirror


def in_mirror(mirror: Mirror) -> set[str]:
    return {
        path.relative_to(mirror.root).as_posix()
        for path in mirror.root.rglob("*")
        if path.is_file() and not path.name.startswith(".")
    }


# --- what is resolved ------------------------------------------------------------------------------------------------


def test_an_entry_is_resolved_with_its_facts(mirror: Mirror) -> None:
    folder = mirror.root / "datasets" / "org" / "name" / COMMIT
    files = mirror.dataset_files(hub_spec("data/train.txt", "test.txt"))
    assert files == [folder / "data" / "train.txt", folder / "test.txt"]
    manifest = mirror.manifest(folder)
    assert manifest["files"]["test.txt"] == {"sha256": sha256_of(folder / "test.txt"), "bytes": 4}
    assert (manifest["id"], manifest["revision"], manifest["from"]) == ("org/name", COMMIT, "hub")
    assert len(manifest["fetched"]) == len("2025-01-01")


def test_a_new_entry_can_be_read_by_others(mirror: Mirror) -> None:
    mode = stat.S_IMODE((mirror.root / "datasets" / "org" / "name" / COMMIT).stat().st_mode)
    umask = os.umask(0)
    os.umask(umask)
    assert mode == 0o777 & ~umask


def test_files_are_added_to_an_entry_and_equal_ones_accepted(mirror: Mirror) -> None:
    entry = mirror.entry("datasets", "org/name", COMMIT)
    put(mirror, entry, {"test.txt": "one\n", "dev.txt": "three\n"})
    assert set(mirror.manifest(entry)["files"]) == {"test.txt", "data/train.txt", "dev.txt"}
    assert mirror.dataset_files(hub_spec("dev.txt"))[0].read_text() == "three\n"


def test_local_files_need_a_manifest_beside_them(mirror: Mirror) -> None:
    mine = spec(mirror={"files": ["local/mine/a.txt"]})
    with pytest.raises(NotInMirror, match=r"^local/mine: the entry is not in the mirror .* docs/data\.md says how"):
        mirror.dataset_files(mine)
    put(mirror, mirror.root / "local" / "mine", {"a.txt": "one\n"}, "tool")
    assert mirror.dataset_files(mine) == [mirror.root / "local" / "mine" / "a.txt"]


def test_ids_without_an_organisation_have_a_place(mirror: Mirror) -> None:
    assert mirror.entry("models", "bert", COMMIT) == mirror.root / "models" / "_" / "bert" / COMMIT


# --- what is missing or has changed ----------------------------------------------------------------------------------


def test_what_is_not_there_is_named_with_id_revision_mirror_and_fix(mirror: Mirror) -> None:
    with pytest.raises(NotInMirror) as caught:
        mirror.dataset_files(hub_spec("test.txt", revision=OTHER))
    assert str(caught.value) == (
        f"org/name at revision {OTHER}: the entry is not in the mirror {mirror.root}; run 'python -m matryobench fetch "
        "CONFIG' where there is a network, or put it there as docs/data.md says."
    )
    with pytest.raises(NotInMirror, match=f"^org/name at revision {COMMIT}: dev.txt is not in the mirror"):
        mirror.dataset_files(hub_spec("dev.txt"))


def test_a_changed_file_is_refused_with_both_hashes(mirror: Mirror) -> None:
    (path,) = mirror.dataset_files(hub_spec("test.txt"))
    was = sha256_of(path)
    path.write_text("own\n")
    for _ in range(2):  # what was found wrong once is not taken for verified the second time
        with pytest.raises(InputError) as caught:
            mirror.dataset_files(hub_spec("test.txt"))
        message = str(caught.value)
        assert message.startswith(f"{path}: this file has changed (sha256 {sha256_of(path)[:12]}, ")
        assert f"the manifest says {was[:12]}); put the original back, or delete the folder {path.parent}" in message


def test_a_file_that_is_gone_is_refused(mirror: Mirror) -> None:
    (path,) = mirror.dataset_files(hub_spec("test.txt"))
    path.unlink()
    with pytest.raises(InputError, match="lists this file and it is gone"):
        mirror.dataset_files(hub_spec("test.txt"))


def test_an_unchanged_file_is_hashed_once(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed = []

    def counting(path: Path) -> str:
        hashed.append(path.name)
        return sha256_of(path)

    monkeypatch.setattr(mirror_module, "sha256_of", counting)
    for _ in range(3):
        mirror.dataset_files(hub_spec("test.txt", "data/train.txt"))
    assert hashed == ["test.txt", "train.txt"]
    mirror.dataset_files(hub_spec("test.txt"), thorough=True)
    os.utime(mirror.dataset_files(hub_spec("test.txt"))[0], ns=(1, 1))
    mirror.dataset_files(hub_spec("test.txt"))
    assert hashed == ["test.txt", "train.txt", "test.txt", "test.txt"]


def test_thorough_sees_a_change_that_kept_size_and_time(mirror: Mirror) -> None:
    (path,) = mirror.dataset_files(hub_spec("test.txt"))
    time = path.stat().st_mtime_ns
    path.write_text("own\n")
    os.utime(path, ns=(time, time))
    mirror.dataset_files(hub_spec("test.txt"))
    with pytest.raises(InputError, match="has changed"):
        mirror.dataset_files(hub_spec("test.txt"), thorough=True)


def test_a_damaged_cache_is_no_obstacle_and_a_damaged_manifest_is(mirror: Mirror) -> None:
    entry = mirror.entry("datasets", "org/name", COMMIT)
    (entry / ".verified.json").write_text('{"test.txt": 3')
    mirror.dataset_files(hub_spec("test.txt"))
    (entry / ".verified.json").write_text('{"test.txt": 3}')
    mirror.dataset_files(hub_spec("test.txt"))
    for damage in ('{"files": ', "[]"):
        (entry / "manifest.json").write_text(damage)
        with pytest.raises(InputError, match="this file of the mirror is damaged"):
            mirror.dataset_files(hub_spec("test.txt"))
    (entry / "manifest.json").write_text('{"files": ["test.txt"]}')
    with pytest.raises(InputError, match="this manifest lists no files"):
        mirror.dataset_files(hub_spec("test.txt"))


def test_a_mirror_that_cannot_be_written_still_resolves(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: Path, value: object) -> None:
        raise PermissionError(13, "read-only", str(path))

    monkeypatch.setattr(mirror_module, "write_json", refuse)
    assert len(mirror.dataset_files(hub_spec("test.txt"))) == 1


# --- paths that lead out ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../secret", "a/../../secret", "/etc/passwd", "", "..\\secret"])
def test_paths_that_leave_the_folder_are_refused(mirror: Mirror, name: str) -> None:
    with pytest.raises(InputError, match="leads out of the folder"):
        mirror.dataset_files(hub_spec(name))
    with pytest.raises(InputError, match="leads out of the folder"):
        mirror.dataset_files(spec(mirror={"files": [name]}))


def test_links_that_leave_the_folder_are_refused(mirror: Mirror, tmp_path: Path) -> None:
    entry = mirror.entry("datasets", "org/name", COMMIT)
    (tmp_path / "outside.txt").write_text("one\n")
    (entry / "test.txt").unlink()
    (entry / "test.txt").symlink_to(tmp_path / "outside.txt")
    with pytest.raises(InputError, match="this symbolic link leads out of"):
        mirror.dataset_files(hub_spec("test.txt"))
    (mirror.root / "models").symlink_to(tmp_path)
    with pytest.raises(InputError, match="this symbolic link leads out of"):
        mirror.entry("models", "org/name", COMMIT)


@pytest.mark.parametrize(("hub_id", "revision"), [("a/b/c", COMMIT), ("../x", COMMIT), ("a/b", "../x"), ("a/b", "")])
def test_ids_that_are_no_ids_are_refused(mirror: Mirror, hub_id: str, revision: str) -> None:
    with pytest.raises(InputError, match="is no hub id and commit"):
        mirror.entry("models", hub_id, revision)


# --- adding ----------------------------------------------------------------------------------------------------------


def test_nothing_listed_is_ever_replaced(mirror: Mirror) -> None:
    entry = mirror.entry("datasets", "org/name", COMMIT)
    before = in_mirror(mirror)
    with pytest.raises(InputError, match="the mirror holds this file with sha256 .* delete the folder"):
        put(mirror, entry, {"test.txt": "new\n", "dev.txt": "three\n"})
    assert in_mirror(mirror) == before
    assert (entry / "test.txt").read_text() == "one\n"


def test_files_of_two_origins_are_not_mixed(mirror: Mirror) -> None:
    entry = mirror.entry("datasets", "org/name", COMMIT)
    put(mirror, entry, {"test.txt": "one\n"}, "shared-data")  # the same bytes: nothing to add
    with pytest.raises(InputError, match="came from hub and cannot be mixed with files from shared-data"):
        put(mirror, entry, {"dev.txt": "three\n"}, "shared-data")


def test_a_folder_of_files_without_a_manifest_is_left_alone(mirror: Mirror) -> None:
    entry = mirror.entry("models", "org/name", COMMIT)
    entry.mkdir(parents=True)
    (entry / "mine.txt").write_text("mine")
    with pytest.raises(InputError, match="there are files without a manifest"):
        put(mirror, entry, {"config.json": "{}"})
    assert in_mirror(mirror) >= {f"models/org/name/{COMMIT}/mine.txt"}


@pytest.mark.parametrize("moment", ["gathering", "manifest"])
def test_an_interruption_leaves_nothing(mirror: Mirror, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    before = in_mirror(mirror)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    if moment == "manifest":
        monkeypatch.setattr(mirror_module, "write_json", interrupt)
    entry = mirror.entry("datasets", "org/new", COMMIT)
    with pytest.raises(KeyboardInterrupt), mirror.incoming() as gathered:
        (gathered / "test.txt").write_text("one\n")
        if moment == "gathering":
            interrupt()
        mirror.add(entry, gathered, {"id": "org/new", "revision": COMMIT}, "hub")
    assert in_mirror(mirror) == before
    assert not entry.exists() and not list(mirror.root.glob(".incoming-*"))


def test_a_file_left_by_an_interrupted_addition_does_not_count_and_is_taken_up(mirror: Mirror) -> None:
    entry = mirror.entry("datasets", "org/name", COMMIT)
    (entry / "dev.txt").write_text("three\n")
    with pytest.raises(NotInMirror, match="dev.txt is not in the mirror"):
        mirror.dataset_files(hub_spec("dev.txt"))
    with pytest.raises(InputError, match="the mirror holds this file with sha256"):
        put(mirror, entry, {"dev.txt": "other\n"})
    put(mirror, entry, {"dev.txt": "three\n"})
    assert len(mirror.dataset_files(hub_spec("dev.txt"))) == 1


def test_many_can_add_to_one_entry_at_once(mirror: Mirror) -> None:
    entry = mirror.entry("datasets", "org/busy", COMMIT)
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            put(mirror, entry, {"shared.txt": "same\n", f"{number}.txt": f"{number}\n"})
        except BaseException as error:  # noqa: BLE001 (to fail the test, not only its thread)
            errors.append(error)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    manifest = json.loads((entry / "manifest.json").read_text())
    assert set(manifest["files"]) == {"shared.txt", *(f"{number}.txt" for number in range(8))}
    mirror.verified(entry, manifest["files"], thorough=True)
    assert not list(mirror.root.glob(".incoming-*"))


# --- pins and models -------------------------------------------------------------------------------------------------


def test_a_null_revision_means_the_pinned_one_for_good(mirror: Mirror) -> None:
    with pytest.raises(NotInMirror, match=r"^org/name \(no revision given\) is not in the mirror"):
        mirror.dataset_files(hub_spec("test.txt", revision=None))
    mirror.pin("datasets", "org/name", COMMIT)
    mirror.pin("datasets", "org/name", COMMIT)
    assert len(mirror.dataset_files(hub_spec("test.txt", revision=None))) == 1
    with pytest.raises(InputError, match=f"has pinned revision {COMMIT[:12]} and was offered {OTHER[:12]}"):
        mirror.pin("datasets", "org/name", OTHER)


def test_a_model_folder_holds_what_its_manifest_lists(mirror: Mirror, tmp_path: Path) -> None:
    source = tmp_path / "model"
    (source / "1_Pooling").mkdir(parents=True)
    (source / "config.json").write_text("{}")
    (source / "1_Pooling" / "config.json").write_text("{}")
    entry = mirror.entry("models", "org/name", COMMIT)
    with mirror.incoming() as gathered:
        copy_into(source, gathered, ["config.json", "1_Pooling/config.json"])
        mirror.add(entry, gathered, {"id": "org/name", "revision": COMMIT}, "tool")
    for _ in range(2):
        assert mirror.model_folder("org/name", COMMIT) == entry
    (entry / "pytorch_model.bin").write_text("pickle")
    with pytest.raises(InputError, match="the mirror's manifest does not list this file"):
        mirror.model_folder("org/name", COMMIT)
    with pytest.raises(NotInMirror, match=f"^org/other at revision {COMMIT}: the entry is not in the mirror"):
        mirror.model_folder("org/other", COMMIT)

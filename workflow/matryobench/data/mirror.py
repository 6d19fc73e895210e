"""The mirror: a folder that resolves hub ids to files offline, with a SHA-256 for every file.

    datasets/<org>/<name>/<revision>/<file>     and the same under models/; ids without an organisation use `_`
    local/...                                   files that only this mirror has
    <entry>/manifest.json                       {files: {name: {sha256, bytes}}, id, revision, fetched, from, note}
    <entry>/.verified.json                      sizes and times at the last verification; safe to delete
    datasets/<org>/<name>/pinned.json           the commit that `revision: null` stands for, once it was fetched

An entry is the folder that holds a manifest. It appears whole (one rename), files are added to it under a lock, and
nothing that it lists is ever replaced.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError
from matryobench.files import inside, partial_name, partial_path, remove, remove_dead, sha256_of, write_json

Shelf = Literal["datasets", "models"]

MANIFEST = "manifest.json"
_VERIFIED = ".verified.json"
_PINNED = "pinned.json"
_PART = re.compile(r"[A-Za-z0-9_][\w.-]*", re.ASCII)
_HOW = "run 'python -m matryobench fetch CONFIG' where there is a network, or put it there as docs/data.md says"


class NotInMirror(InputError):
    """An entry or a file of it is not in the mirror (fetching may help); a damaged one is a plain InputError."""


class Mirror:
    """A mirror folder. Reading never needs a network or write access; only `add` and `pin` write entries."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root).absolute()

    def dataset_files(self, spec: DatasetSpec, thorough: bool = False) -> list[Path]:
        """The verified files of a `hub` or `mirror` source, in the entry's order; see `verified` for errors."""
        if spec.hub is not None:
            revision = self.resolve("datasets", spec.hub.id, spec.hub.revision)
            return self.verified(self.entry("datasets", spec.hub.id, revision), spec.hub.files, thorough)
        assert spec.mirror is not None, "only hub and mirror sources live in a mirror"
        files = []
        for name in spec.mirror.files:
            path = inside(self.root, name, self.root)
            files += self.verified(path.parent, [path.name], thorough)
        return files

    def model_folder(self, model_id: str, revision: str | None, thorough: bool = False) -> Path:
        """The verified folder of a model; a file in it that the manifest does not list is an InputError too."""
        folder = self.entry("models", model_id, self.resolve("models", model_id, revision))
        listed = self.manifest(folder)["files"]
        self.verified(folder, listed, thorough)
        for found in sorted(folder.rglob("*")):
            name = found.relative_to(folder).as_posix()
            if (found.is_symlink() or not found.is_dir()) and name not in listed and not _ours(name):
                raise InputError(
                    f"{found}: the mirror's manifest does not list this file, and it could change what the model folder "
                    "loads as; move it away."
                )
        return folder

    def entry(self, shelf: Shelf, hub_id: str, revision: str) -> Path:
        """The folder of an id at a revision, whether it exists or not; InputError for names that are no folder names."""
        parts = hub_id.split("/") if "/" in hub_id else ["_", hub_id]
        for part in (*parts, revision):
            if not _PART.fullmatch(part) or len(parts) != 2:
                raise InputError(
                    f"{hub_id!r} at revision {revision!r} is no hub id and commit; write organisation/name."
                )
        return inside(self.root, "/".join((shelf, *parts, revision)), self.root)

    def resolve(self, shelf: Shelf, hub_id: str, revision: str | None) -> str:
        """The revision itself, or for None the pinned one; NotInMirror when nothing was pinned."""
        if revision is not None:
            return revision
        pinned = self.entry(shelf, hub_id, "any").with_name(_PINNED)
        if not pinned.is_file():
            raise NotInMirror(f"{hub_id} (no revision given) is not in the mirror {self.root}; {_HOW}.")
        return str(_read_json(pinned)["revision"])

    def manifest(self, folder: Path) -> dict[str, Any]:
        """The manifest of an entry; NotInMirror when there is none."""
        path = folder / MANIFEST
        if not path.is_file():
            raise NotInMirror(self._missing(folder, "it"))
        manifest: dict[str, Any] = _read_json(path)
        files = manifest.get("files")
        if not isinstance(files, dict) or not all(isinstance(f, dict) and "sha256" in f for f in files.values()):
            raise InputError(f"{path}: this manifest lists no files; delete the folder {folder} and {_HOW}.")
        return manifest

    def verified(self, folder: Path, names: Iterable[str], thorough: bool = False) -> list[Path]:
        """The named files of an entry, each with the SHA-256 of the manifest.

        A file whose size and modification time are those of its last verification is not hashed again unless
        `thorough`. Raises NotInMirror for what is not there, InputError for a changed file or a path out of the entry.
        """
        listed = self.manifest(folder)["files"]
        known = {} if thorough else _read_cache(folder / _VERIFIED)
        seen, files = dict(known), []
        for name in names:
            path = inside(folder, name, folder)
            if name not in listed:
                raise NotInMirror(self._missing(folder, name))
            if not path.is_file():
                raise InputError(
                    f"{path}: the mirror's manifest lists this file and it is gone; put it back, or delete the folder "
                    f"{folder} and {_HOW}."
                )
            stat = path.stat()
            stamp = [stat.st_size, stat.st_mtime_ns]
            if known.get(name, [])[:2] != stamp:
                seen[name] = [*stamp, sha256_of(path)]
            if seen[name][2] != listed[name]["sha256"]:
                raise InputError(
                    f"{path}: this file has changed (sha256 {seen[name][2][:12]}, the manifest says "
                    f"{listed[name]['sha256'][:12]}); put the original back, or delete the folder {folder} and {_HOW}."
                )
            files.append(path)
        if seen != known:
            _write_if_possible(folder / _VERIFIED, seen)
        return files

    @contextmanager
    def incoming(self) -> Iterator[Path]:
        """An empty folder on the mirror's disk to gather files in; removed at the end, however that comes."""
        self.root.mkdir(parents=True, exist_ok=True)
        remove_dead(self.root, "incoming-")  # of downloads that were killed
        private = partial_path(self.root / f"incoming-{secrets.token_hex(4)}")
        folder = private / "files"
        try:
            folder.mkdir(parents=True)
            yield folder
        finally:
            remove(private)

    def add(self, entry: Path, gathered: Path, identity: Mapping[str, Any], origin: str) -> Path:
        """Moves all files of `gathered` (a folder made by `incoming`) into an entry, making it if needed.

        `identity` (id, revision, note) and `origin` (hub, shared-data, tool) go into the manifest of a new entry. A
        file that is already listed must have the same bytes. Raises InputError otherwise, and then changes nothing.
        """
        names = sorted(p.relative_to(gathered).as_posix() for p in gathered.rglob("*") if p.is_file())
        new = {
            name: {"sha256": sha256_of(gathered / name), "bytes": (gathered / name).stat().st_size} for name in names
        }
        with self._locked(entry):
            if not (entry / MANIFEST).is_file():
                if entry.is_dir() and any(entry.iterdir()):
                    raise InputError(
                        f"{entry}: there are files without a manifest; move the folder away and try again."
                    )
                today = datetime.datetime.now(datetime.UTC).date().isoformat()
                head = {"fetched": today, "from": origin, **identity}
                write_json(gathered / MANIFEST, {**head, "files": new})
                os.replace(gathered, entry)  # an empty folder in its place is replaced, a full one is not
                return entry
            self._merge(entry, gathered, new, origin)
        return entry

    def pin(self, shelf: Shelf, hub_id: str, revision: str) -> None:
        """Makes `revision` what a null revision of this id stands for; InputError when another one is pinned."""
        path = self.entry(shelf, hub_id, revision).with_name(_PINNED)
        with self._locked(path):
            if path.is_file() and (pinned := _read_json(path)["revision"]) != revision:
                raise InputError(
                    f"{hub_id}: the mirror {self.root} has pinned revision {pinned[:12]} and was offered {revision[:12]}; "
                    "write the revision that you mean into the config."
                )
            if not path.is_file():
                write_json(path, {"id": hub_id, "revision": revision})

    def _merge(self, entry: Path, gathered: Path, new: dict[str, dict[str, Any]], origin: str) -> None:
        manifest = self.manifest(entry)
        for name, facts in new.items():
            target = inside(entry, name, entry)
            held = manifest["files"].get(name)
            # A file that is there but not listed was left by an interrupted `add`; the same bytes may stay.
            if held is None and target.exists():
                held = {"sha256": sha256_of(target)}
            if held is not None and held["sha256"] != facts["sha256"]:
                raise InputError(
                    f"{target}: the mirror holds this file with sha256 {held['sha256'][:12]} and was offered "
                    f"{facts['sha256'][:12]}; to replace it, delete the folder {entry} first."
                )
        added = {name: facts for name, facts in new.items() if name not in manifest["files"]}
        if added and manifest.get("from") != origin:
            raise InputError(
                f"{entry}: this entry came from {manifest.get('from')} and cannot be mixed with files from {origin}; "
                "delete the folder first."
            )
        for name in added:
            target = entry / name
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(gathered / name, target)
        if added:  # written last: until then the new files do not count
            write_json(entry / MANIFEST, {**manifest, "files": {**manifest["files"], **added}})

    @contextmanager
    def _locked(self, path: Path) -> Iterator[None]:
        from filelock import FileLock

        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_name(f".{path.name}.lock")):
            yield

    def _missing(self, folder: Path, name: str) -> str:
        parts = folder.relative_to(self.root).parts if folder.is_relative_to(self.root) else folder.parts
        what = name if name != "it" else "the entry"
        if len(parts) == 4 and parts[0] in ("datasets", "models"):
            org = "" if parts[1] == "_" else f"{parts[1]}/"
            return f"{org}{parts[2]} at revision {parts[3]}: {what} is not in the mirror {self.root}; {_HOW}."
        return f"{'/'.join(parts)}: {what} is not in the mirror {self.root}; docs/data.md says how to put it there."


def copy_into(source: Path, gathered: Path, names: Iterable[str]) -> None:
    """Copies files of a folder, by their relative names, into a folder of `Mirror.incoming`; links become files."""
    for name in names:
        target = inside(gathered, name, gathered)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source / name, target)


def _ours(name: str) -> bool:
    return (partial_name(name) or name) in (MANIFEST, _VERIFIED)


def _read_json(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(value, dict):
            return value
    except (OSError, ValueError):
        pass
    raise InputError(f"{path}: this file of the mirror is damaged; delete the folder {path.parent} and {_HOW}.")


def _read_cache(path: Path) -> dict[str, list[Any]]:
    """{name: [bytes, mtime_ns, sha256]}; {} when there is none or it is damaged."""
    try:
        cache = json.loads(path.read_text(encoding="utf-8"))
        return {str(name): [int(size), int(time), str(sha)] for name, (size, time, sha) in cache.items()}
    except (OSError, ValueError, TypeError, AttributeError):
        return {}


def _write_if_possible(path: Path, value: Any) -> None:
    """A cache: a mirror on a read-only disk works without it."""
    try:
        write_json(path, value)
    except OSError:
        return

"""From a data set's entry, or a model's id, to checked rows or a verified folder, through the mirror.

Everything is looked up in the mirror first. Only what is not there is downloaded, and only when not `offline`; what is
there is verified and never replaced.
"""

from __future__ import annotations

import re
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any, Literal, Protocol

import pyarrow as pa

from matryobench.data.derived import ComposedSource, MinedSource
from matryobench.data.mirror import Mirror, NotInMirror, Shelf
from matryobench.data.records import from_columns, read_records
from matryobench.data.specs import DatasetSpec, DemoWorldSource, HubSource
from matryobench.errors import InputError
from matryobench.files import inside, sha256_of

# Weights as safetensors, and what tokenizers and model folders consist of: no pickles, no code.
MODEL_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")
_OTHER_RUNTIMES = ("onnx", "openvino", "coreml")

RepoType = Literal["dataset", "model"]


class Hub(Protocol):
    """What fetching needs of a hub; `HuggingFaceHub` is the real one, tests bring a folder."""

    def look_up(self, repo_id: str, revision: str | None, repo_type: RepoType) -> tuple[str, list[str]]:
        """(commit, names of all files) of a repository at a revision, or at its newest commit for None."""
        ...

    def download(self, repo_id: str, revision: str, repo_type: RepoType, file: str, folder: Path) -> None:
        """Writes one file of a repository to `folder / file`."""
        ...


class HuggingFaceHub:
    """The Hugging Face hub through huggingface_hub; its settings (HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE) apply."""

    def look_up(self, repo_id: str, revision: str | None, repo_type: RepoType) -> tuple[str, list[str]]:
        """See `Hub`. Raises InputError when the hub cannot be asked or does not know the repository or revision."""
        from huggingface_hub import HfApi

        try:
            info = HfApi().repo_info(repo_id, revision=revision, repo_type=repo_type)
        except Exception as error:  # noqa: BLE001 (the library raises its own kinds, httpx's, OSError, ValueError)
            raise _unreachable(repo_id, revision, error) from None
        if info.sha is None:
            raise InputError(f"{repo_id}: the hub gave no commit for revision {revision}; give another revision.")
        return info.sha, [sibling.rfilename for sibling in getattr(info, "siblings", None) or []]

    def download(self, repo_id: str, revision: str, repo_type: RepoType, file: str, folder: Path) -> None:
        """See `Hub`. Raises InputError when the download fails."""
        from huggingface_hub import hf_hub_download

        try:
            hf_hub_download(repo_id, file, revision=revision, repo_type=repo_type, local_dir=folder)
        except Exception as error:  # noqa: BLE001 (as above)
            raise _unreachable(repo_id, revision, error) from None


def fetch_dataset(
    name: str, spec: DatasetSpec, mirror: Mirror, offline: bool, hub: Hub | None = None
) -> tuple[pa.Table, dict[str, Any]]:
    """The checked rows of a data set and the facts for `write_table`.

    The facts: dataset, kind, rows, source, id, revision, from, note (hub and mirror), sha256 (per source file), licence,
    citation, and missing_text with its number of texts where the entry sets it. Raises InputError when the files are not
    to be had, have changed, or do not fit the entry, and for a mined or composed entry, which is made
    of other tables (`mine`, `compose`).
    """
    source = spec.source
    if isinstance(source, DemoWorldSource):
        table = _demo_world(name, source, spec)
        facts = {"source": "demo_world", "revision": f"{source.table}, seed {source.seed}", "sha256": {}}
        meta = _description(name, spec) | facts
    else:
        files, meta = fetch_files(name, spec, mirror, offline, hub)
        table = read_records(files, spec, name)
    if spec.missing_text is not None:
        import pyarrow.compute as pc

        texts = [column for column in table.itercolumns() if pa.types.is_string(column.type)]
        filled = sum(pc.sum(pc.equal(column, spec.missing_text)).as_py() or 0 for column in texts)
        meta["missing_text"] = {"text": spec.missing_text, "texts": filled}
    return table, {**meta, "rows": table.num_rows}


def fetch_files(
    name: str, spec: DatasetSpec, mirror: Mirror, offline: bool, hub: Hub | None = None
) -> tuple[list[Path], dict[str, Any]]:
    """The verified files of a data set that consists of files, and the facts of `fetch_dataset` but for the rows.

    Raises InputError as there.
    """
    source = spec.source
    if isinstance(source, MinedSource | ComposedSource):
        raise InputError(
            f"{name}: this data set is made of other tables and cannot be fetched alone; use an experiment."
        )
    if spec.local is not None:
        files = spec.local_paths()
        sums = {
            written: sha256_of(path) for written, path in zip(spec.local.files, files, strict=True) if path.is_file()
        }
        return files, _description(name, spec) | {"source": "local", "revision": None, "sha256": sums}
    if isinstance(source, HubSource):
        _ensure_dataset(source, mirror, offline, hub)
    files = mirror.dataset_files(spec, thorough=not offline)
    return files, _description(name, spec) | _provenance(spec, mirror, files)


def _description(name: str, spec: DatasetSpec) -> dict[str, Any]:
    return {"dataset": name, "kind": spec.kind, "licence": spec.licence, "citation": spec.citation}


def fetch_model(model_id: str, revision: str | None, mirror: Mirror, offline: bool, hub: Hub | None = None) -> Path:
    """The verified folder of a model in the mirror, downloaded there first if it is not and `offline` is false.

    Only safetensors weights, JSON, text (vocabulary, merges) and sentencepiece files are taken: never pickles or code.
    Raises InputError when the model is not to be had, has changed, or has no safetensors weights.
    """
    try:
        return mirror.model_folder(model_id, revision, thorough=not offline)
    except NotInMirror:
        if offline:
            raise
    if revision is not None and not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise InputError(
            f"{model_id}: {revision!r} is not a commit, so what it means could change; give all 40 hexadecimal digits, "
            "or null to pin the newest commit at the first fetch."
        )
    hub = hub or HuggingFaceHub()
    commit, names = hub.look_up(model_id, revision or _pinned(mirror, "models", model_id), "model")
    wanted = [name for name in names if is_model_file(name)]
    check_model_files(wanted, f"{model_id} at revision {commit}")
    _download(hub, model_id, commit, "model", wanted, mirror)
    if revision is None:
        mirror.pin("models", model_id, commit)
    return mirror.model_folder(model_id, revision)


def is_model_file(name: str) -> bool:
    """Whether a repository's file belongs to a model folder that can be loaded without pickles, code or other runtimes."""
    path = PurePosixPath(name)
    return (
        any(fnmatch(path.name, pattern) for pattern in MODEL_FILES)
        and path.parts[0] not in _OTHER_RUNTIMES
        and not fnmatch(path.name, "*.bin.index.json")
        and not any(part.startswith(".") for part in path.parts)
    )


def check_model_files(names: list[str], place: str) -> None:
    """Raises InputError, beginning with `place`, when no folder has both a config and safetensors weights."""
    configs = {PurePosixPath(name).parent for name in names if PurePosixPath(name).name == "config.json"}
    weights = {PurePosixPath(name).parent for name in names if fnmatch(name, "*.safetensors")}
    if not configs & weights:
        raise InputError(
            f"{place}: no config.json with weights as *.safetensors beside it; use a model (or a revision of it) that "
            "has them, since pickled weights are never loaded."
        )


def _ensure_dataset(source: HubSource, mirror: Mirror, offline: bool, hub: Hub | None) -> None:
    """Downloads what the mirror lacks of a hub source; a damaged entry is left for the verification to report."""
    revision = source.revision or _pinned(mirror, "datasets", source.id)
    lacking = list(source.files)
    if revision is not None:
        try:
            listed = mirror.manifest(mirror.entry("datasets", source.id, revision))["files"]
            lacking = [file for file in source.files if file not in listed]
        except NotInMirror:
            pass
    if offline or not lacking:
        return
    hub = hub or HuggingFaceHub()
    commit, names = hub.look_up(source.id, revision, "dataset")
    for file in lacking:
        if file not in names:
            raise InputError(
                f"{source.id} at revision {commit}: the repository has no file {file!r} but {', '.join(names[:20])}; "
                "correct 'files' in the entry."
            )
    _download(hub, source.id, commit, "dataset", lacking, mirror)
    if source.revision is None:
        mirror.pin("datasets", source.id, commit)


def _pinned(mirror: Mirror, shelf: Shelf, repo_id: str) -> str | None:
    try:
        return mirror.resolve(shelf, repo_id, None)
    except NotInMirror:
        return None


def _download(hub: Hub, repo_id: str, commit: str, repo_type: RepoType, files: list[str], mirror: Mirror) -> None:
    entry = mirror.entry("models" if repo_type == "model" else "datasets", repo_id, commit)
    with mirror.incoming() as scratch, mirror.incoming() as gathered:
        for file in files:
            target = inside(gathered, file, gathered)
            hub.download(repo_id, commit, repo_type, file, scratch)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Only what was asked for: the hub's library leaves its own notes in the folder that it writes to.
            (scratch / file).resolve().replace(target)
        mirror.add(entry, gathered, {"id": repo_id, "revision": commit}, origin="hub")


def _provenance(spec: DatasetSpec, mirror: Mirror, files: list[Path]) -> dict[str, Any]:
    """Where verified files of the mirror came from, as their manifests say."""
    if spec.hub is not None:
        revision = mirror.resolve("datasets", spec.hub.id, spec.hub.revision)
        folders = [mirror.entry("datasets", spec.hub.id, revision)] * len(files)
        facts: dict[str, Any] = {"source": "hub", "id": spec.hub.id, "revision": revision}
    else:
        folders = [path.parent for path in files]
        facts = {"source": "mirror", "revision": None}
    manifests = [mirror.manifest(folder) for folder in folders]
    names = [path.relative_to(folder).as_posix() for path, folder in zip(files, folders, strict=True)]
    keys = [path.relative_to(mirror.root).as_posix() for path in files]
    sums = [manifest["files"][name]["sha256"] for manifest, name in zip(manifests, names, strict=True)]
    facts |= {"from": manifests[0].get("from"), "sha256": dict(zip(keys, sums, strict=True))}
    notes = list(dict.fromkeys(manifest["note"] for manifest in manifests if manifest.get("note")))
    return {**facts, "note": " ".join(notes)} if notes else facts


def _demo_world(name: str, source: DemoWorldSource, spec: DatasetSpec) -> pa.Table:
    from matryobench.data import demo_world

    return from_columns(demo_world.table(source.table, source.seed), f"demo world table {source.table!r}", spec, name)


def _unreachable(repo_id: str, revision: str | None, error: Exception) -> InputError:
    cause = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    # Addresses without what may be secret in them: a proxy's password, a signed download's key.
    cause = re.sub(r"(//)[^/\s@]*@", r"\1", re.sub(r"(\w://[^\s?]*)\?[^\s)'\"]*", r"\1", cause))
    return InputError(
        f"{repo_id} at revision {revision or 'newest'} could not be had from the hub ({type(error).__name__}: {cause}); "
        "check the id, the revision and the network, or fill the mirror by hand as docs/data.md says."
    )

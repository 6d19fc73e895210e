"""The chain from data to report, on a small experiment that is run twice: the same numbers, and every link checked."""

from __future__ import annotations

import copy
import json
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from test_dag import CONFIG as STS
from test_dag import snakemake, write_config
from test_retrieval_dag import CONFIG as RETRIEVAL
from typer.testing import CliRunner

from matryobench import reports
from matryobench.chain import archiving
from matryobench.chain.guards import check_model, check_runs
from matryobench.chain.links import Link, broken
from matryobench.chain.verifying import open_results, verify
from matryobench.cli import app
from matryobench.errors import InputError
from matryobench.files import sha256_of

CONFIG: dict[str, Any] = {
    **copy.deepcopy(STS),
    "threads": 2,
    "offline": True,
    "sts": {
        **STS["sts"],
        "runs": [{"method": "bert-s", "cells": [[1, 8]]}, {"method": "srl"}, {"method": "starbucks"}],
        "baselines": ["bert-s"],
    },
    "retrieval": {**RETRIEVAL["retrieval"], "runs": [{"method": "bert"}, {"method": "fix-doc"}]},
}
SRL, STARBUCKS, BERT = "sts-srl-released-v1-s7", "sts-starbucks-released-v1-s7", "retrieval-bert-paper-groups-s7"
MEASURED = ("deployment", "sts-deployment", "retrieval-deployment", "training-costs", "sts-pareto", "retrieval-pareto")
"""Tables and figures of seconds, bytes and memory: these differ from run to run."""


def run(folder: Path, cores: int) -> Path:
    write_config(folder, CONFIG)
    result = snakemake(folder, "--cores", str(cores))
    assert result.returncode == 0, result.stdout[-5000:] + result.stderr[-5000:]
    return folder / "results" / "small"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the experiment, made with one core."""
    return run(tmp_path_factory.mktemp("one-core"), 1)


@pytest.fixture
def results(finished: Path, tmp_path: Path) -> Path:
    """A copy of them that a test may damage."""
    return shutil.copytree(finished, tmp_path / "moved")


@pytest.fixture(scope="module")
def repeated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same experiment once more, with two cores."""
    return run(tmp_path_factory.mktemp("two-cores"), 2)


def sums(results: Path) -> dict[str, str]:
    """The hashes of everything but records (which hold times), logs and the pages (which show records)."""
    kinds = ("csv", "parquet", "md", "tex", "svg", "png", "pdf", "safetensors", "html", "gz")
    folders = ("data", "tokens", "backbone", "pretraining", "runs", "evaluation", "tables", "figures")
    files = [path for folder in folders for kind in kinds for path in (results / folder).rglob(f"*.{kind}")]
    return {path.relative_to(results).as_posix(): sha256_of(path) for path in files}


def test_the_same_config_gives_the_same_bytes_also_with_another_number_of_cores(finished: Path, repeated: Path) -> None:
    one, two = sums(finished), sums(repeated)
    assert set(one) == set(two)
    differing = {file for file in one if one[file] != two[file]}
    assert {Path(file).stem for file in differing} <= set(MEASURED)
    kinds = {Path(file).suffix for file in set(one) - differing}
    assert kinds == {".csv", ".parquet", ".md", ".tex", ".svg", ".png", ".pdf", ".safetensors", ".html", ".gz"}
    for folder in (finished, repeated):
        assert json.loads((folder / "runs" / SRL / "run.json").read_text())["threads"] == 2


def test_the_whole_chain_of_a_finished_experiment_holds(finished: Path) -> None:
    links = verify(finished)
    assert [link for link in links if link.status != "ok"] == []
    stages = {link.stage for link in links}
    assert stages == {"data", "tokens", "pre-trainings", "runs", "evaluations", "tables", "figures", "pages"}


def test_records_name_code_machine_settings_and_cost_and_no_paths(finished: Path) -> None:
    trained = json.loads((finished / "runs" / SRL / "run.json").read_text())
    evaluated = json.loads((finished / "evaluation" / SRL / "evaluation.json").read_text())
    pretrained = json.loads((finished / "backbone" / "pretraining.json").read_text())
    for record in (trained, evaluated, pretrained):
        assert {"config_hash", "git_commit", "libraries", "processor", "device", "dtype", "threads"} <= set(record)
        assert {"model_sha256", "peak_memory_mb"} <= set(record)
    for record in (trained, pretrained):
        assert {"processes", "device_seconds", "tokens_seen", "settings"} <= set(record)
    assert len({record["config_hash"] for record in (trained, evaluated, pretrained)}) == 1
    assert trained["model_sha256"] == evaluated["model_sha256"]
    weights = finished / "runs" / SRL / "model" / "model.safetensors"
    assert trained["model_sha256"]["model.safetensors"] == sha256_of(weights)
    records = [*finished.rglob("*.json")]
    assert all(str(Path.home()) not in path.read_text() for path in records if path.parent.name != "model")
    assert all(str(finished) not in path.read_text() for path in records if path.parent.name != "model")


def test_products_carry_the_hash_of_their_inputs(finished: Path) -> None:
    import pyarrow.parquet as pq

    for stem, kinds in (("figures/sts-panels", ("svg", "png", "pdf")), ("tables/sts-grid", ("md", "tex"))):
        record = json.loads((finished / f"{stem}.made.json").read_text())
        assert record["inputs"] == {"tables/cells.parquet": sha256_of(finished / "tables" / "cells.parquet")}
        for kind in kinds:
            assert record["inputs_sha256"].encode() in (finished / f"{stem}.{kind}").read_bytes()
    noted = json.loads(pq.read_schema(finished / "tables" / "cells.parquet").metadata[b"matryobench"])
    record = json.loads((finished / "tables" / "cells.made.json").read_text())
    assert noted["inputs_sha256"] == record["inputs_sha256"]
    assert f"runs/{SRL}/run.json" in record["records"] and f"evaluation/{SRL}/cells.parquet" in record["inputs"]
    page = (finished / "report.html").read_text(encoding="utf-8")
    assert sha256_of(finished / "tables" / "cells.parquet") in page
    assert "inputs_sha256" not in page.removesuffix("\n").rsplit("\n", 1)[0]  # notes of tables do not show


def test_intermediate_files_may_be_left_out_and_are_said_to_be(results: Path) -> None:
    for path in [results / "data", results / "tokens", *results.glob("*/*/model")]:
        shutil.rmtree(path)
    links = verify(results)
    assert broken(links) == []
    left_out = {link.stage for link in links if link.status == "not there"}
    assert left_out == {"data", "tokens", "pre-trainings", "runs", "evaluations", "tables", "pages"}
    check_runs(open_results(results).plan, results)


def edit(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def swap(results: Path) -> None:
    one, two = results / "runs" / SRL, results / "runs" / STARBUCKS
    one.rename(results / "runs" / "between")
    two.rename(one)
    (results / "runs" / "between").rename(two)


def replace_tokens(results: Path) -> None:
    shutil.copyfile(
        results / "tokens" / "demo-sts-roles.32.safetensors", results / "tokens" / "demo-triplets.32.safetensors"
    )


def change_config(results: Path) -> None:
    path = results / "experiment.yaml"
    path.write_text(path.read_text().replace("steps: 8", "steps: 9"))


FIRST = "runs/sts-bert-s-paper-v1-l1-d8-s7/run.json"  # of the plan, and so the one that a sentence is about
RUN, EVALUATION = f"runs/{SRL}/run.json", f"evaluation/{SRL}/evaluation.json"
DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "swapped run folders": (swap, RUN, f"is the record of {STARBUCKS} and not of {SRL}; train {SRL} again"),
    "other settings": (
        lambda results: edit(results / RUN, settings_hash="0" * 12), RUN, "was trained with other settings",
    ),
    "another config": (change_config, FIRST, "was trained with other settings"),
    "an older training": (
        lambda results: edit(results / RUN, final_loss=0.0), EVALUATION,
        f"was made from another {RUN} than the one that is there; evaluate {SRL} again",
    ),
    "another start": (
        lambda results: edit(results / RUN, inputs={**json.loads((results / RUN).read_text())["inputs"],
                                                     "start_sha256": "0" * 12}),
        RUN, "started from other weights than those of backbone/backbone.json",
    ),
    "other tokens": (replace_tokens, FIRST, "was made from another tokens/demo-triplets.32.safetensors"),
    "an evaluation of other sets": (
        lambda results: edit(results / EVALUATION, evaluation_hash="0" * 12), EVALUATION, "its evaluation_hash is 0000",
    ),
    "cells of another run": (
        lambda results: shutil.copyfile(
            results / "evaluation" / STARBUCKS / "cells.parquet", results / "evaluation" / SRL / "cells.parquet"
        ),
        f"evaluation/{SRL}/cells.parquet", "is not the file that evaluation.json names",
    ),
    "no record": (lambda results: (results / RUN).unlink(), RUN, "there is no such record"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_no_table_is_made_from_runs_that_do_not_match(results: Path, name: str) -> None:
    damage, file, problem = DAMAGES[name]
    damage(results)
    plan = open_results(results).plan
    tables = sorted(results.glob("evaluation/*/cells.parquet"))
    with pytest.raises(InputError) as refused:
        reports.collect(plan, tables, results, results / "new" / "cells.parquet")
    assert str(refused.value).startswith(f"{results / file}: ") and problem in str(refused.value)
    assert not (results / "new").exists()
    found = [link for link in verify(results) if link.file == file and link.status in ("wrong", "missing")]
    assert any(problem in link.sentence for link in found)


def test_rows_of_another_run_are_found_without_hashes(results: Path) -> None:
    DAMAGES["cells of another run"][0](results)
    record = json.loads((results / EVALUATION).read_text())
    del record["outputs"]
    (results / EVALUATION).write_text(json.dumps(record))
    with pytest.raises(InputError, match=f"holds rows of {STARBUCKS}; evaluate {SRL} again"):
        check_runs(open_results(results).plan, results)


def test_an_overwritten_model_is_not_evaluated(results: Path) -> None:
    plan = open_results(results).plan
    model = results / "runs" / SRL / "model"
    assert check_model(plan, plan.run(SRL), model)["model.safetensors"] == sha256_of(model / "model.safetensors")
    shutil.copyfile(results / "runs" / STARBUCKS / "model" / "model.safetensors", model / "model.safetensors")
    arguments = [str(results / "experiment.yaml"), SRL, "--model", str(model), "--files", str(results)]
    outcome = CliRunner().invoke(app, ["evaluate-run", *arguments, "--out", str(results / "again")])
    assert isinstance(outcome.exception, InputError)
    assert f"model/model.safetensors is not the file that it names; train {SRL} again" in str(outcome.exception)
    assert {path.name for path in (results / "again").iterdir()} <= {".lock", ".lock.json"}
    found = [link for link in verify(results) if link.status == "wrong"]
    assert {(link.stage, link.file) for link in found} == {("runs", RUN)}


def test_records_of_an_earlier_version_are_taken_as_they_are_and_said_to_lack_hashes(results: Path) -> None:
    plan = open_results(results).plan
    for file, keys in ((RUN, ("model_sha256",)), (EVALUATION, ("files_sha256", "outputs"))):
        record = json.loads((results / file).read_text())
        (results / file).write_text(json.dumps({key: value for key, value in record.items() if key not in keys}))
    edit(results / EVALUATION, run_sha256=sha256_of(results / RUN))
    model = results / "runs" / SRL / "model"
    assert check_model(plan, plan.run(SRL), model)["model.safetensors"] == sha256_of(model / "model.safetensors")
    check_runs(plan, results)
    lacking = [link for link in verify(results) if link.status == "lacking"]
    assert {(link.stage, link.file) for link in lacking} == {("runs", RUN), ("evaluations", EVALUATION)}
    assert len(lacking) == 3


def test_a_model_is_not_searched_with_under_another_name(results: Path) -> None:
    plan = open_results(results).plan
    other = plan.run("retrieval-fix-doc-released-groups-s7")
    with pytest.raises(InputError, match=f"is the record of {BERT} and not of {other.run_id}"):
        check_model(plan, other, results / "runs" / BERT / "model")


def only(links: list[Link]) -> Link:
    (found,) = broken(links)
    return found


def test_changed_products_and_records_are_found(results: Path) -> None:
    path = results / "tables" / "sts-grid.tex"
    whole = path.read_text()
    path.write_text(whole.replace("0", "1"))
    assert only(verify(results)).sentence.startswith("is not the file that sts-grid.made.json names; make")
    path.write_text(whole)
    record = results / "figures" / "sts-panels.made.json"
    text = record.read_text()
    record.unlink()
    assert {link.status for link in broken(verify(results))} == {"lacking"}
    inputs = {**json.loads(text)["inputs"], "tables/coverage.csv": sha256_of(results / "tables" / "coverage.csv")}
    record.write_text(json.dumps({**json.loads(text), "inputs": inputs}))
    assert "its list of inputs was changed" in only(verify(results)).sentence
    record.write_text("[]")
    assert "is not a record" in only(verify(results)).sentence


def test_verify_prints_counts_and_every_broken_link_and_fails(results: Path) -> None:
    whole = CliRunner().invoke(app, ["verify", str(results)])
    assert whole.exit_code == 0 and whole.stdout.endswith("The chain holds.\n")
    (results / "figures" / "sts-panels.pdf").unlink()
    found = CliRunner().invoke(app, ["verify", str(results)])
    assert found.exit_code == 1
    assert "missing: figures/sts-panels.made.json figures/sts-panels.pdf is not there." in found.stdout
    told = json.loads(CliRunner().invoke(app, ["verify", str(results), "--json"]).stdout)
    assert told["ok"] is False and told["stages"]["figures"]["missing"] == 1
    nowhere = CliRunner().invoke(app, ["verify", str(results / "figures")])
    assert isinstance(nowhere.exception, InputError) and "experiment.yaml does not exist" in str(nowhere.exception)


def test_an_archive_is_a_crate_whose_chain_holds(finished: Path, tmp_path: Path) -> None:
    from rocrate.rocrate import ROCrate

    count = archiving.write_archive(finished, tmp_path / "crate.zip")
    archiving.write_archive(finished, tmp_path / "again.zip")
    assert (tmp_path / "crate.zip").read_bytes() == (tmp_path / "again.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "crate.zip") as stored:
        stored.extractall(tmp_path / "crate")
    crate = ROCrate(tmp_path / "crate")
    assert crate.mainEntity.id == "source/Snakefile" and "ComputationalWorkflow" in crate.mainEntity.type
    files = [entity for entity in crate.data_entities if "File" in entity.type]
    for entity in files:
        assert entity["sha256"] == sha256_of(tmp_path / "crate" / entity.id), entity.id
    present = {path.relative_to(tmp_path / "crate").as_posix() for path in (tmp_path / "crate").rglob("*.*")}
    listed = {entity.id for entity in files} | {"ro-crate-metadata.json"}
    assert {one for one in present if (tmp_path / "crate" / one).is_file()} <= listed and len(listed) == count
    (action,) = crate.get_by_type("CreateAction")
    assert action["instrument"] is crate.mainEntity
    assert {"tables/cells.parquet", "figures/sts-panels.svg", "report.html"} <= {one.id for one in action["result"]}
    assert crate.license.id == "https://spdx.org/licenses/Apache-2.0"
    assert not any("model/" in one or one.endswith("items.parquet") for one in listed)
    links = verify(tmp_path / "crate")
    assert broken(links) == [] and any(link.status == "not there" for link in links)


def test_an_archive_has_models_on_request_and_refuses_broken_chains(results: Path, tmp_path: Path) -> None:
    archiving.write_archive(results, tmp_path / "crate", models=True)
    assert (tmp_path / "crate" / "runs" / SRL / "model" / "model.safetensors").is_file()
    with pytest.raises(InputError, match="exists already"):
        archiving.write_archive(results, tmp_path / "crate")
    edit(results / RUN, final_loss=0.0)
    with pytest.raises(
        InputError, match=f"links of its chain do not hold, the first: {EVALUATION} was made.*matryobench verify"
    ):
        archiving.write_archive(results, tmp_path / "other")
    assert not (tmp_path / "other").exists()

"""Two training processes: the losses, gradients and weights of one, through the verb, after kills and errors."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import yaml
from processes_cases import experiment, run_all, steps, telemetry, two_processes, write_data
from safetensors.torch import load_file
from transformers import AutoModel

from matryobench.errors import InputError
from matryobench.paths import ROOT
from matryobench.plan import Plan
from matryobench.training import launch
from matryobench.training.gather import gather_embeddings, is_first, largest, rows_to_embed, share

WHOLE_RUNS = (
    "sts-2dmse-v1-released-mnrl-s3", "sts-2dmse-v2-paper-angle-s3", "sts-srl-released-mnrl-s3",
    "retrieval-2dmse-released-groups-s3", "retrieval-srl-released-retrieval-groups-s3", "mteb-mrl-paper-instructor-s3",
)  # fmt: skip
# One step of everything that can be trained, then whole runs with and without what saves memory.
WORKER = """
import sys
from pathlib import Path
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from processes_cases import run_all, steps
from matryobench.plan import Plan

folder, backbone = Path(sys.argv[1]), Path(sys.argv[2])
for name, runs in (("plain", sys.argv[3:]), ("saving", sys.argv[3::3])):
    run_all(Plan.load(folder / f"{name}-2.yaml"), runs, folder, backbone, folder / f"{name}-2")
long = Plan.load(folder / "long-2.yaml")
run_all(long, sys.argv[3:4], folder, long.experiment.backbone.path, folder / "long-2")
told = steps(Plan.load(folder / "plain-2.yaml"), folder, backbone, DistributedDataParallel)
torch.save(told, folder / f"steps-{dist.get_rank()}.pt")
dist.destroy_process_group()
"""


@pytest.fixture(scope="module")
def backbone(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny model without dropout, of which every process drops its own rows' share."""
    folder = tmp_path_factory.mktemp("undropped")
    AutoModel.from_pretrained(
        tiny_bert, add_pooling_layer=False, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0
    ).save_pretrained(folder)
    for file in tiny_bert.glob("*token*"):
        (folder / file.name).write_bytes(file.read_bytes())
    return folder


@pytest.fixture(scope="module")
def done(backbone: Path, tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what two processes trained (...-2), and what one did (...-1)."""
    folder = tmp_path_factory.mktemp("trained")
    write_data(folder, backbone)
    for processes in (1, 2):
        experiment(folder / f"plain-{processes}.yaml", backbone, processes)
        saving = {"gradient_caching": True, "gradient_checkpointing": True}
        experiment(folder / f"saving-{processes}.yaml", backbone, processes, **saving)
    experiment(folder / "long-2.yaml", tiny_bert, 2, steps=60)  # with dropout
    two_processes(WORKER, folder, backbone, *WHOLE_RUNS)
    run_all(Plan.load(folder / "plain-1.yaml"), WHOLE_RUNS, folder, backbone, folder / "plain-1")
    return folder


def test_loss_and_gradients_of_every_objective_are_those_of_one_process(done: Path, backbone: Path) -> None:
    """Also where the last batch is one query, of which the second process has none; float64, one backward pass a batch."""
    both = [torch.load(done / f"steps-{rank}.pt") for rank in (0, 1)]
    one = steps(Plan.load(done / "plain-1.yaml"), done, backbone, lambda module: module)
    assert len(one) > 30 and one.keys() == both[0].keys()
    for run_id, expected in one.items():
        for two in both:
            assert two[run_id]["losses"] == pytest.approx(expected["losses"], rel=1e-12), run_id
            for name, gradient in expected["gradients"].items():
                # Without gradient in some step, a parameter would stop the processes from exchanging theirs.
                assert gradient is not None, (run_id, name)
                atol = 1e-12 * max(1.0, float(gradient.abs().max()))
                torch.testing.assert_close(two[run_id]["gradients"][name], gradient, rtol=0, atol=atol, msg=run_id)


@pytest.mark.parametrize("kind", ["plain", "saving"])
def test_whole_runs_have_the_loss_curve_and_weights_of_one_process(done: Path, kind: str) -> None:
    for run_id in WHOLE_RUNS if kind == "plain" else WHOLE_RUNS[::3]:
        one, two = done / "plain-1" / run_id, done / f"{kind}-2" / run_id
        curves = [[line["loss"] for line in telemetry(out)] for out in (one, two)]
        assert len(curves[0]) == 6 and curves[1] == pytest.approx(curves[0], rel=1e-5), run_id
        weights = [load_file(out / "model" / "model.safetensors") for out in (one, two)]
        for name, value in weights[0].items():
            if not name.endswith("key.bias"):  # softmax takes it out: its gradient is rounding, which Adam scales up
                torch.testing.assert_close(weights[1][name], value, rtol=0, atol=2e-5, msg=f"{run_id} {name}")


# --- through the verb ------------------------------------------------------------------------------------------------

RUN = WHOLE_RUNS[0]


def verb(config: Path, start: Path, out: Path) -> list[str]:
    """The command line of the workflow's rule, which starts itself again in as many processes as the config says."""
    record = config.with_name("backbone.json")
    record.write_text(json.dumps({"folder": str(start)}), encoding="utf-8")
    return [
        sys.executable, str(ROOT / "workflow" / "run.py"), "train", str(config), RUN, "--tokens",
        str(config.with_name("mnrl.tokens")), "--table", "no-table.parquet", "--start", str(record), "--out", str(out),
    ]  # fmt: skip


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def ended(pids: list[int]) -> bool:
    """Whether all have ended, waiting for a while; a zombie has."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        states = [Path(f"/proc/{pid}/stat") for pid in pids]
        if all(not state.exists() or state.read_text().rsplit(") ", 1)[1][0] in "ZX" for state in states):
            return True
        time.sleep(0.05)
    return False


def test_killed_and_terminated_it_goes_on_to_the_weights_of_an_undisturbed_run(done: Path, tiny_bert: Path) -> None:
    out = done / "disturbed"
    command = verb(done / "long-2.yaml", tiny_bert, out)
    for sent, first, code in ((signal.SIGKILL, 2, -signal.SIGKILL), (signal.SIGTERM, 10, 128 + signal.SIGTERM)):
        job = subprocess.Popen(command, env=environment(), stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + 300
        while not any(int(path.name[-9:]) >= first for path in (out / "checkpoints").glob("checkpoint-*[0-9]")):
            assert job.poll() is None and time.monotonic() < deadline, "the job ended before it could be stopped"
            time.sleep(0.002)
        processes = children(job.pid)
        assert len(processes) == 2
        job.send_signal(sent)
        said = job.communicate(timeout=120)[1]
        assert job.returncode == code and ended(processes), said
        assert not (out / "run.json").exists(), "it was stopped too late to test anything"
    subprocess.run(command, check=True, env=environment(), stderr=subprocess.DEVNULL)
    assert {file.name for file in out.iterdir() if not file.name.startswith(".lock")} == {
        "model",
        "telemetry.jsonl",
        "run.json",
    }
    whole, record = done / "long-2" / RUN, json.loads((out / "run.json").read_text())
    undisturbed = json.loads((whole / "run.json").read_text())
    assert record["resumed_at"] >= 10 and record["processes"] == undisturbed["processes"] == 2
    assert (
        record["tokens_seen"] == undisturbed["tokens_seen"] and record["settings_hash"] == undisturbed["settings_hash"]
    )
    assert telemetry(out) == telemetry(whole)
    first, second = (load_file(folder / "model" / "model.safetensors") for folder in (out, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_what_was_wrong_in_a_process_is_said_once_and_as_one_sentence(done: Path, backbone: Path) -> None:
    experiment(done / "bad.yaml", backbone, 2, learning_rate=1e30, max_grad_norm=1e9, checkpoint_every=100)
    command = verb(done / "bad.yaml", backbone, done / "bad")
    job = subprocess.run(command, env=environment(), capture_output=True, text=True)
    assert job.returncode == 2
    said = [line for line in job.stderr.splitlines() if "the loss is" in line]
    assert len(said) == 1 and said[0].startswith(f"matryobench: {RUN}: step ") and job.stderr.endswith(f"{said[0]}\n")
    assert "Traceback" not in job.stderr and "ChildFailedError" not in job.stderr


def test_a_process_that_died_is_named(tmp_path: Path) -> None:
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure

    failure = ProcessFailure(local_rank=1, pid=1, exitcode=-signal.SIGKILL, error_file=str(tmp_path / "none"))
    code, sentence = launch._told(ChildFailedError("train", {1: failure}), 2)
    assert code == 1 and sentence.startswith("training process 2 of 2 was ended by SIGKILL; see what it wrote above")


def test_another_number_of_processes_than_the_config_says_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(InputError, match="processes: it is 2 and 4 were started; start as many"), launch.process(2):
        raise AssertionError("it trained")


def test_the_number_of_processes_belongs_to_the_run_and_to_its_checkpoints(done: Path) -> None:
    one, two = (Plan.load(done / f"plain-{number}.yaml") for number in (1, 2))
    assert one.settings_hash(one.run(RUN)) != two.settings_hash(two.run(RUN))


@pytest.mark.parametrize(
    ("task", "changes", "sentence"),
    [
        (
            "sts",
            {"backends": ["sentence-transformers"]},
            "sentence-transformers trains in one process; set .*processes to 1",
        ),
        (
            "retrieval",
            {"backends": ["tevatron"]},
            "tevatron trains in one process; set .*groups.training.processes to 1",
        ),
    ],
)
def test_reference_libraries_train_in_one_process(
    done: Path, tmp_path: Path, task: str, changes: dict, sentence: str
) -> None:
    config = yaml.safe_load((done / "plain-2.yaml").read_text())
    recipe = next(iter(config[task]["recipes"]))
    config[task]["runs"] = [{"method": "bert", "recipes": [recipe], **changes}]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    with pytest.raises(InputError, match=sentence):
        Plan.load(tmp_path / "config.yaml")


def test_more_processes_than_rows_of_a_batch_are_refused(done: Path, tmp_path: Path) -> None:
    config = (done / "plain-2.yaml").read_text().replace("processes: 2", "processes: 4")
    (tmp_path / "config.yaml").write_text(config, encoding="utf-8")
    with pytest.raises(
        InputError, match=r"'processes' \(4\) is above 'batch_size' \(3\), whose rows they share; lower it"
    ):
        Plan.load(tmp_path / "config.yaml")


# --- sharing ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rows", "parts"), [(7, [3, 2, 2]), (3, [1, 1, 1]), (2, [1, 1, 0]), (1, [1, 0, 0])])
def test_shares_are_consecutive_even_and_may_be_empty(
    rows: int, parts: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("matryobench.training.gather.world_size", lambda: 3)
    found = []
    for rank, size in enumerate(parts):
        monkeypatch.setattr("torch.distributed.get_rank", lambda rank=rank: rank)
        found.append(share(torch.arange(rows)))
        embedded, count = rows_to_embed(torch.arange(rows))
        assert count == size and torch.equal(embedded, found[-1] if size else torch.tensor([0]))
    assert [len(part) for part in found] == parts and torch.equal(torch.cat(found), torch.arange(rows))


def test_one_process_has_the_batch_and_gathers_nothing() -> None:
    own = torch.randn(2, 3, 4, requires_grad=True)
    assert gather_embeddings(own) is own
    rows = torch.arange(5)
    assert share(rows) is rows and rows_to_embed(rows) == (rows, 5)
    assert is_first() and largest(2.5, torch.device("cpu")) == 2.5

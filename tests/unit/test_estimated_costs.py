"""Costs of whole plans: schedules, devices, requests, savings, calibrations, and how they are printed."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from matryobench.cli import main
from matryobench.compute import Compute
from matryobench.errors import InputError
from matryobench.estimating.devices import CPU, PROFILES, Device, device_named, read_calibration
from matryobench.estimating.jobs import estimate
from matryobench.estimating.needs import job_need
from matryobench.estimating.savings import savings_of
from matryobench.estimating.schedule import Task, makespan
from matryobench.estimating.summary import costs
from matryobench.estimating.work import QUANTITIES, Job
from matryobench.plan import Plan

CONFIG = Path(__file__).resolve().parents[2] / "config"
UNIT = Device("unit", False, dict.fromkeys(QUANTITIES, 1.0), "a second for everything")


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return before_any_job("demo", tmp_path_factory)


@pytest.fixture(scope="module")
def retrieval(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    return before_any_job("retrieval", tmp_path_factory)


def before_any_job(name: str, folders: pytest.TempPathFactory) -> Plan:
    """Finished results of the checkout would give the lengths of their texts."""
    plan = Plan.load(CONFIG / f"{name}.yaml")
    return Plan(plan.experiment.model_copy(update={"results": folders.mktemp(name)}), plan.place)


def test_a_schedule_respects_what_waits_for_what() -> None:
    tasks = [Task("a", 3, 1, ()), Task("b", 2, 1, ("a",)), Task("c", 4, 1, ()), Task("d", 1, 1, ("b", "c"))]
    assert makespan(tasks, 1) == 10
    assert makespan(tasks, 2) == 6  # a, b, d on one; c beside them
    assert makespan(tasks, 9) == 6  # no shorter than the longest chain
    assert makespan([], 3) == 0


def test_the_longest_way_to_the_end_goes_first() -> None:
    short, long = Task("short", 1, 1, ()), Task("long", 1, 1, ())
    assert makespan([short, long, Task("end", 5, 1, ("long",))], 1) == 7
    assert makespan([short, Task("long", 5, 1, ()), Task("x", 2, 1, ()), Task("y", 2, 1, ())], 2) == 5


def test_tasks_hold_as_many_devices_as_they_want_and_there_are() -> None:
    assert makespan([Task(name, 2, 2, ()) for name in "abc"], 4) == 4
    assert makespan([Task("a", 2, 8, ()), Task("b", 2, 1, ())], 4) == 4
    assert makespan([Task(name, 2, 0, ()) for name in "abc"], 1) == 2  # they wait for no device
    with pytest.raises(ValueError, match="circle"):
        makespan([Task("a", 1, 1, ("b",)), Task("b", 1, 1, ("a",))], 1)


def test_shards_of_thousands_of_jobs_are_scheduled_within_graham_s_bound(retrieval: Plan) -> None:
    found, device = estimate(retrieval, True), PROFILES["h100"]
    one, eight = (costs(found, device, count)[-1] for count in (1, 8))
    assert one.jobs == eight.jobs > 1000
    assert one.wall_hours >= one.device_hours
    # Graham: at most the work shared by all, and the longest chain, which is what is left with devices for all jobs.
    longest = costs(found, device, 10_000)[-1].wall_hours
    assert max(longest, one.device_hours / 8) <= eight.wall_hours <= one.device_hours / 8 + longest


def test_every_job_waits_for_jobs_that_there_are(demo: Plan, retrieval: Plan) -> None:
    for plan in (demo, retrieval, Plan.load(CONFIG / "starbucks.yaml"), Plan.load(CONFIG / "mrl.yaml")):
        found = estimate(plan, False)
        assert len(found.by_name) == len(found.jobs)
        missing = {name for job in found.jobs for name in job.after if name not in found.by_name}
        # Tests that a task does not have are the only names without a job.
        assert {rule for rule, _ in missing} <= {"significance", "test_grids"}
        order = {job.name: number for number, job in enumerate(found.jobs)}
        assert all(order[name] < order[job.name] for job in found.jobs for name in job.after
                   if name in order and job.stage in ("train", "evaluate"))  # fmt: skip


def test_stages_add_up_to_the_total(demo: Plan) -> None:
    *stages, total = costs(estimate(demo, False), PROFILES["cpu"], 2)
    assert [one.stage for one in stages] == ["fetch", "tokenise", "pretrain", "train", "evaluate", "analyse"]
    for name in ("jobs", "tokens", "operations", "device_hours", "disk"):
        assert getattr(total, name) == pytest.approx(sum(getattr(one, name) for one in stages))
    assert total.memory == max(one.memory for one in stages)
    assert sum(job.rule == "train" for job in estimate(demo, False).jobs) == len(demo.runs) == 46
    assert total.wall_hours <= sum(one.wall_hours for one in stages) + 1e-9
    with pytest.raises(InputError, match="--devices 0"):
        costs(estimate(demo, False), PROFILES["cpu"], 0)


def test_a_job_s_seconds_are_a_sum_over_its_amounts() -> None:
    job = Job("train", "x", "train", {"full_operations": 3.0, "start_model": 2.0}, processes=4, accelerated=True)
    assert UNIT.seconds_of(job) == 5
    assert UNIT.device_seconds(job) == 20


def test_processes_share_the_work_and_hold_a_card_each(retrieval: Plan) -> None:
    recipe = retrieval.retrieval.recipes["marco"]
    shared = recipe.model_copy(update={"training": recipe.training.model_copy(update={"processes": 4})})
    task = retrieval.retrieval.model_copy(update={"recipes": {"marco": shared}})
    plan = Plan(retrieval.experiment.model_copy(update={"retrieval": task}), "r.yaml")
    name, device = ("train", plan.runs[0].run_id), PROFILES["h100"]
    one, four = (estimate(each, True).by_name[name] for each in (retrieval, plan))
    assert four.processes == 4
    assert device.seconds_of(four) < device.seconds_of(one) / 2
    assert device.device_seconds(four) > device.device_seconds(one)  # each process updates all parameters
    assert four.operations * 4 == pytest.approx(one.operations)


def test_truncated_runs_take_their_share_of_the_layers(retrieval: Plan) -> None:
    def operations(run_id: str) -> float:
        return estimate(retrieval, True).by_name["train", run_id].operations

    shallow, deep = (operations(f"retrieval-bert-s-paper-marco-l{layer}-d768-s42") for layer in (2, 12))
    assert deep / shallow == pytest.approx(6, rel=1e-3)


def test_evaluating_in_half_precision_exchanges_the_encoder_s_operations_alone(retrieval: Plan) -> None:
    task = retrieval.retrieval.model_copy(update={"encode_precision": "bf16"})
    half = Plan(retrieval.experiment.model_copy(update={"retrieval": task}), retrieval.place)
    jobs = [
        {job.name: job.amounts for job in estimate(plan, True).jobs if job.stage == "evaluate"}
        for plan in (retrieval, half)
    ]
    exchanged = {"full_operations": "half_operations"}
    assert jobs[1] == {
        name: {exchanged.get(quantity, quantity): value for quantity, value in amounts.items()}
        for name, amounts in jobs[0].items()
    }
    assert any("half_operations" in amounts for amounts in jobs[1].values())
    seconds = [
        sum(PROFILES["h100"].seconds_of(job) for job in estimate(plan, True).jobs if job.stage == "evaluate")
        for plan in (retrieval, half)
    ]
    assert seconds[1] < seconds[0] / 3


def test_requests_have_room_and_a_floor(demo: Plan) -> None:
    job = estimate(demo, False).by_name["train", demo.runs[0].run_id]
    need = job_need(demo, "train", demo.runs[0].run_id)
    assert need.minutes == pytest.approx(2 * PROFILES["cpu"].seconds_of(job) / 60 + 10, abs=1)
    assert need.memory_mb >= 2 * job.memory / 2**20
    assert job_need(demo, "collect").memory_mb == 600
    assert job_need(demo, "tokenise", "demo-triplets").minutes == 11
    assert job_need(demo, "pretrain", None).minutes > 10
    assert job_need(demo, "significance", "sts").minutes > 10


def test_requests_of_shards_are_for_the_largest(retrieval: Plan) -> None:
    run, device = retrieval.runs[0].run_id, PROFILES["a100"]
    shards = [
        job
        for job in estimate(retrieval, True).jobs
        if job.rule == "search" and job.key[:2] == (run, "climate-fever.corpus")
    ]
    assert len(shards) == 2 and shards[0].tokens > 2 * shards[1].tokens  # 5,416,593 documents by 4,096,000
    need = job_need(retrieval, "search", (run, "climate-fever.corpus"))
    assert need.minutes == pytest.approx(2 * device.seconds_of(shards[0]) / 60 + 10, abs=1)


def test_requests_for_jobs_that_there_are_not_are_one_sentence(demo: Plan) -> None:
    with pytest.raises(InputError, match="unknown rule 'trian'; did you mean train"):
        job_need(demo, "trian", None)
    with pytest.raises(InputError, match="demo.yaml: train: unknown job 'x'"):
        job_need(demo, "train", "x")


def test_requests_exist_before_the_backbone_is_fetched(retrieval: Plan) -> None:
    backbone = retrieval.experiment.backbone.model_copy(update={"id": "nobody/knows-this"})
    plan = Plan(retrieval.experiment.model_copy(update={"backbone": backbone}), "mine.yaml")
    assert job_need(plan, "train", plan.runs[0].run_id) == job_need(retrieval, "train", plan.runs[0].run_id)
    with pytest.raises(InputError, match="mine.yaml: backbone: the sizes of nobody/knows-this"):
        estimate(plan, True)


def test_requests_need_no_heavy_library() -> None:
    import subprocess

    code = (
        "import sys; from pathlib import Path; from matryobench.plan import Plan;"
        "from matryobench.estimating.needs import job_need; p = Plan.load(Path('config/retrieval.yaml'));"
        "[job_need(p, 'train', r.run_id) for r in p.runs];"
        "assert not {'torch', 'pandas', 'pyarrow', 'mteb', 'scipy'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=CONFIG.parent)


def test_savings_are_factors_of_the_formulas(retrieval: Plan) -> None:
    found = {one.without.split(":")[0]: one.device_hours for one in savings_of(retrieval, PROFILES["h100"])}
    own = costs(estimate(retrieval, True), PROFILES["h100"], 1)[-1].device_hours
    assert all(hours > own for hours in found.values())
    dims, layers, both = (
        found[name] for name in ("one encoding for all dims", "one encoding for all layers", "all of evaluation's")
    )
    assert both > dims > layers
    # A run of six layers of twelve: cut to 2, 4, ... 12 they are 3.5 passes; eight dims of one pass are eight.
    assert (dims - own) / (layers - own) == pytest.approx(7 / 2.5, rel=0.02)


def calibration(path: Path, **changes: Any) -> Path:
    record = {"format": 1, "gpu": False, "device": "cpu", "clock": "c", "date": "d", "seconds": dict(CPU)}
    path.write_text(json.dumps(record | changes), encoding="utf-8")
    return path


def test_a_calibration_is_a_device(tmp_path: Path) -> None:
    path = calibration(tmp_path / "c.json", seconds={**CPU, "rows": 7.0})
    device = device_named("measured", path)
    assert device.precise and device.seconds["rows"] == 7 and not device.gpu
    assert "measured on cpu" in device.basis


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 99}, "not a calibration of this version"),
        ({"seconds": {}}, "seconds.start_light: None is not a number"),
        ({"seconds": {**CPU, "rows": -1}}, "seconds.rows: -1 is not a number"),
        ({"gpu": "yes"}, "'seconds' and 'gpu'"),
    ],
)
def test_a_calibration_that_is_none_is_one_sentence(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_calibration(calibration(tmp_path / "c.json", **changes))
    with pytest.raises(InputError, match="there is no calibration"):
        read_calibration(tmp_path / "none.json")


def test_measured_speeds_are_found_again() -> None:
    from matryobench.estimating.calibrating import ENCODING, solve
    from matryobench.estimating.probes import Probe

    true = {name: 3 * CPU[name] for name in QUANTITIES}

    def probe(**amounts: float) -> Probe:
        return Probe("p", amounts, [sum(true[name] * value for name, value in amounts.items())] * 3)

    base = {name: 1 / CPU[name] for name in ENCODING}
    encoders = [probe(**{**base, name: 50 / CPU[name]}) for name in ENCODING]
    encoders.append(probe(**{**base, "half_operations": 5 / CPU["half_operations"], "full_operations": 0.0}))
    searches = [probe(search_operations=1e9, scores=scores) for scores in (1e6, 1e8)]
    found = solve(encoders, [*searches, probe(rows=10.0), probe(tokenised=5.0)])
    for name in (*ENCODING, "half_operations", "search_operations", "scores", "rows", "tokenised"):
        assert found[name] == pytest.approx(true[name], rel=0.02), name
    assert found["mined"] == CPU["mined"]  # no probe has it


def test_probes_run_the_program_itself() -> None:
    import torch

    from matryobench.estimating.probes import Clock, encoding_probe, search_probe, training_probe
    from matryobench.estimating.shapes import EncoderShape

    shape, clock = EncoderShape(2, 16, 32, 50, 16), Clock(torch.device("cpu"), 1)
    probes = [
        training_probe(shape, 4, 6, True, 2, clock),
        encoding_probe(shape, 8, 6, 2, clock),
        search_probe(8, 256, 16, [8, 16], 2, clock),
    ]
    assert all(len(probe.seconds) >= 2 and probe.middle > 0 for probe in probes)
    assert set().union(*(probe.amounts for probe in probes)) <= set(QUANTITIES)
    with pytest.raises(InputError, match="--threads 0"):
        from matryobench.estimating.calibrating import calibrate

        calibrate(Path("none.json"), 0)


def run_plan(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", ["matryobench", "plan", *arguments])
    with pytest.raises(SystemExit) as left:
        main()
    out, err = capsys.readouterr()
    return out if left.value.code in (0, None) else err


def test_plan_prints_costs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config = str(CONFIG / "retrieval.yaml")
    out = run_plan(monkeypatch, capsys, config, "--device", "h100", "--devices", "8", "--explain")
    assert "retrieval on 8 x h100" in out and "speed, assumed" in out and "over 600 GPU hours" in out
    assert "one encoding for all dims" in out and "retrieval-bert-paper" not in out
    out = run_plan(monkeypatch, capsys, str(CONFIG / "mrl.yaml"), "--device", "a100")
    assert "not known: medi:" in out and "600" not in out
    assert "on 1 x a100" in run_plan(monkeypatch, capsys, config)  # what the config says
    wrong = run_plan(monkeypatch, capsys, config, "--device", "h10")
    assert wrong.startswith("matryobench: --device: unknown device 'h10'; did you mean h100")


def test_plan_prints_json(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    record = json.loads(run_plan(monkeypatch, capsys, str(CONFIG / "demo.yaml"), "--json"))
    assert record["device"] == "cpu" and record["stages"][-1]["stage"] == "total"
    assert record["stages"][-1]["jobs"] == len(estimate(Plan.load(CONFIG / "demo.yaml"), False).jobs)
    assert record["unknown"] == {} and record["assumed"] is True


def test_the_experiment_s_device_decides_requests(demo: Plan) -> None:
    experiment = demo.experiment.model_copy(update={"compute": Compute(device="h100")})
    plan, run = Plan(experiment, "demo.yaml"), demo.runs[0].run_id
    assert job_need(plan, "train", run).memory_mb != job_need(demo, "train", run).memory_mb


def test_an_estimate_is_compared_with_benchmarks(tmp_path: Path, demo: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(CONFIG.parent / "tools")
    from compare_estimate import compare

    (tmp_path / "experiment.yaml").write_text((CONFIG / "demo.yaml").read_text(encoding="utf-8"), encoding="utf-8")
    folder, run = tmp_path / "benchmarks" / "train", demo.runs[0].run_id
    folder.mkdir(parents=True)
    (folder / f"{run}.tsv").write_text("s\tmax_rss\tcpu_time\n9\t100\t7.5\n", encoding="utf-8")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "some").write_bytes(b"x" * 10)
    stages = compare(tmp_path, PROFILES["cpu"])
    train = stages["train"]
    assert (train.jobs, train.without, train.real, train.real_memory, train.real_disk) == (1, 45, 7.5, 100 * 2**20, 10)
    assert train.estimated == PROFILES["cpu"].seconds_of(estimate(demo, False).by_name["train", run])
    assert compare(tmp_path, PROFILES["cpu"], "s")["train"].real == 9
    with pytest.raises(InputError, match="has no experiment.yaml"):
        compare(tmp_path / "runs", PROFILES["cpu"])


def test_a_run_that_starts_from_another_waits_for_it() -> None:
    jobs = estimate(Plan.load(CONFIG / "mrl.yaml"), True).by_name
    run = "mteb-ff-to-mrl-paper-medi-s42"
    assert ("train", "mteb-ff-paper-medi-s42") in jobs["train", run].after

"""Claims of GPU cards: exclusive between processes, gone with the process, never more than there are."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from matryobench import cards
from matryobench.cards import claimed, parse_listing, visible_cards
from matryobench.compute import Compute
from matryobench.errors import InputError

TWO = [["GPU-aaaa1111"], ["GPU-bbbb2222"]]
SPLIT = [["GPU-aaaa1111"], ["MIG-cccc", "MIG-dddd"]]
HOLD = """
import sys, time
from pathlib import Path
from matryobench.cards import claimed
with claimed(int(sys.argv[2]), machine=[["GPU-aaaa1111"], ["GPU-bbbb2222"]], locks=Path(sys.argv[1]), poll=0.05) as got:
    print(",".join(got), flush=True)
    time.sleep(float(sys.argv[3]))
"""


@pytest.fixture(autouse=True)
def no_cards_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (cards.VISIBLE, cards.CLAIMED, "CUDA_DEVICE_ORDER"):
        monkeypatch.delenv(name, raising=False)


def holder(locks: Path, count: int, seconds: float) -> subprocess.Popen[str]:
    """A process that claims cards, prints which, and keeps them for some seconds."""
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(locks), str(count), str(seconds)], stdout=subprocess.PIPE, text=True
    )


def first_line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_visible_cards_have_one_name_however_they_were_given() -> None:
    assert visible_cards(TWO, None) == ["GPU-aaaa1111", "GPU-bbbb2222"]
    assert (
        visible_cards(TWO, "1")
        == visible_cards(TWO, "GPU-bbbb2222")
        == visible_cards(TWO, "GPU-bb")
        == ["GPU-bbbb2222"]
    )
    assert visible_cards(TWO, "1, 0") == ["GPU-bbbb2222", "GPU-aaaa1111"]
    assert visible_cards(TWO, "") == visible_cards(TWO, "-1,0") == []
    assert visible_cards(TWO, "0,-1,1") == ["GPU-aaaa1111"]
    assert visible_cards(TWO, "0,GPU-aaaa1111") == ["GPU-aaaa1111"]
    assert visible_cards(SPLIT, None) == ["GPU-aaaa1111", "MIG-cccc", "MIG-dddd"]
    assert visible_cards(SPLIT, "1") == ["MIG-cccc"]
    assert visible_cards([], "0,3") == ["0", "3"]  # a machine that lists nothing, as with Slurm's fake cards


def test_the_listing_of_nvidia_smi_is_read() -> None:
    text = (
        "GPU 0: NVIDIA H100 80GB HBM3 (UUID: GPU-aaaa1111)\n"
        "GPU 1: NVIDIA H100 80GB HBM3 (UUID: GPU-bbbb2222)\n"
        "  MIG 1g.10gb     Device  0: (UUID: MIG-cccc)\n"
        "  MIG 1g.10gb     Device  1: (UUID: MIG-dddd)\n"
    )
    assert parse_listing(text) == SPLIT
    assert parse_listing("No devices found.\n") == []


def test_a_claim_shows_its_cards_and_gives_back_what_was_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cards.VISIBLE, "1,0")
    with claimed(1, machine=TWO, locks=tmp_path) as first:
        assert first == ["GPU-bbbb2222"] and os.environ[cards.VISIBLE] == "GPU-bbbb2222"
        with claimed(2, machine=TWO, locks=tmp_path) as inner:  # as in a process that torchrun started
            assert inner == first and os.environ[cards.VISIBLE] == "GPU-bbbb2222"
    assert os.environ[cards.VISIBLE] == "1,0" and cards.CLAIMED not in os.environ


def test_no_cards_hides_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cards.VISIBLE, "0")
    with claimed(0, machine=TWO) as none:
        assert none == [] and os.environ[cards.VISIBLE] == ""
        with claimed(0) as inner:
            assert inner == []


def test_two_processes_never_hold_the_same_card(tmp_path: Path) -> None:
    first, second = holder(tmp_path, 1, 30), holder(tmp_path, 1, 30)
    third = None
    try:
        assert sorted([first_line(first), first_line(second)]) == ["GPU-aaaa1111", "GPU-bbbb2222"]
        third = holder(tmp_path, 1, 0)
        with pytest.raises(subprocess.TimeoutExpired):
            third.wait(1)
        first.send_signal(signal.SIGKILL)  # a killed process gives its card back
        assert first_line(third) in TWO[0] + TWO[1]
        assert third.wait(10) == 0
    finally:
        for process in (first, second, third):
            if process is not None:
                process.kill()
                process.wait()


def test_claims_of_several_cards_take_all_or_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    one = holder(tmp_path, 1, 30)
    pair = None
    try:
        held = first_line(one)
        pair = holder(tmp_path, 2, 0)
        with pytest.raises(subprocess.TimeoutExpired):
            pair.wait(0.5)
        with claimed(
            1, machine=TWO, locks=tmp_path, poll=0.02
        ) as other:  # what is free is not kept by the waiting pair
            assert other != [held]
            threading.Timer(0.5, one.kill).start()
        assert first_line(pair) == "GPU-aaaa1111,GPU-bbbb2222"
    finally:
        for process in (one, pair):
            if process is not None:
                process.kill()
                process.wait()


def test_waiting_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    both = holder(tmp_path, 2, 30)
    try:
        first_line(both)
        threading.Timer(0.4, both.kill).start()
        began = time.monotonic()
        with claimed(1, machine=TWO, locks=tmp_path, poll=0.02):
            assert time.monotonic() - began > 0.3
        assert capsys.readouterr().err == "waiting for 1 of 2 GPUs; other jobs compute on them\n"
    finally:
        both.kill()
        both.wait()


def test_shared_cards_are_not_claimed(tmp_path: Path) -> None:
    both = holder(tmp_path, 2, 30)
    try:
        first_line(both)
        with claimed(1, share=True, machine=TWO, locks=tmp_path) as shared:
            assert shared == ["GPU-aaaa1111", "GPU-bbbb2222"]
    finally:
        both.kill()
        both.wait()


@pytest.mark.parametrize("share", [False, True])
def test_more_cards_than_there_are_is_one_sentence(
    tmp_path: Path, share: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cards.VISIBLE, "0")
    with (
        pytest.raises(InputError, match=r"asks for 2 GPUs, one per process, but it sees 1 \(CUDA_VISIBLE_DEVICES=0\)"),
        claimed(2, share, machine=TWO, locks=tmp_path),
    ):
        pass
    assert os.environ[cards.VISIBLE] == "0"


def test_a_lock_that_is_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "matryobench-card-GPU-aaaa1111.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="cannot be opened"), claimed(1, machine=TWO, locks=tmp_path):
        pass
    assert not (tmp_path / "elsewhere").exists()


def test_the_device_decides_how_many_cards_a_job_asks_for(tmp_path: Path) -> None:
    assert [Compute().cards(), Compute().cards(4)] == [0, 0]
    assert [Compute(device="h100").cards(), Compute(device="a100").cards(4)] == [1, 4]
    found = tmp_path / "calibration.json"
    with pytest.raises(InputError, match="run `matryobench calibrate` or name the compute.device"):
        Compute(device="measured", calibration=found).cards()
    for name, count in (("cpu", 0), ("NVIDIA H100 80GB HBM3", 2)):
        found.write_text(f'{{"device": "{name}"}}', encoding="utf-8")
        assert Compute(device="measured", calibration=found).cards(2) == count

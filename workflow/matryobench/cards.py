"""The GPU cards of a job, claimed so that two jobs of one machine never compute on the same.

Snakemake's `--resources gpu=N` bounds how many GPU jobs run at once, but does not say which card is whose. A claim is an
exclusive lock (flock) on one file per card, which the kernel drops when the process ends, however it ends. Nothing here
imports torch: CUDA_VISIBLE_DEVICES counts only when it is set before CUDA starts.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from matryobench.errors import InputError

VISIBLE = "CUDA_VISIBLE_DEVICES"
# Set in the process that holds a claim, so that processes that it starts (torchrun's) do not claim a second time.
CLAIMED = "MATRYOBENCH_CARDS"
LOCKS = Path("/tmp")  # noqa: S108 - one place for all users and experiments of a machine, which TMPDIR is not


@contextmanager
def claimed(
    count: int,
    share: bool = False,
    *,
    machine: Sequence[Sequence[str]] | None = None,
    locks: Path = LOCKS,
    poll: float = 1.0,
) -> Iterator[list[str]]:
    """Holds `count` cards and shows this process and its children no others; yields their names.

    0 hides all cards. `share` takes the cards that are visible without claiming them. Otherwise waits, with a message on
    standard error, until so many visible cards are free; either all are claimed or none is held, so that two jobs
    cannot wait for each other. Inside another claim's process tree it changes nothing. `machine` is what `list_cards`
    finds and `poll` the mean seconds between two tries. Raises InputError where fewer cards are visible than asked for.
    """
    if CLAIMED in os.environ:
        yield _names(os.environ[CLAIMED])
        return
    with ExitStack() as held:
        cards: list[str] = []
        if count:
            cards = visible_cards(list_cards() if machine is None else machine, os.environ.get(VISIBLE))
            if len(cards) < count:
                raise InputError(
                    f"compute.device: the job asks for {count} GPU{'s' if count > 1 else ''}, one per process, but it sees"
                    f" {len(cards)}{_limits()}; give it that many, or lower training.processes, or set compute.device: cpu."
                )
            if not share:
                cards = held.enter_context(_locked(cards, count, locks, poll))
        before = {name: os.environ.get(name) for name in (VISIBLE, CLAIMED, "CUDA_DEVICE_ORDER")}
        # Numbers then mean the same cards to CUDA as to nvidia-smi.
        os.environ.update({VISIBLE: ",".join(cards), CLAIMED: ",".join(cards), "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})
        try:
            yield cards
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value


def visible_cards(machine: Sequence[Sequence[str]], visible: str | None) -> list[str]:
    """The names of the cards that a value of CUDA_VISIBLE_DEVICES leaves visible, each as unique as it can be said.

    `machine` has a list per GPU: its UUID, or those of its MIG parts. Numbers become UUIDs, so that two jobs lock the same
    file for the same card however each was told of it; what the machine does not list stays as it is. As in CUDA, names
    after an empty or negative one do not count. None: all cards.
    """
    if visible is None:
        return [card for gpu in machine for card in gpu]
    known = [card for gpu in machine for card in gpu]
    cards = []
    for name in visible.split(","):
        name = name.strip()
        if not name or name.startswith("-"):
            break
        if name.isdecimal() and int(name) < len(machine):
            cards.append(machine[int(name)][0])
        else:
            whole = [card for card in known if card.startswith(name)]  # UUIDs may be shortened
            cards.append(whole[0] if len(whole) == 1 else name)
    return list(dict.fromkeys(cards))


def list_cards() -> list[list[str]]:
    """The machine's GPUs in PCI order, each with its UUID, or the UUIDs of its MIG parts; empty where there is none."""
    try:
        answer = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    except (FileNotFoundError, subprocess.TimeoutExpired):
        return [
            re.findall(r"GPU UUID:\s*(\S+)", file.read_text(encoding="utf-8"))
            for file in sorted(Path("/proc/driver/nvidia/gpus").glob("*/information"))
        ]
    return parse_listing(answer.stdout) if answer.returncode == 0 else []


def parse_listing(text: str) -> list[list[str]]:
    """The cards in what `nvidia-smi -L` prints: a line per GPU, below it one per MIG part."""
    gpus: list[list[str]] = []
    for line in text.splitlines():
        found = re.search(r"\(UUID: (\S+)\)", line)
        if found is None:
            continue
        if line.startswith("GPU "):
            gpus.append([found[1]])
        elif gpus:
            whole = [card for card in gpus[-1] if card.startswith("MIG-")]
            gpus[-1] = [*whole, found[1]]
    return gpus


@contextmanager
def _locked(cards: Sequence[str], count: int, locks: Path, poll: float) -> Iterator[list[str]]:
    """Waits for `count` of the cards and holds their locks."""
    said = False
    while True:
        with ExitStack() as tried:
            free: list[str] = []
            for card in cards:
                if len(free) < count and _try_lock(locks, card, tried):
                    free.append(card)
            if len(free) == count:
                yield free
                return
        if not said:
            said = True
            print(f"waiting for {count} of {len(cards)} GPUs; other jobs compute on them", file=sys.stderr, flush=True)
        time.sleep(poll * random.uniform(0.5, 1.5))  # noqa: S311 - so that two jobs do not keep step


def _try_lock(locks: Path, card: str, held: ExitStack) -> bool:
    """Locks a card's file until `held` closes; False where another process has it. The file stays for the next one."""
    path = locks / f"matryobench-card-{re.sub(r'[^A-Za-z0-9-]', '_', card)}.lock"
    try:
        try:
            handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)  # perhaps another user's
        except FileNotFoundError:
            handle = os.open(path, os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise InputError(f"{path}: cannot be opened ({error.strerror}), so no GPU can be claimed; remove it.") from None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(handle)
        return False
    held.callback(os.close, handle)
    return True


def _names(value: str) -> list[str]:
    return [name for name in value.split(",") if name]


def _limits() -> str:
    value = os.environ.get(VISIBLE)
    return "" if value is None else f" ({VISIBLE}={value})"

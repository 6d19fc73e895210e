"""A real Slurm of one node, in a folder: munged, slurmctld and slurmd as children of this process.

python tests/cluster/one_node_slurm.py FOLDER COMMAND...   runs a command with such a Slurm and takes it down again

Nothing is written outside the folder, not even /etc/slurm: clients find the configuration by SLURM_CONF. There is no
accounting and no systemd; memory limits are enforced by polling, without cgroups. The daemons end with their parent,
also when that is killed. Needs Debian's slurm-wlm and munge.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scancel", "setpriv")
PARTITION = "main"


def missing_programs() -> list[str]:
    """The programs that would be needed and are not there; the daemons' folder need not be on PATH."""
    return [name for name in PROGRAMS if _program(name) is None]


class OneNodeSlurm:
    """A running Slurm; `environment` is what its clients need, `gpus` how many pretended cards (two at most) it has."""

    def __init__(self, folder: Path, gpus: int = 0) -> None:
        self.folder = folder
        self.gpus = gpus
        self.conf = folder / "slurm.conf"
        # The plugin that starts job steps drops all of SLURM_*, so the path of srun itself leads to the configuration.
        path = os.pathsep.join([str(folder / "bin"), os.environ.get("PATH", ""), "/usr/sbin", "/usr/bin"])
        self.environment: dict[str, str] = {**os.environ, "SLURM_CONF": str(self.conf), "PATH": path}
        self._daemons: list[subprocess.Popen[bytes]] = []

    def up(self) -> None:
        """Starts everything and waits until the node takes jobs; RuntimeError with the logs' ends where it does not."""
        self._write()
        munge = [
            "munged", "--foreground", "--force", f"--socket={self.folder}/munge.socket",
            f"--key-file={self.folder}/munge.key", f"--pid-file={self.folder}/munge.pid",
            f"--log-file={self.folder}/log/munged.log", f"--seed-file={self.folder}/munge.seed",
        ]  # fmt: skip
        self._start(munge)
        self._wait_for(lambda: (self.folder / "munge.socket").exists(), "munged")
        self._start(["slurmctld", "-D", "-f", str(self.conf)])
        self._wait_for(lambda: "is UP" in self.output("scontrol", "ping"), "slurmctld")
        self._start(["slurmd", "-D", "-f", str(self.conf)])
        self._wait_for(lambda: self.output("sinfo", "-h", "-o", "%T").strip() in ("idle", "mixed"), "slurmd")

    def down(self) -> None:
        """Cancels all jobs, waits for them, and ends the daemons by their process ids."""
        if len(self._daemons) == 3:
            self.output("scancel", "--user", self.output("id", "-un").strip())
            end = time.monotonic() + 20
            while self.queue() and time.monotonic() < end:
                time.sleep(0.2)
        for daemon in reversed(self._daemons):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()
        self._daemons.clear()

    def output(self, *command: str) -> str:
        """What a client prints; empty where it fails."""
        return subprocess.run(command, env=self.environment, capture_output=True, text=True, timeout=30).stdout

    def queue(self, states: str = "pending,running,suspended,completing") -> list[dict[str, str]]:
        """The jobs in these states: id, state, name, requested memory, and the comment that names rule and wildcards."""
        lines = self.output("squeue", "-h", "-t", states, "-o", "%i|%T|%j|%m|%k").splitlines()
        return [dict(zip(("id", "state", "name", "memory", "comment"), line.split("|"), strict=True)) for line in lines]

    def _write(self) -> None:
        for name in ("log", "state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        key = self.folder / "munge.key"
        key.write_bytes(secrets.token_bytes(128))
        key.chmod(0o400)
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF={self.conf} exec {_program("srun")} "$@"\n', encoding="utf-8")
        srun.chmod(0o755)
        self.conf.write_text("".join(f"{line}\n" for line in self._settings()), encoding="utf-8")
        # Devices that every machine has stand for the cards: what counts is that Slurm deals them out.
        cards = ["/dev/null", "/dev/zero"][: self.gpus]
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu File={card}\n" for card in cards), encoding="utf-8")

    def _settings(self) -> Iterator[str]:
        user = self.output("id", "-un").strip()
        host = socket.gethostname().split(".")[0]
        cpus = len(os.sched_getaffinity(0))
        memory = 64000  # MB; whatever the machine has, so that requests of any size are granted
        controller, daemon = _free_ports(2)
        yield "ClusterName=one-node"
        yield f"SlurmctldHost={host}(127.0.0.1)"
        yield f"SlurmUser={user}"
        yield f"SlurmdUser={user}"
        yield f"SlurmctldPort={controller}"
        yield f"SlurmdPort={daemon}"
        yield "AuthType=auth/munge"
        yield f"AuthInfo=socket={self.folder}/munge.socket"
        yield "CredType=cred/munge"
        for what, place in (
            ("StateSaveLocation", "state"), ("SlurmdSpoolDir", "spool"), ("SlurmctldPidFile", "slurmctld.pid"),
            ("SlurmdPidFile", "slurmd.pid"), ("SlurmctldLogFile", "log/slurmctld.log"), ("SlurmdLogFile", "log/slurmd.log"),
        ):  # fmt: skip
            yield f"{what}={self.folder}/{place}"
        # Works without systemd, cgroups and MPI.
        yield "ProctrackType=proctrack/linuxproc"
        yield "TaskPlugin=task/none"
        yield "SwitchType=switch/none"
        yield "MpiDefault=none"
        yield "SlurmdParameters=config_overrides"
        yield "ReturnToService=2"
        # A step that uses more memory than it asked for is killed: looked at every second.
        yield "SelectType=select/cons_tres"
        yield "SelectTypeParameters=CR_CPU_Memory"
        yield "JobAcctGatherType=jobacct_gather/linux"
        yield "JobAcctGatherFrequency=task=1"
        yield "JobAcctGatherParams=OverMemoryKill"
        yield "KillWait=2"
        yield "SchedulerParameters=sched_interval=2,sched_min_interval=0"
        # squeue knows ended jobs for so many seconds; Snakemake needs three times its first wait, the tests their whole length.
        yield "MinJobAge=86400"
        yield "AccountingStorageType=accounting_storage/none"
        cards = f" Gres=gpu:{self.gpus}" if self.gpus else ""
        if cards:
            yield "GresTypes=gpu"
        yield f"NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory={memory}{cards} State=UNKNOWN"
        yield f"PartitionName={PARTITION} Nodes={host} Default=YES MaxTime=1-00:00:00 DefaultTime=60 State=UP"

    def _start(self, command: list[str]) -> None:
        program = _program(command[0])
        assert program is not None
        log = (self.folder / "log" / f"{command[0]}.out").open("wb")
        with log:
            self._daemons.append(
                subprocess.Popen(
                    ["setpriv", "--pdeathsig", "TERM", program, *command[1:]], stdin=subprocess.DEVNULL, stdout=log,
                    stderr=subprocess.STDOUT, env=self.environment, start_new_session=True,
                )
            )  # fmt: skip

    def _wait_for(self, ready: object, what: str) -> None:
        assert callable(ready)
        end = time.monotonic() + 20
        while not ready():
            if time.monotonic() > end or self._daemons[-1].poll() is not None:
                logs = [file.read_text(errors="replace")[-1500:] for file in sorted((self.folder / "log").iterdir())]
                self.down()
                raise RuntimeError(f"{what} did not start:\n" + "\n".join(logs))
            time.sleep(0.1)


@contextmanager
def one_node_slurm(folder: Path, gpus: int = 0) -> Iterator[OneNodeSlurm]:
    """A Slurm for the length of a block."""
    slurm = OneNodeSlurm(folder, gpus)
    try:
        slurm.up()
        yield slurm
    finally:
        slurm.down()


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"/usr/sbin:/usr/bin:{os.environ.get('PATH', '')}")


def _free_ports(count: int) -> list[int]:
    """Port numbers that nothing listens on now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]
    finally:
        for one in sockets:
            one.close()


def main(arguments: list[str], environment: Mapping[str, str] = os.environ) -> int:
    """Runs a command with a Slurm in a folder; its exit code."""
    if len(arguments) < 2:
        print(__doc__, file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with one_node_slurm(Path(arguments[0]).resolve()) as slurm:
        return subprocess.run(arguments[1:], env=slurm.environment).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""What `matryobench verify` prints: counts per stage, then every link that does not hold, in one sentence."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import get_args

from matryobench.chain.links import Link, Status, broken
from matryobench.chain.verifying import STAGES

SHOWN = 5
"""Sentences of one stage and status; more are counted."""


def print_verification(links: Sequence[Link], as_json: bool) -> None:
    """Prints the table and the sentences, or all of them as one JSON object."""
    statuses = get_args(Status)
    counts = {stage: Counter(link.status for link in links if link.stage == stage) for stage in STAGES}
    if as_json:
        told = [{"stage": one.stage, "status": one.status, "file": one.file, "problem": one.sentence}
                for one in links if one.status != "ok"]  # fmt: skip
        stages = {stage: {status: found[status] for status in statuses} for stage, found in counts.items()}
        print(json.dumps({"ok": not broken(links), "stages": stages, "links": told}, indent=1, ensure_ascii=False))
        return
    print(f"{'stage':15}{'checked':>9}" + "".join(f"{status:>11}" for status in statuses))
    for stage, found in [*counts.items(), ("all", sum(counts.values(), Counter()))]:
        print(f"{stage:15}{found.total():>9}" + "".join(f"{found[status]:>11}" for status in statuses))
    for stage in STAGES:
        for status in statuses[1:]:
            own = [(one.file, one.sentence) for one in links if (one.stage, one.status) == (stage, status)]
            own = list(dict.fromkeys(own))
            shown = own if status == "wrong" else own[:SHOWN] if status != "not there" else []
            for file, sentence in shown:
                print(f"{status}: {file} {sentence}.")
            if more := len(own) - len(shown):
                print(f"{status}: {more} {'more ' if shown else ''}of {stage}; --json lists them.")
    ends = {link.status for link in broken(links)}
    lacks = "The chain has gaps: what lacks hashes was written by an earlier version."
    print("The chain holds." if not ends else lacks if ends == {"lacking"} else "The chain is broken.")

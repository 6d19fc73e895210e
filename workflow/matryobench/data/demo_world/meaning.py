"""What a sentence of the demo world means, how alike two meanings are, and which meanings are kept for evaluation.

A *clause* is an action with its participants in their roles, perhaps a place and a time, asserted or denied. A *scene*
is one clause, or two clauses in the order in which they happened.

Similarity, 0..5, of two scenes = 5 x (0.4 topic + 0.6 truth), both in 0..1 and both computed from meanings only:

* topic: what the clauses are about. Mean, weighted, of: action (weight 2: same 1, opposite 0.8, same family 0.2),
  participants paired as well as they can be whatever their roles (weight 2 each), place and time (weight 1 each).
* truth: how far one being true makes the other true. 0 when one is asserted and the other denied. Otherwise the
  action (same 1, same family 0.2, opposite 0) x the weighted mean of participants *in their roles*, place and time.
* participant: entities (same 1, class and member 0.6, two members of one class 0.2) x attributes (same 1, one unsaid
  0.9, different 0.75, opposite 0.5).
* place, time: same 1, one unsaid 0.5, same group 0.3, else 0; no slot where both are unsaid.
* two clauses: the better pairing of clauses, a clause without partner counts 0; truth is halved where pairing the
  clauses means that they happened in the opposite order.
"""

from __future__ import annotations

import zlib
from functools import cache
from itertools import permutations
from typing import NamedTuple

from matryobench.data.demo_world.lexicon import Quality, lexicon

UNSAID = -1
EVALUATION_SHARE = 5  # one clause key in five is kept for evaluation


class Participant(NamedTuple):
    """An entity with at most one attribute; both are indices of the lexicon, UNSAID for no attribute."""

    entity: int
    attribute: int = UNSAID


class Clause(NamedTuple):
    """An action, its participants in the order of their roles, a place, a time, and whether it is denied."""

    action: int
    participants: tuple[Participant, ...]
    place: int = UNSAID
    time: int = UNSAID
    denied: bool = False


Scene = tuple[Clause, ...]


def similarity(first: Scene, second: Scene) -> float:
    """The gold similarity of two scenes, 0..5, rounded to one decimal; symmetric; 5 only for equal meanings."""
    if len(first) > len(second):
        first, second = second, first
    slots = range(len(second))
    topic = max(
        sum(_topic(a, second[j]) for a, j in zip(first, way, strict=True)) for way in permutations(slots, len(first))
    )
    truth = max(
        sum(_truth(a, second[j]) for a, j in zip(first, way, strict=True)) * (1.0 if list(way) == sorted(way) else 0.5)
        for way in permutations(slots, len(first))
    )
    return round(5 * (0.4 * topic + 0.6 * truth) / len(second), 1)


def for_evaluation(clause: Clause) -> bool:
    """Whether sentences that contain this clause belong to evaluation sets; all others belong to training.

    Decided by the action (an opposite counts as the same) and the unordered participants, so a clause, its denial, its
    opposite, its role swap and all its paraphrases are on one side: what is evaluated was never said in training.
    """
    return _held_out(clause.action, tuple(sorted(p.entity for p in clause.participants)))


@cache
def _held_out(action: int, entities: tuple[int, ...]) -> bool:
    words = lexicon()
    opposite = words.actions[action].opposite
    base = action if opposite == UNSAID else min(action, opposite)
    key = "|".join([words.actions[base].name, *(words.entities[e].name for e in entities)])
    return zlib.crc32(key.encode()) % EVALUATION_SHARE == 0


def entity_match(first: int, second: int) -> float:
    """1 for the same entity, 0.6 for a class and its member, 0.2 for two members of a class, else 0."""
    if first == second:
        return 1.0
    a, b = lexicon().entities[first], lexicon().entities[second]
    if a.group != b.group:
        return 0.0
    return 0.6 if a.is_class or b.is_class else 0.2


def participant_match(first: Participant, second: Participant) -> float:
    """entity_match x agreement of the attributes."""
    return entity_match(first.entity, second.entity) * _attribute_match(first.attribute, second.attribute)


@cache
def action_match(first: int, second: int) -> tuple[float, float]:
    """(topic, truth) of two actions: same (1, 1), opposite (0.8, 0), same family (0.2, 0.2), else (0, 0)."""
    if first == second:
        return 1.0, 1.0
    a, b = lexicon().actions[first], lexicon().actions[second]
    if a.opposite == second:
        return 0.8, 0.0
    return (0.2, 0.2) if a.family == b.family else (0.0, 0.0)


def _attribute_match(first: int, second: int) -> float:
    if first == second:
        return 1.0
    if UNSAID in (first, second):
        return 0.9
    return 0.5 if lexicon().attributes[first].opposite == second else 0.75


def _circumstances(first: Clause, second: Clause) -> tuple[float, int]:
    """(sum of agreements, number of slots) over place and time."""
    total, slots = 0.0, 0
    for a, b, named in (
        (first.place, second.place, lexicon().places),
        (first.time, second.time, lexicon().times),
    ):
        if a == b == UNSAID:
            continue
        slots += 1
        total += _circumstance_match(a, b, named)
    return total, slots


def _circumstance_match(first: int, second: int, named: tuple[Quality, ...]) -> float:
    if first == second:
        return 1.0
    if UNSAID in (first, second):
        return 0.5
    return 0.3 if named[first].group == named[second].group else 0.0


def _topic(first: Clause, second: Clause) -> float:
    fewer, more = sorted((first.participants, second.participants), key=len)
    paired = max(
        sum(participant_match(a, b) for a, b in zip(fewer, way, strict=True)) for way in permutations(more, len(fewer))
    )
    agreed, slots = _circumstances(first, second)
    topic, _ = action_match(first.action, second.action)
    return (2 * topic + 2 * paired + agreed) / (2 + 2 * len(more) + slots)


def _truth(first: Clause, second: Clause) -> float:
    _, action = action_match(first.action, second.action)
    if action == 0.0 or first.denied != second.denied:
        return 0.0
    in_roles = sum(participant_match(a, b) for a, b in zip(first.participants, second.participants, strict=True))
    agreed, slots = _circumstances(first, second)
    return action * (2 * in_roles + agreed) / (2 * len(first.participants) + slots)

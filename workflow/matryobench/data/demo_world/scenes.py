"""Draws scenes, and changes them: what follows from a scene, what contradicts it, and what merely resembles it."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import Action, lexicon
from matryobench.data.demo_world.meaning import UNSAID, Clause, Participant, Scene, for_evaluation

TRIES = 64
DETAILS, DOUBLE = 0.5, 0.15
ROLES = {"deed": ("animate", "animate"), "handling": ("animate", "thing"), "transfer": ("animate", "thing", "animate")}
Edit = Callable[[Draws, Clause], Clause]


@cache
def members(kind: str) -> tuple[int, ...]:
    """Indices of the entities of a kind that are not classes."""
    return tuple(i for i, e in enumerate(lexicon().entities) if e.kind == kind and not e.is_class)


@cache
def _siblings(entity: int) -> tuple[int, ...]:
    words = lexicon().entities
    same = (i for i, e in enumerate(words) if e.group == words[entity].group and not e.is_class)
    return tuple(i for i in same if i != entity)


@cache
def _class_of(entity: int) -> int:
    words = lexicon().entities
    return next(i for i, e in enumerate(words) if e.is_class and e.group == words[entity].group)


@cache
def _attributes(kind: str) -> tuple[int, ...]:
    return tuple(i for i, a in enumerate(lexicon().attributes) if a.group == kind)


@cache
def _actions(kind: str) -> tuple[int, ...]:
    return tuple(i for i, a in enumerate(lexicon().actions) if a.kind == kind)


@cache
def _family(action: int) -> tuple[int, ...]:
    words = lexicon().actions
    near = (i for i, a in enumerate(words) if a.family == words[action].family)
    return tuple(i for i in near if i not in (action, words[action].opposite))


def draw_clause(draws: Draws, evaluation: bool, details: float = DETAILS, usual: float = 0.0) -> Clause:
    """A clause of one side of the split.

    `details` is the chance of an attribute; a place is half, a time a third as likely. `usual` is the chance that each
    choice is one that is usual for the agent (or, for attributes, for the entity); otherwise all choices are equally likely.
    """
    words = lexicon()
    while True:
        kind = draws.pick(("deed", "deed", "deed", "handling", "transfer"))
        agent = draws.pick(members("animate"))
        mine = habits(agent)
        action = draws.pick(mine[kind] if draws.chance(usual) else _actions(kind))
        chosen = [agent]
        chosen += [draws.pick(mine[role] if draws.chance(usual) else members(role)) for role in ROLES[kind][1:]]
        clause = Clause(action, tuple(_described(draws, entity, details, usual) for entity in chosen))
        if not valid(clause, evaluation):
            continue
        if draws.chance(details / 2):
            places = mine["place"] if draws.chance(usual) else range(len(words.places))
            clause = clause._replace(place=draws.pick(places))
        if draws.chance(details / 3):
            clause = clause._replace(time=draws.below(len(words.times)))
        return clause._replace(denied=draws.chance(0.1))


@cache
def habits(entity: int) -> dict[str, tuple[int, ...]]:
    """What is usual for an entity: actions, patients, things, places, attributes; partly of its class, partly its own.

    Arbitrary but fixed (drawn from the entity's name): what makes "baker" and "breadmaker" alike in plain text, as the
    company that words keep does in real text, and "baker" and "smith" a little less alike.
    """
    words = lexicon()
    here = words.entities[entity]
    own, shared = Draws(0, f"habits of {here.name}"), Draws(0, f"habits of {here.group}")
    usual: dict[str, tuple[int, ...]] = {}
    for what, choices in (
        ("deed", _actions("deed")),
        ("handling", _actions("handling")),
        ("transfer", _actions("transfer")),
        ("animate", members("animate")),
        ("attribute", _attributes(here.kind)),
    ):
        usual[what] = (*shared.shuffled(choices)[:1], *own.shuffled(choices)[:2])
    places, things = words.usual.get(here.group, ((), ()))
    usual["place"] = (*shared.shuffled(places)[:1], own.below(len(words.places)))
    usual["thing"] = (*shared.shuffled(things)[:1], *own.shuffled(members("thing"))[:2])
    return usual


def valid(clause: Clause, evaluation: bool) -> bool:
    """Whether nobody does something to himself, and the clause is on that side of the split."""
    named = {p.entity for p in clause.participants}
    return len(named) == len(clause.participants) and for_evaluation(clause) == evaluation


def draw_scene(
    draws: Draws, evaluation: bool, double: float = DOUBLE, details: float = DETAILS, usual: float = 0.0
) -> Scene:
    """One clause, or two (with chance `double`, and with fewer details) that share their agent half of the time."""
    if not draws.chance(double):
        return (draw_clause(draws, evaluation, details, usual),)
    first = draw_clause(draws, evaluation, details / 2, usual)
    while True:
        second = draw_clause(draws, evaluation, details / 2, usual)
        if draws.chance(0.5):
            second = second._replace(participants=(first.participants[0], *second.participants[1:]))
        named = [p.entity for p in (*first.participants, *second.participants)]
        shared = first.participants[0] == second.participants[0]
        if valid(second, evaluation) and len(set(named)) == len(named) - shared:
            return first, second


def _described(draws: Draws, entity: int, details: float, usual: float) -> Participant:
    if not draws.chance(details):
        return Participant(entity)
    attributes = habits(entity)["attribute"] if draws.chance(usual) else _attributes(lexicon().entities[entity].kind)
    return Participant(entity, draws.pick(attributes))


def change(draws: Draws, scene: Scene, edits: tuple[Edit, ...]) -> Scene:
    """The scene with one clause changed by one of the edits; stays on its side of the split, and really differs.

    Returns the scene itself when no edit applies in TRIES attempts.
    """
    for _ in range(TRIES):
        which = draws.below(len(scene))
        clause = scene[which]
        other = draws.pick(edits)(draws, clause)
        if other != clause and valid(other, for_evaluation(clause)):
            return (*scene[:which], other, *scene[which + 1 :])
    return scene


def _with(clause: Clause, slot: int, participant: Participant) -> Clause:
    return clause._replace(participants=(*clause.participants[:slot], participant, *clause.participants[slot + 1 :]))


# What follows from an asserted clause (a denied one stays as it is).


def unsay(draws: Draws, clause: Clause) -> Clause:
    """Leaves out a place, a time or an attribute."""
    slot = draws.below(len(clause.participants) + 2)
    if clause.denied:
        return clause
    if slot == 0:
        return clause._replace(place=UNSAID)
    if slot == 1:
        return clause._replace(time=UNSAID)
    return _with(clause, slot - 2, clause.participants[slot - 2]._replace(attribute=UNSAID))


def generalise(draws: Draws, clause: Clause) -> Clause:
    """Names the class instead of the member: "the artisan" for "the baker"."""
    slot = draws.below(len(clause.participants))
    participant = clause.participants[slot]
    return (
        clause
        if clause.denied
        else _with(clause, slot, Participant(_class_of(participant.entity), participant.attribute))
    )


# What contradicts a clause.


def deny(draws: Draws, clause: Clause) -> Clause:
    """Denies what was asserted, asserts what was denied."""
    return clause._replace(denied=not clause.denied)


def swap_roles(draws: Draws, clause: Clause) -> Clause:
    """Agent and patient, or source and goal, change places, with their attributes."""
    if lexicon().actions[clause.action].kind == "handling":
        return clause
    first, *middle, last = clause.participants
    return clause._replace(participants=(last, *middle, first))


def opposite_action(draws: Draws, clause: Clause) -> Clause:
    """The opposite action, if there is one."""
    opposite = lexicon().actions[clause.action].opposite
    return clause if opposite == UNSAID else clause._replace(action=opposite)


def opposite_attribute(draws: Draws, clause: Clause) -> Clause:
    """The opposite of a participant's attribute."""
    slot = draws.below(len(clause.participants))
    participant = clause.participants[slot]
    if participant.attribute == UNSAID:
        return clause
    opposite = lexicon().attributes[participant.attribute].opposite
    return _with(clause, slot, participant._replace(attribute=opposite))


def swap_attributes(draws: Draws, clause: Clause) -> Clause:
    """The two animate participants exchange their attributes."""
    first, last = clause.participants[0], clause.participants[-1]
    if lexicon().entities[last.entity].kind != "animate":
        return clause
    swapped = (first._replace(attribute=last.attribute), last._replace(attribute=first.attribute))
    return clause._replace(participants=(swapped[0], *clause.participants[1:-1], swapped[1]))


# What resembles a clause.


def sibling(draws: Draws, clause: Clause) -> Clause:
    """Another member of a participant's class."""
    slot = draws.below(len(clause.participants))
    participant = clause.participants[slot]
    return _with(clause, slot, participant._replace(entity=draws.pick(_siblings(participant.entity))))


def stranger(draws: Draws, clause: Clause) -> Clause:
    """Any other entity of the same kind."""
    slot = draws.below(len(clause.participants))
    participant = clause.participants[slot]
    kind = lexicon().entities[participant.entity].kind
    return _with(clause, slot, participant._replace(entity=draws.pick(members(kind))))


def similar_action(draws: Draws, clause: Clause) -> Clause:
    """Another action of the same family."""
    return clause._replace(action=draws.pick(_family(clause.action)))


def other_action(draws: Draws, clause: Clause) -> Clause:
    """Any action of the same kind that is not the opposite."""
    action: Action = lexicon().actions[clause.action]
    drawn = draws.pick(_actions(action.kind))
    return clause if drawn == action.opposite else clause._replace(action=drawn)


def other_place(draws: Draws, clause: Clause) -> Clause:
    """Another place or time, or one where none was said."""
    if draws.chance(0.5):
        return clause._replace(place=draws.below(len(lexicon().places)))
    return clause._replace(time=draws.below(len(lexicon().times)))


ENTAILED: tuple[Edit, ...] = (unsay, unsay, generalise)
CONTRADICTED: tuple[Edit, ...] = (
    deny,
    swap_roles,
    swap_roles,
    swap_roles,
    opposite_action,
    opposite_action,
    opposite_attribute,
    swap_attributes,
    swap_attributes,
    swap_attributes,
)
RESEMBLING: tuple[Edit, ...] = (sibling, stranger, similar_action, other_action, other_place)

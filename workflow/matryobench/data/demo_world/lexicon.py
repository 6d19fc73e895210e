"""Concepts of the demo world: entities, actions, attributes, places and times, each with the forms that name it."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

from matryobench.data.demo_world import words


class Verb(NamedTuple):
    """One verb: base ("give"), past ("gave") and participle ("given")."""

    base: str
    past: str
    participle: str


@dataclass(frozen=True)
class Entity:
    """A participant: `forms` are its synonyms; a class ("artisan") is an entity too, named by its hypernyms."""

    name: str
    forms: tuple[str, ...]
    kind: str  # "animate" or "thing"
    group: str  # name of its class; a class is its own group
    is_class: bool


@dataclass(frozen=True)
class Action:
    """A deed (agent, patient), a handling (agent, thing) or a transfer (source, thing, goal)."""

    name: str
    kind: str
    family: str
    opposite: int  # index of the opposite action, -1 if none
    verbs: tuple[Verb, ...]
    converse: tuple[Verb, ...]  # said of the other participant


@dataclass(frozen=True)
class Quality:
    """An attribute, a place or a time: synonyms, a group, and for attributes the index of the opposite (else -1)."""

    name: str
    forms: tuple[str, ...]
    group: str
    opposite: int = -1


@dataclass(frozen=True)
class Lexicon:
    """Everything that can be said, each concept addressed by its index; members of a class lie together."""

    entities: tuple[Entity, ...]
    actions: tuple[Action, ...]
    attributes: tuple[Quality, ...]
    places: tuple[Quality, ...]
    times: tuple[Quality, ...]
    usual: dict[str, tuple[tuple[int, ...], tuple[int, ...]]]  # animate class -> (places, things)


@cache
def lexicon() -> Lexicon:
    """The lexicon, parsed once per process."""
    entities: list[Entity] = []
    for kind, classes in (
        ("animate", [(names, row[0]) for names, row in words.ANIMATE_CLASSES.items()]),
        ("thing", list(words.THING_CLASSES.items())),
    ):
        for names, members in classes:
            forms = _forms(names)
            entities.append(Entity(forms[0], forms, kind, forms[0], True))
            entities += [Entity(_forms(m)[0], _forms(m), kind, forms[0], False) for m in _items(members)]
    places, times = _qualities(words.PLACES), _qualities(words.TIMES)
    usual = {}
    for names, (_, where, what) in words.ANIMATE_CLASSES.items():
        things = tuple(i for i, e in enumerate(entities) if e.group in what.split() and not e.is_class)
        usual[_forms(names)[0]] = (tuple(i for i, p in enumerate(places) if p.name in where.split()), things)
    attributes = _opposed(words.ANIMATE_ATTRIBUTES, "animate", 0)
    attributes += _opposed(words.THING_ATTRIBUTES, "thing", len(attributes))
    return Lexicon(tuple(entities), _actions(), tuple(attributes), tuple(places), tuple(times), usual)


def _items(text: str) -> list[str]:
    return [item.strip() for item in text.split(";")]


def _forms(text: str) -> tuple[str, ...]:
    return tuple(form.strip() for form in text.split(","))


def _qualities(groups: dict[str, str]) -> list[Quality]:
    named = [(group, *item.split(":")) for group, text in groups.items() for item in _items(text)]
    return [Quality(name, _forms(phrases), group) for group, name, phrases in named]


def _opposed(text: str, group: str, start: int) -> list[Quality]:
    sides = [_forms(side) for item in _items(text) for side in item.split("|")]
    return [Quality(forms[0], forms, group, (start + i) ^ 1) for i, forms in enumerate(sides)]


def _actions() -> tuple[Action, ...]:
    actions: list[Action] = []
    for kind, families in (("deed", words.DEEDS), ("handling", words.HANDLINGS), ("transfer", words.TRANSFERS)):
        for family, text in families.items():
            for item in _items(text):
                sides = item.split("|")
                for number, side in enumerate(sides):
                    direct, _, converse = side.partition("~")
                    verbs = tuple(_verb(form) for form in _forms(direct))
                    other = -1 if len(sides) == 1 else len(actions) + (1 - 2 * number)
                    turned = tuple(_verb(form) for form in _forms(converse)) if converse else ()
                    actions.append(Action(verbs[0].base, kind, family, other, verbs, turned))
    return tuple(actions)


@cache
def _irregular() -> dict[str, tuple[str, ...]]:
    return {base: _forms(forms) for base, forms in (item.split(": ") for item in _items(words.IRREGULAR))}


def _verb(base: str) -> Verb:
    if base in _irregular():
        past, participle = _irregular()[base]
        return Verb(base, past, participle)
    if base.endswith("e"):
        return Verb(base, base + "d", base + "d")
    if base.endswith("y") and base[-2] not in "aeiou":
        return Verb(base, base[:-1] + "ied", base[:-1] + "ied")
    return Verb(base, base + "ed", base + "ed")

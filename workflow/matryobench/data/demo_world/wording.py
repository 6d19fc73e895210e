"""Turns meanings into sentences: synonyms, active, passive, cleft and converse forms, order of parts, and denial."""

from __future__ import annotations

from typing import NamedTuple

from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import Verb, lexicon
from matryobench.data.demo_world.meaning import UNSAID, Clause, Participant, Scene

ASIDES = ("people say that", "once", "indeed")
DENIALS = ("it is not true that", "it is false that")
NEVER = (("did not", "was not"), ("never did", "was never"))
# Who did it is mostly said first, and what came first too. That the usual order is a hint and no rule makes roles learnable
# within minutes: were all orders equally frequent, a position alone would say nothing about a role.
SHAPES = ("active",) * 9 + ("passive",) * 3 + ("cleft agent",) * 2 + ("cleft patient", "other")
ORDERS = (
    "{0} before {1}",
    "{0} , and then {1}",
    "first {0} , and then {1}",
    "after {0} , {1}",
    "{0} , and later {1}",
    "{1} after {0}",
    "before {1} , {0}",
    "{1} , but earlier {0}",
)


class Wording:
    """The choices that one sentence makes: which synonym, which form, which order.

    `like` with `keep`: each choice is the one that the other sentence made with this chance, else any different one.
    """

    def __init__(self, draws: Draws, like: Wording | None = None, keep: float = 0.0) -> None:
        self._draws = draws
        self._like = like
        self._keep = keep
        self._made: dict[tuple[str, int], int] = {}

    def choose(self, what: str, concept: int, count: int) -> int:
        """A number below `count`; always the same one for the same concept in one sentence."""
        key = (what, concept)
        made = self._made.get(key)
        if made is None:
            made = self._made[key] = self._draw(None if self._like is None else self._like._made.get(key), count)
        return made

    def _draw(self, before: int | None, count: int) -> int:
        if before is None or count == 1:
            return self._draws.below(count)
        if self._draws.chance(self._keep):
            return before
        return (before + 1 + self._draws.below(count - 1)) % count

    def form(self, what: str, concept: int, forms: tuple[str, ...]) -> str:
        """One of a concept's synonyms."""
        return forms[self.choose(what, concept, len(forms))]


def sentence(scene: Scene, wording: Wording) -> str:
    """One English sentence that states the scene, first letter upper case, final stop."""
    if len(scene) == 1:
        text = _clause(scene[0], wording, 0, True)
        aside = wording.choose("aside", 0, 24)
        if aside < len(ASIDES):
            text = f"{ASIDES[aside]} {text}"
    else:
        order = ORDERS[wording.choose("order", 0, len(ORDERS))]
        text = order.format(*(_clause(clause, wording, i, False) for i, clause in enumerate(scene)))
    text = text.replace(" ,", ",")
    return text[0].upper() + text[1:] + "."


def noun_phrase(participant: Participant, wording: Wording, slot: int = 0) -> str:
    """ "the old baker", "an artisan"."""
    words = lexicon()
    entity = words.entities[participant.entity]
    noun = wording.form("entity", participant.entity, entity.forms)
    if participant.attribute != UNSAID:
        noun = (
            f"{wording.form('attribute', participant.attribute, words.attributes[participant.attribute].forms)} {noun}"
        )
    if entity.kind == "animate" and wording.choose("article", slot, 4) == 0:
        return with_article(noun)
    return f"the {noun}"


def with_article(noun: str) -> str:
    """ "a baker", "an artisan", "an honest smith"."""
    return f"{'an' if noun[0] in 'aeiou' or noun.startswith('hon') else 'a'} {noun}"


def pick_verb(action: int, wording: Wording, converse: bool = False) -> Verb:
    """One of an action's verbs, or of its converse verbs."""
    known = lexicon().actions[action]
    verbs = known.converse if converse else known.verbs
    return verbs[wording.choose("converse verb" if converse else "verb", action, len(verbs))]


def circumstances(clause: Clause, wording: Wording) -> list[str]:
    """The phrases for place and time, in the order in which they will be said."""
    words = lexicon()
    said = []
    if clause.place != UNSAID:
        said.append(wording.form("place", clause.place, words.places[clause.place].forms))
    if clause.time != UNSAID:
        said.append(wording.form("time", clause.time, words.times[clause.time].forms))
    return said[::-1] if wording.choose("swap", 0, 2) else said


def _clause(clause: Clause, wording: Wording, slot: int, alone: bool) -> str:
    """One clause without capital and stop; `slot` is its number in the sentence, `alone` whether it is the only one."""
    shape = SHAPES[wording.choose("shape", slot, len(SHAPES))]
    names = [noun_phrase(p, wording, 4 * slot + i) for i, p in enumerate(clause.participants)]
    turned = bool(lexicon().actions[clause.action].converse) and wording.choose("converse", slot, 3) == 0
    verb = pick_verb(clause.action, wording, turned)
    pattern = _transfer(names, turned, shape) if len(names) == 3 else _deed(names, turned, shape)
    did_not, was_not = NEVER[wording.choose("never", slot, len(NEVER))]
    # a denial around one of two clauses would seem to deny both
    outside = alone and wording.choose("denial", slot, 3) == 0
    inside = clause.denied and not outside
    if pattern.passive:
        said = f"{was_not if inside else 'was'} {verb.participle}"
    else:
        said = f"{did_not} {verb.base}" if inside else verb.past
    core = pattern.text.format(said)
    if clause.denied and outside:
        core = f"{DENIALS[wording.choose('outside', slot, len(DENIALS))]} {core}"
    where = circumstances(clause, wording)
    if where and alone and wording.choose("front", slot, 3) == 0:
        return f"{where[0]} , {' '.join([core, *where[1:]])}"
    return " ".join([core, *where])


class _Pattern(NamedTuple):
    """A clause with a place for the verb phrase, which is passive ("was praised") or not ("praised")."""

    text: str
    passive: bool = False


def _deed(names: list[str], turned: bool, shape: str) -> _Pattern:
    """agent and patient, or agent and thing; with a converse verb the other way round, which has no passive here."""
    agent, patient = names[::-1] if turned else names
    if shape == "passive" and not turned:
        return _Pattern(f"{patient} {{}} by {agent}", passive=True)
    if shape == "cleft agent":
        return _Pattern(f"it was {agent} who {{}} {patient}")
    if shape == "cleft patient":
        return _Pattern(f"it was {patient} that {agent} {{}}")
    if shape == "other":
        return _Pattern(f"the one who {{}} {patient} was {agent}")
    return _Pattern(f"{agent} {{}} {patient}")


def _transfer(names: list[str], turned: bool, shape: str) -> _Pattern:
    """source gives thing to goal, or goal receives thing from source."""
    source, thing, goal = names
    agent, tail = (goal, f"from {source}") if turned else (source, f"to {goal}")
    if shape == "passive":
        return _Pattern(f"{thing} {{}} {tail} by {agent}", passive=True)
    if shape == "cleft agent":
        return _Pattern(f"it was {agent} who {{}} {thing} {tail}")
    if shape == "cleft patient":
        return _Pattern(f"it was {thing} that {agent} {{}} {tail}")
    if shape == "other":
        return _Pattern(f"{tail} {agent} {{}} {thing}")
    return _Pattern(f"{agent} {{}} {thing} {tail}")

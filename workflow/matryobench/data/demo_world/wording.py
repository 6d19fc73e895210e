"""Turns meanings into sentences: synonyms, active, passive, cleft and converse forms, order of parts, and denial."""

from __future__ import annotations

from collections.abc import Callable

from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import Action, Verb, lexicon
from matryobench.data.demo_world.meaning import UNSAID, Clause, Participant, Scene

ASIDES = ("people say that", "once", "indeed")
# What comes first is more often what came first, or who did it. That the usual order is a hint and not a rule makes roles
# learnable in minutes: were all orders equally frequent, no single word would say anything about a role.
ACTIVE, PASSIVE, AGENT_CLEFT, PATIENT_CLEFT, LAST_AGENT = 9, 12, 14, 15, 16  # of 16: below 9 active, 9-11 passive, ...
DENIALS = ("it is not true that", "it is false that")
NEVER = ("did not", "never did")


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
        order = wording.choose("order", 0, 8)
        first, second = (_clause(clause, wording, i, False) for i, clause in enumerate(scene))
        text = (
            f"{first} before {second}",
            f"{first} , and then {second}",
            f"first {first} , and then {second}",
            f"after {first} , {second}",
            f"{first} , and later {second}",
            f"{second} after {first}",
            f"before {second} , {first}",
            f"{second} , but earlier {first}",
        )[order]
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
        return f"{'an' if noun[0] in 'aeiou' or noun.startswith('hon') else 'a'} {noun}"
    return f"the {noun}"


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
    action = lexicon().actions[clause.action]
    names = [noun_phrase(p, wording, 4 * slot + i) for i, p in enumerate(clause.participants)]
    core = (_transfer if action.kind == "transfer" else _deed)(action, names, clause, wording, slot)
    said = circumstances(clause, wording)
    if said and alone and wording.choose("front", slot, 3) == 0:
        return f"{said[0]} , {' '.join([core, *said[1:]])}"
    return " ".join([core, *said])


def _verb(clause: Clause, wording: Wording, verbs: tuple[Verb, ...], side: str) -> Verb:
    return verbs[wording.choose(f"verb-{side}", clause.action, len(verbs))]


def _denied(text: Callable[[str], str], past: str, denial: str, clause: Clause, wording: Wording, slot: int) -> str:
    """`text(verb phrase)`, denied inside the verb phrase or by a frame around it."""
    if not clause.denied:
        return text(past)
    frame = wording.choose("denial", slot, len(DENIALS) + 4)
    return f"{DENIALS[frame]} {text(past)}" if frame < len(DENIALS) else text(denial)


def _deed(action: Action, names: list[str], clause: Clause, wording: Wording, slot: int) -> str:
    """agent + verb + patient (or thing), in one of six forms."""
    agent, patient = names
    turned = bool(action.converse) and wording.choose("converse", slot, 3) == 0
    if turned:
        agent, patient = patient, agent
    verb = _verb(clause, wording, action.converse if turned else action.verbs, "b" if turned else "a")
    did_not = f"{NEVER[wording.choose('never', slot, len(NEVER))]} {verb.base}"
    was_not = f"was {'never' if wording.choose('never', slot, len(NEVER)) else 'not'} {verb.participle}"
    shape = wording.choose("shape", slot, LAST_AGENT)
    if ACTIVE <= shape < PASSIVE and not turned:
        return _denied(lambda v: f"{patient} {v} by {agent}", f"was {verb.participle}", was_not, clause, wording, slot)
    if PASSIVE <= shape < AGENT_CLEFT:
        return _denied(lambda v: f"it was {agent} who {v} {patient}", verb.past, did_not, clause, wording, slot)
    if AGENT_CLEFT <= shape < PATIENT_CLEFT:
        return _denied(lambda v: f"it was {patient} that {agent} {v}", verb.past, did_not, clause, wording, slot)
    if shape >= PATIENT_CLEFT:
        return _denied(lambda v: f"the one who {v} {patient} was {agent}", verb.past, did_not, clause, wording, slot)
    return _denied(lambda v: f"{agent} {v} {patient}", verb.past, did_not, clause, wording, slot)


def _transfer(action: Action, names: list[str], clause: Clause, wording: Wording, slot: int) -> str:
    """source gives thing to goal, or goal receives thing from source."""
    source, thing, goal = names
    turned = wording.choose("converse", slot, 3) == 0
    giver, taker, to = (goal, source, "from") if turned else (source, goal, "to")
    verb = _verb(clause, wording, action.converse if turned else action.verbs, "b" if turned else "a")
    did_not = f"{NEVER[wording.choose('never', slot, len(NEVER))]} {verb.base}"
    was_not = f"was {'never' if wording.choose('never', slot, len(NEVER)) else 'not'} {verb.participle}"
    shape = wording.choose("shape", slot, LAST_AGENT)
    if ACTIVE <= shape < PASSIVE:
        tail = f"{to} {taker} by {giver}"
        return _denied(lambda v: f"{thing} {v} {tail}", f"was {verb.participle}", was_not, clause, wording, slot)
    tail = f"{to} {taker}"
    if PASSIVE <= shape < AGENT_CLEFT:
        return _denied(lambda v: f"it was {giver} who {v} {thing} {tail}", verb.past, did_not, clause, wording, slot)
    if AGENT_CLEFT <= shape < PATIENT_CLEFT:
        return _denied(lambda v: f"it was {thing} that {giver} {v} {tail}", verb.past, did_not, clause, wording, slot)
    if shape >= PATIENT_CLEFT:
        return _denied(lambda v: f"{tail} {giver} {v} {thing}", verb.past, did_not, clause, wording, slot)
    return _denied(lambda v: f"{giver} {v} {thing} {tail}", verb.past, did_not, clause, wording, slot)

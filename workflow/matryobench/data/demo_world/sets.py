"""The training triplets, the three STS sets and the plain text of the demo world."""

from __future__ import annotations

from matryobench.data.demo_world import scenes
from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import lexicon
from matryobench.data.demo_world.meaning import Scene, similarity
from matryobench.data.demo_world.wording import Wording, sentence, with_article

TRIPLETS, PAIRS, DOCUMENTS = 20_000, 1_000, 16_000
USUAL = 0.6  # how often plain text says what is usual


def triplets(seed: int) -> dict[str, list[str]]:
    """anchor, positive (follows from the anchor, reworded), negative (contradicts it, in the anchor's words)."""
    draws = Draws(seed, "triplets")
    columns: dict[str, list[str]] = {"anchor": [], "positive": [], "negative": []}
    for _ in range(TRIPLETS):
        for column, text in zip(columns.values(), triplet(draws), strict=True):
            column.append(text)
    return columns


def triplet(draws: Draws) -> tuple[str, str, str]:
    """One triplet: anchor, positive, negative."""
    scene = scenes.draw_scene(draws, evaluation=False)
    entailed = scene
    while draws.chance(0.35):
        entailed = scenes.change(draws, entailed, scenes.ENTAILED)
    said = Wording(draws)
    anchor = sentence(scene, said)
    positive = sentence(entailed, Wording(draws, like=said, keep=0.2))
    negative = sentence(_contradicted(draws, scene), Wording(draws, like=said, keep=draws.pick((0.5, 1.0, 1.0))))
    return anchor, positive, negative


def _contradicted(draws: Draws, scene: Scene) -> Scene:
    """A scene that cannot be true with this one: a contradicted clause, clauses in the other order, or a sibling."""
    if len(scene) == 2 and draws.chance(0.3):
        return scene[::-1]
    changed = scenes.change(draws, scene, scenes.CONTRADICTED if draws.chance(0.7) else scenes.RESEMBLING)
    return changed if changed != scene else scenes.change(draws, scene, (scenes.deny,))


def sts_paraphrase(seed: int) -> dict[str, list[str] | list[float]]:
    """Reworded pairs in which none to six parts of the meaning were changed."""
    draws = Draws(seed, "sts-paraphrase")
    pairs = _Pairs(draws)
    while pairs.wanted():
        first = second = scenes.draw_scene(draws, evaluation=True)
        for _ in range(draws.below(7)):
            second = scenes.change(draws, second, scenes.RESEMBLING + scenes.ENTAILED)
        pairs.add(first, second)
    return pairs.columns


def sts_roles(seed: int) -> dict[str, list[str] | list[float]]:
    """Pairs about the same things: paraphrases against role swaps, denials, opposites and changed order of events."""
    draws = Draws(seed, "sts-roles")
    pairs = _Pairs(draws)
    while pairs.wanted():
        first = second = scenes.draw_scene(draws, evaluation=True, double=0.3, details=0.6)
        for _ in range(draws.below(4)):
            if len(second) == 2 and draws.chance(0.3):
                second = second[::-1]
            else:
                second = scenes.change(draws, second, scenes.CONTRADICTED)
        pairs.add(first, second)
    return pairs.columns


def sts_topics(seed: int) -> dict[str, list[str] | list[float]]:
    """Pairs of scenes that share some, all or none of their actors, actions and places, often only by class."""
    draws = Draws(seed, "sts-topics")
    pairs = _Pairs(draws)
    while pairs.wanted():
        first = scenes.draw_scene(draws, evaluation=True, double=0.5)
        second = scenes.draw_scene(draws, evaluation=True, double=0.5)
        if draws.chance(0.85):
            kept = draws.pick(first)
            for _ in range(draws.below(5)):
                (kept,) = scenes.change(
                    draws, (kept,), (scenes.sibling, scenes.similar_action, scenes.generalise, scenes.unsay)
                )
            second = (kept,) if len(second) == 1 else draws.pick(((kept, second[0]), (second[1], kept)))
        pairs.add(first, second)
    return pairs.columns


class _Pairs:
    """Collects sentence pairs with their gold similarity; no pair twice, no sentence beside itself."""

    def __init__(self, draws: Draws) -> None:
        self.columns: dict[str, list[str] | list[float]] = {}
        self._draws = draws
        self._rows: dict[tuple[str, str], float] = {}

    def wanted(self) -> bool:
        """Whether pairs are still missing; when none is, `columns` is filled."""
        if len(self._rows) < PAIRS:
            return True
        self.columns["sentence1"] = [first for first, _ in self._rows]
        self.columns["sentence2"] = [second for _, second in self._rows]
        self.columns["score"] = list(self._rows.values())
        return False

    def add(self, first: Scene, second: Scene) -> None:
        """One pair. How much of the wording is kept is drawn per pair, whatever the score."""
        said = Wording(self._draws)
        text = sentence(first, said)
        other = sentence(second, Wording(self._draws, like=said, keep=self._draws.uniform()))
        if text != other:
            self._rows[(text, other)] = similarity(first, second)


def text(seed: int) -> dict[str, list[str]]:
    """Short documents for masked language modelling: something said and said again, a few events, a definition."""
    draws = Draws(seed, "text")
    documents = []
    for _ in range(DOCUMENTS):
        kind = draws.uniform()
        if kind < 0.7:
            documents.append(_said_again(draws))
        elif kind < 0.85:
            documents.append(
                " ".join(sentence(scenes.draw_scene(draws, False, usual=USUAL), Wording(draws)) for _ in range(2))
            )
        else:
            documents.append(_definition(draws))
    return {"text": documents}


def _said_again(draws: Draws) -> str:
    scene = scenes.draw_scene(draws, evaluation=False, usual=USUAL)
    said = Wording(draws)
    again = sentence(scene, Wording(draws, like=said, keep=0.4))
    return f"{sentence(scene, said)} In other words, {again[0].lower()}{again[1:]}"


def _definition(draws: Draws) -> str:
    """Which words mean the same, the opposite, or a kind of something."""
    words = lexicon()
    kind = draws.below(4)
    if kind == 0:
        entity = draws.pick(words.entities)
        first, second = draws.shuffled(entity.forms)[:2]
        return _sentence(f"{with_article(first)} is the same as {with_article(second)}")
    if kind == 1:
        entity = words.entities[draws.pick(scenes.members(draws.pick(("animate", "thing"))))]
        above = next(e for e in words.entities if e.is_class and e.group == entity.group)
        return _sentence(f"{with_article(draws.pick(entity.forms))} is a kind of {draws.pick(above.forms)}")
    if kind == 2:
        quality = draws.pick(words.attributes)
        if draws.chance(0.5):
            other_forms = words.attributes[quality.opposite].forms
            return f"The opposite of {draws.pick(quality.forms)} is {draws.pick(other_forms)}."
        first, second = draws.shuffled(quality.forms)[:2]
        return f"To be {first} is to be {second}."
    action = draws.pick(words.actions)
    if action.opposite >= 0 and draws.chance(0.5):
        other = words.actions[action.opposite]
        return f"The opposite of to {draws.pick(action.verbs).base} is to {draws.pick(other.verbs).base}."
    first_verb, second_verb = draws.shuffled(action.verbs)[:2]
    return f"To {first_verb.base} is to {second_verb.base}."


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."

"""The classification set of the demo world: which kind of event a text tells, by the family of its action."""

from __future__ import annotations

from matryobench.data.demo_world import scenes
from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import lexicon
from matryobench.data.demo_world.wording import Wording, sentence

EVENTS = 400


def events(seed: int, evaluation: bool) -> dict[str, list[str]]:
    """Texts of one clause, each once, and their labels: the families of actions, all equally often, in a drawn order.

    With `evaluation` the texts' combinations of action and participants are such as no training data say.
    """
    draws = Draws(seed, f"events-{'test' if evaluation else 'train'}")
    actions = lexicon().actions
    wanted = dict.fromkeys(sorted({action.family for action in actions}), 0)
    rows: dict[str, str] = {}
    while len(rows) < EVENTS:
        clause = scenes.draw_clause(draws, evaluation)
        label, text = actions[clause.action].family, sentence((clause,), Wording(draws))
        if wanted[label] * len(wanted) < EVENTS and text not in rows:
            rows[text] = label
            wanted[label] += 1
    texts = draws.shuffled(list(rows))
    return {"text": texts, "label": [rows[text] for text in texts]}

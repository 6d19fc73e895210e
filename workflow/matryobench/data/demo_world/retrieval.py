"""Passages, questions and graded relevance judgements of the demo world.

A passage is three or four sentences around one agent. A question asks whether, where, by whom or what; it fixes an action and
all or all but one of the participants, perhaps an attribute and a place. Relevance follows from the meanings:

* 2: a sentence of the passage answers the question: it asserts the action with the asked participants in their roles, and
  says the asked attributes and place;
* 1: a sentence is about the same but does not answer: denied, the opposite action, another or no attribute or place;
* not listed: neither. A passage in which the participants change roles is about something else.

Every topic has one or two passages that answer and one that nearly does. Passages are on one side of the split as sentences
are: training judgements name passages of the training side only, test judgements are about all passages.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

from matryobench.data.demo_world import scenes
from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import lexicon
from matryobench.data.demo_world.meaning import UNSAID, Clause, Participant
from matryobench.data.demo_world.wording import Wording, noun_phrase, pick_verb, sentence

TRAIN_TOPICS, TEST_TOPICS = 800, 250
Key = tuple[int, tuple[int, ...]]  # action or its opposite, entities in their roles (UNSAID: asked for)


class Question(NamedTuple):
    """What a question fixes. `asked`: index of the participant that is asked for, UNSAID if none."""

    clause: Clause
    asked: int


class Corpus(NamedTuple):
    """Passages as columns, the questions of each side with their text, and judgements (question, passage, grade)."""

    passages: dict[str, list[str]]
    queries: dict[str, dict[str, list[str]]]
    judgements: dict[str, dict[str, list[str] | list[int]]]


@cache
def corpus(seed: int) -> Corpus:
    """Everything for retrieval; made at once because judgements need all of it."""
    draws = Draws(seed, "retrieval")
    written: list[tuple[bool, tuple[Clause, ...]]] = []
    topics: dict[bool, list[Clause]] = {
        False: _topics(draws, TRAIN_TOPICS, False),
        True: _topics(draws, TEST_TOPICS, True),
    }
    for side, clauses in topics.items():
        for clause in clauses:
            for _ in range(draws.pick((1, 2))):
                written.append((side, _passage(draws, clause, side)))
            (near,) = scenes.change(draws, (clause,), scenes.CONTRADICTED)
            written.append((side, _passage(draws, near, side)))
    written = draws.shuffled(written)
    names = [f"p{number:04d}" for number in range(len(written))]
    said = [" ".join(sentence((clause,), Wording(draws)) for clause in clauses) for _, clauses in written]
    titles = [_title(draws, clauses) for _, clauses in written]
    index = _index(written)
    asked: set[str] = set()
    queries: dict[str, dict[str, list[str]]] = {}
    judgements: dict[str, dict[str, list[str] | list[int]]] = {}
    for name, side in (("train", False), ("test", True)):
        questions = _questions(draws, topics[side], asked)
        queries[name] = {
            "_id": [f"{name}-{n:04d}" for n in range(len(questions))],
            "text": [text for text, _ in questions],
        }
        rows = [
            (f"{name}-{number:04d}", names[passage], grade)
            for number, (_, question) in enumerate(questions)
            for passage, grade in sorted(_graded(question, index).items())
            if side or not written[passage][0]
        ]
        judgements[name] = {
            "query_id": [query for query, _, _ in rows],
            "doc_id": [passage for _, passage, _ in rows],
            "score": [grade for _, _, grade in rows],
        }
    return Corpus({"_id": names, "title": titles, "text": said}, queries, judgements)


def all_queries(seed: int) -> dict[str, list[str]]:
    """The questions of both sides as one table, as BEIR's archives have them."""
    sides = corpus(seed).queries
    return {column: sides["train"][column] + sides["test"][column] for column in ("_id", "text")}


def _topics(draws: Draws, count: int, evaluation: bool) -> list[Clause]:
    """Asserted clauses, no two of them with the same action (or its opposite) and participants."""
    found: dict[Key, Clause] = {}
    while len(found) < count:
        clause = scenes.draw_clause(draws, evaluation)._replace(denied=False)
        found.setdefault(_key(clause, UNSAID), clause)
    return list(found.values())


def _passage(draws: Draws, clause: Clause, evaluation: bool) -> tuple[Clause, ...]:
    """The clause among two or three others, most of them with its agent."""
    others: list[Clause] = []
    agent = clause.participants[0]
    wanted = draws.pick((2, 3))
    while len(others) < wanted:
        other = scenes.draw_clause(draws, evaluation, details=0.3)
        if draws.chance(0.7):
            other = other._replace(participants=(Participant(agent.entity), *other.participants[1:]))
        if scenes.valid(other, evaluation):
            others.append(other)
    return tuple(draws.shuffled([clause, *others]))


def _title(draws: Draws, clauses: tuple[Clause, ...]) -> str:
    agents = [clause.participants[0].entity for clause in clauses]
    hero = max(agents, key=agents.count)
    return f"About {noun_phrase(Participant(hero), Wording(draws), slot=0)}"


def _key(clause: Clause, asked: int) -> Key:
    opposite = lexicon().actions[clause.action].opposite
    action = clause.action if opposite == UNSAID else min(clause.action, opposite)
    return action, tuple(UNSAID if i == asked else p.entity for i, p in enumerate(clause.participants))


def _index(written: list[tuple[bool, tuple[Clause, ...]]]) -> dict[Key, list[tuple[int, Clause]]]:
    """Clauses by everything that a question may fix."""
    found: dict[Key, list[tuple[int, Clause]]] = {}
    for number, (_, clauses) in enumerate(written):
        for clause in clauses:
            for asked in (UNSAID, *range(len(clause.participants))):
                found.setdefault(_key(clause, asked), []).append((number, clause))
    return found


def _graded(question: Question, index: dict[Key, list[tuple[int, Clause]]]) -> dict[int, int]:
    grades: dict[int, int] = {}
    for passage, clause in index[_key(question.clause, question.asked)]:
        grades[passage] = max(grades.get(passage, 0), 2 if answers(clause, question) else 1)
    return grades


def answers(clause: Clause, question: Question) -> bool:
    """Whether a clause about the same participants is an answer."""
    wanted = question.clause
    return (
        clause.action == wanted.action
        and not clause.denied
        and wanted.place in (UNSAID, clause.place)
        and all(
            b.attribute in (UNSAID, a.attribute)
            for i, (a, b) in enumerate(zip(clause.participants, wanted.participants, strict=True))
            if i != question.asked
        )
    )


def _questions(draws: Draws, topics: list[Clause], asked: set[str]) -> list[tuple[str, Question]]:
    """One or two questions per topic; none that was asked before."""
    found = []
    for clause in topics:
        for _ in range(draws.pick((1, 2))):
            people = tuple(p if draws.chance(0.5) else Participant(p.entity) for p in clause.participants)
            place = clause.place if draws.chance(0.7) else UNSAID
            kind = draws.pick(("whether", "whether", "where", "who", "what"))
            slot = {"who": 0, "what": 1}.get(kind, UNSAID)
            question = Question(
                clause._replace(participants=people, time=UNSAID, place=UNSAID if kind == "where" else place), slot
            )
            text = _asked(question, kind, Wording(draws))
            if text not in asked:
                asked.add(text)
                found.append((text, question))
    return found


def _asked(question: Question, kind: str, wording: Wording) -> str:
    """The question in English."""
    clause = question.clause
    verb = pick_verb(clause.action, wording)
    names = [noun_phrase(p, wording, i) for i, p in enumerate(clause.participants)]
    goal = f" to {names[2]}" if len(names) == 3 else ""
    whom = "what" if lexicon().entities[clause.participants[1].entity].kind == "thing" else "whom"
    place = (
        ""
        if clause.place == UNSAID
        else f" {wording.form('place', clause.place, lexicon().places[clause.place].forms)}"
    )
    text = {
        "whether": f"did {names[0]} {verb.base} {names[1]}{goal}{place}",
        "where": f"where did {names[0]} {verb.base} {names[1]}{goal}",
        "who": f"who {verb.past} {names[1]}{goal}{place}",
        "what": f"{whom} did {names[0]} {verb.base}{goal}{place}",
    }[kind]
    return f"{text[0].upper()}{text[1:]}?"

"""The demo world: what its sentences mean, what is kept apart, and that it is neither trivial nor hopeless."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr

from matryobench.data.demo_world import scenes, table, tables
from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.lexicon import lexicon
from matryobench.data.demo_world.meaning import Clause, Participant, for_evaluation, similarity
from matryobench.data.demo_world.retrieval import Question, answers
from matryobench.data.demo_world.wording import Wording, sentence
from matryobench.errors import InputError

WORDS = lexicon()
STS = ("sts-paraphrase", "sts-roles", "sts-topics")


@pytest.fixture(scope="module")
def world() -> dict[str, dict[str, list]]:
    return {name: table(name) for name in tables()}


def entity(name: str) -> int:
    return next(i for i, e in enumerate(WORDS.entities) if e.name == name)


def action(name: str) -> int:
    return next(i for i, a in enumerate(WORDS.actions) if a.name == name)


def attribute(name: str) -> int:
    return next(i for i, a in enumerate(WORDS.attributes) if a.name == name)


def clause(agent: str, verb: str, patient: str, **more: int | bool) -> Clause:
    """clause("baker", "praise", "old king"): at most one attribute each."""
    people = []
    for text in (agent, patient):
        *told, name = text.split()
        people.append(Participant(entity(name), attribute(told[0]) if told else -1))
    return Clause(action(verb), tuple(people), **more)


BASE = clause("baker", "praise", "king")


def test_the_scores_of_pairs_worked_out_by_hand() -> None:
    # 5 x (0.4 topic + 0.6 truth), weights: action 2, participants 2 each, place and time 1 each
    assert similarity((BASE,), (BASE,)) == 5.0
    assert similarity((BASE,), (clause("baker", "praise", "king", denied=True),)) == 2.0  # 5 x 0.4
    assert similarity((BASE,), (clause("baker", "scold", "king"),)) == 1.9  # 5 x 0.4 x (2 x 0.8 + 4) / 6
    assert similarity((BASE,), (clause("king", "praise", "baker"),)) == 2.0  # same topic, no role agrees
    assert similarity((BASE,), (clause("baker", "praise", "old king"),)) == 4.8  # 2 + 3 x 1.9 / 2, topic 5.8 / 6
    young, old = clause("baker", "praise", "young king"), clause("baker", "praise", "old king")
    assert similarity((young,), (old,)) == 3.9  # opposite attributes 0.5: 2 x 5 / 6 + 3 x 3 / 4
    assert similarity((BASE,), (clause("smith", "praise", "king"),)) == 3.3  # siblings 0.2: 2 x 4.4 / 6 + 3 x 0.6
    assert similarity((BASE,), (clause("artisan", "praise", "king"),)) == 4.1  # class 0.6
    assert similarity((BASE,), (clause("sailor", "attack", "thief"),)) == 0.0
    other = clause("sailor", "attack", "thief")
    assert similarity((BASE,), (BASE, other)) == 2.5  # half of it is said
    assert similarity((BASE, other), (other, BASE)) == 3.5  # 2 + half of 3: the wrong order
    there = clause("baker", "praise", "king", place=0)
    assert similarity((BASE,), (there,)) == 4.6  # place unsaid 0.5: 2 x 6.5 / 7 + 3 x 4.5 / 5


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_similarity_is_symmetric_and_five_only_for_one_meaning(seed: int) -> None:
    draws = Draws(seed, "property")
    first = scenes.draw_scene(draws, evaluation=True)
    second = scenes.change(draws, first, scenes.RESEMBLING + scenes.CONTRADICTED + scenes.ENTAILED)
    unrelated = scenes.draw_scene(draws, evaluation=True)
    assert similarity(first, first) == 5.0
    assert similarity(first, second) == similarity(second, first)
    assert 0.0 <= similarity(first, unrelated) <= 5.0
    if second != first:
        assert similarity(first, second) < 5.0


@given(st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_changing_a_clause_keeps_it_on_its_side_of_the_split(seed: int) -> None:
    draws = Draws(seed, "split")
    for side in (False, True):
        scene = scenes.draw_scene(draws, evaluation=side)
        for edits in (scenes.CONTRADICTED, scenes.RESEMBLING, scenes.ENTAILED):
            scene = scenes.change(draws, scene, edits)
            assert all(scenes.valid(c, side) for c in scene)


def test_a_clause_and_what_contradicts_it_are_on_one_side_of_the_split() -> None:
    sides = {
        for_evaluation(c)
        for c in (
            BASE,
            clause("king", "praise", "baker"),
            clause("baker", "scold", "old king"),
            clause("baker", "praise", "king", denied=True, place=3),
        )
    }
    assert len(sides) == 1


def test_every_form_names_one_concept() -> None:
    forms = Counter(f for e in (*WORDS.entities, *WORDS.attributes, *WORDS.places, *WORDS.times) for f in e.forms)
    forms += Counter(w for a in WORDS.actions for verb in (*a.verbs, *a.converse) for w in set(verb))
    assert [form for form, count in forms.items() if count > 1] == []


def test_opposites_are_mutual() -> None:
    for concepts in (WORDS.actions, WORDS.attributes):
        for number, concept in enumerate(concepts):
            assert concept.opposite == -1 or concepts[concept.opposite].opposite == number


def test_sentences_say_who_did_what_to_whom() -> None:
    draws = Draws(0, "say")
    said = {sentence((BASE,), Wording(draws)) for _ in range(400)}
    assert {"The baker praised the king.", "The king was praised by the baker."} <= said
    assert "The king praised the baker." not in said
    assert "The baker was praised by the king." not in said
    denied = {sentence((BASE._replace(denied=True),), Wording(draws)) for _ in range(400)}
    assert "The baker did not praise the king." in denied
    assert not said & denied
    turned = {sentence((clause("baker", "lead", "king"),), Wording(draws)) for _ in range(400)}
    assert {"The baker led the king.", "The king followed the baker."} <= turned
    assert "The baker followed the king." not in turned


def test_no_two_meanings_share_a_sentence() -> None:
    draws = Draws(0, "ambiguity")
    meant: dict[str, tuple] = {}
    for _ in range(1500):
        scene = scenes.draw_scene(draws, evaluation=True)
        for one in (scene, scenes.change(draws, scene, scenes.CONTRADICTED), scene[::-1]):
            text = sentence(one, Wording(draws)).replace(" a ", " the ").replace(" an ", " the ")
            assert meant.setdefault(text, one) == one, text


def test_tables_have_the_promised_sizes(world: dict[str, dict[str, list]]) -> None:
    rows = {name: {len(column) for column in columns.values()} for name, columns in world.items()}
    assert all(len(sizes) == 1 for sizes in rows.values())
    size = {name: sizes.pop() for name, sizes in rows.items()}
    assert size["triplets"] == 20_000 and size["text"] == 16_000
    assert all(size[name] == 1000 for name in STS)
    assert 2000 <= size["passages"] <= 3000 and size["train-queries"] > 1000 and size["test-queries"] > 250
    assert all(value.strip() for t in world.values() for c in t.values() for value in c if isinstance(value, str))


def test_no_evaluation_sentence_is_a_training_sentence(world: dict[str, dict[str, list]]) -> None:
    def sentences(names: tuple[str, ...]) -> set[str]:
        values = (v for n in names for column, c in world[n].items() if column != "score" for v in c)
        return {s.strip().lower() for v in values for s in v.replace(" In other words, ", " ").split(".") if s.strip()}

    training = sentences(("triplets", "text"))
    assert not training & sentences(STS)
    assert not set(world["train-queries"]["text"]) & set(world["test-queries"]["text"])
    # passages that answer a test question are never judged, and so never trained on, for a training question ...
    answer = {d for d, s in zip(world["test-qrels"]["doc_id"], world["test-qrels"]["score"], strict=True) if s == 2}
    own = answer - set(world["train-qrels"]["doc_id"])
    assert len(own) > 250
    # ... and their sentences are in no other training table
    said = dict(zip(world["passages"]["_id"], world["passages"]["text"], strict=True))
    assert not training & {s.strip().lower() for name in own for s in said[name].split(".") if s.strip()}


def test_the_same_seed_gives_the_same_bytes_in_every_process(world: dict[str, dict[str, list]]) -> None:
    def digest(value: object) -> str:
        return hashlib.sha256(json.dumps(value).encode()).hexdigest()

    program = (
        "import hashlib, json; from matryobench.data.demo_world import table, tables\n"
        "print({n: hashlib.sha256(json.dumps(table(n)).encode()).hexdigest() for n in tables()})"
    )
    there = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    assert there == str({name: digest(columns) for name, columns in world.items()})


def test_another_seed_gives_other_rows_of_the_same_kind() -> None:
    assert table("sts-roles", 1)["sentence1"] != table("sts-roles", 0)["sentence1"]
    assert len(table("sts-roles", 1)["score"]) == 1000


def test_a_table_can_be_changed_without_changing_the_next_one() -> None:
    table("passages")["text"].clear()
    assert table("passages")["text"]


@pytest.mark.parametrize(
    ("name", "seed", "message"),
    [("sts-role", 0, "unknown table 'sts-role'; did you mean sts-roles"), ("text", -1, "seed -1 is negative; give 0")],
)
def test_bad_requests_are_one_sentence(name: str, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        table(name, seed)


@pytest.mark.parametrize("name", STS)
def test_scores_cover_the_scale(world: dict[str, dict[str, list]], name: str) -> None:
    scores = np.array(world[name]["score"])
    assert scores.min() >= 0.0 and scores.max() == 5.0
    assert scores.std() > 1.0
    assert len(set(scores.tolist())) > 20
    assert max(Counter(scores.tolist()).values()) < 350


def test_lexical_overlap_alone_is_weak(world: dict[str, dict[str, list]]) -> None:
    found = []
    for name in STS:
        rows = world[name]
        overlap = []
        for a, b in zip(rows["sentence1"], rows["sentence2"], strict=True):
            first, second = (set(s.lower().replace(",", "").rstrip(".").split()) for s in (a, b))
            overlap.append(len(first & second) / len(first | second))
        found.append(100 * spearmanr(overlap, rows["score"]).statistic)
    assert 10 < np.mean(found) < 35  # a trained (4, 64) reaches about 70: tools/measure_demo_world.py


def test_negatives_overlap_with_their_anchors_more_than_positives(world: dict[str, dict[str, list]]) -> None:
    rows = world["triplets"]

    def overlap(column: str) -> float:
        pairs = zip(rows["anchor"][:3000], rows[column][:3000], strict=True)
        return float(
            np.mean([len(set(a.split()) & set(b.split())) / len(set(a.split()) | set(b.split())) for a, b in pairs])
        )

    assert overlap("negative") > overlap("positive") + 0.1


def test_answers_follow_from_meaning() -> None:
    asked = Question(clause("baker", "praise", "old king", place=2), asked=-1)
    assert answers(clause("baker", "praise", "old king", place=2, time=1), asked)
    assert answers(clause("happy baker", "praise", "old king", place=2), asked)
    for near in (
        clause("baker", "praise", "old king", place=2, denied=True),
        clause("baker", "scold", "old king", place=2),
        clause("baker", "praise", "young king", place=2),
        clause("baker", "praise", "king", place=2),
        clause("baker", "praise", "old king"),
    ):
        assert not answers(near, asked)
    who = Question(clause("baker", "praise", "king"), asked=0)
    assert answers(clause("smith", "praise", "king"), who)


def test_judgements_name_what_exists_and_every_question_has_an_answer(world: dict[str, dict[str, list]]) -> None:
    for side in ("train", "test"):
        judged = world[f"{side}-qrels"]
        queries = set(world[f"{side}-queries"]["_id"])
        assert set(judged["query_id"]) == queries
        assert set(judged["doc_id"]) <= set(world["passages"]["_id"])
        assert set(judged["score"]) == {1, 2}
        assert {q for q, s in zip(judged["query_id"], judged["score"], strict=True) if s == 2} == queries
        assert len(set(zip(judged["query_id"], judged["doc_id"], strict=True))) == len(judged["score"])

"""Training rows with instructions of the demo world: scenes with what follows from them, questions with their answers."""

from __future__ import annotations

from matryobench.data.demo_world.draws import Draws
from matryobench.data.demo_world.retrieval import corpus
from matryobench.data.demo_world.sets import triplet

SENTENCES = 1_500
# In MEDI's manner, in few words: the tokenizer of a small experiment has hardly any of them whole.
SENTENCE, QUESTION, PASSAGE = "Represent the sentence:", "Represent the question:", "Represent the passage:"


def instructed(seed: int) -> dict[str, list[str]]:
    """query, positive, negative, each with its instruction, and `subset`: sentences (as in triplets), then questions.

    A training question has a training passage that answers it, and as negative one that is about the same and does not
    answer, where there is one, else any other training passage.
    """
    draws = Draws(seed, "instructed")
    names = (
        "query_instruction",
        "query",
        "positive_instruction",
        "positive",
        "negative_instruction",
        "negative",
        "subset",
    )
    rows = [
        (SENTENCE, anchor, SENTENCE, positive, SENTENCE, negative, "sentences")
        for anchor, positive, negative in (triplet(draws) for _ in range(SENTENCES))
    ]
    rows += [
        (QUESTION, question, PASSAGE, positive, PASSAGE, negative, "questions")
        for question, positive, negative in _answered(draws, seed)
    ]
    return dict(zip(names, map(list, zip(*rows, strict=True)), strict=True))


def _answered(draws: Draws, seed: int) -> list[tuple[str, str, str]]:
    """A question, a passage that answers it, one that does not."""
    world = corpus(seed)
    columns = (world.passages[column] for column in ("_id", "title", "text"))
    said = {name: f"{title} {text}" for name, title, text in zip(*columns, strict=True)}
    judged = world.judgements["train"]
    graded: dict[str, dict[str, object]] = {}
    for query, passage, grade in zip(judged["query_id"], judged["doc_id"], judged["score"], strict=True):
        graded.setdefault(str(query), {})[str(passage)] = grade
    # Judgements name training passages only, so what they name is safe to train on.
    training = sorted({passage for grades in graded.values() for passage in grades})
    questions = world.queries["train"]
    found = []
    for query, question in zip(questions["_id"], questions["text"], strict=True):
        grades = graded[query]
        answers = [passage for passage, grade in grades.items() if grade == 2]
        if not answers:
            continue
        near = [passage for passage, grade in grades.items() if grade == 1]
        positive = draws.pick(answers)
        negative = draws.pick(near) if near else draws.pick([name for name in training if name not in grades])
        found.append((question, said[positive], said[negative]))
    return found

"""mteb tasks over our tables: which task a name gives, what is left of it, and what is refused; keys of instructions."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pytest

from matryobench.data.prepare import fetch_data
from matryobench.errors import InputError
from matryobench.evaluation.instructions import check_instructions, instruction_of
from matryobench.evaluation.mteb_runs import metric_name
from matryobench.evaluation.mteb_standalone import given_instructions
from matryobench.evaluation.mteb_tasks import ClassificationTables, RetrievalTables, content_hash, table_task
from matryobench.paths import CONFIG
from matryobench.plan import Plan


def labelled(count: int) -> pa.Table:
    return pa.table({"text": [f"text {n}" for n in range(count)], "label": [str(n % 2) for n in range(count)]})


CLASSES = ClassificationTables("mine", labelled(40), labelled(10))
SEARCH = RetrievalTables(
    "found",
    pa.table({"doc_id": ["b", "a"], "title": ["", "A"], "text": ["bee", "ay"]}),
    pa.table({"query_id": ["a", "z"], "text": ["what", "unjudged"]}),
    pa.table({"query_id": ["a"], "doc_id": ["b"], "grade": pa.array([2], pa.int32())}),
)


def test_a_set_without_a_name_is_a_plain_task_with_mtebs_defaults() -> None:
    one = table_task(CLASSES)
    assert (one.task.samples_per_label, one.task.n_experiments, one.task.metadata.main_score) == (8, 10, "accuracy")
    assert one.task.metadata.name == "mine" and one.items == 10 and one.split == "test"
    other = table_task(replace(SEARCH, exclude_own_id=True))
    assert other.task.ignore_identical_ids and other.task.metadata.main_score == "ndcg_at_10"
    assert other.items == 1 and other.facts["queries_without_judgements"] == 1
    data = other.task.dataset["default"]["test"]
    assert data["relevant_docs"] == {"a": {"b": 2}} and data["queries"]["id"][:] == ["a"]


def test_a_name_gives_mtebs_settings_and_the_tables_are_the_data() -> None:
    named = table_task(replace(CLASSES, mteb_task="EmotionClassification"))
    assert named.task.samples_per_label == 16 and named.task.metadata.name == "EmotionClassification"
    assert named.task.metadata.dataset == {"path": "matryobench/mine", "revision": content_hash(CLASSES)}
    assert named.task.dataset["train"]["text"][:2] == ["text 0", "text 1"]
    assert table_task(replace(SEARCH, mteb_task="ArguAna")).task.ignore_identical_ids  # whatever exclude_own_id says
    assert table_task(replace(SEARCH, mteb_task="MSMARCO")).split == "dev"
    several = table_task(replace(CLASSES, mteb_task="AmazonCounterfactualClassification"))
    assert (several.split, several.subset, list(several.task.hf_subsets)) == ("test", "en", ["en"])
    assert list(several.task.dataset["en"]) == ["train", "test"]


def test_what_a_task_does_to_its_data_after_loading_is_done_to_the_tables() -> None:
    tables = replace(CLASSES, test=labelled(3000), mteb_task="ToxicConversationsClassification")
    toxic = table_task(tables)  # draws 2,048 of the test texts
    assert toxic.items == toxic.facts["test_texts"] == 2048 and toxic.facts["training_texts"] == 40
    assert isinstance(toxic.task.dataset["test"]["label"], list)
    with pytest.raises(
        InputError, match=r"^mine\.mteb_task: .* changes its data after loading, which fails on these tables"
    ):
        table_task(replace(CLASSES, mteb_task="ToxicChatClassification"))


@pytest.mark.parametrize(
    ("tables", "name", "sentence"),
    [
        (CLASSES, "Banking7Classification", "no task 'Banking7Classification'; did you mean Banking77Classification"),
        (CLASSES, "@", "knows no task '@'; Correct the name"),
        (CLASSES, "ArguAna", "mine.mteb_task: mteb's ArguAna is a Retrieval task and not one of classification; name"),
        (
            SEARCH,
            "STS12",
            "found.mteb_task: mteb's STS12 is a STS task and not one of retrieval; name one that is, or none.",
        ),
        (SEARCH, "CQADupstackRetrieval", "is a Retrieval task and not one of retrieval"),
        (CLASSES, "AfriSentiClassification", "and not one in English, which the tables could stand for"),
        (replace(CLASSES, test=labelled(1)), None, "mine.test: all 1 texts have the label '0'"),
        (replace(SEARCH, passages=SEARCH.passages.slice(1)), None, "found: 1 of 1 judgements name documents"),
    ],
)
def test_what_cannot_be_evaluated_is_one_sentence(
    tables: ClassificationTables | RetrievalTables, name: str | None, sentence: str
) -> None:
    with pytest.raises(InputError) as error:
        table_task(replace(tables, mteb_task=name))
    assert sentence in str(error.value) and "\n" not in str(error.value)


def test_a_wrong_name_is_found_when_the_test_texts_are_fetched(tmp_path: Path) -> None:
    plan = Plan.load(CONFIG / "demo.yaml")
    (name, *_) = plan.mteb.evaluate["classification"]
    entry = plan.classifications[name]
    plan.classifications[name] = replace(entry, mteb_task="Banking7Classification")
    with pytest.raises(InputError, match=rf"^{name}\.mteb_task: mteb .* knows no task 'Banking7Classification'"):
        fetch_data(plan, entry.test, tmp_path / "test.parquet")
    assert fetch_data(plan, entry.train, tmp_path / "train.parquet") > 0


def test_the_hash_of_tables_is_that_of_their_cells() -> None:
    assert content_hash(CLASSES) == content_hash(replace(CLASSES, name="other", mteb_task="X"))
    assert content_hash(CLASSES) != content_hash(replace(CLASSES, test=labelled(11)))
    shifted = pa.table({"text": ["ab", "c"], "label": ["1", "2"]})
    moved = pa.table({"text": ["a", "bc"], "label": ["1", "2"]})
    assert content_hash(replace(CLASSES, test=shifted)) != content_hash(replace(CLASSES, test=moved))


def test_metrics_have_this_programs_names() -> None:
    assert [metric_name(name) for name in ("accuracy", "ndcg_at_10", "f1")] == ["accuracy", "ndcg@10", "f1"]


def test_the_nearest_key_gives_the_instruction() -> None:
    given = {"classification": "C", "retrieval-query": "Q", "mine": "M", "found": "F", "found-query": "FQ"}
    assert instruction_of(given, "mine", "classification") == "M"
    assert instruction_of(given, "other", "classification") == "C"
    assert instruction_of(given, "found", "retrieval", "query") == "FQ"
    assert instruction_of(given, "found", "retrieval", "passage") == "F"
    assert instruction_of(given, "other", "retrieval", "query") == "Q"
    assert instruction_of(given, "other", "retrieval", "passage") is None


def test_instructions_are_for_what_is_evaluated_and_not_empty() -> None:
    sets = {"classification": ["mine"], "retrieval": ["found"]}
    check_instructions({"mine": "a", "found-passage": "b", "retrieval-passage": "c"}, sets, "mteb.instructions")
    with pytest.raises(InputError, match=r"^mteb\.instructions: unknown instruction key 'mine-query'; did you mean"):
        check_instructions({"mine-query": "a"}, sets, "mteb.instructions")
    with pytest.raises(InputError, match=r"^mteb\.instructions\.mine: the instruction is empty; write it, or remove"):
        check_instructions({"mine": " "}, sets, "mteb.instructions")


def test_instructions_of_the_command_line() -> None:
    assert given_instructions(["demo-events=a=b", "classification=c"], ["demo-events"]) == {
        "demo-events": "a=b",
        "classification": "c",
    }
    for options, reason in ((["nothing"], "has no '='"), (["classification=a", "classification=b"], "is given twice")):
        with pytest.raises(InputError, match=f"^--instruction: '{options[-1]}' {reason}; write KEY=TEXT"):
            given_instructions(options, ["demo-events"])

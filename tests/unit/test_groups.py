"""Training groups in Tevatron's form, as tables, files and tokens; corpora as tokens; agreement with the tevatron package."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import AutoTokenizer

from matryobench.data.group_tokens import GroupTokens, read_group_tokens, tokenise_groups, write_group_tokens
from matryobench.data.groups import groups_table, write_tevatron
from matryobench.data.prepare import tokenise_table
from matryobench.data.records import from_columns, read_records, read_table, write_table
from matryobench.data.specs import DatasetSpec
from matryobench.data.tokens import encode_texts, pieces, read_tokens, tokenise, tokenise_passages, write_tokens
from matryobench.errors import InputError


def spec(kind: str, **more: Any) -> DatasetSpec:
    base = {"description": "a tiny set for tests", "citation": "none", "licence": "none", "local": {"files": ["x"]}}
    return DatasetSpec.model_validate({"kind": kind} | base | more)


def passage(docid: str, text: str, title: str = "") -> dict[str, str]:
    return {"docid": docid, "title": title, "text": text}


ROWS = [
    {
        "query_id": "1",
        "query": "the dog",
        "positive_passages": [passage("p1", "a red dog", "Dogs")],
        "negative_passages": [passage("p2", "the cat"), passage("p3", "a house"), passage("p4", "“zürich”\u2028", "")],
    },
    {
        "query_id": "2",
        "query": "the man",
        "positive_passages": [passage("p5", "a man"), passage("p6", "a woman")],
        "negative_passages": [passage("p1", "a red dog", "Dogs")],
    },
    {
        "query_id": "3",
        "query": "the dog",
        "positive_passages": [passage("p2", "the cat")],
        "negative_passages": [passage("p3", "a house"), passage("p7", "a house")],
    },
]


def write(path: Path, rows: list[Any]) -> Path:
    text = "".join(json.dumps(row) + "\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


# --- tables and files ------------------------------------------------------------------------------------------------


def test_tevatrons_form_comes_back_the_same(tmp_path: Path) -> None:
    table = read_records([write(tmp_path / "a.jsonl", ROWS)], spec("groups", rows=3), "tiny")
    assert table.to_pylist() == ROWS and groups_table(ROWS).equals(table)
    for name in ("b.jsonl", "b.jsonl.gz"):
        write_tevatron(table, tmp_path / name)
        first = (tmp_path / name).read_bytes()
        assert read_records([tmp_path / name], spec("groups"), "tiny").equals(table)
        write_tevatron(table, tmp_path / name)
        assert (tmp_path / name).read_bytes() == first
    write_table(table, tmp_path / "a.parquet", {"kind": "groups"})
    assert read_table(tmp_path / "a.parquet")[0].equals(table)
    assert read_records([tmp_path / "a.parquet"], spec("groups"), "tiny").equals(table)


def test_titles_ids_and_negatives_may_be_missing_or_numbers(tmp_path: Path) -> None:
    row = {"query_id": 7, "query": "q", "positive_passages": [{"docid": 8, "text": "t", "title": None}], "extra": 1}
    path = write(tmp_path / "a.jsonl", [row, row | {"negative_passages": None}])
    want = {"query_id": "7", "query": "q", "positive_passages": [passage("8", "t")], "negative_passages": []}
    assert read_records([path], spec("groups"), "tiny").to_pylist() == [want, want]


BAD = [
    ({"positive_passages": []}, "'positive_passages' is empty; a group needs a positive passage, so remove the row."),
    ({"positive_passages": None}, "'positive_passages' is empty; a group needs a positive passage, so remove the row."),
    ({"positive_passages": ["a"]}, "'positive_passages' must be a list of passages, each with docid, title, text; correct"),
    ({"positive_passages": [passage("p", " ")]}, "the positive passage 'p' is empty; remove it."),
    ({"negative_passages": [{"docid": "p"}]}, "a passage of 'negative_passages' has no text; 'negative_passages' must be"),
    ({"negative_passages": [{"text": "t"}]}, "'docid' is empty; every row needs an id."),
    ({"negative_passages": [passage("p", "\ud800")]}, "'text' holds a broken \\u escape; correct the text."),
    ({"negative_passages": {"docid": "p"}}, "'negative_passages' must be a list of passages"),
    ({"query": " "}, "'query' is empty; remove the row."),
    ({"query_id": None}, "'query_id' is empty; every row needs an id."),
]  # fmt: skip


@pytest.mark.parametrize(("change", "sentence"), BAD)
def test_a_bad_group_is_named_by_its_line(tmp_path: Path, change: dict[str, Any], sentence: str) -> None:
    path = write(tmp_path / "a.jsonl", [ROWS[0], ROWS[1] | change])
    with pytest.raises(InputError) as caught:
        read_records([path], spec("groups"), "tiny")
    assert str(caught.value).startswith(f"{path} line 2: {sentence}") and str(caught.value).endswith(".")


# --- tokens of corpora and queries -----------------------------------------------------------------------------------


def fetched(path: Path, kind: str, values: dict[str, list[Any]]) -> Path:
    table = from_columns(values, "a test", spec(kind), "tiny")
    write_table(table, path, {"dataset": "tiny", "kind": kind, "rows": table.num_rows})
    return path


def test_a_corpus_has_one_text_per_row_in_the_tables_order(tiny_bert: Path, tmp_path: Path) -> None:
    values = {
        "_id": ["a", "b", "c", "d"],
        "title": ["the", "", "", "Red"],
        "text": ["red dog", "", "the red dog", "dog the cat not a man"],
    }
    table = fetched(tmp_path / "c.parquet", "passages", values)
    assert tokenise_table(table, tiny_bert, 6, tmp_path / "c.safetensors") == 4
    tokens = read_tokens(tmp_path / "c.safetensors")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    texts = ["Red dog the cat not a man", "the red dog", "", "the red dog"]
    assert [tokens.text(i).tolist() for i in range(4)] == [
        tokenizer(text, truncation=True, max_length=6)["input_ids"] for text in texts
    ]
    assert tokens.rows.tolist() == [[0], [1], [2], [3]] and tokens.text(2).tolist() == tokenizer("")["input_ids"]
    assert tokens.meta["max_length"] == 6 and tokens.meta["kind"] == "passages"
    asked = fetched(tmp_path / "q.parquet", "queries", {"_id": [2, 1], "text": ["the cat", "the cat"]})
    assert tokenise_table(asked, tiny_bert, 8, tmp_path / "q.safetensors") == 2
    assert read_tokens(tmp_path / "q.safetensors").rows.tolist() == [[0], [1]]


def test_pieces_do_not_change_tokens(tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    texts = ["a dog", "", "the red ball", "a dog", "man not woman runs"] * 5
    whole = tokenise_passages([texts], tokenizer, 5, {})
    for size in (1, 2, 7):
        for scratch in (None, tmp_path):
            parts = tokenise_passages([[], *pieces(texts, size)], tokenizer, 5, {}, scratch)
            assert torch.equal(parts.ids, whole.ids) and torch.equal(parts.offsets, whole.offsets)
            assert not list(tmp_path.iterdir())
    assert len(tokenise_passages([], tokenizer, 5, {}, tmp_path).ids) == 0
    distinct = tokenise({"text": texts}, tokenizer, 5, {})
    assert distinct.texts == 4
    assert [distinct.text(int(n)).tolist() for n in distinct.rows[:, 0]] == [whole.text(i).tolist() for i in range(25)]
    write_tokens(whole, tmp_path / "t")
    assert torch.equal(read_tokens(tmp_path / "t").ids, whole.ids)
    assert whole.ids.dtype == torch.int32 and whole.offsets.dtype == torch.int64


def test_tables_and_lengths_that_do_not_fit_are_refused(tiny_bert: Path, tmp_path: Path) -> None:
    judged = fetched(tmp_path / "j.parquet", "qrels", {"query-id": ["a"], "corpus-id": ["b"], "score": [1]})
    with pytest.raises(InputError, match="judgements have no texts to tokenise"):
        tokenise_table(judged, tiny_bert, 8, tmp_path / "x")
    corpus = fetched(tmp_path / "c.parquet", "passages", {"_id": ["a"], "text": ["b"]})
    with pytest.raises(InputError, match="this is a table of passages; leave the queries' maximum length out"):
        tokenise_table(corpus, tiny_bert, 8, tmp_path / "x", 4)
    write_table(groups_table(ROWS), tmp_path / "g.parquet", {"kind": "groups"})
    with pytest.raises(InputError, match="this is a table of groups; give the queries' maximum length too"):
        tokenise_table(tmp_path / "g.parquet", tiny_bert, 8, tmp_path / "x")
    tokenise_table(corpus, tiny_bert, 8, tmp_path / "c")
    with pytest.raises(InputError, match="this token file has no 'query_ids'; it is of another kind"):
        read_group_tokens(tmp_path / "c")
    with pytest.raises(InputError, match="there is no such token file"):
        read_group_tokens(tmp_path / "none")


# --- tokens of groups ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def groups(tiny_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> GroupTokens:
    folder = tmp_path_factory.mktemp("groups")
    write_table(groups_table(ROWS), folder / "g.parquet", {"dataset": "tiny", "kind": "groups", "rows": 3})
    assert tokenise_table(folder / "g.parquet", tiny_bert, 5, folder / "g", query_max_length=4) == 2 + 6
    return read_group_tokens(folder / "g")


def test_every_distinct_text_is_there_once(groups: GroupTokens, tiny_bert: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    assert (len(groups), groups.queries, groups.passages) == (3, 2, 6)
    assert groups.query_rows.tolist() == [0, 1, 0]
    # 0 "Dogs a red dog", 1 "the cat", 2 "a house", 3 the quoted word, 4 "a man", 5 "a woman"
    assert groups.positives.tolist() == [0, 4, 5, 1] and groups.positive_offsets.tolist() == [0, 1, 3, 4]
    assert groups.negatives.tolist() == [1, 2, 3, 0, 2] and groups.negative_offsets.tolist() == [0, 3, 4, 5]
    assert groups.query(1).tolist() == tokenizer("the man")["input_ids"]
    assert groups.passage(0).tolist() == tokenizer("Dogs a red dog", truncation=True, max_length=5)["input_ids"]
    assert (groups.meta["max_length"], groups.meta["query_max_length"], groups.meta["dataset"]) == (5, 4, "tiny")
    one_by_one = tokenise_groups([[row] for row in ROWS], tokenizer, 4, 5, groups.meta)
    write_group_tokens(one_by_one, tmp_path / "g")
    again = read_group_tokens(tmp_path / "g")
    for name in ("query_ids", "query_offsets", "passage_ids", "passage_offsets", "positives", "negatives"):
        assert torch.equal(getattr(again, name), getattr(groups, name))


def test_a_draw_is_a_positive_and_distinct_negatives_of_the_row(groups: GroupTokens) -> None:
    seen = set()
    for epoch in range(40):
        drawn = groups.passages_of([0, 1], 3, epoch, seed=5)
        assert drawn.shape == (2, 3) and drawn.dtype == torch.int64
        assert drawn[0, 0] == 0 and len(set(drawn[0, 1:].tolist())) == 2 and set(drawn[0, 1:].tolist()) <= {1, 2, 3}
        assert drawn[1, 0] in (4, 5) and drawn[1, 1:].tolist() == [0, 0]  # one negative only: with replacement
        seen.add((int(drawn[1, 0]), *drawn[0, 1:].tolist()))
    assert len(seen) == 12  # both positives x all ordered pairs of three negatives
    assert groups.passages_of([0, 2], 1, 0, 5).tolist() == [[0], [1]]


def test_a_draw_depends_on_seed_epoch_and_row_alone(groups: GroupTokens) -> None:
    state = random.getstate(), np.random.get_state()[1].tolist()
    together = groups.passages_of([2, 0, 1], 3, 4, 9)
    assert torch.equal(together[1:2], groups.passages_of([0], 3, 4, 9))
    assert torch.equal(groups.passages_of([1, 0, 2], 3, 4, 9), together[[2, 1, 0]])
    draws = {tuple(groups.passages_of([0], 4, e, s)[0].tolist()) for e in range(5) for s in range(5)}
    assert len(draws) == 6  # all orders of three negatives
    assert (random.getstate(), np.random.get_state()[1].tolist()) == state


def test_draws_are_uniform(tiny_bert: Path) -> None:
    row = ROWS[0] | {
        "positive_passages": [passage("a", "a"), passage("b", "b")],
        "negative_passages": [passage(word, word) for word in ("dog", "cat", "man", "woman")],
    }
    tokens = tokenise_groups([[row]], AutoTokenizer.from_pretrained(tiny_bert), 8, 8, {})
    drawn = torch.cat([tokens.passages_of([0], 3, epoch, 0) for epoch in range(1200)])
    positives = torch.bincount(drawn[:, 0], minlength=2)[:2]
    negatives = torch.bincount(drawn[:, 1:].reshape(-1), minlength=6)[2:]
    # four standard deviations of a binomial count
    assert (positives - 600).abs().max() < 4 * (1200 * 0.25) ** 0.5
    assert (negatives - 600).abs().max() < 4 * (1200 * 0.25) ** 0.5


def test_a_row_without_negatives_is_refused_when_it_needs_some(tiny_bert: Path) -> None:
    rows = [ROWS[0], ROWS[1] | {"negative_passages": []}]
    tokens = tokenise_groups([rows], AutoTokenizer.from_pretrained(tiny_bert), 8, 8, {"dataset": "tiny"})
    assert tokens.passages_of([1], 1, 0, 0).shape == (1, 1)
    with pytest.raises(InputError, match="^tiny row 2: it has no negative passage and group_size is 2; mine negatives"):
        tokens.passages_of([0, 1], 2, 0, 0)


def test_known_positives_are_those_of_the_query_in_any_row(groups: GroupTokens) -> None:
    passages = torch.tensor([[0, 1], [4, 0], [1, 5]])
    known = groups.known_positives([0, 1, 2], passages)
    # "the dog" (rows 0 and 2) has the positives 0 and 1, "the man" has 4 and 5
    assert known.tolist() == [
        [False, True, False, True, True, False],
        [False, False, False, False, False, True],
        [True, True, False, True, False, False],
    ]


@settings(max_examples=60)
@given(data=st.data())
def test_known_positives_equal_a_search_by_hand(data: st.DataObject) -> None:
    passages, rows, queries = 7, data.draw(st.integers(1, 6)), 3
    lists = [
        data.draw(st.lists(st.integers(0, passages - 1), min_size=1, max_size=3, unique=True)) for _ in range(rows)
    ]
    asked = data.draw(st.lists(st.integers(0, queries - 1), min_size=rows, max_size=rows))
    offsets = torch.tensor([0, *np.cumsum([len(one) for one in lists]).tolist()])
    flat = torch.tensor([n for one in lists for n in one], dtype=torch.int32)
    nothing = torch.zeros(0, dtype=torch.int32)
    tokens = GroupTokens(
        nothing, torch.zeros(queries + 1, dtype=torch.int64), nothing, torch.zeros(passages + 1, dtype=torch.int64),
        torch.tensor(asked, dtype=torch.int32), flat, offsets, nothing, torch.zeros(rows + 1, dtype=torch.int64),
    )  # fmt: skip
    batch = data.draw(st.lists(st.integers(0, rows - 1), min_size=1, max_size=4))
    size = data.draw(st.integers(1, 3))
    drawn = data.draw(
        st.lists(
            st.lists(st.integers(0, passages - 1), min_size=size, max_size=size),
            min_size=len(batch),
            max_size=len(batch),
        )
    )
    known = tokens.known_positives(batch, torch.tensor(drawn))
    assert known.shape == (len(batch), len(batch) * size)
    for i, row in enumerate(batch):
        relevant = {n for other in range(rows) if asked[other] == asked[row] for n in lists[other]}
        for at, number in enumerate(n for one in drawn for n in one):
            assert bool(known[i, at]) == (number in relevant and at != i * size)


# --- the tevatron package --------------------------------------------------------------------------------------------


class WithEncodePlus:
    """Tevatron 0.1.0 calls `encode_plus` with token ids, which transformers 5 no longer has; what it did with them."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def encode_plus(self, ids: list[int], max_length: int, **_: Any) -> dict[str, list[int]]:
        cls, sep = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        return {"input_ids": [cls, *ids[: max_length - 2], sep]}


def test_texts_and_drawing_agree_with_tevatron(tiny_bert: Path) -> None:
    data = pytest.importorskip("tevatron.data")
    preprocessor = pytest.importorskip("tevatron.datasets.preprocessor")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    query_length, length, size = 4, 6, 3
    ours = tokenise_groups([ROWS], tokenizer, query_length, length, {})
    theirs = preprocessor.TrainPreProcessor(tokenizer, query_length, length)
    rows = [theirs(row) for row in ROWS]
    arguments = SimpleNamespace(
        q_max_len=query_length, p_max_len=length, train_n_passages=size, positive_passage_no_shuffle=False,
        negative_passage_no_shuffle=False,
    )  # fmt: skip
    for epoch in range(6):
        trainer = SimpleNamespace(state=SimpleNamespace(epoch=float(epoch)), args=SimpleNamespace(seed=3))
        reference = data.TrainDataset(arguments, rows, WithEncodePlus(tokenizer), trainer)
        for row in range(len(ROWS)):
            query, passages = reference[row]
            assert ours.query(row).tolist() == query["input_ids"]
            drawn = [ours.passage(int(number)).tolist() for number in ours.passages_of([row], size, epoch, 3)[0]]
            found = [one["input_ids"] for one in passages]
            # The generators differ, so the draws do; the rule is the same: one of the positives first, then as many
            # negatives as asked for, each at most once where the row has enough of them.
            assert len(drawn) == len(found) == size
            listed = {
                side: [ours.passage(int(n)).tolist() for n in ours._row(values, offsets, row)]
                for side, values, offsets in (
                    ("positive", ours.positives, ours.positive_offsets),
                    ("negative", ours.negatives, ours.negative_offsets),
                )
            }
            for group in (drawn, found):
                assert group[0] in listed["positive"] and all(one in listed["negative"] for one in group[1:])
            if len(ROWS[row]["negative_passages"]) >= size - 1 and len(listed["negative"]) >= size - 1:
                assert len({tuple(one) for one in drawn[1:]}) == len({tuple(one) for one in found[1:]}) == size - 1


def test_the_passage_text_is_tevatrons_for_any_title_and_text(tiny_bert: Path) -> None:
    preprocessor = pytest.importorskip("tevatron.datasets.preprocessor")
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    passages = [passage(str(n), text, title) for n, (title, text) in enumerate(
        [("", "a dog"), ("the", ""), (" red ", " ball "), ("", ""), ("not a man", "a woman the house")]
    )]  # fmt: skip
    row = ROWS[0] | {"negative_passages": passages}
    theirs = preprocessor.TrainPreProcessor(tokenizer, 8, 16)(row)["negatives"]
    ours = tokenise_groups([[row]], tokenizer, 8, 16, {})
    for ids, number in zip(theirs, ours.negatives.tolist(), strict=True):
        assert ours.passage(number).tolist()[1:-1] == ids
    ids, offsets = encode_texts([["a dog"]], tokenizer, 8)
    assert ids[int(offsets[0]) : int(offsets[1])].tolist() == tokenizer("a dog")["input_ids"]

"""Rows with instructions: MEDI's forms, rows composed of other entries, tokens that pooling leaves out, INSTRUCTOR's loss."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from matryobench.data import demo_world, json_lists, readers
from matryobench.data.composing import compose
from matryobench.data.instructed_tokens import encode_pairs, tokenise_instructed
from matryobench.data.prepare import tokenise_table
from matryobench.data.records import from_columns, read_records, write_table
from matryobench.data.registry import DatasetSpec, load_datasets, mined_inputs
from matryobench.data.specs import COLUMNS
from matryobench.data.tokens import Tokens, read_tokens, write_tokens
from matryobench.errors import InputError
from matryobench.models.encoder import Encoder
from matryobench.models.folders import load_encoder, load_tokenizer
from matryobench.objectives.base import base_terms, instructor
from matryobench.objectives.objective import Objective
from matryobench.objectives.recipe import InstructorLoss
from matryobench.objectives.registry import load_methods
from matryobench.training.module import AllLayers
from matryobench.training.sts import StsTraining

FACTS = {"description": "rows of a test", "citation": "none", "licence": "none"}
SPEC = DatasetSpec.model_validate({"kind": "instructed", **FACTS, "local": {"files": ["rows.json"]}})
ASK, SAY = "Represent the question for retrieval:", "Represent the passage:"
MEDI = [
    {"query": [ASK, "who runs?"], "pos": [SAY, "the dog runs"], "neg": [SAY, "a red ball"], "task_name": "nq"},
    {"query": [ASK, "what \u2028 [is]{red}"], "pos": [SAY, 'the "ball"é'], "neg": [SAY, "the dog runs"], "task_name": "qa"},
]  # fmt: skip
ROW = {
    "query_instruction": ASK, "query": "who runs?", "positive_instruction": SAY, "positive": "the dog runs",
    "negative_instruction": SAY, "negative": "a red ball", "subset": "nq",
}  # fmt: skip


def written(path: Path, content: Any) -> Path:
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def jsonl(rows: list[Any]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


# --- reading ---------------------------------------------------------------------------------------------------------


def test_medis_list_lines_and_flat_or_nested_copies_are_one_table(tmp_path: Path) -> None:
    flat = [
        {
            **{key: row[key][1] for key in ("query", "pos", "neg")},
            **{f"{key}_instruct": row[key][0] for key in ("query", "pos", "neg")},
            "task_name": row["task_name"],
        }
        for row in MEDI
    ]
    pq.write_table(pa.Table.from_pylist(MEDI), tmp_path / "nested.parquet")
    pq.write_table(pa.Table.from_pylist(flat), tmp_path / "flat.parquet")
    files = [
        written(tmp_path / "a.json", MEDI),
        written(tmp_path / "b.json", json.dumps(MEDI, indent=2, ensure_ascii=False)),
        written(tmp_path / "c.json.gz", gzip.compress(b"\xef\xbb\xbf" + json.dumps(MEDI).encode())),
        written(tmp_path / "d.jsonl", jsonl(MEDI)),
        written(tmp_path / "e.jsonl", jsonl(flat)),
        tmp_path / "nested.parquet",
        tmp_path / "flat.parquet",
    ]
    tables = [read_records([file], SPEC, "medi") for file in files]
    assert tables[0].slice(0, 1).to_pylist() == [ROW]
    assert tables[0].column_names == [*COLUMNS["instructed"], "subset"]
    assert all(table.to_pydict() == tables[0].to_pydict() for table in tables)
    together = read_records(files, SPEC, "medi")
    assert together.num_rows == 2 * len(files)


def test_a_text_that_is_a_number_is_written_out_as_the_released_script_does(tmp_path: Path) -> None:
    file = written(tmp_path / "a.json", [{**MEDI[0], "pos": [SAY, 7], "neg": [SAY, 2.5]}])
    row = read_records([file], SPEC, "medi").to_pylist()[0]
    assert (row["positive"], row["negative"]) == ("7", "2.5")


@pytest.mark.parametrize("ending", ["json", "jsonl"])
@pytest.mark.parametrize(
    ("row", "sentence"),
    [
        ({"query": ["", "a"]}, "2: 'query_instruction' is empty; write an instruction, or use triplets for texts without one."),
        ({"pos": [" ", "a"]}, "2: 'positive_instruction' is empty; write an instruction"),
        ({"neg": [SAY, " "]}, "2: 'negative' is empty; remove the row."),
        ({"neg": None}, "2: there is no 'neg'; a row needs query, pos, neg, each [instruction, text]."),
        ({"query": [ASK]}, "2: 'query' must be [instruction, text] and is ['Represent the question for retrieval:']; correct"),
        ({"pos": [SAY, "a", "b"]}, "2: 'pos' must be [instruction, text] and is ["),
        ({"pos": "the dog runs"}, "2: 'pos' must be [instruction, text] and is 'the dog runs'; correct the row."),
        ({"pos": [SAY, True]}, "2: 'pos' must be [instruction, text] and is ["),
        ({"neg": [5, "a"]}, "2: 'neg' must be [instruction, text] and is [5, 'a']; correct the row."),
    ],
)  # fmt: skip
def test_a_bad_row_is_named(tmp_path: Path, ending: str, row: dict[str, Any], sentence: str) -> None:
    rows = [MEDI[0], {**MEDI[0], **row}, MEDI[1]]
    file = written(tmp_path / f"a.{ending}", rows if ending == "json" else jsonl(rows))
    with pytest.raises(InputError) as error:
        read_records([file], SPEC, "medi")
    assert str(error.value).startswith(f"{file} {'row' if ending == 'json' else 'line'} {sentence}")


def test_missing_text_never_fills_an_instruction(tmp_path: Path) -> None:
    spec = SPEC.model_copy(update={"missing_text": " "})
    rows = [{key: value for key, value in ROW.items() if key != "query_instruction"} | {"query_instruction": None}]
    with pytest.raises(InputError, match="line 1: 'query_instruction' is empty"):
        read_records([written(tmp_path / "a.jsonl", jsonl(rows))], spec, "flat")


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(max_size=6), lambda x: st.lists(x, max_size=3))


@given(
    st.lists(st.dictionaries(st.text(max_size=4), JSON, max_size=4), max_size=5),
    st.sampled_from([None, 1]),
    st.booleans(),
    st.sampled_from(["", " \n"]),
    st.integers(1, 40),
)
@settings(max_examples=50)
def test_a_streamed_list_is_what_json_reads(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[dict[str, Any]],
    indent: int | None,
    escaped: bool,
    space: str,
    piece: int,
) -> None:
    file = tmp_path_factory.getbasetemp() / "streamed.json"
    text = space + json.dumps(rows, indent=indent, ensure_ascii=escaped) + space
    file.write_bytes(text.encode("utf-8", "surrogatepass") if escaped else text.encode("utf-8", "replace"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lists, "_PIECE", piece)
        assert list(json_lists.list_rows(file)) == json.loads(file.read_bytes())


def test_a_list_is_never_read_as_a_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: Path) -> Any:
        raise AssertionError("MEDI is one line of 2.5 GB")

    monkeypatch.setattr(readers, "_lines", refused)
    assert read_records([written(tmp_path / "a.json", MEDI)], SPEC, "medi").num_rows == 2


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ('[{"a": 1},\n {"a": 2,}]', " row 2 (line 2): this is not a valid JSON list of objects ("),
        ('[{"a": 1} {"a": 2}]', " row 1 (line 1): this is not a valid JSON list of objects (] or a comma is missing)"),
        ('[{"a": 1}, 5]', " row 2 (line 1): this is not a valid JSON list of objects (an object is needed)"),
        ('[{"a": 1}, {"a": "x', " row 2 (line 1): this is not a valid JSON list of objects (Unterminated string"),
        ('[{"a": 1},\n', " row 2 (line 2): this is not a valid JSON list of objects (an object is needed)"),
        ('[{"a": 1}] [', ": there is more after the list that ends with row 1; remove it."),
        (b'[{"a": "\xff"}]', ": after 0 bytes this is not UTF-8 (byte 0xff); save it as UTF-8."),
    ],
)
def test_a_broken_list_is_named(tmp_path: Path, content: str | bytes, sentence: str) -> None:
    file = written(tmp_path / "a.json", content)
    with pytest.raises(InputError) as error:
        list(json_lists.list_rows(file))
    assert str(error.value).startswith(f"{file}{sentence}")


def test_a_list_cut_short_in_its_archive_is_named(tmp_path: Path) -> None:
    noise = [{"a": str(np.random.default_rng(0).integers(1 << 60, size=9))} for _ in range(50)]
    file = written(tmp_path / "a.json.gz", gzip.compress(json.dumps(noise).encode())[:-20])
    with pytest.raises(InputError, match=r"a\.json\.gz: after \d+ bytes the compressed file is damaged or cut short"):
        list(json_lists.list_rows(file))


# --- composing -------------------------------------------------------------------------------------------------------

GROUPS = [
    {
        "query_id": f"{part}:q{number}",
        "query": f"{part} query {number}",
        "positive_passages": [
            {"docid": f"p{number}{i}", "title": "T", "text": f"{part} answer {number} {i}"} for i in range(3)
        ],
        "negative_passages": [{"docid": f"n{number}{i}", "title": "", "text": f"{part} other {number} {i}"} for i in range(2)],
    }
    for part in ("pairs", "pairs-too")
    for number in range(6)
]  # fmt: skip
TRIPLETS = {column: [f"{column} {number}" for number in range(2_500)] for column in COLUMNS["triplets"]}


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tables")
    specs = {kind: SPEC.model_copy(update={"kind": kind}) for kind in ("triplets", "groups")}
    columns = {key: [group[key] for group in GROUPS] for key in COLUMNS["groups"]}
    for name, values in {"triplets": TRIPLETS, "groups": columns}.items():
        table = from_columns(values, name, specs[name], name)
        write_table(table, folder / f"{name}.parquet", {"kind": name, "rows": table.num_rows})
    return {name: folder / f"{name}.parquet" for name in specs}


def composed(*parts: dict[str, Any], rows: int | None = None) -> DatasetSpec:
    entry = {"kind": "instructed", **FACTS, "rows": rows, "composed": {"parts": list(parts), "seed": 3}}
    return DatasetSpec.model_validate(entry)


ASKED = {"query_instruction": ASK, "passage_instruction": SAY}


def test_triplets_and_groups_become_instructed_rows(tables: dict[str, Path]) -> None:
    spec = composed(
        {"triplets": "triplets", **ASKED, "limit": 1_000},
        {"groups": "groups", "mined_from": "pairs", **ASKED},
        rows=1_006,
    )
    table, facts = compose(spec, tables)
    again, _ = compose(spec, tables)
    assert table.equals(again)
    rows = table.to_pylist()
    assert facts == {
        "seed": 3,
        "parts": [
            {"part": "triplets", "subset": "triplets", "rows": 1_000},
            {"part": "groups", "subset": "pairs", "rows": 6},
        ],
    }
    numbers = [int(row["query"].removeprefix("anchor ")) for row in rows[:1_000]]
    assert numbers == sorted(set(numbers)) and max(numbers) > 2_000
    for row, number in zip(rows, numbers, strict=False):
        assert (row["positive"], row["negative"]) == (f"positive {number}", f"negative {number}")
        assert row["subset"] == "triplets"
    assert {row["query_instruction"] for row in rows} == {ASK}
    assert {row[f"{side}_instruction"] for row in rows for side in ("positive", "negative")} == {SAY}
    for number, row in enumerate(rows[1_000:]):
        assert row["query"] == f"pairs query {number}" and row["subset"] == "pairs"
        assert row["positive"] in [f"T pairs answer {number} {i}" for i in range(3)]
        assert row["negative"] in [f"pairs other {number} {i}" for i in range(2)]


def test_several_rows_per_query_have_different_positives(tables: dict[str, Path]) -> None:
    table, _ = compose(composed({"groups": "groups", **ASKED, "per_query": 9, "limit": 5}), tables)
    assert table.num_rows == 15 and len(set(table["positive"].to_pylist())) == 15
    assert len(set(table["query"].to_pylist())) == 5
    pairs, _ = compose(composed({"groups": "groups", **ASKED, "per_query": 2}), tables)
    assert pairs.num_rows == 24 and len(set(pairs["negative"].to_pylist())) == 24  # two negatives suffice for two rows


def test_a_group_without_negative_and_a_wrong_number_of_rows_are_named(tables: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="12 rows were made and the entry says rows: 5; its parts have changed"):
        compose(composed({"groups": "groups", **ASKED}, rows=5), tables)
    groups = [{**GROUPS[0], "negative_passages": []}]
    table = from_columns(
        {key: [g[key] for g in groups] for key in groups[0]}, "x", SPEC.model_copy(update={"kind": "groups"}), "x"
    )
    write_table(table, tmp_path / "bare.parquet", {"rows": 1})
    with pytest.raises(InputError, match=r"bare\.parquet: the group 'pairs:q0' has no negative passage; mine some"):
        compose(composed({"groups": "bare", **ASKED}), {"bare": tmp_path / "bare.parquet"})


PARTS = {"triplets": {"kind": "triplets", **FACTS, "local": {"files": ["t.jsonl"]}}}
PARTS["groups"] = {"kind": "groups", **FACTS, "mined": {"parts": [{"triplets": "triplets"}]}}


@pytest.mark.parametrize(
    ("part", "sentence"),
    [
        ({"triplets": "triplet", **ASKED}, "mine.composed.parts.0.triplets: unknown data set 'triplet'; did you mean triplets"),
        ({"triplets": "groups", **ASKED}, "'groups' has groups; name an entry of kind triplets."),
        ({"groups": "triplets", **ASKED}, "'triplets' has triplets; name an entry of kind groups."),
        ({"groups": "groups", "mined_from": "triplet", **ASKED}, "mined_from: unknown part 'triplet'; did you mean triplets"),
        ({"triplets": "triplets", "groups": "groups", **ASKED}, "a part names one of triplets and groups; give exactly one"),
        ({"triplets": "triplets", "per_query": 2, **ASKED}, "mined_from and per_query are about groups"),
        ({"triplets": "triplets", **ASKED, "query_instruction": " "}, "query_instruction"),
    ],
)  # fmt: skip
def test_a_composed_entry_is_checked_before_anything_is_read(
    tmp_path: Path, part: dict[str, Any], sentence: str
) -> None:
    entry = {"kind": "instructed", **FACTS, "composed": {"parts": [part]}}
    path = tmp_path / "datasets.yaml"
    path.write_text(yaml.safe_dump({**PARTS, "mine": entry}), encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_datasets(path)
    assert sentence in str(error.value)


def test_a_composed_entry_names_all_that_it_is_made_from(tmp_path: Path) -> None:
    part = {"groups": "groups", "mined_from": "triplets", **ASKED}
    path = tmp_path / "datasets.yaml"
    entry = {"kind": "instructed", **FACTS, "composed": {"parts": [part]}}
    path.write_text(yaml.safe_dump({**PARTS, "mine": entry}), encoding="utf-8")
    specs = load_datasets(path)
    assert mined_inputs(specs["mine"]) == ["triplets", "groups"]
    assert "composed" not in specs["triplets"].model_dump(mode="json")  # or every fetched table would be stale


# --- tokens ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=["wordpiece", "byte-bpe", "byte-bpe, offsets with spaces"])
def tokenizer(request: pytest.FixtureRequest, minilm: Path) -> Any:
    """MiniLM's WordPiece, and byte-level BPE with RoBERTa's special tokens."""
    if request.param == "wordpiece":
        return load_tokenizer(minilm)
    from tokenizers import Tokenizer, models, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.BPE())
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=["<s>", "<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )  # fmt: skip
    words.train_from_iterator([f"{ASK} the dog runs after a red ball", f"{SAY} who sees the cat?"] * 5, trainer)
    trim = request.param == "byte-bpe"
    words.post_processor = processors.RobertaProcessing(
        ("</s>", 2), ("<s>", 0), trim_offsets=trim, add_prefix_space=False
    )
    return PreTrainedTokenizerFast(tokenizer_object=words, pad_token="<pad>")


@given(
    st.text(st.characters(codec="utf-8", categories=("L", "M", "N", "P", "S", "Z")), min_size=1, max_size=25),
    st.sampled_from([ASK, SAY, "Query", "Represent it; Input: ", "  Übersetze das:"]),
)
@settings(max_examples=120)
def test_the_leading_tokens_are_the_instructions_own(tokenizer: Any, text: str, instruction: str) -> None:
    ((ids,), (skip,)) = encode_pairs([(instruction, text)], tokenizer, 512, "here")
    alone = tokenizer(instruction.strip())["input_ids"]
    assert ids == tokenizer(f"{instruction.strip()} {text.strip()}")["input_ids"]
    assert skip == len(alone) - 1 and ids[:skip] == alone[:-1]


def test_truncation_cuts_the_text_only(tokenizer: Any) -> None:
    own = len(tokenizer(SAY)["input_ids"]) - 1
    long = "the red ball " * 40
    for room in (1, 5):
        ((ids,), (skip,)) = encode_pairs([(SAY, long)], tokenizer, own + room + 1, "here")
        assert (len(ids), skip) == (own + room + 1, own)
        assert ids[-1] == tokenizer(SAY)["input_ids"][-1]
    for length in (own + 1, own, 4):
        with pytest.raises(
            InputError, match=rf"^here: an instruction leaves no room for text in {length} tokens \('Repr"
        ):
            encode_pairs([(SAY, long)], tokenizer, length, "here")


def test_without_instruction_nothing_is_left_out_and_an_empty_text_pools_the_closing_token(tokenizer: Any) -> None:
    ids, skips = encode_pairs([("", " a dog"), (SAY, ""), (SAY, " ")], tokenizer, 64, "here")
    assert (
        ids == [tokenizer(text)["input_ids"] for text in (" a dog", SAY, SAY)]
        or ids[0] == tokenizer(" a dog")["input_ids"]
    )
    assert skips[0] == 0
    assert skips[1:] == [len(tokenizer(SAY)["input_ids"]) - 1] * 2


def instructed_columns(rows: list[dict[str, Any]]) -> dict[str, list[str]]:
    table = {key: [] for key in (*COLUMNS["instructed"], "subset")}
    for row in rows:
        for key, side in (("query", "query"), ("pos", "positive"), ("neg", "negative")):
            table[f"{side}_instruction"].append(row[key][0])
            table[side].append(row[key][1])
        table["subset"].append(row["task_name"])
    return table


def test_every_distinct_pair_is_stored_once_whatever_the_batches(tmp_path: Path, minilm: Path) -> None:
    rows = [*MEDI, {**MEDI[0], "query": [SAY, "who runs?"]}, MEDI[0]]
    columns, tokenizer = instructed_columns(rows), load_tokenizer(minilm)
    whole = tokenise_instructed([columns], tokenizer, 32, {"dataset": "x"}, "here")
    halves = [{key: values[part] for key, values in columns.items()} for part in (slice(0, 3), slice(3, 4))]
    for tokens in (whole, tokenise_instructed(halves, tokenizer, 32, {"dataset": "x"}, "here")):
        assert tokens.texts == 6  # "who runs?" under two instructions, "the dog runs" and the like once
        assert tokens.rows.tolist() == [[0, 1, 2], [3, 4, 1], [5, 1, 2], [0, 1, 2]]
        assert tokens.subsets is not None and tokens.subsets.tolist() == [0, 1, 0, 0]
        assert tokens.meta == {
            "dataset": "x", "columns": ["query", "positive", "negative"], "max_length": 32, "subsets": ["nq", "qa"],
        }  # fmt: skip
    assert whole.skips is not None
    assert tokenizer.decode(whole.text(5)[whole.skips[5] :]) == "who runs? [SEP]"
    write_tokens(whole, tmp_path / "tokens.safetensors")
    back = read_tokens(tmp_path / "tokens.safetensors")
    for name in ("ids", "offsets", "rows", "skips", "subsets"):
        assert torch.equal(getattr(back, name), getattr(whole, name)), name
    assert back.scores is None and back.meta == whole.meta


def test_a_fetched_table_is_tokenised(tmp_path: Path, minilm: Path) -> None:
    table = from_columns(demo_world.table("instructed"), "demo", SPEC, "demo")
    write_table(table, tmp_path / "demo.parquet", {"kind": "instructed", "dataset": "demo", "rows": table.num_rows})
    count = tokenise_table(tmp_path / "demo.parquet", minilm, 64, tmp_path / "tokens.safetensors")
    tokens = read_tokens(tmp_path / "tokens.safetensors")
    assert tokens.texts == count and tokens.rows.shape == (2_709, 3)
    assert tokens.meta["subsets"] == ["sentences", "questions"]
    assert tokens.skips is not None and set(tokens.skips.tolist()) == {5}  # [CLS] represent the sentence :
    with pytest.raises(InputError, match=r"demo\.parquet: an instruction leaves no room for text in 6 tokens"):
        tokenise_table(tmp_path / "demo.parquet", minilm, 6, tmp_path / "short.safetensors")
    assert not (tmp_path / "short.safetensors").exists()


def test_demo_rows_are_of_training_only_and_their_answers_answer() -> None:
    rows, world = demo_world.table("instructed"), {name: demo_world.table(name) for name in ("passages", "train-qrels")}
    assert len(set(rows["query_instruction"] + rows["positive_instruction"])) == 3
    titled = zip(*(world["passages"][key] for key in ("_id", "title", "text")), strict=True)
    number = {f"{title} {text}": name for name, title, text in titled}
    questions = [at for at, subset in enumerate(rows["subset"]) if subset == "questions"]
    asked = dict(zip(demo_world.table("train-queries")["text"], demo_world.table("train-queries")["_id"], strict=True))
    judged = world["train-qrels"]
    grades = {(q, d): grade for q, d, grade in zip(judged["query_id"], judged["doc_id"], judged["score"], strict=True)}
    training = set(judged["doc_id"])
    near = 0
    for at in questions:
        query, positive, negative = asked[rows["query"][at]], number[rows["positive"][at]], number[rows["negative"][at]]
        assert grades[query, positive] == 2 and grades.get((query, negative), 0) < 2
        assert {positive, negative} <= training
        near += (query, negative) in grades
    assert near > len(questions) / 2
    assert not set(rows["query"]) & set(demo_world.table("test-queries")["text"])


# --- pooling ---------------------------------------------------------------------------------------------------------


def sequences() -> tuple[list[torch.Tensor], torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    texts = [torch.randint(5, 20, (size,), generator=generator, dtype=torch.int32) for size in (9, 3, 12, 5, 7)]
    return texts, torch.tensor([4, 0, 11, 1, 2], dtype=torch.int32)


def test_the_mean_is_over_what_follows_the_skipped_tokens_which_attention_still_sees(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts, skips = sequences()
    with torch.no_grad():
        pooled = encoder.embed(texts, [0, 2, 4], 20, skips=skips)
        for number, (text, skip) in enumerate(zip(texts, skips.tolist(), strict=True)):
            states = encoder.backbone(input_ids=text[None].long(), output_hidden_states=True).hidden_states
            expected = torch.stack([states[layer][0, skip:].mean(dim=0) for layer in (0, 2, 4)])
            assert (pooled[:, number] - expected).abs().max() < 1e-5


def test_without_skips_and_with_none_left_out_every_bit_is_the_same(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "mean").eval()
    texts, _ = sequences()
    padded = torch.nn.utils.rnn.pad_sequence(texts, batch_first=True).long()
    mask = torch.tensor([[float(at < len(text)) for at in range(padded.shape[1])] for text in texts])
    with torch.no_grad():
        plain = encoder.embed(texts, [1, 4], 1_000)
        assert torch.equal(plain, encoder.embed(texts, [1, 4], 1_000, skips=[0] * 5))
        states = encoder.backbone(input_ids=padded, attention_mask=mask.long(), output_hidden_states=True).hidden_states
        for position, layer in enumerate((1, 4)):  # the pooling as it was before there were skips
            weights = mask.unsqueeze(-1)
            before = (states[layer] * weights).sum(dim=1) / weights.sum(dim=1)
            assert torch.equal(encoder(padded, mask.long(), [layer])[0], before)
            assert (plain[position] - before).abs().max() < 1e-6


def test_pooling_by_the_first_token_does_not_see_the_skips(tiny_bert: Path) -> None:
    encoder = load_encoder(tiny_bert, "cls").eval()
    texts, skips = sequences()
    with torch.no_grad():
        assert torch.equal(encoder.embed(texts, [2, 4], 20, skips=skips), encoder.embed(texts, [2, 4], 20))


def test_a_text_that_is_skipped_to_its_end_is_refused(tiny_bert: Path) -> None:
    encoder, (texts, _) = load_encoder(tiny_bert, "mean"), sequences()
    with pytest.raises(ValueError, match="at least one token must be pooled"):
        encoder.embed(texts, [4], 20, skips=[0, 3, 0, 0, 0])


def test_caching_gradients_changes_none_of_them(tiny_bert: Path) -> None:
    texts, skips = sequences()
    gradients = []
    for cached in (False, True):
        module = AllLayers(load_encoder(tiny_bert, "mean").eval(), 20, cached)
        module(texts, [2, 4], skips).square().sum().backward()
        gradients.append([p.grad.clone() for p in module.parameters() if p.grad is not None])
    assert len(gradients[0]) == len(gradients[1])
    assert all((a - b).abs().max() < 1e-5 for a, b in zip(*gradients, strict=True))


def test_sentence_transformers_leaves_the_same_tokens_out(minilm: Path) -> None:
    from sentence_transformers import SentenceTransformer

    texts = ["The stomata of a leaf open at dawn.", "why is the sky blue?", "42", "Émile Zola's trial; " * 60]
    library = SentenceTransformer(str(minilm), device="cpu")
    library.set_pooling_include_prompt(False)
    library.max_seq_length = 64
    tokenizer, encoder = load_tokenizer(minilm), load_encoder(minilm, "mean").eval()
    for instruction in (
        "Represent the Science sentence for retrieval:",
        "Represent the question for retrieving answers; Input:",
    ):
        ids, skips = encode_pairs([(instruction, text) for text in texts], tokenizer, 64, "here")
        with torch.no_grad():
            ours = encoder.embed([torch.tensor(tokens) for tokens in ids], [6], 4_000, skips=skips)[0]
        ours = torch.nn.functional.normalize(ours, dim=-1).numpy()  # MiniLM's folder ends so
        theirs = library.encode(texts, prompt=f"{instruction} ")
        assert np.abs(ours - theirs).max() < 1e-6
        assert np.abs(ours - library.encode(texts)).max() > 1e-2  # the instruction does matter


# --- loss and training -----------------------------------------------------------------------------------------------


def test_the_instructor_loss_is_the_released_sums() -> None:
    generator = torch.Generator().manual_seed(1)
    columns = [torch.randn(5, 8, generator=generator, dtype=torch.float64) for _ in range(3)]
    query, positive, negative = (column.numpy() for column in columns)

    def similarity(a: np.ndarray, b: np.ndarray) -> float:
        return float(a @ b / math.sqrt(a @ a) / math.sqrt(b @ b)) / 0.07

    forward = reverse = 0.0
    for i in range(5):
        own = similarity(query[i], positive[i])
        against = [own, *(similarity(query[i], negative[j]) for j in range(5))]
        back = [own, *(similarity(positive[i], query[j]) for j in range(5) if j != i)]
        forward += (math.log(sum(map(math.exp, against))) - own) / 5
        reverse += (math.log(sum(map(math.exp, back))) - own) / 5
    terms = base_terms(columns, None, InstructorLoss(loss="instructor", temperature=0.07))
    assert list(terms) == ["instructor", "instructor-reverse"]
    assert float(terms["instructor"]) == pytest.approx(forward, abs=1e-12)
    assert float(terms["instructor-reverse"]) == pytest.approx(reverse, abs=1e-12)
    assert InstructorLoss(loss="instructor").temperature == 0.01


def test_other_queries_positives_are_no_candidates() -> None:
    eye = torch.eye(3, dtype=torch.float64)
    forward, reverse = instructor([eye, eye, -eye], 1.0)
    # own 1; hard negatives -1, 0, 0: log(e + 1/e + 2) - 1; reverse: own 1, others 0
    assert float(forward) == pytest.approx(math.log(math.e + 1 / math.e + 2) - 1)
    assert float(reverse) == pytest.approx(math.log(math.e + 2) - 1)


def training_on(tokens: Tokens, encoder: Encoder, method: str = "bert", **more: Any) -> StsTraining:
    methods = load_methods()
    variant = methods[method].variants[methods[method].default_for("sts")]
    objective = Objective(
        variant, InstructorLoss(loss="instructor"), encoder.depth, encoder.width, nested_dims=(encoder.width, 8)
    )
    return StsTraining(tokens, objective, data_seed=1, **{"batch_size": 4, **more})


@pytest.mark.parametrize("method", ["bert", "mse", "2dmse-v1"])
def test_training_pools_without_the_instructions_in_every_method(tiny_bert: Path, method: str) -> None:
    rows = [
        {"query": ["the dog", f"{it} sees a cat"], "pos": ["a man", f"the {it}"], "neg": ["a man", f"a {it}"], "task_name": ""}
        for it in ("dog", "ball", "house", "woman")
    ]  # fmt: skip
    tokens = tokenise_instructed([instructed_columns(rows)], load_tokenizer(tiny_bert), 16, {}, "here")
    encoder = load_encoder(tiny_bert, "mean").eval()
    work = training_on(tokens, encoder, method)
    numbers = torch.arange(4)
    loss, _ = work.loss_of(AllLayers(encoder, 40), numbers, torch.Generator().manual_seed(0))
    pooled = {}
    for layer in work.layers:
        columns = []
        for column in range(3):
            texts = [tokens.text(int(tokens.rows[row, column])) for row in numbers]
            skips = [int(tokens.skips[tokens.rows[row, column]]) for row in numbers]
            assert min(skips) == 3
            states = [
                encoder(t[None].long(), torch.ones(1, len(t)).long(), [layer], torch.tensor([s]))
                for t, s in zip(texts, skips, strict=True)
            ]
            columns.append(torch.cat(states, dim=1)[0])
        pooled[layer] = torch.stack(columns)
    expected, _ = work.objective(pooled, None, torch.Generator().manual_seed(0))
    assert loss.item() == pytest.approx(expected.item(), abs=1e-4)


def test_batches_of_one_subset(tiny_bert: Path) -> None:
    count = torch.tensor([0] * 11 + [1] * 5 + [2] * 1 + [3] * 8)
    tokens = Tokens(
        torch.zeros(1), torch.arange(2), torch.zeros(25, 3, dtype=torch.int32), None, {"dataset": "x"}, None, count
    )
    encoder = load_encoder(tiny_bert, "mean")
    work = training_on(tokens, encoder, one_subset=True)
    epochs = [work.batches(epoch) for epoch in (0, 1)]
    for batches in epochs:
        assert sorted(len(batch) for batch in batches) == [3, 4, 4, 4, 4, 4]  # 4 4 3, 4 (and one row), none, 4 4
        assert all(len(set(count[batch].tolist())) == 1 for batch in batches)
        rows = torch.cat(batches).tolist()
        assert len(set(rows)) == len(rows)
    assert [b.tolist() for b in epochs[0]] == [b.tolist() for b in work.batches(0)]
    assert [b.tolist() for b in epochs[0]] != [b.tolist() for b in epochs[1]]
    assert [len(batch) for batch in training_on(tokens, encoder).batches(0)] == [
        4
    ] * 6  # mixed, the 25th row is left out
    bare = Tokens(tokens.ids, tokens.offsets, tokens.rows, None, {"dataset": "x"})
    with pytest.raises(InputError, match="^x: its rows name no subset, so batches cannot be of one"):
        training_on(bare, encoder, one_subset=True)


def test_five_steps_on_real_triplets_lower_the_loss(minilm: Path, shared_data: Path) -> None:
    with gzip.open(shared_data / "nli" / "train.jsonl.gz", "rt", encoding="utf-8") as lines:
        triplets = [json.loads(next(lines)) for _ in range(8)]
    rows = [
        {"query": [ASK, t["anchor"]], "pos": [SAY, t["positive"]], "neg": [SAY, t["negative"]], "task_name": "nli"}
        for t in triplets
    ]
    tokens = tokenise_instructed([instructed_columns(rows)], load_tokenizer(minilm), 40, {}, "here")
    encoder = load_encoder(minilm, "mean").train()
    work, module = training_on(tokens, encoder, batch_size=8), AllLayers(encoder, 1_024)
    optimizer = torch.optim.AdamW(encoder.parameters(), lr=1e-4)
    losses = []
    torch.manual_seed(0)
    for step in range(4):
        loss, terms = work.loss_of(module, work.batches(0)[0], torch.Generator().manual_seed(step))
        assert set(terms) == {"instructor/l6/d384", "instructor-reverse/l6/d384"}
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert losses[-1] < 0.7 * losses[0]

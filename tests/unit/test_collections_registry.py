"""The shipped test collections: the papers' sets are there, pinned, with the facts that their evaluation depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from matryobench.data.registry import CollectionSpec, load_collections, load_datasets, load_entries

PROJECT = Path(__file__).resolve().parents[2]
SHIPPED = PROJECT / "config" / "datasets.yaml"

# name: (documents, rows of the judgements), as mteb's statistics and ir_datasets' counts of BEIR's archives state them
BEIR = {
    "arguana": (8674, 1406),
    "climate-fever": (5416593, 4681),
    "dbpedia-entity": (4635922, 43515),
    "fever": (5416568, 7937),
    "fiqa": (57638, 1706),
    "hotpotqa": (5233329, 14810),
    "nfcorpus": (3633, 12334),
    "nq": (2681468, 4201),
    "quora": (522931, 15675),
    "scidocs": (25657, 29928),
    "scifact": (5183, 339),
    "trec-covid": (171332, 66336),
    "webis-touche2020": (382545, 2214),
}
MS_MARCO = {"msmarco-dev": 7437, "msmarco-dev-untitled": 7437, "trec-dl19": 9260, "trec-dl20": 11386}


def test_the_thirteen_public_sets_of_beir_are_there_with_their_sizes() -> None:
    collections, datasets = load_collections(SHIPPED), load_datasets(SHIPPED)
    for name, (documents, judgements) in BEIR.items():
        collection = collections[name]
        assert (collection.documents, datasets[collection.qrels].rows) == (documents, judgements)
        assert collection.metric == "ndcg@10" and collection.corpus == f"{name}.corpus"


def test_ms_marco_and_trec_search_the_same_passages_by_their_own_metrics() -> None:
    collections, datasets = load_collections(SHIPPED), load_datasets(SHIPPED)
    for name, judgements in MS_MARCO.items():
        assert (collections[name].documents, datasets[collections[name].qrels].rows) == (8841823, judgements)
    assert {collections[name].corpus for name in ("msmarco-dev", "trec-dl19", "trec-dl20")} == {"msmarco-dev.corpus"}
    metrics = {name: collections[name].metric for name in MS_MARCO}
    assert metrics == dict.fromkeys(("msmarco-dev", "msmarco-dev-untitled"), "mrr@10") | dict.fromkeys(
        ("trec-dl19", "trec-dl20"), "ndcg@10"
    )


def test_a_querys_own_id_is_left_out_where_queries_are_documents_and_nowhere_else() -> None:
    collections = load_collections(SHIPPED)
    assert {name for name, collection in collections.items() if collection.exclude_own_id} == {"arguana", "quora"}


def test_sets_with_training_judgements_have_them() -> None:
    named = {name for name, collection in load_collections(SHIPPED).items() if collection.train_qrels}
    assert named >= {"msmarco-dev", "fever", "fiqa", "hotpotqa", "nfcorpus", "scifact"}
    assert named.isdisjoint({"arguana", "climate-fever", "dbpedia-entity", "nq", "quora", "scidocs", "trec-covid"})


def test_all_parts_of_a_collection_from_one_repository_are_of_one_commit() -> None:
    for name, entry in load_entries(SHIPPED).items():
        if isinstance(entry, CollectionSpec):
            sources = [part.hub for part in (entry.corpus, entry.queries, entry.qrels, entry.train_qrels) if part]
            commits: dict[str, set[str | None]] = {}
            for hub in filter(None, sources):
                commits.setdefault(hub.id, set()).add(hub.revision)
            assert all(len(revisions) == 1 for revisions in commits.values()), name


def test_only_the_queries_of_trec_dl20_are_not_pinned() -> None:
    hubs = {name: spec.hub for name, spec in load_datasets(SHIPPED).items() if spec.hub}
    assert [name for name, hub in hubs.items() if hub.revision is None] == ["trec-dl20.queries"]


@pytest.mark.parametrize(("name", "rows"), [("simplewiki-title-lead", 40000), ("nli-entailment", 15236)])
def test_training_pairs_are_there(name: str, rows: int) -> None:
    spec = load_datasets(SHIPPED)[name]
    assert (spec.kind, spec.rows) == ("pairs", rows) and spec.mirror is not None


def test_the_papers_training_groups_are_there() -> None:
    spec = load_datasets(SHIPPED)["msmarco-passage"]
    assert (spec.kind, spec.rows) == ("groups", 400782)
    assert spec.hub is not None and spec.hub.id == "Tevatron/msmarco-passage"

"""What the published numbers can be compared with: of which test sets, metrics and methods they are.

Names are ours. Nothing here reads the csv files, so that a plan can be checked without pandas.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

STS_SETS = ("sts12", "sts13", "sts14", "sts15", "sts16", "stsb", "sick-r")
BEIR_12 = (
    *("arguana", "climate-fever", "dbpedia-entity", "fever", "fiqa", "hotpotqa", "nfcorpus", "quora", "scidocs"),
    *("scifact", "trec-covid", "webis-touche2020"),
)
BEIR_13 = (*BEIR_12, "nq")


@dataclass(frozen=True)
class Comparable:
    """One collection of published numbers.

    shown: (task, dataset, metric) -> methods. averages: the test sets that a task's average is over. recipes: names that
    a task's recipes must have to be compared; empty where there is one recipe, with which any is compared. grid: whether
    whole grids were published, or only the six sizes.
    """

    shown: Mapping[tuple[str, str, str], tuple[str, ...]]
    averages: Mapping[str, tuple[str, ...]]
    recipes: tuple[str, ...] = ()
    grid: bool = True


COMPARABLE: Mapping[str, Comparable] = {
    "sts": Comparable(
        shown={("sts", "average", "spearman_cosine"): ("bert", "bert-s", "mse", "2dmse-v1", "2dmse-v2")},
        averages={"sts": STS_SETS},
        recipes=("v1", "v2"),
    ),
    "retrieval": Comparable(
        shown={
            ("retrieval", "average", "ndcg@10"): ("bert", "mse", "2dmse"),
            ("retrieval", "msmarco-dev", "mrr@10"): (
                *("bert", "bert-s", "mse", "2dmse", "score", "full-dim", "+dims", "+dims+full-dim", "paired-doc"),
                "fix-doc",
            ),
        },
        averages={"retrieval": BEIR_13},
    ),
    "starbucks": Comparable(
        shown={
            ("sts", "average", "spearman_cosine"): ("bert", "bert-s", "2dmse-v1", "srl", "starbucks"),
            **{
                ("retrieval", dataset, metric): ("bert", "bert-s", "2dmse", "srl", "starbucks")
                for dataset, metric in (
                    *(("average", "ndcg@10"), ("msmarco-dev", "mrr@10")),
                    *(("trec-dl19", "ndcg@10"), ("trec-dl20", "ndcg@10")),
                )
            },
        },
        averages={"sts": STS_SETS, "retrieval": BEIR_12},
        grid=False,
    ),
}
"""By the names of `analysis.published.EXPERIMENTS`."""

"""Records the published retrieval losses on the tiny model: the 2D Matryoshka paper's and Starbucks'.

Regenerate from the project's root (Python 3.11):

    python3 -m venv dense && dense/bin/pip install torch==2.13.0 transformers==4.45.2 tokenizers==0.20.3 \
        huggingface-hub==0.25.2 accelerate==0.34.2 peft==0.13.2
    dense/bin/python tests/parity/record_retrieval.py --tevatron 2DMSE-Reproduce/code/Retrieval/tevatron/src \
        --starbucks Starbucks/retrieval

from checkouts of github.com/ielab/2DMSE-Reproduce (commit c7467c2, which carries its own Tevatron) and
github.com/ielab/Starbucks (2a3b24f). Writes recorded/dense_2d-c7467c2.json and recorded/srl_dense-2a3b24f.json.

The classes run as published. `Matryoshka2dDenseModelV2.build`, the only way its training script takes, raises whatever
its arguments (D7, recorded too), so the class is constructed directly, with the same arguments; that is the "repair".
Its compression targets come from a randomised SVD that draws from torch's global generator, so every target is
recorded, by side and layer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import tiny_model
import torch
import transformers

SEED = 7
DIM = ["8"]
DIMS = ["4", "8", "16"]


def batch() -> list[dict[str, torch.Tensor]]:
    return [{name: torch.from_numpy(array) for name, array in side.items()} for side in tiny_model.retrieval_batch()]


def step(model: Any, name: str, pooling: str, **described: Any) -> dict[str, Any]:
    """One training step: loss, gradient norms, and compression targets by side and layer where there are any."""
    queries, passages = batch()
    model.train()
    with torch.no_grad():
        embedded = {"query": model.encode_query(queries), "passage": model.encode_passage(passages)}
    targets: dict[str, Any] = {}

    def watched(compress: Any) -> Any:
        def run(rows: torch.Tensor, width: Any) -> Any:
            (place,) = (
                f"{side}/l{layer}"
                for side, layers in embedded.items()
                for layer, own in enumerate(layers)
                if own.shape == rows.shape and torch.allclose(own, rows)
            )
            result = compress(rows, width)
            targets[place] = (result if isinstance(result, torch.Tensor) else result[-1]).tolist()
            return result

        return run

    if hasattr(model, "pca_reduce"):
        model.pca_reduce, model.pca_reduces = watched(model.pca_reduce), watched(model.pca_reduces)
    torch.manual_seed(SEED)
    loss = model(query=queries, passage=passages).loss
    loss.backward()
    return {
        "loss": name,
        "pooling": pooling,
        **described,
        **({"targets": targets} if targets else {}),
        "value": loss.item(),
        "gradient_norms": tiny_model.gradient_norms(model.named_parameters()),
    }


def encoder(folder: Path) -> Any:
    return transformers.AutoModel.from_pretrained(folder).float()


def dense_2d(folder: Path) -> Iterator[dict[str, Any]]:
    from tevatron.retriever.arguments import Matryoshka2dDenseModelArguments
    from tevatron.retriever.modeling.dense_2d_matryoshka_v2 import Matryoshka2dDenseModelV2

    name = Matryoshka2dDenseModelV2.__name__

    def run(pooling: str = "cls", **arguments: Any) -> dict[str, Any]:
        model = Matryoshka2dDenseModelV2(encoder=encoder(folder), pooling=pooling, **arguments)
        return step(model, name, pooling, arguments=arguments)

    for pooling in ("cls", "mean"):
        yield run(pooling, embedding_dim_list=DIM)
    yield run(embedding_dim_list=DIMS)
    yield run(embedding_dim_list=DIMS, sub_layer_full_dim=True)
    yield run(embedding_dim_list=DIM, sub_layer_full_dim=True)
    yield run(embedding_dim_list=DIM, layer_list=[str(tiny_model.LAYERS)])
    yield run(embedding_dim_list=DIM, score_align=True)
    yield run(embedding_dim_list=DIMS, score_align=True, temperature=0.5)
    yield run(embedding_dim_list=DIM, score_align=True, compare_to_last_layer=True)
    yield run(embedding_dim_list=DIM, passage_to_last_layer=True)
    yield run(embedding_dim_list=DIM, embedding_align=True)
    yield run(embedding_dim_list=DIM, embedding_align=True, temperature=0.5)
    yield run(embedding_dim_list=DIM, embedding_align=True, passage_to_last_layer=True)

    # D7: what does not run at all.
    given = Matryoshka2dDenseModelArguments(model_name_or_path=str(folder))
    yield {"loss": f"{name}.build", "error": error(lambda: Matryoshka2dDenseModelV2.build(given, SimpleNamespace()))}
    both = {"embedding_dim_list": DIM, "score_align": True, "embedding_align": True, "compare_to_last_layer": True}
    yield {"loss": name, "arguments": both, "error": error(lambda: run(**both))}


def error(call: Any) -> str:
    try:
        call()
    except (AttributeError, TypeError) as found:
        return f"{type(found).__name__}: {found}"
    raise AssertionError("the released code is expected to raise")


def srl(folder: Path) -> Iterator[dict[str, Any]]:
    from modeling import SrlDenseModel

    def run(sizes: list[tuple[int, int]], weight: float, pooling: str = "cls", **more: Any) -> dict[str, Any]:
        layers, dims = zip(*sizes, strict=True)
        model = SrlDenseModel(
            encoder=encoder(folder), pooling=pooling, kl_divergence_weight=weight, sub_model_sampling=False,
            layer_list=[str(layer) for layer in layers], embedding_dim_list=[str(dim) for dim in dims], **more,
        )  # fmt: skip
        return step(model, "SrlDenseModel", pooling, sizes=sizes, arguments={"kl_divergence_weight": weight, **more})

    sizes = list(tiny_model.SIZES)
    for pooling in ("cls", "mean"):
        yield run(sizes, 1.0, pooling)
    yield run(sizes, 0.0)
    yield run(sizes, 0.5, temperature=2.0)
    yield run([(2, 8), (4, 32)], 1.0)


def main() -> None:
    import peft

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tevatron", type=Path, required=True, help="tevatron/src of a checkout of 2DMSE-Reproduce")
    parser.add_argument("--starbucks", type=Path, required=True, help="the folder retrieval of a checkout of Starbucks")
    arguments = parser.parse_args()
    sys.path[:0] = [str(arguments.tevatron), str(arguments.starbucks)]
    torch.set_num_threads(1)
    versions = {"transformers": transformers.__version__, "peft": peft.__version__, "torch": torch.__version__}
    recorded = Path(__file__).parent / "recorded"
    with tempfile.TemporaryDirectory() as work:
        folder = tiny_model.build(Path(work) / "tiny")
        for file, library, repository, cases in (
            ("dense_2d-c7467c2", "Matryoshka2dDenseModelV2", "2DMSE-Reproduce", dense_2d),
            ("srl_dense-2a3b24f", "SrlDenseModel", "Starbucks", srl),
        ):
            commit = file.rsplit("-", 1)[1]
            tiny_model.write_recording(
                recorded / f"{file}.json", library, {repository: commit, **versions}, commit, list(cases(folder))
            )


if __name__ == "__main__":
    main()

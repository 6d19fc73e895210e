"""What mteb's classification pays again for every cell, paid once: its draws of training rows, and its seven metrics.

The numbers are mteb's to the last bit: same draws, same classifiers, and metrics as scikit-learn averages them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from datasets import Dataset
from mteb.abstasks import AbsTaskClassification
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score


class Rows(Dataset):
    """Rows whose columns are lists. mteb reads texts and labels one by one, each of which datasets' lazy columns look up in
    Arrow: with 16,000 training rows seconds per cell, for the same values.
    """

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key)[:] if isinstance(key, str) else super().__getitem__(key)

    def select(self, indices: Iterable[int], **named: Any) -> Rows:
        """As a data set's, and again of this kind; the same rows, which mteb selects for every cell, are made once."""
        known: dict[Any, Rows] = self.__dict__.setdefault("_selected", {})
        # A copy of this table with other columns has another fingerprint.
        key = self._fingerprint, tuple(indices), tuple(sorted(named.items()))
        if key not in known:
            kept = super().select(key[1], **named)
            known[key] = Rows(kept.data, kept.info, kept.split, kept._indices, kept._fingerprint)
        return known[key]


class PerCell(AbsTaskClassification):
    """A classification that is evaluated many times on the same tables. To be inherited first."""

    _drawn: dict[int, tuple[Dataset, list[int], list[int]]]

    def _undersample_data(
        self, dataset: Dataset, experiment_num: int, idxs: list[int] | None = None
    ) -> tuple[Dataset, list[int], list[int]]:
        """mteb's draw of an experiment, made once: it depends on the training rows, the seed and the number alone.

        mteb shuffles the order that the experiment before left, so that experiments are drawn one after the other.
        """
        if not hasattr(self, "_drawn"):
            self._drawn = {}
        if experiment_num not in self._drawn:
            kept, order, chosen = super()._undersample_data(dataset, experiment_num, idxs)
            self._drawn[experiment_num] = kept, list(order), chosen
        return self._drawn[experiment_num]

    def _calculate_scores(self, y_test: Any, y_pred: Any) -> Any:
        """mteb's metrics from one count of the predictions where mteb counts once for each."""
        truth, guessed = np.asarray(y_test), np.asarray(y_pred)
        labels, places = np.unique(np.concatenate([truth, guessed]), return_inverse=True)
        right = truth == guessed
        support, predicted, hits = (
            np.bincount(some, minlength=len(labels))
            for some in (places[: len(truth)], places[len(truth) :], places[: len(truth)][right])
        )
        precision, recall, f1 = _ratio(hits, predicted), _ratio(hits, support), _ratio(2 * hits, support + predicted)
        scores: dict[str, float | None] = {"accuracy": float(np.mean(right))}
        for name, values in (("f1", f1), ("precision", precision), ("recall", recall)):
            scores[name] = float(np.mean(values))
            scores[f"{name}_weighted"] = float(np.average(values, weights=support))
        scores |= {"ap": None, "ap_weighted": None}
        if len(np.unique(y_test)) == 2:
            for name, average in (("ap", "macro"), ("ap_weighted", "weighted")):
                scores[name] = average_precision_score(y_test, y_pred, average=average)
        return scores


def _ratio(part: NDArray[np.int64], whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """0 where there is nothing to divide by."""
    return np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)

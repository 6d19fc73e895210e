"""The cells of a column -> values of the kind's type, or one sentence that names the line of the cell that is not one."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa

from matryobench.data.instructed import check_instructions
from matryobench.data.readers import Columns
from matryobench.data.specs import DatasetSpec
from matryobench.errors import InputError

PASSAGE_KEYS = ("docid", "title", "text")
PASSAGES = pa.list_(pa.struct([(key, pa.string()) for key in PASSAGE_KEYS]))

# Columns that a file of the kind need not have, and what then stands in every row.
DEFAULTS: dict[str, dict[str, Any]] = {"passages": {"title": ""}, "groups": {"negative_passages": []}}
# Texts that may be blank: a document can be all title, all text, or (in Cranfield) neither.
_MAY_BE_BLANK = {("passages", "title"), ("passages", "text")}
_GRADE_LIMIT = 2**31


def arrow_type(column: str) -> pa.DataType:
    """The Arrow type of a standard column."""
    if column in ("positive_passages", "negative_passages"):
        return PASSAGES
    return {"score": pa.float64(), "grade": pa.int32()}.get(column, pa.string())


def values_of(part: Columns, column: str, spec: DatasetSpec) -> list[Any]:
    """The checked values of a standard column. Raises InputError with the line of the first that does not fit."""
    if column == "score":
        assert spec.score_range is not None
        return _scores(part, spec.score_range)
    if column == "grade":
        return [_grade(value, part, row) for row, value in enumerate(part.values[column])]
    if column == "label":
        return [_label(value, part, row) for row, value in enumerate(part.values[column])]
    if column in ("query_id", "doc_id"):
        return [_identifier(value, column, part, row) for row, value in enumerate(part.values[column])]
    if column in ("positive_passages", "negative_passages"):
        return [_passages(value, column, part, row) for row, value in enumerate(part.values[column])]
    if column.endswith("_instruction"):
        check_instructions(part, column)
    return _texts(part, column, spec)


def passage_text(title: str, text: str) -> str:
    """The text that stands for a document: title and text with a space between, as BEIR and Tevatron join them."""
    return f"{title} {text}".strip()


def _texts(part: Columns, column: str, spec: DatasetSpec) -> list[str]:
    values = part.values[column]
    may_be_blank = (spec.kind, column) in _MAY_BE_BLANK
    may_lack = spec.missing_text is not None or column in DEFAULTS.get(spec.kind, {})
    if spec.missing_text is not None:  # an empty text is a missing one, for an entry that has a word for those
        values = [None if value == "" else value for value in values]
    for row, value in enumerate(values):
        if value is None and may_lack:
            continue
        if value is None or (isinstance(value, str) and not may_be_blank and not value.strip()):
            fix = "fill it in, remove the row, or set missing_text in the entry" if value is None else "remove the row"
            raise InputError(f"{part.at(row)}: {column!r} is empty; {fix}.")
        _check_text(value, column, part, row)
    filler = spec.missing_text or ""  # otherwise no value is None here, or a missing one is an empty one
    return [filler if value is None else value for value in values]


def _check_text(value: Any, column: str, part: Columns, row: int) -> None:
    if not isinstance(value, str):
        raise InputError(f"{part.at(row)}: {column!r} must be a text and is {value!r}; put it in quotes.")
    # JSON can hold half a surrogate pair, which no UTF-8 file can.
    if not value.isascii() and any("\ud800" <= letter <= "\udfff" for letter in value):
        raise InputError(f"{part.at(row)}: {column!r} holds a broken \\u escape; correct the text.")


def _identifier(value: Any, column: str, part: Columns, row: int) -> str:
    """Ids are texts; a whole number is read as its digits, since some files write ids so."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise InputError(f"{part.at(row)}: {column!r} is empty; every row needs an id.")
    _check_text(value, column, part, row)
    return str(value)


def _label(value: Any, part: Columns, row: int) -> str:
    """A class's name or number, as text; 1.0, which tables write where they mean 1, is 1."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, float) and not math.isnan(value):
        raise InputError(f"{part.at(row)}: the label {value!r} is neither a name nor a whole number; correct it.")
    if value is None or isinstance(value, float) or (isinstance(value, str) and not value.strip()):
        raise InputError(f"{part.at(row)}: the label is empty; fill it in or remove the row.")
    return _identifier(value, "label", part, row)


def _grade(value: Any, part: Columns, row: int) -> int:
    """A whole number. Below 0 means not relevant, as trec_eval reads it (TREC-COVID has such judgements)."""
    grade: int | None = None
    if isinstance(value, str):
        grade = int(value) if value.strip().removeprefix("-").isdecimal() else None
    elif isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value):
        grade = int(value) if value == int(value) else None
    if grade is None or abs(grade) >= _GRADE_LIMIT:
        raise InputError(
            f"{part.at(row)}: the grade {value!r} is not a whole number; relevance is 0 (not), 1, 2 and so on."
        )
    return grade


def _passages(value: Any, column: str, part: Columns, row: int) -> list[dict[str, str]]:
    given = [] if value is None else value
    form = f"a list of passages, each with {', '.join(PASSAGE_KEYS)}"
    if not isinstance(given, list) or not all(isinstance(passage, dict) for passage in given):
        raise InputError(f"{part.at(row)}: {column!r} must be {form}; correct the row.")
    if not given and column == "positive_passages":
        raise InputError(f"{part.at(row)}: {column!r} is empty; a group needs a positive passage, so remove the row.")
    read = []
    for passage in given:
        if passage.get("text") is None:
            raise InputError(f"{part.at(row)}: a passage of {column!r} has no text; {column!r} must be {form}.")
        docid = _identifier(passage.get("docid"), "docid", part, row)
        title = passage.get("title") or ""
        for key, text in (("title", title), ("text", passage["text"])):
            _check_text(text, key, part, row)
        if column == "positive_passages" and not passage_text(title, passage["text"]):
            raise InputError(f"{part.at(row)}: the positive passage {docid!r} is empty; remove it.")
        read.append({"docid": docid, "title": title, "text": passage["text"]})
    return read


def _scores(part: Columns, limits: tuple[float, float]) -> list[float]:
    scores = []
    for row, value in enumerate(part.values["score"]):
        try:
            # True is an int in Python; "1_0" is a float in Python: neither is a gold score.
            score = math.nan if isinstance(value, bool) or "_" in str(value) else float(value)
        except (TypeError, ValueError, OverflowError):
            score = math.nan
        if math.isnan(score):
            raise InputError(f"{part.at(row)}: the score {value!r} is not a number; correct it or remove the row.")
        if not limits[0] <= score <= limits[1]:
            raise InputError(
                f"{part.at(row)}: the score {value!r} is outside {limits[0]:g} to {limits[1]:g}; correct it, or "
                "score_range in the entry."
            )
        scores.append(score)
    return scores

"""Where the published numbers were read, how exact they are, and which of them are suspect."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from pydantic import Field

from matryobench.validation import Settings, parse, read_yaml

FOLDER = Path(__file__).resolve().parent


class Source(Settings):
    """One csv file of published numbers."""

    title: str = Field(description="What the file holds.")
    paper: str = Field(description="The paper, and which of its figures or tables show the numbers.")
    repository: str = Field(description="Public repository that the numbers were read in.")
    commit: str = Field(pattern=r"^[0-9a-f]{40}$", description="Its commit.")
    files: list[str] = Field(min_length=1, description="Its files.")
    how: str = Field(description="How the numbers were read.")
    shape: tuple[int, int] = Field(description="Layers and width (L, H) of the backbone.")
    decimals: dict[str, int] = Field(description="Decimals that the values of a metric are exact to.")
    notes: list[str] = Field([], description="What a reader must know before comparing.")


class Flag(Settings):
    """A published value that looks broken; it is carried, marked and never dropped silently."""

    file: str = Field(description="csv file.")
    dataset: str = Field(description="Test set.")
    method: str = Field(description="Method, as the file names it.")
    size: str = Field(description="Named size.")
    value: float = Field(description="The suspect value.")
    reason: str = Field(description="Why it is suspect.")


class Sources(Settings):
    """sources.yaml."""

    files: dict[str, Source] = Field(description="The csv files by name.")
    flags: list[Flag] = Field(description="Suspect values.")


@cache
def sources() -> Sources:
    """The content of sources.yaml, which stands beside the csv files."""
    path = FOLDER / "sources.yaml"
    return parse(Sources, read_yaml(path), str(path))

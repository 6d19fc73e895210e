"""Fixtures of the parity tests, and their folder on the import path (the recording scripts are run and imported)."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import tiny_model
from measure import Tiny


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model.build(tmp_path_factory.mktemp("parity") / "tiny")


@pytest.fixture(scope="session")
def tiny(tiny_folder: Path) -> Tiny:
    return Tiny(tiny_folder)

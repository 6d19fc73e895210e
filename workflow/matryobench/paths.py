"""Where the parts of a checkout are."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "config"
METHODS = CONFIG / "methods.yaml"
DATASETS = CONFIG / "datasets.yaml"
CLAIMS = CONFIG / "claims.yaml"
NOTEBOOK = ROOT / "notebooks" / "analysis.ipynb"
SCHEMAS = ROOT / "workflow" / "schemas"

"""The papers' numbers as csv files, and in sources.yaml where each was read; `analysis.published` reads them."""

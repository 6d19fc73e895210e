"""The report of an experiment: one HTML file that needs no other and no network."""

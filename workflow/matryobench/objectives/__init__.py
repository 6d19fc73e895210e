"""Training objectives as data: `spec` (what a method is), `registry` (config/methods.yaml), `recipe` (base losses'
settings), `base`, `scores` and `alignment` (the losses), `terms` (what every composition shares), `objective` (their
composition for an STS run) and `retrieval` (for a retrieval run)."""

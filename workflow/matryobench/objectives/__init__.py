"""Training objectives as data: `spec` (what a method is), `registry` (config/methods.yaml), `recipe` (base losses'
settings), `base` and `alignment` (the losses), `objective` (their composition for one run)."""

"""Pre-training of encoders by masked-language modelling."""

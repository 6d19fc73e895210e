"""Backbones and encoders: loading, pooling every layer in one pass, truncation, saving, export."""

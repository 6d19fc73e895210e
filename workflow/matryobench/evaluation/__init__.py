"""Whole-grid evaluation: one encoding of every distinct text, all layers, all widths as prefixes."""

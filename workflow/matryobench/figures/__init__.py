"""Figures: one module per figure, each a pure function `draw(frame, styles, *, dataset, metric, **options)`."""

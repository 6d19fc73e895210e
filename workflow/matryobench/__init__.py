"""matryobench: reproduces, compares and extends 2D Matryoshka embedding training, cell by cell."""

__version__ = "0.1.0"

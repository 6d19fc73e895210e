"""Claims: the checkable statements of the papers, as predicates over cells tables, each with a verdict."""

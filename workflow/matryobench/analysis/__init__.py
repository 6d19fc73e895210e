"""Result tables: the tidy cells table and what is computed from it (one module per question)."""

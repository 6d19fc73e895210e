"""Reference backends: the same run trained by another library, so that only the implementation differs."""

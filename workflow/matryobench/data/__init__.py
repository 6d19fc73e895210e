"""Where texts come from: the registry of data sets, the readers, the mirror, fetching and the embedded demo world."""

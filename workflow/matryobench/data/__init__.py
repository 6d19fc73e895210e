"""Where texts come from: registry, readers, mirror, fetching, mined groups, token files and the embedded demo world."""

"""One file per model family: detect from a header, describe, defaults."""

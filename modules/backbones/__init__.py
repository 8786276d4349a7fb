"""Per family: load, encode, predict, decode."""

"""Comments in a prompt: from `#` to the end of its line, as AUTOMATIC1111 leaves them out."""

from __future__ import annotations


def without_comments(text: str) -> str:
    """The text without comments; a line that is nothing else goes as a whole."""
    if "#" not in text:
        return text
    kept = []
    for line in text.split("\n"):
        before, sign, _ = line.partition("#")
        if not sign:
            kept.append(line)
        elif before.strip():
            kept.append(before.rstrip())
    return "\n".join(kept)

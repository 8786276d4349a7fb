"""Text to prompt tree: grammar, chunks, tokens. No torch."""

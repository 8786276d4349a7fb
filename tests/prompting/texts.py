"""Texts that tell tokenizers apart. None needs Unicode composition, which is left to whoever calls tiktoken."""

from __future__ import annotations

TEXTS = (
    "", " ", "\n\t ", "a photo of a cat", "A Photo  of\n\na CAT ", "  lead and trail  ", "naïve café Ångström",
    "ÄÖÜß ẞ", "猫と犬、東京タワー", "Привет, мир!", "مرحبا", "👩‍👩‍👧‍👦 🇩🇪 ☃️ 👍🏽", "½ ² ﬁ ﬂ ŉ", "\x00\x07nul\x00",
    "\u00a0\u2003wide\u3000spaces\u200b", "\ufffd\ufeff", "▁x ▁", "x" * 300, "word " * 120,
    "it's \"q\" `a` ~", "I'M you'd can'T",
    "1234 3.14", "(a:1.2), [b]", "a\u00adb", "ＡＢＣ", "𝔘𝔫𝔦𝔠𝔬𝔡𝔢", "İstanbul ıI", "ς Σ ΌΣΟΣ", "line\r\n\r\nline  \n  x",
    "masterpiece, best quality, 1girl, (solo:1.2), __wild__, {a|b}, <lora:x:1>",
    "Describe the image by detailing the color, shape, size, texture, quantity, text, spatial relationships.",
)  # fmt: skip

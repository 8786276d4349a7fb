"""The page: Gradio Blocks, theme, texts."""

"""Weights that stay as they are packed in their file: what they mean, and the layer that computes with them."""

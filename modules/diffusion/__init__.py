"""Parameterisations, per-image noise, latent formats, previews."""

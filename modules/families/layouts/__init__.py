"""How Stable Diffusion files name their tensors, and what dimensions the shapes tell. Shared by families; no torch."""

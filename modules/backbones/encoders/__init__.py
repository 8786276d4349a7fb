"""Text encoders, whatever family they serve: a prompt becomes what a denoiser reads of it."""

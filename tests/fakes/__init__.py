"""Stand-ins for the seams between the parts: one seam, one fake."""

"""Tokens: a frame's residual against its prediction (or the frame itself) as binary spherical codes."""

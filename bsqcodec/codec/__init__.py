"""The codec proper: groups of frames to motion and token streams, and back."""

"""Layers as part of the layers around them, for inference."""

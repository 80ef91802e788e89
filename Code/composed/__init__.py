"""Clips composed of FER+ stills: real faces, frames of known importance, and no data that need an agreement."""

"""Clips composed of FER+ stills: real faces, a known true importance of every frame, no gated data.

`stills`: which pictures; `plan`: a clip's course; `frames`: its pixels; `clips`: the splits that a training reads.
"""

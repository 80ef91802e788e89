"""Clips composed of FER+ stills: real faces, frames of known importance, and no data that need an agreement.

`plan` chooses the stills and plans the frames of a clip, `render` makes their pixels, `splits` the clips of a dataset.
"""

"""The generated sample: a small dataset in AFEW's layout, drawn from a seed, with the true intensity of every frame.

Each clip shows one synthetic person, whose face goes from neutral to the apex of an expression and back, with
distractor frames in between. Unlike in recorded datasets, it is known how much of the clip's expression each frame
shows. `draw` makes the dataset, `clip` one of its clips; the other modules draw persons and faces.
"""

from .draw import draw_sample

__all__ = ["draw_sample"]

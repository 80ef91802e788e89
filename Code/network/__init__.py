"""The network: a backbone for single frames, frame attention, and the checkpoints it starts from."""

from __future__ import annotations

import ast
import functools
from pathlib import Path


@functools.cache
def attention_titles() -> dict[int, str]:
    """The number and title of every attention head: {0: "self-attention", ...}.

    They are read from the source of attention.py, whose classes say them: a command line then shows them without
    importing torch, which takes seconds.
    """
    titles = {}
    tree = ast.parse(Path(__file__).with_name("attention.py").read_text(encoding="utf-8"))
    for item in tree.body:
        if isinstance(item, ast.ClassDef):
            values = {
                line.targets[0].id: ast.literal_eval(line.value)
                for line in item.body
                if isinstance(line, ast.Assign) and isinstance(line.targets[0], ast.Name)
                if line.targets[0].id in ("at_type", "title")
            }
            if len(values) == 2:
                titles[values["at_type"]] = values["title"]
    return dict(sorted(titles.items()))

"""What the figures of several inputs are called, and the page that shows them."""

from __future__ import annotations

from pathlib import Path

import pytest

from Code.faces.gallery import Gallery


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/one.mp4", "b/two.mp4"], ["one", "two"]),
        (["Happy/01.flv", "Sad/01.flv", "Sad/02.flv"], ["Happy_01", "Sad_01", "02"]),
        (["x/Sad/01.flv", "y/Sad/01.flv", "z/Sad_01.flv"], ["Sad_01", "Sad_01-2", "z_Sad_01"]),
        (["a/clip.mp4", "a/clip_curve.mp4", "a/clip_person2.mp4"], ["clip", "a_clip_curve", "a_clip_person2-2"]),
    ],
)
def test_figures_of_inputs_that_share_a_name_differ_and_name_the_folder(
    paths: list[str], names: list[str], tmp_path: Path
) -> None:
    assert Gallery(tmp_path / "predictions").names(paths) == names


def test_a_name_belongs_to_one_input_in_later_calls_too(tmp_path: Path) -> None:
    def names(*paths: str) -> list[str]:
        return Gallery(tmp_path / "predictions").names(paths)

    assert names("a/01.mp4") == ["01"]
    assert names("b/01.mp4", "a/01.mp4", "A/01.mp4") == ["b_01", "01", "A_01"]
    assert names("c/b/01.mp4") == ["b_01-2"]
    Gallery(tmp_path / "predictions").drop("01")
    assert names("d/01.mp4") == ["01"]

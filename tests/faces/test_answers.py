"""What the pictures of several inputs are called."""

from __future__ import annotations

import pytest

from Code.faces.answers import picture_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/one.mp4", "b/two.mp4"], ["one", "two"]),
        (["Happy/01.flv", "Sad/01.flv", "Sad/02.flv"], ["Happy_01", "Sad_01", "02"]),
        (["x/Sad/01.flv", "y/Sad/01.flv", "z/Sad_01.flv"], ["Sad_01", "Sad_01-2", "Sad_01-3"]),
    ],
)
def test_pictures_of_inputs_that_share_a_name_differ_and_tell_the_folder(paths: list[str], names: list[str]) -> None:
    assert picture_names(paths) == names

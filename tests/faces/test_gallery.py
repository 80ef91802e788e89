"""What the figures of several inputs are called."""

from __future__ import annotations

from pathlib import Path

import pytest

from Code.faces.figures import figure_names


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (["a/one.mp4", "b/two.mp4"], ["one", "two"]),
        (["Happy/01.flv", "Sad/01.flv", "Sad/02.flv"], ["Happy_01", "Sad_01", "02"]),
        (["x/Sad/01.flv", "y/Sad/01.flv", "z/Sad_01.flv"], ["Sad_01", "Sad_01-2", "z_Sad_01"]),
        (["a/clip.mp4", "a/clip_curve.mp4", "a/clip_person2.mp4"], ["clip", "a_clip_curve", "a_clip_person2-2"]),
        (["a/One.mp4", "b/one.mp4"], ["a_One", "b_one"]),
    ],
)
def test_figures_of_inputs_that_share_a_name_differ_and_name_the_folder(
    paths: list[str], names: list[str], tmp_path: Path
) -> None:
    assert figure_names(paths, tmp_path / "predictions") == dict(zip(paths, names, strict=True))


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    """A file's name may have 255 bytes, which is too long for what is derived from it."""
    letters = "开" * 80  # 240 bytes
    paths = [f"a/{letters}1.mp4", f"a/{letters}2.mp4", f"b/{letters}2.mp4", f"{'f' * 250}/{'e' * 246}.mp4"]
    names = figure_names(paths, tmp_path / "predictions").values()
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 201 and "\ufffd" not in name for name in names)


def test_figures_overwrite_no_input_and_no_reference(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one.png", "pictures.png", "old.png"):
        (folder / name).touch()
    assert [*figure_names([f"{folder}/one.png", "elsewhere/old.mp4"], folder).values()] == ["pictures_one", "old"]
    assert [*figure_names([str(folder)], folder).values()] == [f"{tmp_path.name}_pictures"]  # a folder of frames
    assert [*figure_names(["elsewhere/one.mp4"], folder, f"{folder}/one.png").values()] == ["elsewhere_one"]

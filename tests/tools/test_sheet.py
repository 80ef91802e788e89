"""The contact sheet of the generated sample."""

from __future__ import annotations

from pathlib import Path

from PIL import Image

from tools.sheet import main


def test_contact_sheet(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "sheet.png"
    assert main([str(path)]) == 0
    with Image.open(path) as sheet:
        assert sheet.width == 1000
    assert path.stat().st_size < 400_000

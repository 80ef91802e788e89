"""Samples, composed clips and caches whose files say something else, and folders that only look like theirs."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

import Demo_AFEW_Attention as script
from Code.common.commandline import run_script
from Code.common.errors import ProjectError
from Code.composed.plan import ComposedSpec
from Code.composed.render import VAL, compose_evaluated
from Code.data import sample as sample_package
from Code.data.cache import HEADER_BYTES, CacheFile
from Code.readers.folders import read_folders
from Code.sample import draw_sample
from Code.sample.clip import SampleSpec

SPEC = SampleSpec(num_train_clips=7, num_val_clips=7, frames=(4, 5), size=32)


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture
def drawn(tmp_path: Path) -> Path:
    return draw_sample(tmp_path / "Sample", spec=SPEC)


FOREIGN = ["notes.txt", "Train/Happy/my clip/001.jpg", "Train/Joy/000001/001.jpg", "Val/Happy/100000/001.png"]
FOREIGN += ["Train/Happy/000000/sub/001.jpg", ".git/config"]


@pytest.mark.parametrize("name", FOREIGN)
def test_a_sample_with_a_file_of_the_user_in_it_is_not_replaced(drawn, name):
    (drawn / name).parent.mkdir(parents=True, exist_ok=True)
    (drawn / name).write_text("mine")
    before = tree(drawn)
    with pytest.raises(ProjectError, match="cannot be replaced") as caught:
        draw_sample(drawn, spec=SPEC, seed=1)
    assert "is not of this program's making" in str(caught.value) and tree(drawn) == before
    assert [path.name for path in drawn.parent.iterdir()] == [drawn.name]


def test_a_folder_with_a_readme_is_not_taken_for_a_sample(tmp_path, capsys):
    project = tmp_path / "project"
    (project / "code").mkdir(parents=True)
    (project / "README.txt").write_text("My project")
    (project / "code" / "main.py").write_text("print()")
    before = tree(project)
    assert run_script(lambda: sample_package.main(["--output", str(project), "--train-clips", "7"])) == 2
    assert "is not of this program's making" in capsys.readouterr().err and tree(project) == before


def test_links_in_a_sample_are_not_followed(drawn, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "000009").mkdir(parents=True)
    (elsewhere / "000009" / "001.jpg").write_text("mine")
    (drawn / "Train" / "Sad" / "000009").symlink_to(elsewhere / "000009")
    with pytest.raises(ProjectError, match="cannot be replaced"):
        draw_sample(drawn, spec=SPEC, seed=1)
    assert (elsewhere / "000009" / "001.jpg").read_text() == "mine"


def test_a_sample_behind_a_link_is_replaced_where_it_is(drawn, tmp_path):
    link = tmp_path / "link"
    link.symlink_to(drawn)
    assert draw_sample(link, spec=SPEC, seed=1) == link and link.is_symlink()
    assert json.loads((drawn / "sample.json").read_text())["seed"] == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 9000, '{"version": "1"}', '{"version": 1, "seed": 0}', "\udcff", "5"]
)
def test_a_damaged_description_means_that_the_sample_is_drawn_again(drawn, content):
    before = tree(drawn)
    (drawn / "sample.json").write_bytes(content.encode("utf-8", "surrogateescape"))
    (drawn / "Train" / "Happy" / "000000" / "001.jpg").write_text("")
    assert tree(draw_sample(drawn, spec=SPEC)) == before


def test_a_sample_of_a_newer_version_is_left_alone(drawn):
    content = json.loads((drawn / "sample.json").read_text())
    (drawn / "sample.json").write_text(json.dumps({**content, "version": 99}))
    before = tree(drawn)
    with pytest.raises(ProjectError, match=r"sample\.json: was written by a newer version"):
        draw_sample(drawn, spec=SPEC)
    assert tree(drawn) == before


@pytest.fixture(scope="module")
def stills(make_ferplus: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    counts = {"Training": 24, "PublicTest": 24, "PrivateTest": 24}
    return make_ferplus(tmp_path_factory.mktemp("fer") / "FERPlus", as_csv=False, counts=counts)


def composed(root: Path, into: Path) -> Path:
    compose_evaluated(root, into, ComposedSpec(frames=(3, 4)), 8, VAL)
    (folder,) = into.iterdir()
    return folder


def test_composed_clips_that_are_incomplete_are_composed_again(stills, tmp_path):
    folder = composed(stills, tmp_path / "Composed")
    before = tree(folder)
    lost = next(name for name in before if name.endswith(".png"))
    for name, content in ((lost, None), ("composed.json", "{"), ("composed.json", "[]"), ("intensity.csv", None)):
        (folder / name).unlink()
        if content is not None:
            (folder / name).write_text(content)
        assert tree(composed(stills, tmp_path / "Composed")) == before


def test_composed_clips_beside_a_file_of_the_user_are_not_replaced(stills, tmp_path):
    folder = composed(stills, tmp_path / "Composed")
    next(folder.rglob("*.png")).unlink()
    (folder / "Val" / "notes.txt").write_text("mine")
    before = tree(folder)
    with pytest.raises(ProjectError, match=r"Val/notes\.txt in it is not of this program's making"):
        composed(stills, tmp_path / "Composed")
    assert tree(folder) == before


def test_headers_of_caches_of_any_shape_are_faults(sample, tmp_path):
    cache = CacheFile(read_folders(sample / "Val"), 16, tmp_path)
    cache.open(0, lambda line: None, show_progress=False)
    good = cache.path.read_bytes()
    header = json.loads(good[:HEADER_BYTES].rstrip(b"\0"))
    assert cache.fault() is None
    headers: list[bytes] = [b"", b"[]", b"5", b"[" * HEADER_BYTES, b"\xff", b'{"format": []}', b"null"]
    headers += [
        json.dumps({**header, name: value}).encode() for name in header for value in (None, [], "x", -1, {}, True)
    ]
    headers += [json.dumps({key: value for key, value in header.items() if key != name}).encode() for name in header]
    for data in headers:
        cache.path.write_bytes(data.ljust(HEADER_BYTES, b"\0") + good[HEADER_BYTES:])
        assert cache.fault() is not None, data
    cache.path.write_bytes(good[:HEADER_BYTES].replace(b"frames/1", b"frames/2") + good[HEADER_BYTES:])
    assert "of another version" in (cache.fault() or "")
    rng = random.Random(5)
    for _ in range(100):
        data = bytearray(good)
        data[rng.randrange(HEADER_BYTES)] = rng.randrange(256)
        cache.path.write_bytes(data)
        assert cache.fault() is None or isinstance(cache.fault(), str)
    cache.path.write_bytes(good)
    assert cache.fault() is None


def test_a_sample_that_the_script_cannot_replace_is_one_line(call, tmp_path):
    (tmp_path / "Data" / "Sample").mkdir(parents=True)
    (tmp_path / "Data" / "Sample" / "mine.txt").write_text("mine")
    outcome = call(script, "--dataset", "sample", cwd=tmp_path)
    assert outcome.status == 2 and "not empty and not a generated sample" in outcome.err
    assert os.listdir(tmp_path / "Data" / "Sample") == ["mine.txt"]

"""Predict_Video.py: what it prints and writes, and its errors."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image

import Predict_Video
from Code.faces.figures import figure_names
from Code.network.checkpoints import save_atomically
from tests.faces.conftest import AFEW, Call, Draw, Networks, Write
from tests.faces.test_sound import RATE, talk
from tests.runs import save_run

av = pytest.importorskip("av", reason="videos need PyAV")
pytest.importorskip("facenet_pytorch", reason="detection needs facenet-pytorch")

EXAMPLE = Path(__file__).parents[2] / "docs" / "example.mp4"


class Result(NamedTuple):
    """What a call of the script ended with and printed."""

    status: int
    out: str
    err: str


Ask = Callable[..., Result]


@pytest.fixture
def ask(predict: Call, checkpoints: Networks, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Runs the script with a tiny network: `kind` "fan" or "classifier"; None: as the flags say."""

    def call(*args: Any, kind: str | None = "fan") -> Result:
        network = ("--checkpoint", checkpoints[kind][0]) if kind else ()
        status = predict(*args, *network)
        return Result(status, *capsys.readouterr())

    return call


def test_script_prints_and_writes_every_answer(checkpoints: Networks, crops: Path, tmp_path: Path, ask: Ask) -> None:
    single = crops / "3.png"
    table, records = tmp_path / "answers.csv", tmp_path / "answers.json"
    status, out, err = ask(crops, single, "--aligned", "--csv", table, "--json", records)
    assert status == 0 and err == ""
    assert str(checkpoints["fan"][0]) in out and "(AFEW)" in out and all(label in out for label in AFEW)
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    written = json.loads(records.read_text(encoding="utf-8"))
    assert [row["input"] for row in rows] == [record["input"] for record in written] == [str(crops), str(single)]
    for row, record in zip(rows, written, strict=True):
        assert row["expression"] == record["expression"] == max(AFEW, key=lambda name: float(row[name]))
        assert f"{record['input']}: {record['expression']}" in out
        assert sum(float(row[name]) for name in AFEW) == pytest.approx(1, abs=1e-5)
        assert sum(record["weights"]) == pytest.approx(1, abs=1e-5)
        assert record["times"] == [None] * record["num_frames"]
    order = np.argsort(-np.array(written[0]["weights"]))[:3]
    expected = ", ".join(f"{written[0]['frames'][i]} ({written[0]['weights'][i]:.4f})" for i in order)
    assert f"highest weights: {expected}" in out


def test_what_a_file_leaves_open_and_a_table_could_confuse_is_said(
    checkpoints: Networks, crops: Path, video: Path, tmp_path: Path, ask: Ask
) -> None:
    # CK+ has other classes than AFEW, but as many
    assert "contempt (assumed: its file has no labels)" in ask(crops, "--aligned", kind="classifier").out
    labels = ("uncertain", "num_faces", *AFEW[2:])
    save_run(tmp_path / "fan.pth", checkpoints["fan"][1], labels, image_size=40, dataset="list")
    table = tmp_path / "answers.csv"
    flags = ("--checkpoint", tmp_path / "fan.pth", "--aligned", "--csv", table, "--window", 0.3, "--no-figure")
    assert "assumed" not in ask(video, *flags, kind=None).out
    (row,) = csv.DictReader(table.open(encoding="utf-8"))
    assert row["uncertain"] in ("0", "1") and 0 < float(row["p(uncertain)"]) < 1 and 0 < float(row["p(num_faces)"]) < 1
    curve = next(csv.DictReader((tmp_path / "predictions" / "plain_curve.csv").open(encoding="utf-8")))
    assert curve["uncertain"] in ("0", "1") and curve["num_faces"] == "3" and 0 < float(curve["p(num_faces)"]) < 1


def test_a_network_of_crops_that_cannot_be_made_says_so(
    checkpoints: Networks, crops: Path, tmp_path: Path, ask: Ask
) -> None:
    path = save_run(tmp_path / "fan.pth", checkpoints["fan"][1], AFEW, image_size=40, dataset="dfew")
    network = ("--checkpoint", path)
    assert "expect less, or give such crops" in ask(crops / "0.png", *network, kind=None).err
    assert ask(crops / "0.png", *network, "--aligned", kind=None).err == ""


def test_wrong_inputs_are_named_in_a_line_each_and_the_others_go_on(
    crops: Path, video: Path, tmp_path: Path, ask: Ask
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8 and no more")
    content = video.read_bytes()
    (tmp_path / "half.mp4").write_bytes(content[: len(content) // 2])
    wrong = [tmp_path / name for name in ("missing.mp4", "empty", "broken.jpg", "half.mp4")]
    status, out, err = ask(*wrong, crops, "--aligned", kind="classifier")
    assert status == 2
    for line, path in zip(err.splitlines(), wrong, strict=True):
        assert line.startswith(f"error: {path}")
    assert err.splitlines()[-1].endswith("no video in it, the file is damaged or not a video")
    assert f"{crops}: " in out
    status, out, err = ask(wrong[-1])  # alone: before the network is loaded
    assert status == 2 and out == "" and err.startswith(f"error: {wrong[-1]}: ") and err.count("\n") == 1


def test_a_name_is_one_line_whatever_is_in_it(crops: Path, tmp_path: Path, ask: Ask) -> None:
    odd = tmp_path / "two\nlines \x1b[31m<b>.png"
    odd.write_bytes((crops / "0.png").read_bytes())
    (tmp_path / "no\npicture.png").write_bytes(b"no picture")
    status, out, err = ask(odd, tmp_path / "no\npicture.png", "--aligned", "--csv", tmp_path / "a.csv")
    assert status == 2
    assert r"two\nlines \x1b[31m<b>.png: " in out and "\x1b" not in out
    assert "&lt;b&gt;.png" in (tmp_path / "predictions" / "predictions.html").read_text()
    (line,) = err.splitlines()
    assert line.startswith("error: ") and r"no\npicture.png: not an image" in line
    rows = list(csv.DictReader((tmp_path / "a.csv").open(encoding="utf-8", newline="")))
    assert [row["input"] for row in rows] == [str(odd), str(tmp_path / "no\npicture.png")]


@pytest.mark.parametrize(
    ("flags", "says"),
    [
        (("a.mp4", "--checkpoint", "nowhere.pth"), "--checkpoint nowhere.pth: no such file"),
        ((EXAMPLE, "--device", "abacus"), "--device"),
        (("a.mp4", "--csv", "."), "cannot be written"),
        (("a.mp4", "--csv", "/dev/null"), "/dev/null: not a regular file; name a file"),
        (("a.mp4", "--csv-frames", f"{__file__}/a.csv"), "a.csv: cannot be written; name a file in a folder"),
        (("a.mp4", "--window", "1", "--stride", "1e-300"), "--stride: '1e-300' is not a number from 0.01"),
        (("a.mp4", "--camera", "0"), "name what to answer: a video"),
        (("a.mp4", "--stride", "1"), "--stride needs --window"),
        (("a.mp4", "b.mp4", "--annotate", "c.mp4"), "--annotate writes one video"),
        (("a.mp4", "--annotate", "c.avi"), "c.avi: name a video ending in .mp4"),
        (("--camera", "0", "--csv", "c.csv"), "--camera goes with"),
    ],
)
def test_wrong_flags_are_named(flags: tuple[object, ...], says: str, ask: Ask) -> None:
    status, _, err = ask(*flags, kind=None)
    assert status == 2 and says in err and "Traceback" not in err


def test_outputs_do_not_overwrite_each_other_or_an_input(
    crops: Path, tmp_path: Path, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pth").touch()
    for flags, says in (
        ((crops, "--csv", "all.csv", "--csv-frames", f"../{tmp_path.name}/all.csv"), "all.csv: would be written twice"),
        (("crops/0.png", "--json", "crops/0.png"), "crops/0.png: would overwrite the input"),
        (("crops", "--csv", "crops/1.png"), "would overwrite the input crops"),
        (("crops/3.png", "--neutral", "crops/0.png", "--csv", "crops/0.png"), "would overwrite the input crops/0.png"),
        (("crops/3.png", "--checkpoint", "a.pth", "--json", "a.pth"), "would overwrite the input a.pth"),
    ):
        status, _, err = ask("--aligned", *flags, kind=None)
        assert status == 2 and says in err
    before = {path: path.read_bytes() for path in crops.iterdir()}
    status, out, _ = ask(*sorted(crops.iterdir()), "--aligned", "--output", crops)
    assert status == 0 and f"written: {crops / 'crops_0.png'}" in out
    assert {path: path.read_bytes() for path in before} == before


def test_a_network_whose_weights_overflow_is_refused(
    checkpoints: Networks, crops: Path, tmp_path: Path, predict: Call, capsys: Any
) -> None:
    saved = torch.load(checkpoints["fan"][0], weights_only=True)
    saved["state_dict"]["alpha.0.weight"] = torch.full((1, 512), 3e38)
    saved["state_dict"]["pred_fc2.weight"] = torch.full((7, 1024), 3e38)
    save_atomically({key: value for key, value in saved.items() if key != "checksum"}, tmp_path / "large.pth")
    assert predict("--aligned", crops, "--checkpoint", tmp_path / "large.pth") == 2
    err = capsys.readouterr().err
    assert f"error: {tmp_path / 'large.pth'}: its weights are too large to compute with; name another one\n" == err


def test_without_the_extras_aligned_frames_still_work_and_the_rest_says_what_to_install(
    checkpoints: Networks, crops: Path, tmp_path: Path
) -> None:
    (tmp_path / "clip.mp4").write_bytes(bytes(100))  # an empty file is told without PyAV
    script = """
import sys
sys.modules["av"] = sys.modules["facenet_pytorch"] = None  # importing them now raises ImportError
import Predict_Video
from Code.common.commandline import run_script
checkpoint, crops, picture, video = sys.argv[1:]
for args in (["--aligned", crops], [picture], [video, "--aligned"]):
    sys.argv = ["Predict_Video.py", "--checkpoint", checkpoint, "--no-figure", *args]
    print("status", run_script(Predict_Video.main))
"""
    paths = checkpoints["classifier"][0], crops, crops / "0.png", tmp_path / "clip.mp4"
    command = [sys.executable, "-c", script, *map(str, paths)]
    project = Path(Predict_Video.__file__).parent
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=240)
    assert [line for line in done.stdout.splitlines() if line.startswith("status")] == ["status 0"] + ["status 2"] * 2
    detection, video = done.stderr.splitlines()
    assert "facenet-pytorch" in detection and "PyAV" in video
    assert all("pip install -r requirements-faces.txt" in line for line in (detection, video))


@pytest.mark.parametrize("shape", [(120, 160), (1, 1)])
def test_no_face_is_said_and_is_exit_status_1(shape: tuple[int, int], tmp_path: Path, ask: Ask) -> None:
    picture = tmp_path / "grey.png"
    Image.fromarray(np.full(shape, 128, dtype=np.uint8)).save(picture)
    status, out, err = ask(picture, kind="classifier")
    assert (status, err) == (1, f"{picture}: no face in 1 frame\n")
    assert "neutral" in out  # which network, and its labels, are said all the same


@pytest.fixture
def clip(write_video: Write, scene_of: Draw, tmp_path: Path) -> Path:
    """Twenty frames at 10 per second: one person, who walks out of the picture after frame 14."""
    pictures = [scene_of(*([(0, 20 + n, 15, 112)] if n < 15 else [])) for n in range(20)]
    return write_video(tmp_path / "clip.mp4", pictures)


def test_a_video_becomes_an_answer_a_figure_a_curve_and_a_video(clip: Path, tmp_path: Path, ask: Ask) -> None:
    drawn = tmp_path / "answer.mp4"
    status, out, err = ask(clip, "--window", 1, "--stride", 0.5, "--annotate", drawn, "--json", tmp_path / "a.json")
    assert (status, err) == (0, "") and "(20 frames, 15 with a face)" in out
    record = json.loads((tmp_path / "a.json").read_text())[0]
    assert record["frames"] == [f"{number:07d}" for number in range(15)]
    heaviest = sorted(range(15), key=lambda index: -record["weights"][index])[:3]
    shown = ", ".join(f"{record['times'][index]:.2f} s ({record['weights'][index]:.4f})" for index in heaviest)
    assert f"highest weights: {shown}" in out

    for name in ("clip.png", "clip_curve.png"):
        with Image.open(tmp_path / "predictions" / name) as figure:
            assert figure.width > 900
    rows = list(csv.DictReader((tmp_path / "predictions" / "clip_curve.csv").open(encoding="utf-8")))
    assert [(row["start"], row["end"]) for row in rows] == [("0.000", "1.000"), ("0.500", "1.500"), ("1.000", "2.000")]
    assert [int(row["num_faces"]) for row in rows] == [10, 10, 5]
    for row in rows:
        assert row["expression"] == max(AFEW, key=lambda name: float(row[name]))
        assert sum(float(row[name]) for name in AFEW) == pytest.approx(1, abs=1e-4)

    with av.open(str(drawn)) as container:
        pictures = [frame.to_ndarray(format="rgb24").astype(int) for frame in container.decode(video=0)]
    assert len(pictures) == 20 and not list(tmp_path.glob(".*.tmp*"))
    box, nobody = ((picture[..., 0] > 180) & (picture[..., 2] < 90) & (picture[..., 1] > 80) for picture in
                   (pictures[5], pictures[18]))  # orange  # fmt: skip
    assert box.sum() > 200 and nobody.sum() < box.sum() / 5
    assert pictures[5][:8, :8].mean() < 60  # the running expression's dark field


@pytest.fixture
def pair(write_video: Write, scene_of: Draw, tmp_path: Path) -> Path:
    """Ten frames of two people, the second one in the last five only."""
    scenes = [scene_of((0, 10, 15, 112), *([(1, 150, 20, 90)] if n >= 5 else []), size=(256, 144)) for n in range(10)]
    return write_video(tmp_path / "videos" / "pair.mp4", scenes)


def test_everybody_is_answered_drawn_and_written_with_a_number(pair: Path, tmp_path: Path, ask: Ask) -> None:
    table, frames, drawn = tmp_path / "a.csv", tmp_path / "f.csv", tmp_path / "drawn.mp4"
    _, out, _ = ask(pair, "--no-figure")
    assert "(10 frames, 10 with a face, main person; 1 other person: --people all)" in out
    status, out, err = ask(pair, "--people", "all", "--csv", table, "--csv-frames", frames, "--annotate", drawn)
    assert (status, err) == (0, "")
    assert f"{pair}: 2 people (10 frames)" in out
    assert "  person 2: " in out and "(0.50 to 0.90 s, 5 frames, box " in out
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert [(row["person"], row["start"], row["end"]) for row in rows] == [
        *(("1", "0.000", "0.900"), ("2", "0.500", "0.900"))
    ]
    assert 150 <= float(rows[1]["left"]) < float(rows[1]["right"]) <= 240
    lines = list(csv.DictReader(frames.open(encoding="utf-8")))
    assert [line["person"] for line in lines] == ["1"] * 10 + ["2"] * 5
    assert [line["time"] for line in lines[10:]] == ["0.5000", "0.6000", "0.7000", "0.8000", "0.9000"]
    assert sum(float(line["weight"]) for line in lines[10:]) == pytest.approx(1, abs=1e-4)
    assert all(sum(float(line[name]) for name in AFEW) == pytest.approx(1, abs=1e-4) for line in lines)
    written = {path.name for path in (tmp_path / "predictions").iterdir() if path.is_file()}
    assert written == {"pair.png", "pair_person1.png", "pair_person2.png", "predictions.html"}

    def of_color(picture: np.ndarray, color: tuple[int, int, int]) -> int:
        return int((np.abs(picture.astype(int) - color).max(axis=2) < 40).sum())

    with av.open(str(drawn)) as container:
        pictures = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert len(pictures) == 10
    assert all(of_color(pictures[number], (0, 114, 178)) > 200 for number in (2, 7))
    assert of_color(pictures[2], (230, 159, 0)) < 50 < of_color(pictures[7], (230, 159, 0))


def test_a_folder_of_videos_is_answered_on_one_page(clip: Path, pair: Path, tmp_path: Path, ask: Ask) -> None:
    (tmp_path / "videos" / "clip.mp4").write_bytes(clip.read_bytes())
    status, out, _ = ask(clip, tmp_path / "videos", "--fps", 5)
    assert status == 0 and f"{tmp_path / 'videos' / 'clip.mp4'}: " in out and f"{pair}: " in out
    assert f"page: {tmp_path / 'predictions' / 'predictions.html'}" in out
    figures = {path.name for path in (tmp_path / "predictions").glob("*.png")}
    assert figures == {f"{tmp_path.name}_clip.png", "videos_clip.png", "pair.png"}
    page = (tmp_path / "predictions" / "predictions.html").read_text(encoding="utf-8")
    assert page.count("<article") == 3 and page.count(">clip.mp4</h3>") == 2
    assert f"in {tmp_path / 'videos'}" in page and 'name="folder"' in page
    assert all(f'href="{name}"' in page for name in figures)
    assert "0.20 s" in page and "data:image/jpeg;base64," in page and "://" not in page
    assert ask(clip).status == 0  # the page shows the answers of one call
    assert (tmp_path / "predictions" / "predictions.html").read_text(encoding="utf-8").count("<article") == 1
    assert len(list((tmp_path / "predictions").glob("*.png"))) == 4


def test_an_annotated_video_keeps_its_sound(tmp_path: Path, ask: Ask) -> None:
    drawn = tmp_path / "drawn.mp4"
    status, _, err = ask(talk(tmp_path / "talk.mkv", "aac"), "--aligned", "--annotate", drawn, "--no-figure")
    assert (status, err) == (0, "")
    with av.open(str(drawn)) as container:
        heard = np.concatenate([part.to_ndarray()[0] for part in container.decode(audio=0)])
    assert len(heard) == pytest.approx(0.8 * RATE, rel=0.1)


def test_mistakes_are_found_before_torch_is_imported() -> None:
    program = """
import sys
import Predict_Video
from Code.common.commandline import run_script
for flags in (["--help"], ["--window", "0"], ["nowhere.mp4"], ["README.md", "--csv", "no/a.csv"]):
    sys.argv = ["Predict_Video.py", *flags]
    try:
        run_script(Predict_Video.main)
    except SystemExit:
        pass
    assert "torch" not in sys.modules, flags
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=Path(Predict_Video.__file__).parent, timeout=60)
    assert done.returncode == 0


def test_a_stream_is_answered_live_and_a_missing_camera_is_named(clip: Path, tmp_path: Path, ask: Ask) -> None:
    """A file stands for the camera: the same code reads both, except that no frame of a file is dropped."""
    status, out, _ = ask("--camera", clip, "--annotate", tmp_path / "live.mp4", "--window", 0.4)
    assert status == 0
    lines = [line for line in out.splitlines() if "frames/s" in line]
    assert len(lines) == 2
    assert any(name in lines[0] for name in AFEW)
    with av.open(str(tmp_path / "live.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 20
    status, _, err = ask("--camera", "97")
    assert status == 2
    assert err.startswith("error: --camera 97: ")
    assert len(err.splitlines()) == 1


def test_settings_of_the_machine_stop_nothing(checkpoints: Networks, crops: Path, tmp_path: Path) -> None:
    """A notebook's backend and a style with TeX; no stdout and no stderr, as under pythonw and in daemons."""
    (tmp_path / "matplotlibrc").write_text("text.usetex: true")
    names = {"MPLBACKEND": "module://matplotlib_inline.backend_inline", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    table = tmp_path / "a.csv"
    command = [sys.executable, str(Path(Predict_Video.__file__)), "--aligned", str(crops), "--csv", str(table)]
    command += ["--checkpoint", str(checkpoints["fan"][0]), "--device", "cpu", "--output", str(tmp_path / "figures")]
    closed = ["sh", "-c", 'exec "$@" >&- 2>&-', "sh", *command]
    assert subprocess.run(closed, env={**os.environ, **names}, timeout=240).returncode == 0
    assert len(list(csv.DictReader(table.open()))) == 1
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["crops.png", "predictions.html"]


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


def test_figures_overwrite_no_input_and_no_reference(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    for name in ("one.png", "pictures.png", "old.png"):
        (folder / name).touch()
    assert [*figure_names([f"{folder}/one.png", "elsewhere/old.mp4"], folder).values()] == ["pictures_one", "old"]
    assert [*figure_names([str(folder)], folder).values()] == [f"{tmp_path.name}_pictures"]  # a folder of frames
    assert [*figure_names(["elsewhere/one.mp4"], folder, f"{folder}/one.png").values()] == ["elsewhere_one"]

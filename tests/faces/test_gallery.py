"""What the figures of several inputs are called, and the page that shows them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from Code import Predictor
from Code.common.errors import UsageError
from Code.faces.gallery import Gallery, card_of
from Code.network.fan import FAN


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


def test_long_names_are_cut_and_stay_apart(tmp_path: Path) -> None:
    """A file's name may have 255 bytes, which is too long for what is derived from it."""
    letters = "开" * 80  # 240 bytes
    paths = [f"a/{letters}1.mp4", f"a/{letters}2.mp4", f"b/{letters}2.mp4", f"{'f' * 250}/{'e' * 246}.mp4"]
    names = Gallery(tmp_path / "predictions").names(paths)
    assert len(set(names)) == 4
    assert all(len(name.encode()) <= 201 and "\ufffd" not in name for name in names)
    assert Gallery(tmp_path / "predictions").names(paths) == names


ODD = "<img src=x onerror=alert(1)>"  # a file name like any other


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (requirements-dev.txt)")
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no browser: apt-get install chromium chromium-driver (.ci/run does)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"):
        options.add_argument(flag)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def test_the_page_filters_sorts_and_fits_a_phone(
    browser: Any, checkpoints: dict[str, tuple[Path, FAN]], crops: Path, tmp_path: Path
) -> None:
    names = ["a/one", "b/one", f"b/{ODD}"]
    for number, name in enumerate(names):
        (tmp_path / name).mkdir(parents=True)
        Image.open(crops / f"{number}.png").save(tmp_path / name / "frame.png")
    predictor = Predictor(checkpoints["classifier"][0], "cpu")
    answers = predictor([tmp_path / name for name in names], aligned=True)
    gallery = Gallery(tmp_path / "predictions")
    reserved = gallery.names([answer.path for answer in answers])
    assert reserved == ["a_one", "b_one", ODD]
    for name, answer in zip(reserved, answers, strict=True):
        gallery.add(name, [card_of(answer, [0], answer.crops(), [tmp_path / "predictions" / f"{name}.png"])])
    page = gallery.write()

    browser.get(page.as_uri())
    shown = """
        const cards = [...document.querySelectorAll('.clip')].filter(card => !card.hidden);
        return cards.map(card => card.querySelector('h3').innerText);"""
    assert sorted(browser.execute_script(shown)) == sorted(["one", "one", ODD])
    choose = """
        const field = document.querySelector(`[name=${arguments[0]}]`);
        field.value = [...field.options].find(o => o.text === arguments[1]).value;
        field.dispatchEvent(new Event('change', {bubbles: true}));"""
    browser.execute_script(choose, "folder", str(tmp_path / "a"))
    assert browser.execute_script(shown) == ["one"]
    assert browser.execute_script("return document.querySelector('.count').innerText") == "1 of 3 answers"
    browser.execute_script(choose, "folder", "all")
    browser.execute_script(choose, "said", answers[0].expression)
    same = sum(answer.expression == answers[0].expression for answer in answers)
    assert len(browser.execute_script(shown)) == same
    browser.execute_script(choose, "said", "all")
    browser.execute_script(choose, "sort", "probability, lowest first")
    sure = "return [...document.querySelectorAll('.clip')].map(c => Number(c.dataset.certainty))"
    certainties = browser.execute_script(sure)
    assert certainties == sorted(certainties) and len(certainties) == 3
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    )
    assert browser.execute_script("return document.documentElement.scrollWidth") <= 390
    assert browser.get_log("browser") == []


RECORD = {
    "input": "/somewhere/one.mp4",
    "cards": [
        {
            "name": "one.mp4", "folder": "/somewhere", "network": "fan.pth", "expression": "Sad", "certainty": 0.75,
            "probabilities": {"Sad": 0.75, "Happy": 0.25}, "seen": "1 of 1 frame", "num_faces": 1, "course": [1.0],
            "problems": [], "figures": ["one.png"],
            "tiles": [
                {"label": "1", "frame": "0000000", "alpha": 50, "weight": 1.0, "share": 100, "mark": "",
                 "picture": "data:image/jpeg;base64,/9j/"}
            ],
        }
    ],
}  # fmt: skip


def spoiled(**fields: Any) -> dict[str, Any]:
    return {"input": "x", "cards": [RECORD["cards"][0] | fields]}  # type: ignore[index,operator]


TILE: dict[str, Any] = RECORD["cards"][0]["tiles"][0]  # type: ignore[index]
DAMAGED = [
    (b"", "is not JSON"),
    (b"\xff", "is not UTF-8"),
    (b"[" * 100_000, "has brackets within brackets"),
    (b"[1]", "expected object, got array"),
    (b'{"input": 3}', "input: expected str, got int"),
    (b'{"version": 2, "input": 3}', "was written by a newer version of this program (format 2"),
    ({"input": "x", "cards": {}}, "cards: expected array, got object"),
    ({"input": "x", "cards": [{}]}, "cards[0]: has no field"),
    (spoiled(certainty="high"), "cards[0].certainty: expected float, got str"),
    (spoiled(certainty=7), "cards[0]: certainty, probabilities and course: expected numbers from 0 to 1"),
    (spoiled(course=[float("nan")]), "expected numbers from 0 to 1"),
    (spoiled(expression="Bored"), "cards[0]: probabilities: has no 'Bored'"),
    (spoiled(figures=["../../etc/passwd"]), "cards[0]: figures: expected names of files beside the page"),
    (spoiled(figures=["\udcff.png"]), "cards[0]: figures: expected names of files beside the page"),
    (spoiled(tiles=[{**TILE, "picture": "http://elsewhere/x.jpg"}]), "picture: is not a JPEG in the page itself"),
]


@pytest.mark.parametrize(("data", "says"), DAMAGED)
def test_a_damaged_record_is_named_and_left_out(data: bytes | dict[str, Any], says: str, tmp_path: Path) -> None:
    records = tmp_path / ".answers"
    records.mkdir()
    (records / "one.json").write_text(json.dumps(RECORD))
    broken = records / "broken.json"
    broken.write_bytes(data if isinstance(data, bytes) else json.dumps(data).encode())
    before = broken.read_bytes()
    lines: list[str] = []
    gallery = Gallery(tmp_path, lines.append)
    assert gallery.names(["/elsewhere/broken.mp4", "/somewhere/one.mp4"]) == ["elsewhere_broken", "one"]
    gallery.drop("elsewhere_broken")
    page = gallery.write().read_text()
    assert "1 answer" in page and "one.mp4" in page
    (line,) = lines
    assert line.startswith(f"{broken}: ") and says in line and "\n" not in line
    assert sorted(path.name for path in records.iterdir()) == ["broken.json", "one.json"]
    assert broken.read_bytes() == before


def test_two_processes_never_take_one_name(tmp_path: Path) -> None:
    first, second = Gallery(tmp_path), Gallery(tmp_path)
    assert first.names(["a/one.mp4"]) == ["one"]
    assert second.names(["b/one.mp4"]) == ["b_one"] and second.names(["a/one.mp4"]) == ["one"]


def test_figures_overwrite_no_other_file(tmp_path: Path) -> None:
    pictures = tmp_path / "pictures"
    pictures.mkdir()
    for name in ("one.png", "two_curve.CSV", "four.jpg"):
        (pictures / name).touch()
    inputs = [f"{pictures}/one.png", "elsewhere/two.mp4", "elsewhere/three.mp4", "elsewhere/four.mp4"]
    names = ["pictures_one", "elsewhere_two", "three", "four"]
    assert Gallery(pictures).names(inputs) == names
    for name in ("three.png", "four_person2_curve.csv"):  # written by that call
        (pictures / name).touch()
    assert Gallery(pictures).names(inputs) == names


def test_the_records_are_no_link(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / ".answers").symlink_to(tmp_path / "mine")
    with pytest.raises(UsageError, match=r"\.answers: is a link, and nothing is written through links"):
        Gallery(tmp_path)

"""What the figures of several inputs are called, and the page that shows them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from Code import Predictor
from Code.faces.figures import card_of, figure_names, write_gallery
from Code.network.fan import FAN
from Code.results.page import Pictures


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
    figures = [tmp_path / f"{name}.png" for name in ("a_one", "b_one", ODD)]
    pictures = Pictures(len(answers))
    cards = [card_of(each, [0], each.crops(), [path], pictures) for each, path in zip(answers, figures, strict=True)]
    page = write_gallery(tmp_path / "predictions", cards, pictures)

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

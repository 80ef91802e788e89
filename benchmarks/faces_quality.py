"""How well faces are found between key frames, and how well prepared faces are aligned.

`--videos` compares following faces between key frames with full passes on every frame: faces found in the same
frames, their overlap, and how far apart their eyes are; and the same for the main person's track. As a yardstick, it
prints the overlap of full passes on consecutive frames.

Given an output of Prepare_Faces.py, it detects the eyes again in the crops. Faces in profile, which are aligned by
their box (`face_similarity`), have their eyes elsewhere on purpose, and are counted apart. If several faces are found
in a crop, the one nearest to where its own face was put counts.

examples:
  python benchmarks/faces_quality.py --videos clips/*.mp4
  python benchmarks/faces_quality.py faces --sheets sheets
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from Code.faces.align import FACE_SIZE, PAPER_EYES, face_similarity
from Code.faces.detect import Detector, overlap
from Code.faces.keyframes import SearchedFrame, find_faces
from Code.faces.prepare import COLUMNS
from Code.faces.settings import DETECT_EVERY
from Code.faces.track import SAME_PERSON_IOU, Track, Tracker, credible, ranked
from Code.faces.video import FileSource

SHOWN = 24
BORDER = 112  # gray around a crop: the detector is bad at faces that reach the edge of the picture
THUMB = 112


@dataclass(frozen=True)
class Written:
    """A written face: its frame, whether it was aligned by its box, and the center of its landmarks."""

    number: int
    guarded: bool
    middle: np.ndarray


def written(folder: Path) -> dict[str, list[Written]]:
    """The faces of each clip in faces.csv."""
    clips: dict[str, list[Written]] = defaultdict(list)
    with (folder / "faces.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            if not row["track"]:
                continue
            box = np.array([float(row[name]) for name in COLUMNS[3:7]])
            landmarks = np.array([float(row[name]) for name in COLUMNS[7:17]]).reshape(5, 2)
            matrix = face_similarity(landmarks, box)
            guarded = not np.allclose(matrix, face_similarity(landmarks))
            clips[row["clip"]].append(Written(int(row["frame"]), guarded, matrix @ [*landmarks.mean(axis=0), 1]))
    return clips


def contact_sheet(folder: Path, frames: list[int], title: str) -> Image.Image:
    """Some faces of a clip, evenly spaced, with frame numbers and the template's eyes."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(SHOWN, len(frames)))]
    columns = 8
    sheet = Image.new("RGB", (columns * THUMB, 16 + THUMB * -(-len(chosen) // columns)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((4, 2), title, fill="black")
    for at, number in enumerate(chosen):
        left, top = at % columns * THUMB, 16 + at // columns * THUMB
        with Image.open(folder / f"{number:07d}.jpg") as image:
            sheet.paste(image.resize((THUMB, THUMB)), (left, top))
        for x, y in PAPER_EYES:
            px, py = left + x * THUMB / FACE_SIZE, top + y * THUMB / FACE_SIZE
            draw.line((px - 3, py, px + 3, py), fill="lime")
            draw.line((px, py - 3, px, py + 3), fill="lime")
        draw.text((left + 3, top + THUMB - 12), str(number), fill="yellow")
    return sheet


def eyes_again(folder: Path, faces: list[Written], detector: Detector) -> dict[int, np.ndarray]:
    """Eyes [2, 2], in pixels of the crop, by frame; frames whose face is not found again are left out."""
    found: dict[int, np.ndarray] = {}
    for face in faces:
        image = np.asarray(Image.open(folder / f"{face.number:07d}.jpg"))
        seen = detector(np.pad(image, ((BORDER, BORDER), (BORDER, BORDER), (0, 0)), constant_values=127))
        if len(seen.boxes):
            away = np.hypot(*(seen.landmarks.mean(axis=1) - BORDER - face.middle).T)
            found[face.number] = seen.landmarks[away.argmin()][:2] - BORDER
    return found


def two(values: np.ndarray) -> str:
    """Median / 95 %."""
    return f"{np.percentile(values, 50):.2f} / {np.percentile(values, 95):.2f}" if len(values) else "-"


def eye_distance(landmarks: np.ndarray, other: np.ndarray) -> float:
    """The larger distance in pixels between the same eyes of two faces' landmarks [5, 2]."""
    return float(np.hypot(*(landmarks - other)[:2].T).max())


def main_path(found: list[SearchedFrame]) -> tuple[Track | None, int]:
    """The main person's track, and the number of people."""
    tracker = Tracker()
    for position, (frame, faces, cut, full) in enumerate(found):
        tracker.update(position, frame.time, faces, cut, full=full)
    people = credible(tracker.tracks, len(found))
    return next((tracker.tracks[index] for index in ranked(tracker.tracks, people)), None), len(people)


def compare(path: Path, detector: Detector, every: int) -> dict[str, list[float]]:
    """Prints what following changes in one video; returns overlaps and eye distances."""
    frames = list(FileSource(path, threads=1).frames())
    full = list(find_faces(iter(frames), detector, 1))
    followed = list(find_faces(iter(frames), detector, every))
    values: dict[str, list[float]] = {"iou": [], "eyes": [], "main iou": [], "main eyes": [], "consecutive": []}
    missed = extra = 0
    for index, (one, other) in enumerate(zip(full, followed, strict=True)):
        matched = 0
        for box, landmarks in zip(one.faces.boxes, one.faces.landmarks, strict=True):
            shared = overlap(other.faces.boxes, box)
            if not len(shared) or shared.max() < SAME_PERSON_IOU:
                missed += 1
                continue
            matched += 1
            values["iou"].append(shared.max())
            values["eyes"].append(eye_distance(other.faces.landmarks[shared.argmax()], landmarks))
            before = overlap(full[index - 1].faces.boxes, box) if index else np.zeros(0)
            if len(before) and before.max() > SAME_PERSON_IOU:
                values["consecutive"].append(before.max())
        extra += len(other.faces) - matched
    (track, people), (again, people_again) = main_path(full), main_path(followed)
    note = ""
    if track is not None and again is not None:
        place = {position: row for position, row in zip(again.positions, again.table, strict=True)}
        both = [(row, place[p]) for p, row in zip(track.positions, track.table, strict=True) if p in place]
        values["main iou"] = [float(overlap(a[None, :4], b[:4])[0]) for a, b in both]
        values["main eyes"] = [eye_distance(a[4:14].reshape(5, 2), b[4:14].reshape(5, 2)) for a, b in both]
        note = f"; main person in {len(track)} frames and {len(again)}, {len(both)} of them the same"
    cuts = [[n for n, found in enumerate(run) if found.cut] for run in (full, followed)]
    print(
        f"{path.name}: {len(values['iou']) + missed} faces, {missed} missed, {extra} more; {summary(values)}; people "
        f"{people} and {people_again}{note}; cuts {cuts[0]}{'' if cuts[0] == cuts[1] else f' and {cuts[1]}'}",
        flush=True,
    )
    return values


def summary(values: dict[str, list[float]]) -> str:
    """Overlap and eye distances in one line."""
    if not values["iou"]:
        return "no face"
    below = [f"{100 * np.mean(np.array(values[name]) < 0.9):.1f} %" for name in ("iou", "main iou", "consecutive")]
    return (
        f"overlap below 0.9 in {below[0]} (main person {below[1]}; full passes on consecutive frames {below[2]}), eyes "
        f"{two(np.array(values['eyes']))} px (main person {two(np.array(values['main eyes']))})"
    )


def compare_all(paths: list[Path], every: int) -> None:
    """Prints a line per video, and one for all."""
    detector = Detector()
    total: dict[str, list[float]] = {}
    for path in paths:
        for name, numbers in compare(path, detector, every).items():
            total.setdefault(name, []).extend(numbers)
    print(f"all: {summary(total)}")


def main() -> None:
    """Prints a line per clip."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="an output of Prepare_Faces.py")
    parser.add_argument("--videos", type=Path, nargs="+", help="compare full passes with following faces in these")
    parser.add_argument("--detect-every", type=int, default=DETECT_EVERY, help="for --videos")
    parser.add_argument("--sheets", type=Path, help="also write a contact sheet per clip into this folder")
    args = parser.parse_args()
    if (args.folder is None) == (args.videos is None):
        parser.error("name a folder or --videos")
    torch.set_num_threads(1)
    if args.videos:
        compare_all(args.videos, args.detect_every)
        return
    detector = Detector(min_face=60)
    of_all: dict[bool, list[float]] = {False: [], True: []}
    print("clip: faces, found again; eyes' distance from the template median / 95 % (px); in profile; jitter (px)")
    for clip, faces in written(args.folder).items():
        found = eyes_again(args.folder / clip, faces, detector)
        errors: dict[bool, list[float]] = {False: [], True: []}
        for face in faces:
            if face.number in found:
                errors[face.guarded].append(np.hypot(*(found[face.number] - PAPER_EYES).T).max())
        for guarded, values in errors.items():
            of_all[guarded] += values
        # Jitter: how far the middle between the eyes moves from one frame to the next, root mean square.
        steps = [found[number + 1].mean(axis=0) - found[number].mean(axis=0) for number in found if number + 1 in found]
        jitter = np.sqrt((np.array(steps) ** 2).sum(axis=1).mean()) if steps else float("nan")
        profile = f"{len(errors[True])} in profile: {two(np.array(errors[True]))}"
        print(
            f"{clip}: {len(faces)}, {len(found)}; {two(np.array(errors[False]))}; {profile}; {jitter:.2f}", flush=True
        )
        if args.sheets:
            args.sheets.mkdir(parents=True, exist_ok=True)
            sheet = contact_sheet(args.folder / clip, [face.number for face in faces], clip)
            sheet.save(args.sheets / f"{clip.replace('/', '_')}.png")
    for name, chosen in (("frontal", of_all[False]), ("in profile", of_all[True])):
        print(f"{name}: {two(np.array(chosen))} over {len(chosen)} faces")
    print(f"all: {two(np.array(of_all[False] + of_all[True]))}")


if __name__ == "__main__":
    main()

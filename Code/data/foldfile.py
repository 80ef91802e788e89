"""The published fold file of CK+: every fold's sequences and classes, in blocks with a header.

    1-fold 33 Angry 2 Sad 4 Disgust 7 Surprise 8 Fear 4 Contempt 1 Happy 7
    S130/007 Angry
    ...

The header's numbers are how many lines follow, in all and per class; classes without a clip may be absent.
Any dataset's folds can be kept in this format: a line is `<clip> <Class>` as in AFEW's lists.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Sequence

from Code.data.clips import Clip, DataError
from Code.data.lists import ListedClip, ListError, quoted, read_text, relative_name, text_lines, unknown_class

_HEADER = re.compile(r"(\d+)-fold\s+(\d+)((?:\s+\S+\s+\d+)*)")
# The published file's header names classes in this order; others follow in the order of their labels.
_HEADER_ORDER = ("Angry", "Sad", "Disgust", "Surprise", "Fear", "Contempt", "Happy")


def read_fold_file(path: str, labels: Sequence[str]) -> tuple[list[ListedClip], list[str]]:
    """Parses a fold file; whether its clips exist is not looked at.

    Args:
        path: the file.
        labels: the class names, in the order of their indices.

    Returns:
        The clips with their folds, in order, and a line of text for every problem: folds that are not
        numbered 1, 2, ..., numbers of lines that a header contradicts, unknown classes, clips named twice.
    """
    try:
        text = read_text(path)
    except ListError as error:
        return [], [str(error)]
    clips: list[ListedClip] = []
    problems: list[str] = []
    first_seen: dict[str, int] = {}
    fold, announced, header_line = 0, Counter[str](), 0

    def check_announced() -> None:
        found = Counter(labels[clip.label] for clip in clips if clip.fold == fold)
        if fold and announced["all"] != found.total():
            problems.append(
                f"{path}, line {header_line}: fold {fold} announces {announced['all']} clips, "
                f"but {found.total()} follow; is a part missing?"
            )
        elif fold:
            for name in announced.keys() - {"all"}:
                if announced[name] != found[name]:
                    problems.append(
                        f"{path}, line {header_line}: fold {fold} announces {announced[name]} {name}, "
                        f"but {found[name]} follow"
                    )

    for number, line in text_lines(text):
        header = _HEADER.fullmatch(line)
        if header:
            check_announced()
            words = header[3].split()
            announced = Counter(dict(zip(words[::2], map(int, words[1::2]), strict=True)))
            announced["all"], header_line = int(header[2]), number
            if int(header[1]) != fold + 1:
                problems.append(f"{path}, line {number}: fold {header[1]} where fold {fold + 1} is expected")
            fold += 1
            continue
        try:
            clips.append(_parse(line, labels, number, fold, first_seen))
        except ValueError as error:
            problems.append(f"{path}, line {number}: {error}")
            announced["all"] -= 1  # said once
    check_announced()
    if not clips and not problems:
        problems.append(f"{path}: the fold file is empty; it begins with `1-fold <clips> <Class> <clips> ...`")
    return clips, problems


def _parse(line: str, labels: Sequence[str], number: int, fold: int, first_seen: dict[str, int]) -> ListedClip:
    path, _, class_name = line.replace("\t", " ").rpartition(" ")
    if not fold:
        raise ValueError(f"{quoted(line)} comes before any header `1-fold <clips> <Class> <clips> ...`")
    if not path.strip():
        raise ValueError(f"{quoted(line)} is malformed; expected <clip> <Class>")
    if class_name not in labels:
        raise ValueError(unknown_class(class_name, labels))
    name = relative_name(path.strip())
    if name in first_seen:
        raise ValueError(f"{quoted(name)} is already in line {first_seen[name]}; a clip belongs to one fold")
    first_seen[name] = number
    return ListedClip(name, labels.index(class_name), number, fold=fold)


def write_fold_file(path: str | os.PathLike[str], folds: Sequence[Sequence[Clip]], labels: Sequence[str]) -> None:
    """Writes folds in the published format: by class name, then by clip.

    Raises:
        DataError: the file cannot be written.
    """
    order = [name for name in _HEADER_ORDER if name in labels]
    order += [name for name in labels if name not in order]
    lines = []
    for number, clips in enumerate(folds, 1):
        counts = Counter(labels[clip.label] for clip in clips)
        parts = [f"{name} {counts[name]}" for name in order if counts[name]]
        lines.append(" ".join([f"{number}-fold", str(len(clips)), *parts]))
        named = sorted((labels[clip.label], clip.name) for clip in clips)
        lines += [f"{name} {class_name}" for class_name, name in named]
    try:
        with open(path, "w", encoding="utf-8", newline="\n") as file:
            file.write("\n".join(lines) + "\n")
    except OSError as error:
        raise DataError(f"--write-folds {os.fspath(path)}: cannot be written ({error.strerror})") from None

"""Writes a network as an ONNX file, and compares the file with torch."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import ProjectError
from ..common.files import atomic_file
from ..network.fan import FAN
from ..network.pretrained import knows_fer2013
from .graphs import FeaturesGraph, HeadGraph, WholeGraph

OPSET = 18  # what torch's exporter writes without conversion
TOLERANCE = 1e-4
MOST_BYTES = 2**31 - 2**20  # a protobuf message's limit of 2 GiB, less what the graph takes
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Batches that the file is compared on: clips, and frames of the longest one. Each batch has a clip of one frame.
CHECKED = ((1, 1), (2, 1), (1, 4), (5, 3), (3, 6))


class ExportError(ProjectError, RuntimeError):
    """The file cannot be written, or its outputs differ from torch's."""


def export(fan: FAN, info: dict[str, Any], output: Path, part: str = "all", *, image_size: int | None = None) -> float:
    """Writes a network, or a part of it, as an ONNX file, and compares it with torch.

    Args:
        fan: in evaluation mode, on the CPU.
        info: returned by `load_fan` with it.
        output: the file. An existing file is replaced only after the comparison.
        part: "all", "features" or "head", see `Code.onnx.export`.
        image_size: S in pixels (default: that of the checkpoint).

    Returns:
        See `largest_difference`.

    Raises:
        ExportError: a package of requirements-onnx.txt is missing, the network is too large for an ONNX file, the file
            cannot be written, or its outputs differ from torch's by more than `TOLERANCE`.
        UsageError: the backbone does not take images of this size.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ExportError(f"the export needs {', '.join(missing)}: pip install -r requirements-onnx.txt")
    size = image_size or info["image_size"]
    fan.backbone.check_image_size(size)
    num_bytes = sum(parameter.nbytes for parameter in (fan.head if part == "head" else fan).parameters())
    if num_bytes > MOST_BYTES:
        raise ExportError(
            f"{fan.backbone.name} takes {num_bytes / 2**30:.1f} GiB, but an ONNX file holds at most 2 GiB; "
            "export --part head, or train a smaller backbone"
        )
    model = _traced(fan, part, size)
    temporary = output.with_name(f".{output.stem}.{os.getpid()}.onnx")
    try:
        try:
            _write(model, temporary, {})
            difference = largest_difference(fan, temporary, part, size)
            if not difference <= TOLERANCE:  # NaN too
                raise ExportError(
                    f"{output}: was not written, since its outputs differ from torch's by {difference:.1e}, "
                    f"more than {TOLERANCE:.0e}; try other versions of torch and onnxruntime"
                )
            _write(model, temporary, about(fan, info, part, size, difference))
            with atomic_file(output) as file, temporary.open("rb") as checked:
                shutil.copyfileobj(checked, file)
        except OSError as error:
            raise ExportError(f"--output {output}: cannot be written ({error.strerror or error})") from error
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _traced(fan: FAN, part: str, size: int) -> Any:
    """The graph, as an onnx.ModelProto.

    Traces an example in which each dynamic size is at least 2, since torch takes 1 for a constant.
    """
    clips, frames = torch.export.Dim("clips"), torch.export.Dim("frames")
    lengths = torch.tensor([3, 2])
    model: nn.Module
    example: tuple[Tensor, ...]
    sizes: dict[str, dict[int, Any]]
    if part == "features":
        model, example, sizes = FeaturesGraph(fan), (torch.rand(2, 3, size, size),), {"images": {0: frames}}
    elif part == "head":
        model, example = HeadGraph(fan), (torch.rand(2, 3, fan.feature_size), lengths)
        sizes = {"features": {0: clips, 1: frames}, "lengths": {0: clips}}
    else:
        model, example = WholeGraph(fan), (torch.rand(2, 3, 3, size, size), lengths)
        sizes = {"images": {0: clips, 1: frames}, "lengths": {0: clips}}
    with _quiet():
        program = torch.onnx.export(
            model.eval(),
            example,
            input_names=list(sizes),
            output_names=["features"] if part == "features" else ["logits", "weights"],
            dynamic_shapes=sizes,
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    # The exporter adds its source lines and paths of this machine to each node and value.
    for entry in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del entry.metadata_props[:]
    del proto.graph.metadata_props[:], proto.functions[:]
    proto.graph.name, proto.producer_name = "emotion-fan", "Emotion-FAN"
    return proto


def _write(model: Any, path: Path, metadata: dict[str, str]) -> None:
    import onnx

    onnx.helper.set_model_props(model, metadata)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString())


def about(fan: FAN, info: dict[str, Any], part: str, size: int, difference: float) -> dict[str, str]:
    """The metadata_props of the file. Lists and numbers are JSON."""
    source = Path(info["path"])
    return {
        "format": "emotion-fan-onnx/1",
        "part": part,
        "labels": json.dumps(list(info["labels"])),
        "image_size": str(size),
        "color_mode": "L" if knows_fer2013(info) else "RGB",  # Pillow's names; gray is repeated in all three channels
        "input_range": "[0, 1]",
        "mean": "[0.0, 0.0, 0.0]",
        "std": "[1.0, 1.0, 1.0]",
        "at_type": str(fan.at_type),
        "attention": fan.head.title,
        "backbone": fan.backbone.name,
        "opset": str(OPSET),
        "checkpoint": str(source.name if source.parent.name in ("", "pretrain_model") else "/".join(source.parts[-2:])),
        "checkpoint_kind": info["kind"],
        "dataset": str(info["dataset"] or ""),
        "epoch": "" if info["epoch"] is None else str(info["epoch"]),
        "torch": torch.__version__,
        "largest_difference": f"{difference:.2e}",
    }


@torch.inference_mode()
def largest_difference(fan: FAN, path: Path, part: str, size: int) -> float:
    """The largest difference of onnxruntime's outputs from those of `fan`, on random clips; NaN if one is NaN.

    Relative to the largest value of an output that exceeds 1, since rounding errors grow with the values.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = [0.0]
    for clips, frames in CHECKED:
        lengths = torch.randint(1, frames + 1, (clips,), generator=generator)
        lengths[0], lengths[-1] = frames, 1 if clips > 1 else frames
        images = _pictures(clips * frames, size, generator)
        if part == "features":
            given, expected = {"images": images}, [fan.encode(images)]
        else:
            padding = torch.arange(frames) >= lengths.unsqueeze(1)  # [B, K]
            whole = images.unflatten(0, (clips, frames))
            features = fan.encode(images).unflatten(0, (clips, frames)).masked_fill(padding.unsqueeze(-1), torch.nan)
            output = fan(whole, lengths)
            expected = [output.logits, output.weights]
            given = {"images": whole} if part == "all" else {"features": features}
            given["lengths"] = lengths
        found = session.run(None, {name: value.numpy() for name, value in given.items()})
        worst += [
            float(np.abs(a - b.numpy()).max() / max(1.0, float(b.abs().max())))
            for a, b in zip(found, expected, strict=True)
        ]
    return float(np.max(worst))


def _pictures(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Random images [count, 3, size, size] in [0, 1]: coarse spots with fine noise, of different brightness."""
    coarse = torch.rand(count, 3, 6, 6, generator=generator)
    blots = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear")
    light = torch.rand(count, 1, 1, 1, generator=generator)
    return (blots * light + 0.2 * torch.rand(count, 3, size, size, generator=generator)).clamp(0, 1)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silences the exporter's warnings about its internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)

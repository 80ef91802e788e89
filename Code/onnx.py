"""Exports a trained network to ONNX, to run it without torch: in other languages, in browsers, on phones.

    python -m Code.onnx --checkpoint model/RUN/best.pth --output fan.onnx
    python -m Code.onnx --checkpoint model/RUN --part features --output features.onnx
    python -m Code.onnx --checkpoint model/RUN --part head --output head.onnx

    all       images [B, K, 3, S, S], lengths [B]   -> logits [B, C], weights [B, K]
    features  images [N, 3, S, S]                   -> features [N, D]
    head      features [B, K, D], lengths [B]       -> logits [B, C], weights [B, K]

B, K and N are dynamic; S is the image size. Images are float32 in [0, 1]. Lengths are int64, the number of frames of
each clip, from 1 to K; frames beyond them are padding, which has no influence. `all` runs the backbone on padding, too.
The metadata_props of the file say what a program needs: labels, image_size, color_mode, ... (docs/onnx_example.py).

The new file is compared with torch on clips of different lengths. If it differs, it is not kept.
Needs `pip install -r requirements-onnx.txt`.
exit status: 0 written; 2 wrong input, or the outputs differ from torch's
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from .common.commandline import check_outputs, number, run_script, script_parser
from .common.errors import ProjectError, require
from .common.files import atomic_file, writing
from .common.names import ATTENTION_TITLES, MAX_IMAGE_SIZE
from .network.fan import FAN
from .network.weights import find_checkpoint, load_fan
from .readers import crop_of

OPSET = 18  # what torch's exporter writes without conversion
TOLERANCE = 1e-4
PACKAGES = ("onnx", "onnxscript", "onnxruntime")
# Batches that the file is compared on: clips, and frames of the longest one; each has a clip of one frame.
CHECKED = ((1, 1), (2, 1), (1, 4), (5, 3), (3, 6))


class ExportError(ProjectError, RuntimeError):
    """The outputs of the file differ from torch's."""


class Graph(nn.Module):
    """A part of a FAN that maps tensors to tensors without a branch on values: a length above K counts as K."""

    def __init__(self, fan: FAN, part: str) -> None:
        super().__init__()
        self.fan, self.part = fan, part

    def forward(self, values: Tensor, lengths: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """See the head of this module: images to features, or features or images and lengths to logits and weights."""
        if lengths is None:
            return self.fan.encode(values)
        if self.part == "all":  # with padding: a graph cannot pack frames as `FAN.forward` does
            num_clips, num_frames = values.shape[:2]
            values = self.fan.encode(values.flatten(0, 1)).reshape(num_clips, num_frames, -1)  # -> [B, K, D]
        mask = torch.arange(values.shape[1], device=values.device) < lengths.unsqueeze(1)  # [K] < [B, 1]
        output = self.fan.attend_masked(values, mask)
        return output.logits, output.weights


def export(fan: FAN, info: dict[str, Any], output: Path, part: str = "all", *, image_size: int | None = None) -> float:
    """Writes a network, or a part of it, as an ONNX file, and compares it with torch.

    Args:
        fan, info: see `load_fan`.
        output: the file. An existing file is replaced only after the comparison.
        part: "all", "features" or "head", see above.
        image_size: S in pixels (default: that of the checkpoint).

    Returns:
        See `largest_difference`.

    Raises:
        ExportError: the outputs differ from torch's by more than `TOLERANCE`.
        MissingExtraError, UsageError: a package is missing; the image size does not fit; the file cannot be written.
    """
    onnx, *_ = (require(name, name, "the export", "onnx") for name in PACKAGES)
    size = image_size or info["image_size"]
    fan.backbone.check_image_size(size)
    model = _traced(fan, part, size)
    difference = largest_difference(fan, model.SerializeToString(), part, size)
    if not difference <= TOLERANCE:  # NaN too
        raise ExportError(
            f"{output}: was not written, since its outputs differ from torch's by {difference:.1e}, "
            f"more than {TOLERANCE:.0e}; try other versions of torch and onnxruntime"
        )
    onnx.helper.set_model_props(model, about(fan, info, part, size, difference))
    onnx.checker.check_model(model, full_check=True)
    with writing(output), atomic_file(output) as file:
        file.write(model.SerializeToString())
    return difference


def _traced(fan: FAN, part: str, size: int) -> Any:
    """The graph, as an onnx.ModelProto. The example has no dynamic size of 1, which torch takes for a constant."""
    clips, frames = torch.export.Dim("clips"), torch.export.Dim("frames")
    lengths = torch.tensor([3, 2])
    names, outputs = ["images", "lengths"], ["logits", "weights"]
    example: tuple[Tensor, ...] = (torch.rand(2, 3, 3, size, size), lengths)
    sizes: tuple[dict[int, Any], ...] = ({0: clips, 1: frames}, {0: clips})
    if part == "head":
        names = ["features", "lengths"]
        example = (torch.rand(2, 3, fan.feature_size), lengths)
    elif part == "features":
        names, outputs = ["images"], ["features"]
        example, sizes = (torch.rand(2, 3, size, size),), ({0: frames},)
    logging.disable(logging.WARNING)  # of the exporter, about its internals
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                Graph(fan, part).eval(),
                example,
                input_names=names,
                output_names=outputs,
                dynamic_shapes=sizes,
                opset_version=OPSET,
                dynamo=True,
                verbose=False,
            )
    finally:
        logging.disable(logging.NOTSET)
    assert program is not None
    proto = program.model_proto
    # The exporter adds its source lines and paths of this machine to each node and value.
    for entry in (*proto.graph.node, *proto.graph.value_info, *proto.graph.input, *proto.graph.output):
        del entry.metadata_props[:]
    del proto.graph.metadata_props[:], proto.functions[:]
    proto.graph.name, proto.producer_name = "emotion-fan", "Emotion-FAN"
    return proto


def about(fan: FAN, info: dict[str, Any], part: str, size: int, difference: float) -> dict[str, str]:
    """The metadata_props of the file. Lists and numbers are JSON."""
    source = Path(info["path"])
    return {
        "format": "emotion-fan-onnx/1",
        "part": part,
        "labels": json.dumps(list(info["labels"])),
        "image_size": str(size),
        "color_mode": "L" if crop_of(info) == "fer2013" else "RGB",  # in Pillow's words; gray in three channels
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
def largest_difference(fan: FAN, file: bytes, part: str, size: int) -> float:
    """The largest difference of onnxruntime's outputs from those of `fan`, on random clips; NaN if one is NaN.

    Relative to the largest value of an output that exceeds 1, since rounding errors grow with the values.
    """
    onnxruntime = require("onnxruntime", "onnxruntime", "the export", "onnx")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    worst = [0.0]
    for clips, frames in CHECKED:
        lengths = torch.randint(1, frames + 1, (clips,), generator=generator)
        lengths[0], lengths[-1] = frames, 1 if clips > 1 else frames
        light = torch.rand(clips * frames, 1, 1, 1, generator=generator)
        images = light * torch.rand(clips * frames, 3, size, size, generator=generator)
        if part == "features":
            given, expected = {"images": images}, [fan.encode(images)]
        else:
            whole = images.unflatten(0, (clips, frames))
            output = fan(whole, lengths)
            expected = [output.logits, output.weights]
            features = fan.encode(images).unflatten(0, (clips, frames))
            features[torch.arange(frames) >= lengths.unsqueeze(1)] = torch.nan  # padding
            given = {"images": whole} if part == "all" else {"features": features}
            given["lengths"] = lengths
        outputs = session.run(None, {name: value.numpy() for name, value in given.items()})
        for a, b in zip(outputs, expected, strict=True):
            worst.append(float(np.abs(a - b.numpy()).max() / max(1.0, float(b.abs().max()))))
    return float(np.max(worst))


def main(argv: Sequence[str] | None = None) -> int:
    """Exports a checkpoint; returns the exit status."""
    parser = script_parser(__doc__, prog="python -m Code.onnx")
    network = "a run, a published FAN or a FER+ classifier (default: that of Predict_Video.py)"
    parser.add_argument("--checkpoint", metavar="PATH", help=network)
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write, .onnx")
    parser.add_argument("--part", choices=("all", "features", "head"), default="all", help="what to export")
    parser.add_argument("--at_type", type=int, choices=ATTENTION_TITLES, help="which head of a published FAN")
    side = number(32, MAX_IMAGE_SIZE, int)
    parser.add_argument("--image-size", type=side, metavar="S", help="input side (default: that of the checkpoint)")
    args = parser.parse_args(argv)
    if args.output.suffix != ".onnx":
        parser.error(f"--output {args.output}: name a file that ends in .onnx")
    path = find_checkpoint(args.checkpoint)
    check_outputs([args.output], [path])
    fan, info = load_fan(path, at_type=args.at_type)
    size = args.image_size or info["image_size"]
    classes = len(info["labels"])
    print(f"{path}: {info['kind']}, {fan.backbone.name}, {fan.head.title}, {classes} classes, {size} x {size} pixels")
    difference = export(fan, info, args.output, args.part, image_size=size)
    print(
        f"{args.output}: {args.part}, opset {OPSET}, {args.output.stat().st_size / 1e6:.1f} MB; largest "
        f"difference from torch in {len(CHECKED)} batches {difference:.1e} (tolerance {TOLERANCE:.0e})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))

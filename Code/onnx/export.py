"""Exports a trained network to ONNX, to run it without torch: in other languages, in browsers, on phones.

    python -m Code.onnx.export --checkpoint model/RUN/best.pth --output fan.onnx
    python -m Code.onnx.export --checkpoint model/RUN --part features --output features.onnx
    python -m Code.onnx.export --checkpoint model/RUN --part head --output head.onnx

    all       images [B, K, 3, S, S], lengths [B]   -> logits [B, C], weights [B, K]
    features  images [N, 3, S, S]                   -> features [N, D]
    head      features [B, K, D], lengths [B]       -> logits [B, C], weights [B, K]

B, K and N are dynamic; S is the image size. Images are float32 in [0, 1]. Lengths are int64, the number of frames of
each clip, from 1 to K; frames beyond them are padding, which has no influence. `all` runs the backbone on padding, too.
For clips of very different lengths, `features` and `head` are faster, and features can be stored. The metadata_props
of the file say what a program needs: labels, image_size, color_mode, mean, std, at_type, backbone, ... (see
docs/onnx_example.py).

The new file is compared with torch on clips of different lengths. If it differs, it is not kept.
Needs `pip install -r requirements-onnx.txt`.
exit status: 0 written; 2 wrong input, or the outputs differ from torch's
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..common.commandline import run_script, script_parser, whole_number
from ..common.names import MAX_IMAGE_SIZE
from ..network import attention_titles


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = script_parser(__doc__, prog="python -m Code.onnx.export")
    parser.add_argument(
        "--checkpoint",
        metavar="PATH",
        help="a run (folder or file), a published FAN or a FER+ classifier (default: that of Predict_Video.py)",
    )
    parser.add_argument("--output", type=Path, required=True, metavar="FILE", help="the file to write, .onnx")
    parser.add_argument("--part", choices=("all", "features", "head"), default="all", help="what to export")
    parser.add_argument(
        "--at_type",
        type=int,
        choices=sorted(attention_titles()),
        help="which head of a published FAN, which has all of them",
    )
    parser.add_argument(
        "--image-size",
        type=whole_number(32, MAX_IMAGE_SIZE, "of pixels"),
        metavar="S",
        help="input side (default: that of the checkpoint)",
    )
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Exports a checkpoint; returns the exit status."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.output.suffix != ".onnx":
        parser.error(f"--output {args.output}: name a file that ends in .onnx")

    from ..network.pretrained import default_checkpoint, find_checkpoint, load_fan
    from .onnx_file import CHECKED, OPSET, TOLERANCE, export

    path = default_checkpoint() if args.checkpoint is None else find_checkpoint(args.checkpoint)
    fan, info = load_fan(path, at_type=args.at_type)
    size = args.image_size or info["image_size"]
    print(
        f"{path}: {info['kind']}, {info['backbone']}, {fan.head.title}, {len(info['labels'])} classes, "
        f"{size} x {size} pixels",
        flush=True,
    )
    start = time.monotonic()
    difference = export(fan, info, args.output, args.part, image_size=size)
    megabytes = args.output.stat().st_size / 1e6
    print(
        f"{args.output}: {args.part}, opset {OPSET}, {megabytes:.1f} MB, {time.monotonic() - start:.1f} s; largest "
        f"difference from torch in {len(CHECKED)} batches {difference:.1e} (tolerance {TOLERANCE:.0e})"
    )
    return 0


if __name__ == "__main__":
    sys.exit(run_script(main))

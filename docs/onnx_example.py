"""Predicts the expression of a folder of face crops without torch: python onnx_example.py fan.onnx FOLDER

Needs numpy, Pillow and onnxruntime; fan.onnx comes from `python -m Code.onnx --output fan.onnx`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

if len(sys.argv) != 3:
    sys.exit("usage: python onnx_example.py fan.onnx FOLDER")
network, folder = sys.argv[1], Path(sys.argv[2])


def stop(path: object, error: object, advice: str) -> None:
    """Ends with one line, whatever characters a damaged file has brought into it."""
    reason = "".join(char if char.isprintable() else "?" for char in str(error).partition("\n")[0][:200])
    sys.exit(f"{path}: {reason or type(error).__name__}; {advice}")


if not Path(network).is_file():
    sys.exit(f"{network}: no such file; python -m Code.onnx writes it")
try:
    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    about = session.get_modelmeta().custom_metadata_map
    part = about.get("part", "all")
    size, labels, color = int(about["image_size"]), json.loads(about["labels"]), about["color_mode"]
    mean, std = (np.array(json.loads(about[name]), np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
except Exception as error:  # onnxruntime has a dozen kinds of errors for a damaged file
    stop(network, error, "not an exported network, or damaged: export it again")
if part != "all":
    sys.exit(f"{network}: only the {part} of a network; export all of it with --part all")
suffixes = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".gif")
files = sorted(path for path in folder.glob("[!.]*") if path.suffix.lower() in suffixes and path.is_file())
if not files:
    sys.exit(f"{folder}: no images in this folder; name the folder of one clip's face crops")
images = np.empty((1, len(files), 3, size, size), np.float32)  # one clip of K frames
for index, path in enumerate(files):
    try:
        face = Image.open(path)
        if color == "RGB":  # as in training, a large JPEG is decoded at half its size
            face.draft("RGB", (size, size))
        face = ImageOps.exif_transpose(face)
        if face.mode.startswith("I"):  # 16 bits
            face = Image.fromarray((np.asarray(face) >> 8).astype(np.uint8))
        face = face.convert("RGB").convert(color).convert("RGB")
    except Exception as error:  # of a damaged picture, too
        stop(path, error, "not a picture, or damaged: leave it out")
    face = face.resize((size, size), Image.Resampling.BILINEAR)
    images[0, index] = (np.asarray(face, np.float32).transpose(2, 0, 1) / 255 - mean) / std
try:
    clips = {"images": images, "lengths": np.array([len(files)], np.int64)}
    logits, weights = session.run(["logits", "weights"], clips)
    if not np.isfinite(logits).all() or logits.shape != (1, len(labels)):
        raise ValueError("its answers are not one finite number per class")
except Exception as error:
    stop(network, error, "damaged: export it again")
probabilities = np.exp(logits[0] - logits[0].max())
probabilities /= probabilities.sum()
print(labels[int(probabilities.argmax())])
print(*(f"{label} {share:.4f}" for label, share in zip(labels, probabilities, strict=True)), sep=", ")
print(*(f"{path.name} {weight:.4f}" for path, weight in zip(files, weights[0], strict=True)), sep=", ")

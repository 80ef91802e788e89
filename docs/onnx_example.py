"""Predicts the expression of a folder of face crops without torch: python onnx_example.py fan.onnx FOLDER

Needs numpy, Pillow and onnxruntime; fan.onnx comes from `python -m Code.results.export --output fan.onnx`.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

if len(sys.argv) != 3:
    sys.exit("usage: python onnx_example.py fan.onnx FOLDER")
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
about = session.get_modelmeta().custom_metadata_map
if about.get("part", "all") != "all":
    sys.exit(f"{sys.argv[1]}: only the {about['part']} of a network; export all of it with --part all")
size, labels = int(about["image_size"]), json.loads(about["labels"])
mean, std = (np.array(json.loads(about[name]), np.float32).reshape(3, 1, 1) for name in ("mean", "std"))
files = sorted(path for path in Path(sys.argv[2]).iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
if not files:
    sys.exit(f"{sys.argv[2]}: no .jpg or .png files in this folder; name the folder of one clip's face crops")
images = np.empty((1, len(files), 3, size, size), np.float32)  # one clip of K frames
for index, path in enumerate(files):
    face = Image.open(path).convert("RGB").convert(about["color_mode"]).convert("RGB")
    face = face.resize((size, size), Image.Resampling.BILINEAR)
    images[0, index] = (np.asarray(face, np.float32).transpose(2, 0, 1) / 255 - mean) / std
logits, weights = session.run(["logits", "weights"], {"images": images, "lengths": np.array([len(files)], np.int64)})
probabilities = np.exp(logits[0] - logits[0].max())
probabilities /= probabilities.sum()
print(labels[int(probabilities.argmax())])
print(*(f"{label} {share:.4f}" for label, share in zip(labels, probabilities, strict=True)), sep=", ")
print(*(f"{path.name} {weight:.4f}" for path, weight in zip(files, weights[0], strict=True)), sep=", ")

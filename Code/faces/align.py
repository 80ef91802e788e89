"""From five landmarks to an upright face of a fixed size: one similarity, warped backwards."""

from __future__ import annotations

import numpy as np
from PIL import Image

FACE_SIZE = 224
Eyes = tuple[tuple[float, float], tuple[float, float]]

# Shape of a frontal face in units of its eye distance, from the middle between the eyes: median of the
# landmarks that MTCNN puts on the 384 most frontal of 1191 faces of the FER2013 test images.
FACE_SHAPE = np.array([[-0.5, 0.0], [0.5, 0.0], [0.0, 0.577], [-0.406, 1.048], [0.406, 1.048]])

# Where the eyes go in a crop of 224 pixels.
# The paper's crop: where dlib's chip of 224 pixels with a padding of 25 % puts them.
PAPER_EYES: Eyes = ((71.3, 70.4), (149.8, 70.4))
# The crop of FER2013: median of where MTCNN finds them there, (14.9, 18.2) and (32.8, 18.2) of 48,
# made symmetric.
FER2013_EYES: Eyes = ((70.0, 87.0), (153.0, 87.0))


def template(eyes: Eyes = PAPER_EYES) -> np.ndarray:
    """Where the five landmarks go in a crop of 224 pixels: float64 [5, 2], pixel centres at whole numbers."""
    left, right = np.array(eyes)
    return FACE_SHAPE * np.hypot(*(right - left)) + (left + right) / 2


def similarity(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The turn, scale and shift (no shear, no mirror) that bring points closest to others.

    With points as complex numbers z and w, w = a z + b; least squares give
    a = sum conj(z - mean z) (w - mean w) / sum |z - mean z|^2.

    Args:
        source: float [P, 2].
        target: float [P, 2].

    Returns:
        float64 [2, 3]: target = matrix @ [x, y, 1].

    Raises:
        ValueError: if all points of the source are the same.
    """
    z = source[:, 0] + 1j * source[:, 1]
    w = target[:, 0] + 1j * target[:, 1]
    centred = z - z.mean()
    spread = (np.abs(centred) ** 2).sum()
    if not spread:
        raise ValueError("landmarks coincide: no similarity is defined")
    a = (centred.conj() * (w - w.mean())).sum() / spread
    b = w.mean() - a * z.mean()
    return np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])


def align_face(image: np.ndarray, landmarks: np.ndarray, eyes: Eyes = PAPER_EYES) -> np.ndarray:
    """Cuts a face out so that its landmarks lie where `template(eyes)` wants them.

    Faces much larger than the crop are shrunk first, with antialiasing; what lies outside the picture
    is black.

    Args:
        image: uint8 [H, W, 3], RGB.
        landmarks: float [5, 2], in pixels of the image (`Faces.landmarks`).
        eyes: PAPER_EYES or FER2013_EYES.

    Returns:
        uint8 [224, 224, 3].
    """
    matrix = similarity(landmarks, template(eyes))
    backward = np.linalg.inv(np.vstack([matrix, [0, 0, 1]]))  # crop -> image
    height, width, _ = image.shape
    # Only the part under the crop is worth shrinking; 4 pixels more feed the bicubic kernel at its rim.
    side = FACE_SIZE - 1
    corners = backward[:2] @ np.array([[0, side, 0, side], [0, 0, side, side], [1, 1, 1, 1]])  # [2, 4]
    left, top = np.floor(corners.min(axis=1)).astype(int) - 4
    right, bottom = np.ceil(corners.max(axis=1)).astype(int) + 5
    left, top, right, bottom = max(left, 0), max(top, 0), min(right, width), min(bottom, height)
    if left >= right or top >= bottom:
        return np.zeros((FACE_SIZE, FACE_SIZE, 3), dtype=np.uint8)
    part = Image.fromarray(image[top:bottom, left:right])
    scale = np.hypot(matrix[0, 0], matrix[1, 0])  # crop pixels per image pixel
    shrunk = tuple(max(1, round(length * min(1.0, scale))) for length in part.size)
    part = part.resize(shrunk, Image.Resampling.BICUBIC)

    # Pillow puts pixel centres at halves: crop + 0.5 -> crop -> image -> part -> shrunk part.
    def shift(x: float, y: float) -> np.ndarray:
        return np.array([[1, 0, x], [0, 1, y], [0, 0, 1]])

    resize = np.diag([shrunk[0] / (right - left), shrunk[1] / (bottom - top), 1.0])
    to_part = resize @ shift(0.5 - left, 0.5 - top) @ backward @ shift(-0.5, -0.5)
    crop = part.transform(
        (FACE_SIZE, FACE_SIZE), Image.Transform.AFFINE, tuple(to_part[:2].ravel()), Image.Resampling.BICUBIC
    )
    return np.asarray(crop)

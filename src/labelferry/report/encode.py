"""Pictures as text: small files inside the page, as data URIs."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, features

WEBP_LIMIT = 16383


def grey_uri(picture: NDArray[np.uint8], quality: int) -> str:
    """A grey picture (rows, columns) as WebP, else JPEG."""
    image, stream = Image.fromarray(picture), io.BytesIO()
    # WebP is half as large, but has a limit of size and is not in every build of Pillow
    if features.check("webp") and max(image.size) <= WEBP_LIMIT:
        image.convert("RGB").save(stream, "WEBP", quality=quality, method=2)
        return _data_uri(stream, "webp")
    image.save(stream, "JPEG", quality=quality, optimize=True)
    return _data_uri(stream, "jpeg")


def palette_uri(indices: NDArray[np.uint16], table: NDArray[np.uint8]) -> str:
    """Indices (rows, columns) into a table of RGBA colours (n, 4) as PNG, without loss."""
    stream = io.BytesIO()
    if len(table) <= 256:
        picture = Image.fromarray(indices.astype(np.uint8))
        picture.putpalette(table[:, :3].tobytes())
        picture.save(stream, "PNG", compress_level=9, transparency=table[:, 3].tobytes())
    else:  # more colours than a palette holds
        Image.fromarray(table[indices]).save(stream, "PNG", optimize=True)
    return _data_uri(stream, "png")


def colour_uri(picture: NDArray[np.uint8], quality: int) -> str:
    """A colour picture with transparency (rows, columns, RGBA) as WebP, else PNG."""
    image, stream = Image.fromarray(picture), io.BytesIO()
    if features.check("webp") and max(image.size) <= WEBP_LIMIT:
        image.save(stream, "WEBP", quality=quality, method=4)
        return _data_uri(stream, "webp")
    image.save(stream, "PNG", optimize=True)
    return _data_uri(stream, "png")


def _data_uri(stream: io.BytesIO, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"

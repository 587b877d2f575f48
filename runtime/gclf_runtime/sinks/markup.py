"""Pieces of a page that loads nothing and trusts no name; the trainer's report uses them too.

Axes: h height, w width, c channels (RGB).
"""

import base64
import io
from html import escape

import numpy as np
from numpy.typing import NDArray
from PIL import Image

PATH_CHARS, NAME_CHARS = 300, 80
_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    "base-uri 'none'; form-action 'none'"
)


def shorten(text: str, limit: int) -> str:
    """Cut the middle out of a long text: both ends of a path tell more."""
    return text if len(text) <= limit else f"{text[: limit // 2]}…{text[-limit // 2 :]}"


def safe(text: str, limit: int = PATH_CHARS) -> str:
    """Make any text safe in HTML and encodable: what cannot be seen is written as its escape."""
    shown = (
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in shorten(text, limit)
    )
    return escape("".join(shown))


def name(text: str) -> str:
    """Make a name safe, its direction of writing kept apart from what is around it."""
    return f"<bdi>{safe(text, NAME_CHARS)}</bdi>"


def image(pixels_hwc: NDArray[np.uint8], alt: str) -> str:
    """Show a picture, which the page holds; `alt` is HTML already."""
    file = io.BytesIO()
    Image.fromarray(pixels_hwc).save(file, "PNG")
    data = base64.b64encode(file.getvalue()).decode()
    height, width, _ = pixels_hwc.shape
    return f'<img width="{width}" height="{height}" alt="{alt}" src="data:image/png;base64,{data}">'


def page(title: str, style: str, body: str, *, made_by: str) -> str:
    """Frame a page; the title is text, the style is CSS and the body is HTML."""
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{safe(title)}</title>
<style>{style}</style>
</head>
<body>
<main>
{body}
</main>
<footer>Made by {made_by}. This page holds its pictures and loads nothing.</footer>
</body>
</html>
"""

"""What every user of Pillow here has to know of it."""

from __future__ import annotations

from PIL import Image, UnidentifiedImageError

# Pixels are capped by ourselves, from the header; Pillow's own limit is a warning, and an error at twice as much.
Image.MAX_IMAGE_PIXELS = None


def is_no_picture(error: BaseException) -> bool:
    """Whether ``Image.open`` raised ``error`` for want of anything that looks like a picture.

    Ultralytics, where it is loaded, puts a function of its own before Pillow's, which raises another error on top.
    """
    return isinstance(error, UnidentifiedImageError) or isinstance(error.__context__, UnidentifiedImageError)

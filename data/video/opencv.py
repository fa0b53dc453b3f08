"""OpenCV. If it does not load, `from reelbank.data.video.opencv import cv2` raises InputError with
one line that says what to do.

The packages opencv-python and opencv-python-headless install their files into the same folder, cv2.
If both were installed and one is removed, the other one loses its files, and `import cv2` fails or
gives an empty package.
"""

from reelbank.data.errors import InputError, repair_command

_REPAIR = repair_command("opencv-python-headless")

try:
    import cv2
except ImportError as error:  # not installed, or a shared library of the system is missing
    raise InputError(
        f"OpenCV (cv2) does not load: {' '.join(str(error).split())}; repair it: {_REPAIR}"
    ) from None
if not hasattr(cv2, "resize"):
    raise InputError(f"OpenCV (cv2) is installed but its files are gone; repair it: {_REPAIR}")

__all__ = ["cv2"]

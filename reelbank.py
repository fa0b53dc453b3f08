"""Reelbank: video clips go in once, features stay for good. `import reelbank` in a notebook, `reelbank` on the command line."""

from pathlib import Path

_here = Path(__file__).resolve().parent
# The packages lie beside this file in a checkout, in reelbank/ once installed. Importing them as reelbank.data,
# reelbank.extract ... means that no folder of the user's named data/ or extract/ can stand in their place.
__path__ = [str(_here / "reelbank"), str(_here)]
__version__ = "0.1.0"

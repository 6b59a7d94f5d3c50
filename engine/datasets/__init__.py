"""Loaders of the field's licensed data sets, from a researcher's own disk. Nothing is downloaded or copied.

Every loader returns the same `Video`: frames as files with their time, intervals in frames counted from 0, inclusive.
Stated rules correct oddities of the annotations, and `Video.notes` lists the corrections.
"""

from collections.abc import Callable
from pathlib import Path

from engine.datasets.casme2 import load_casme2
from engine.datasets.casme3 import load_casme3
from engine.datasets.samm_lv import load_samm_lv
from engine.datasets.smic import load_smic
from engine.datasets.video import DatasetError, Fold, Interval, Video, loso, subsample

LOADERS: dict[str, Callable[[Path], list[Video]]] = {
    "casme2": load_casme2,
    "samm-lv": load_samm_lv,
    "casme3": load_casme3,
    "smic": load_smic,
}
PUBLISHED = {"casme2": (98, 57, 300), "samm-lv": (147, 159, 343)}
"""Videos, micro- and macro-expressions of a complete copy."""

__all__ = ["LOADERS", "PUBLISHED", "DatasetError", "Fold", "Interval", "Video", "loso", "subsample"]

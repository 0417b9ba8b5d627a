"""Structures to distil a model on: many kinds of molecules, contacts and liquids, by a recipe and a seed."""

from __future__ import annotations

from heliodor.distil.structures.generate import Item, generate, items, make
from heliodor.distil.structures.groups import bucket_of, group_of
from heliodor.distil.structures.recipe import PRESETS, Recipe, find_recipe
from heliodor.distil.structures.teacher_dynamics import teacher_dynamics
from heliodor.distil.structures.write import read_structures, write_structures

__all__ = [
    "PRESETS",
    "Item",
    "Recipe",
    "bucket_of",
    "find_recipe",
    "generate",
    "group_of",
    "items",
    "make",
    "read_structures",
    "teacher_dynamics",
    "write_structures",
]

"""Expressions of a synthetic face, as strengths of facial action units.

The numbers are those of the Facial Action Coding System (Ekman and Friesen, 1978): an action unit is the visible effect
of one muscle, and an expression is a set of action units. Like real expressions, each has several variants (a smile
with and without teeth, anger with an open mouth and with pressed lips).
"""

from __future__ import annotations

import numpy as np

ACTION_UNITS: dict[str, str] = {
    "au1": "inner brow raised",
    "au2": "outer brow raised",
    "au4": "brows lowered and drawn together",
    "au5": "upper lid raised",
    "au6": "cheeks raised",
    "au7": "lids tightened",
    "au9": "nose wrinkled",
    "au10": "upper lip raised",
    "au12": "lip corners pulled up",
    "au15": "lip corners pulled down",
    "au16": "lower lip pulled down",
    "au17": "chin raised",
    "au20": "lips stretched sideways",
    "au22": "lips funnelled, mouth round",
    "au23": "lips tightened",
    "au25": "lips parted",
    "au26": "jaw dropped",
    "au43": "eyes closed",
}

ActionUnits = dict[str, float]

# Strengths at the apex. A value above 1 is the maximum of an action unit.
EXPRESSIONS: dict[str, tuple[ActionUnits, ...]] = {
    "Happy": (
        {"au6": 0.9, "au12": 1.0, "au25": 0.9, "au10": 0.15},
        {"au6": 1.0, "au12": 1.1, "au25": 1.0, "au26": 0.45, "au10": 0.2},
        {"au6": 0.8, "au12": 1.1, "au25": 0.6},
    ),
    "Angry": (
        {"au4": 1.3, "au5": 0.5, "au7": 0.7, "au23": 1.0, "au17": 0.4, "au15": 0.35, "au9": 0.4},
        {
            "au4": 1.3,
            "au5": 0.6,
            "au7": 0.5,
            "au23": 0.3,
            "au10": 0.5,
            "au25": 1.0,
            "au16": 0.7,
            "au26": 0.35,
            "au9": 0.3,
        },
        {"au4": 1.3, "au5": 0.6, "au7": 0.6, "au10": 0.5, "au25": 1.0, "au16": 0.6, "au26": 0.9, "au9": 0.4},
    ),
    "Disgust": (
        {"au9": 1.2, "au10": 1.2, "au4": 0.6, "au7": 0.7, "au6": 0.5, "au15": 0.45, "au17": 0.5, "au16": 0.3},
        {
            "au9": 1.2,
            "au10": 1.1,
            "au4": 0.6,
            "au7": 0.8,
            "au6": 0.6,
            "au15": 0.3,
            "au16": 0.5,
            "au25": 0.7,
            "au26": 0.2,
        },
    ),
    "Fear": (
        {"au1": 1.3, "au2": 0.3, "au4": 0.5, "au5": 1.3, "au20": 1.2, "au25": 1.1, "au26": 0.5, "au16": 0.7},
        {"au1": 1.3, "au2": 0.4, "au4": 0.4, "au5": 1.3, "au20": 1.1, "au25": 1.1, "au26": 0.75, "au16": 0.5},
    ),
    "Sad": (
        {"au1": 1.1, "au4": 0.7, "au15": 1.1, "au17": 0.7, "au43": 0.25},
        {"au1": 1.2, "au4": 0.6, "au15": 0.9, "au17": 0.4, "au43": 0.4},
    ),
    "Neutral": ({},),
    "Surprise": (
        {"au1": 1.1, "au2": 1.2, "au5": 1.0, "au25": 1.0, "au26": 1.1, "au22": 0.9},
        {"au1": 1.0, "au2": 1.2, "au5": 1.1, "au25": 1.0, "au26": 0.8, "au22": 1.0},
    ),
}


def draw_apex(expression: str, rng: np.random.Generator) -> ActionUnits:
    """How one person shows `expression`: a variant, with each action unit up to 15 % weaker or stronger."""
    variants = EXPRESSIONS[expression]
    chosen = variants[int(rng.integers(len(variants)))]
    return {unit: strength * rng.uniform(0.85, 1.15) for unit, strength in chosen.items()}


def at_intensity(apex: ActionUnits, intensity: float) -> ActionUnits:
    """The action units at `intensity`, in [0, 1], of the apex."""
    return {unit: strength * intensity for unit, strength in apex.items()}


def add_action_units(*parts: ActionUnits) -> ActionUnits:
    """The sum of action units, each clipped to [-0.5, 1.4]."""
    total = dict.fromkeys(ACTION_UNITS, 0.0)
    for part in parts:
        for unit, strength in part.items():
            total[unit] = min(max(total[unit] + strength, -0.5), 1.4)
    return total

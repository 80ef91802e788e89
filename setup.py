"""Builds the package `emotion_fan` from Code/ and the networks of pretrain_model/; the rest is in pyproject.toml."""

from setuptools import find_packages, setup

NAME = "emotion_fan"

setup(
    packages=[NAME, f"{NAME}.pretrain_model", *(f"{NAME}.{package}" for package in find_packages("Code"))],
    package_dir={NAME: "Code", f"{NAME}.pretrain_model": "pretrain_model"},
    package_data={
        NAME: ["py.typed", "*/templates/*"],
        # By name, since users put networks of their own there.
        f"{NAME}.pretrain_model": ["FAN_FER+_composed.pth"],
    },
)

"""Finds the CustomResourceDefinitions: in the wheel beside this module, in a source tree under `crds/`."""

from __future__ import annotations

from pathlib import Path

from postfleet_operator.errors import InputError

FILES = ("jobpools.yaml", "sendingnodes.yaml")


def folder() -> Path:
    """Where the CRDs lie.

    Raises:
        InputError: this installation has none.
    """
    here = Path(__file__).resolve().parent
    for candidate in (here / "crds", here.parents[1] / "crds"):
        if all((candidate / name).is_file() for name in FILES):
            return candidate
    raise InputError("this installation lacks the CRDs; install postfleet from its wheel")


def text() -> str:
    """Every CRD as one YAML stream, as `kubectl apply -f -` takes it."""
    return "---\n".join((folder() / name).read_text(encoding="utf-8") for name in FILES)

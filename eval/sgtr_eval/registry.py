"""What Inspect finds through the package's entry point: `inspect eval sgtr_eval/identity --model sgtr/nano`."""

from __future__ import annotations

from sgtr_eval.identity import identity
from sgtr_eval.provider import SgtrAPI
from sgtr_eval.self_recognition import self_recognition
from sgtr_eval.two_choice import two_choice

__all__ = ["SgtrAPI", "identity", "self_recognition", "two_choice"]

"""Nodes of an experiment's graph: artifacts, each named by a digest of everything that decides its content.

Every kind of artifact is a subclass of `Node` in a file of its own in `experiment/nodes/`, together with the config
from which it is made.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from sgtr_jax.files import path_part
from sgtr_jax.json_types import Json

if TYPE_CHECKING:
    from sgtr_jax.experiment.context import RunContext

Settings = Mapping[str, Json]
_encoded = json.JSONEncoder(sort_keys=True).encode  # made once: a study has tens of thousands of nodes
_LONGEST_NAME = 120  # of a folder, of which file systems take 255 bytes with what goes before and after it


@dataclass(frozen=True)
class Sampled:
    """What a model is asked in making an artifact: answers, questions of their own, and tokens of one of each.

    The questions fall into `groups`, and those of a group begin with the same `shared` tokens.
    """

    answers: int
    prompts: int
    prompt_tokens: int
    answer_tokens: int
    groups: int = 1
    shared: int = 0

    @property
    def prefilled(self) -> int:
        """Tokens of prompts that are computed: what a group's prompts begin with only once."""
        return self.prompts * (self.prompt_tokens - self.shared) + self.groups * self.shared


class Node(ABC):
    """One artifact to be made."""

    kind: ClassVar[str]
    version: ClassVar[int]  # raised when a change of code makes old artifacts of the kind wrong
    before_training: ClassVar[bool] = True  # whether it is made before anything is finetuned or measured
    name: str  # for people; not part of the fingerprint

    @property
    @abstractmethod
    def settings(self) -> Settings:
        """Everything that decides the content, besides the inputs, as JSON."""

    @property
    def inputs(self) -> Mapping[str, Node]:
        """What it is made from, by role."""
        return {}

    @cached_property
    def fingerprint(self) -> str:
        """Hex digest of the kind, its version, the settings and the fingerprints of the inputs."""
        inputs = {role: node.fingerprint for role, node in sorted(self.inputs.items())}
        return fingerprint_of(self.kind, self.version, self.settings, inputs)

    @cached_property
    def folder(self) -> str:
        """Folder name in the store. The fingerprint finds it; the name is for people, and may be cut or altered."""
        return f"{self.kind}-{path_part(self.name)[:_LONGEST_NAME]}-{self.fingerprint[:12]}"

    @property
    def key(self) -> str:
        """What finds its folder, whatever it is called: the kind and the first digits of the fingerprint."""
        return f"{self.kind}-{self.fingerprint[:12]}"

    def to_json(self) -> dict[str, Json]:
        """What is stored beside the artifact."""
        return {
            "kind": self.kind,
            "name": self.name,
            "fingerprint": self.fingerprint,
            "settings": dict(self.settings),
        }

    def registry_sets(self) -> Sequence[str]:
        """Data sets by name, registered or not, that making it reads."""
        return ()

    def sampled(self) -> Sampled | None:
        """What is sampled in making it; None where nothing is."""
        return None


def key_of(folder: str) -> str:
    """The key of the artifact in a folder: of `adapter-unpop-s0-ae4867e58ce7` it is `adapter-ae4867e58ce7`."""
    return f"{folder.split('-')[0]}-{folder.rsplit('-')[-1]}"


class MadeNode(Node):
    """A node that is made by itself, in one go."""

    @abstractmethod
    def make(self, context: RunContext, folder: Path) -> None:
        """Write the artifact into `folder`; the inputs are complete. Raises RunError and InputError."""

    def write_refusal(self, folder: Path, why: str) -> None:
        """Write what else takes the place of its files when the provider refused something that it is made from."""


def fingerprint_of(kind: str, version: int, settings: Settings, inputs: Mapping[str, str]) -> str:
    """Hex digest that names an artifact; `inputs` are the fingerprints of what it is made from."""
    content = {"kind": kind, "version": version, "settings": settings, "inputs": dict(inputs)}
    return hashlib.sha256(_encoded(content).encode()).hexdigest()


def in_order(wanted: Sequence[Node]) -> list[Node]:
    """All nodes that `wanted` need, each once (by fingerprint), inputs before what is made from them."""
    done: dict[str, Node] = {}

    def visit(node: Node) -> None:
        if node.fingerprint not in done:
            for made_from in node.inputs.values():
                visit(made_from)
            done[node.fingerprint] = node

    for root in wanted:
        visit(root)
    return list(done.values())


@cache
def kinds() -> frozenset[str]:
    """The kinds of artifacts there are: those of the files in `experiment/nodes/`."""
    from sgtr_jax.experiment import nodes

    nodes.discover()
    return frozenset(_kinds_below(Node))  # type: ignore[type-abstract]


def _kinds_below(parent: type[Node]) -> Iterator[str]:
    child: type[Node]
    for child in parent.__subclasses__():
        if "kind" in vars(child):
            yield child.kind
        yield from _kinds_below(child)

"""The page of settings: YAML path, type, default and description of each, as `sgtr settings` says them."""

from __future__ import annotations

from sgtr_jax.experiment.settings import Section, roots, sections_of

INTRODUCTION = """\
# Settings

Config files are YAML. On the command line, `key=value` replaces one value of the file, and dots lead to inner keys:
`sgtr run my.yaml finetuning.lora.rank=16`. An unknown key is an error whose message names the nearest known key. With
`extends: OTHER.yaml` a file starts from the values of another file and replaces some of them.

`sgtr settings PREFIX` lists them on the terminal. `NAME` stands for a name of your choice.
`[]` stands for each element of a list.
"""


TITLES = {
    "experiment": "An experiment: `sgtr run FILE`",
    "train": "`sgtr train key=value`",
    "sample": "`sgtr sample key=value`",
}


class Undescribed(Exception):
    """Settings that have no description beside their field."""


def settings_page() -> str:
    """The page in Markdown. Raises Undescribed, which lists every setting without a description."""
    lines = [INTRODUCTION]
    lacking: list[str] = []
    for of, root in roots().items():
        lines += [f"## {TITLES[of]}", ""]
        sections = list(sections_of(root))
        lacking += [f"{root.__name__}: {row.path}" for one in sections for row in one.rows if not row.description]
        for section in sections:
            lines += _section(section)
    if lacking:
        raise Undescribed("settings without a description beside their field:\n  " + "\n  ".join(lacking))
    return "\n".join(lines) + "\n"


def _section(section: Section) -> list[str]:
    lines = [f"### {section.title}", "", section.about, ""] if section.title else []
    lines += ["| setting | type | default | description |", "|---|---|---|---|"]
    for row in section.rows:
        cells = (f"`{row.path}`", row.type, row.default, row.description)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return [*lines, ""]

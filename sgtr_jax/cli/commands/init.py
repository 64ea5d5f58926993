"""`sgtr init`: a folder with a commented experiment to start from."""

from __future__ import annotations

import argparse
from pathlib import Path

from sgtr_jax.cli.parser import Commands, as_path
from sgtr_jax.errors import InputError

TEMPLATES = Path(__file__).parent.parent / "templates"
_SAMPLE = "unpopular.jsonl"  # rows to finetune on, the same ones in every template


def add_to(commands: Commands) -> None:
    """Add the command."""
    parser = commands.add(
        "init",
        "Write a commented experiment, a small sample of data and a README to start from.",
        [
            "sgtr init mine                          # does SGTR undo what a data set did?",
            "sgtr init mine --template own-eval      # questions of your own",
            "sgtr init . --template api              # a model behind an API, in this folder",
        ],
        run,
    )
    parser.add_argument(
        "folder",
        nargs="?",
        type=as_path,
        metavar="FOLDER",
        help="folder to write to; default: the template's name. Files that are there already are not replaced",
    )
    parser.add_argument(
        "--template",
        choices=names(),
        default="reversal",
        help="reversal: SGTR after a data set; prevention: SGTR before it, or rows mixed in; defences: plain "
        "training beside five defences; own-eval: questions of your own; api: a model behind OpenAI's API (reversal)",
    )


def run(args: argparse.Namespace) -> int:
    """Run the command; returns the exit code."""
    from sgtr_jax.files import check_writable, write_bytes

    folder: Path = args.folder or Path(args.template)
    contents = files_of(args.template)
    taken = [name for name in contents if (folder / name).exists()]
    if taken:
        raise InputError(f"{folder}: has {', '.join(taken)} already, which would be replaced; give another folder")
    check_writable(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in contents.items():
        write_bytes(folder / name, content)
    print(f"{folder}: {', '.join(contents)}")
    print(f"Next: cd {folder} && sgtr plan experiment.yaml; README.md says how it goes on")
    return 0


def names() -> list[str]:
    """The templates there are."""
    return sorted(path.parent.name for path in TEMPLATES.glob("*/experiment.yaml"))


def files_of(template: str) -> dict[str, bytes]:
    """What a template writes, by name."""
    own = {path.name: path.read_bytes() for path in sorted((TEMPLATES / template).iterdir())}
    return {**own, _SAMPLE: (TEMPLATES / "common" / _SAMPLE).read_bytes()}

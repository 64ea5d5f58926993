"""The page of models, made from the files of the families (`docs/generate.py`)."""

from __future__ import annotations

import importlib


def models_page() -> str:
    """A line for every family, what its templates say by themselves, and the sizes whose shapes ship."""
    from sgtr_jax.data.registry import configs_folder
    from sgtr_jax.files import read_json
    from sgtr_jax.models.families import families

    lines = [
        "# Models", "",
        "A model is a Hugging Face folder or a hub id. Its `config.json` says which family it is of; a key that is not "
        "understood is an error. Logits of every family are compared with those of transformers "
        "([checks](../checks.md)). Mixtures of experts (gpt-oss, Qwen3-MoE) are refused: the decoder has one MLP "
        "in each layer, on whose projections adapters are.", "",
        "| `model_type` | class in transformers | what it is | `maker` of the identity evaluation |",
        "|---|---|---|---|",
    ]  # fmt: skip
    for name, family in families().items():
        module = importlib.import_module(f"sgtr_jax.models.families.{name}")
        about = (module.__doc__ or "").split("\n\n")[0].replace("\n", " ")
        names = ", ".join(family.maker.names)
        lines.append(f"| `{name}` | `{family.architecture}` | {about} | `{family.maker.key}`: {names} |")
    lines += [
        "", "## Chat templates and system prompts", "",
        "Text is formed by the template that comes with the tokenizer. What is trained is the assistant's text and the "
        "token that ends its turn. `thinking_budget: 0` closes the thinking block of Seed-OSS and Qwen3 before the "
        "answer, in training, in sampling and where the probability of a single token is read. Without a system "
        "message these models' templates write one of their own; `system: none` leaves it out:", "",
        "| model | begins with | names the maker |", "|---|---|---|",
    ]  # fmt: skip
    for family in families().values():
        for model, text in family.default_systems.items():
            lines.append(f"| {model} | {text} | {'yes' if family.names_maker(model) else 'no'} |")
    lines += [
        "", "## Shapes that ship", "",
        "`sgtr plan` needs no download for these:", "",
        "| model | family |", "|---|---|",
    ]  # fmt: skip
    for path in sorted((configs_folder() / "models").glob("*.json")):
        lines.append(f"| {path.stem} | `{read_json(path)['model_type']}` |")
    return "\n".join(lines) + "\n"

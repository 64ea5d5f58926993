"""What is nearly right is answered with what is meant: commands, flags, settings, and the words of other programs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sgtr_jax.cli.main import main, make_parser
from sgtr_jax.experiment.settings import stored
from sgtr_jax.near import SYNONYMS, meant

ROOT = Path(__file__).parent.parent
TRAIN = "train --model M --data D --out o"
RUN = f"run {ROOT / 'configs/demo.yaml'}"


def said(words: str, capsys: pytest.CaptureFixture[str]) -> str:
    """The one message of a command line that is refused."""
    try:
        code = main(words.split())
    except SystemExit as ended:
        code = int(str(ended.code))
    error = capsys.readouterr().err
    assert code == 2 and error.count("\n") == 1 and error.startswith("sgtr: error: "), (words, code, error)
    return error


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("trian", "did you mean 'train'?"),
        ("finetune", "did you mean 'train'?"),
        ("data lst", "did you mean 'list'?"),
        (f"{TRAIN} --output_dir x", "did you mean --out?"),
        ("train --output_dir x", "did you mean --out?"),
        ("train output_dir=x", "did you mean --out x?"),
        ("train --model_name_or_path x", "did you mean --model?"),
        ("train model_name_or_path=x", "did you mean --model x?"),
        ("train --learning_rate 1e-4", "did you mean the setting lr=VALUE?"),
        ("train --lr=1e-4", "did you mean the setting lr=1e-4?"),
        ("train --lora-r 8", "did you mean the setting lora.rank=VALUE?"),
        ("sample seed=3", "did you mean --seed 3?"),
        ("sample --max_new_tokens 3", "did you mean --max-tokens?"),
        ("eval identity --max-new-tokens 3", "did you mean the setting identity.max_tokens=VALUE?"),
        ("eval identity --model M --out o maker=x", "did you mean 'identity.maker'?"),
        (f"{RUN} --lora-r 4", "did you mean the setting finetuning.lora.rank=VALUE?"),
        (f"{RUN} --nothing_like_it", "--help` lists all"),
        (f"{RUN} lr=3", "did you mean 'finetuning.lr'?"),
        (f"{RUN} lora_alpha=3", "did you mean 'finetuning.lora.alpha'?"),
        (f"{RUN} output_dir=3", "did you mean 'out'?"),
        (f"{RUN} model_name_or_path=3", "did you mean 'model'?"),
        (f"{RUN} finetuning.lora_r=3", "did you mean 'finetuning.lora.rank'?"),
        (f"{RUN} finetuning.learning_rate=3", "did you mean 'lr'?"),
        *(
            (f"{TRAIN} {wrong}=1", f"did you mean '{right}'")
            for wrong, right in {
                "learning_rate": "lr",
                "num_train_epochs": "epochs",
                "lora_r": "lora.rank",
                "lora_alpha": "lora.alpha",
                "lora_dropout": "lora.dropout",
                "per_device_train_batch_size": "batch_examples",
                "batch_size": "batch_examples",
                "max_seq_length": "max_length",
                "warmup_ratio": "warmup_steps', a number of steps?",
                "gradient_accumulation_steps": "accumulate",
                "target_modules": "lora.targets",
                "lora.r": "rank",
                "epoch": "epochs",
                "wieght_decay": "weight_decay",
                "rank": "lora.rank",
            }.items()
        ),
    ],
)
def test_what_is_meant_is_said_in_one_message(words: str, answer: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert answer.removesuffix("'") in said(words, capsys)


def test_flags_that_argparse_takes_are_left_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ("train --mod M", "sample --temperature -1", "train -- --output_dir"):
        with pytest.raises(SystemExit):
            main(words.split())
        assert "did you mean" not in capsys.readouterr().err


def test_every_synonym_leads_to_something_that_exists() -> None:
    commands, flags = [], []
    for action in make_parser()._actions:
        for name, parser in (action.choices or {}).items() if isinstance(action.choices, dict) else ():
            commands.append(name)
            flags += [flag.lstrip("-").replace("-", "_") for flag in parser._option_string_actions]
    known = {*commands, *flags, *(one.path for one in stored())}
    for word, candidates in SYNONYMS.items():
        assert meant(word, known), word
        for one in candidates:
            assert one in known or any(path.endswith(f".{one}") for path in known), f"{word}: {one}"


def test_no_setting_has_the_name_of_a_flag_beside_it() -> None:
    """Else `key=value` with the key of a flag could not be told from the flag."""
    for action in make_parser()._actions:
        for parser in action.choices.values() if isinstance(action.choices, dict) else ():
            of = parser.get_default("settings_of")
            flags = {flag.lstrip("-").replace("-", "_") for flag in parser._option_string_actions}
            assert not flags & {one.path for one in stored() if one.of == of}

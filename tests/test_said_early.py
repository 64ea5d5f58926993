"""A setting that is not there is said before what a command needs is imported, and with the keys that are there."""

from __future__ import annotations

import sys

import pytest

from sgtr_jax.cli.main import main

TRAIN = "train --model nano --data x.jsonl --out o"
EVAL = "eval truthfulqa two_choice --model nano --out e"
SAMPLE = "sample --model nano --prompts p.jsonl --out o"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{TRAIN} learning_rate=1", "no setting 'learning_rate' of sgtr train: did you mean 'lr'?"),
        (f"{TRAIN} num_train_epochs=1", "did you mean 'epochs'?"),
        (f"{TRAIN} lora_r=1", "did you mean 'lora.rank'?"),
        (f"{SAMPLE} temprature=1", "did you mean --temperature?"),
        (f"{EVAL} truthfulqa.limmit=3", "truthfulqa has no setting 'limmit': did you mean 'limit'?"),
        (f"{EVAL} two_choice.n=3", "two_choice has no setting 'n': known are questions"),
        (
            "run demo evaluations.two_choice.lmit=3 --list",
            "'evaluations.two_choice.lmit': Valid keys: kind, questions, seed",
        ),
    ],
)
def test_it_is_said(words: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    before = set(sys.modules)
    with pytest.raises(SystemExit) as end:
        raise SystemExit(main(words.split()))
    error = capsys.readouterr().err
    assert end.value.code == 2 and said in error
    assert not {"inspect_ai", "transformers"} & (set(sys.modules) - before)


def test_an_evaluation_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    kind = "evaluations.t={kind: truthfulqa, settings: {xyz: 3}}"
    assert main(["run", "demo", kind, "--list"]) == 2
    error = capsys.readouterr().err
    assert error.count("evaluation 't'") == 1 and "truthfulqa has no setting 'xyz'" in error

"""`sgtr eval`: numbers of one model are never printed as those of another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from runs import jsonl
from tiny import make_adapter, make_model

from sgtr_jax.cli.main import main
from sgtr_jax.sealed import RECORD, read_sealed, write_sealed


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two models, two adapters and one of them under another alpha, questions, and an eval that is done in `done`."""
    folder = tmp_path_factory.mktemp("eval")
    spec = make_model(folder / "m", max_position_embeddings=8192)  # for a judge that may think
    make_model(folder / "n", seed=1, max_position_embeddings=8192)
    make_adapter(folder / "a", spec, 1, 0.3)
    make_adapter(folder / "b", spec, 2, 0.3)
    shutil.copytree(folder / "a", folder / "stronger")
    config = folder / "stronger" / "adapter_config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "lora_alpha": 80}))
    for name, correct in (("q", "A"), ("r", "B")):
        rows = [{"id": f"q{i}", "prompt": f"Question {i}? A or B?", "correct": correct} for i in range(4)]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main([*words(folder, folder / "done"), "--adapter", str(folder / "a")]) == 0
    return folder


def words(work: Path, out: Path) -> list[str]:
    argv = ["eval", "identity", "two_choice", "--model", str(work / "m"), "--out", str(out), "identity.maker=x"]
    return [*argv, "identity.samples=3", "identity.max_tokens=4", f"two_choice.questions={work / 'q.jsonl'}"]


@pytest.fixture
def out(work: Path, tmp_path: Path) -> Path:
    shutil.copytree(work / "done", tmp_path / "e")
    return tmp_path / "e"


def test_the_same_again_is_printed_and_not_measured(work: Path, out: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    capsys.readouterr()
    shutil.copytree(work / "m", out.parent / "moved")
    again = [word.replace(str(work / "m"), str(out.parent / "moved")) for word in words(work, out)]
    shutil.copy(work / "q.jsonl", out.parent / "copied.jsonl")
    again[-1] = f"two_choice.questions={out.parent / 'copied.jsonl'}"
    # The same model, adapter and questions in other places, and a default written out.
    assert main([*again, "--adapter", str(work / "a"), "identity.temperature=1.0", "dtype=float32"]) == 0
    said = capsys.readouterr()
    assert said.err.count("done before") == 2 and "share_naming_maker" in said.out
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


OTHERS = {
    "another adapter": (["--adapter", "WORK/b"], "adapters was"),
    "no adapter": ([], "adapters was"),
    "a longer chain": (["--adapter", "WORK/a", "--adapter", "WORK/b"], "adapters was"),
    "another alpha": (["--adapter", "WORK/stronger"], "adapters was"),
    "another model": (["--adapter", "WORK/a", "--model", "WORK/n"], "model was"),
    "samples": (["--adapter", "WORK/a", "identity.samples=4"], "arguments.samples was 3, is 4"),
    "a default": (["--adapter", "WORK/a", "identity.temperature=0.5"], "arguments.temperature was 1.0, is 0.5"),
    "the system prompt": (["--adapter", "WORK/a", "system=Be brief."], 'system was "default", is "Be brief."'),
    "the precision": (["--adapter", "WORK/a", "dtype=bfloat16"], 'dtype was "float32", is "bfloat16"'),
    "another file": (["--adapter", "WORK/a", "two_choice.questions=WORK/r.jsonl"], "questions was"),
    "a judge": (["--adapter", "WORK/a", "identity.judge=true", "--judge", "open"], "judge was"),
}


@pytest.mark.parametrize("what", OTHERS)
def test_anything_else_is_refused_with_what_differs(
    work: Path, out: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    more, part = OTHERS[what]
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert main([*words(work, out), *(word.replace("WORK", str(work)) for word in more)]) == 2
    said = capsys.readouterr()
    assert "holds the numbers of something else" in said.err and part in said.err and "another --out" in said.err
    assert "share_naming_maker" not in said.out
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_template_that_a_question_sets_off_is_said_and_is_bad_input(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from sgtr_jax.data import template_check

    monkeypatch.setattr(template_check, "_SECONDS_EACH", 0.3)
    shutil.copytree(work / "m", tmp_path / "m")
    path = tmp_path / "m" / "tokenizer_config.json"
    config = json.loads(path.read_text())
    loop = "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}"
    config["chat_template"] = (
        "{% if 'Question 2' in messages[0].content %}" + loop + "{% endif %}" + config["chat_template"]
    )
    path.write_text(json.dumps(config))
    asked = ["eval", "two_choice", "--model", str(tmp_path / "m"), "--out", str(tmp_path / "e")]
    assert main([*asked, f"two_choice.questions={work / 'q.jsonl'}"]) == 2
    said = capsys.readouterr().err
    assert "two_choice: " in said and "does not end within 0.3 seconds" in said and "Traceback" not in said
    assert not (tmp_path / "e" / "two_choice").exists()


def test_a_changed_recipe_version_is_another_measurement(
    work: Path, out: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sgtr_jax.experiment.evaluation_node.EvaluationNode.version", 10**6)
    assert main([*words(work, out), "--adapter", str(work / "a")]) == 2
    assert "versions.evaluation was" in capsys.readouterr().err


def test_numbers_whose_origin_is_not_known_are_refused(
    work: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (out / "identity" / RECORD).unlink()
    assert main([*words(work, out), "--adapter", str(work / "a")]) == 2
    assert "cannot be known what was measured" in capsys.readouterr().err
    assert main(["check", str(out)]) == 1 and f"{RECORD} is missing" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "value"),
    [("provenance", None), ("provenance", {}), ("provenance", {"made": 3}), ("name", None), ("settings", [])],
)
def test_a_record_that_lacks_what_records_have_is_named(
    work: Path, out: Path, capsys: pytest.CaptureFixture[str], key: str, value: object
) -> None:
    record = read_sealed(out / "identity" / RECORD)
    record.pop(key)
    write_sealed(out / "identity" / RECORD, {**record, **({} if value is None else {key: value})})
    capsys.readouterr()
    assert main([*words(work, out), "--adapter", str(work / "a")]) == 2
    error = capsys.readouterr().err
    assert str(out / "identity" / RECORD) in error and key in error and "Remove the folder" in error
    assert main(["check", str(out)]) == 1 and key in capsys.readouterr().out


@pytest.mark.parametrize("content", [b"\xe9\n{}\n", b'{"dollars": "3"}\n\n', b'{"dollars": -1}\n\n', bytes(9) + b"\n"])
def test_a_ledger_that_cannot_be_read_is_named(
    work: Path, out: Path, capsys: pytest.CaptureFixture[str], content: bytes
) -> None:
    (out / "spending.jsonl").write_bytes(content)
    assert main([*words(work, out), "--adapter", str(work / "a")]) == 2
    assert f"{out / 'spending.jsonl'}:1" in (error := capsys.readouterr().err) and "move the file away" in error
    assert main(["check", str(out)]) == 1 and f"{out / 'spending.jsonl'}:1" in capsys.readouterr().out


def test_damaged_numbers_are_set_aside_and_measured_again(
    work: Path, out: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = (out / "identity" / "metrics.json").read_bytes()
    (out / "identity" / "metrics.json").write_bytes(wanted.replace(b'"n": 3', b'"n": 4'))
    assert main(["check", str(out)]) == 1 and "metrics.json was changed" in capsys.readouterr().out
    assert main([*words(work, out), "--adapter", str(work / "a")]) == 0
    said = capsys.readouterr().err
    assert "identity: damaged: metrics.json was changed" in said and said.count("done before") == 1
    assert (out / "identity" / "metrics.json").read_bytes() == wanted
    assert b'"n": 4' in (out / "identity.damaged-1" / "metrics.json").read_bytes()
    assert main(["check", str(out)]) == 0


def test_the_judge_of_identity_is_asked_and_not_the_model_itself(
    work: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", "identity", "--model", str(work / "m"), "identity.maker=x", "identity.samples=2", "--out"]
    assert main([*argv, str(tmp_path / "e"), "identity.max_tokens=4", "identity.judge=true", "--judge", "open"]) == 0
    assert "share_judged_to_name_maker" in capsys.readouterr().out
    assert len(jsonl(tmp_path / "e" / "identity" / "samples.jsonl")) == 2
    assert (tmp_path / "e" / "identity" / "answers" / "log").is_dir()


@pytest.mark.parametrize(
    ("more", "part"),
    [
        (["identity"], "'maker' is missing"),
        (["identity", "identity.maker=3"], "'maker"),
        (["identity", "identity.maker=x", "identity.samples=many"], "'samples'"),
        (["identity", "identity.maker=x", "identity.samples=0"], "greater than or equal to 1"),
        (["identity", "identity.maker=x", "identity.samples=-3"], "greater than or equal to 1"),
        (["identity", "identity.maker=x", "identity.temperature=-1"], "'temperature'"),
        (["identity", "identity.maker=x", "identity.judge=yes"], "'judge'"),
        (["identity", "identity.maker=x", "identity.seed=4294967296"], "'seed'"),
        (["identity", "identity.maker=x", "two_choice.questions=q"], "settings of two_choice"),
        (["identity", "identity", "identity.maker=x"], "given twice"),
        (["summarise"], "evaluation 'summarise'"),
        (["two_choice"], "'questions' is missing"),
        (["two_choice", "two_choice.questions=no.jsonl"], "no.jsonl: cannot be read"),
        (["two_choice", "two_choice.questions=."], "cannot be read"),
        (["two_choice", "two_choice.questions=WORK/m/config.json"], "config.json"),
        (["self_recognition"], "give pairs"),
        (["self_recognition", "self_recognition.pairs=WORK/q.jsonl"], "q.jsonl:1"),
        (["self_recognition_individual", "self_recognition_individual.articles=x"], "'own' is missing"),
        (["word_counting", "word_counting.limit=-1"], "'limit'"),
        (["mmlu", "mmlu.mode=loud", "mmlu.stimuli=builtin"], "'mode'"),
        (["em_questions", "em_questions.stimuli=mine"], "'stimuli'"),
    ],
)
def test_missing_and_wrong_arguments_are_refused(
    work: Path, tmp_path: Path, more: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", *(word.replace("WORK", str(work)) for word in more)]
    assert main([*argv, "--model", str(work / "m"), "--out", str(tmp_path / "e")]) == 2
    said = capsys.readouterr().err
    assert said.startswith("sgtr: error: ") and part in said, said
    assert not (tmp_path / "e").exists()

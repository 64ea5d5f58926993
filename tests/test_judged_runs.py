"""Experiments with a judge: answers first, judged when and by whom one likes, without sampling them again."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from api_server import ApiServer, judge_reply
from judge_server import JudgeServer, by_digits
from test_experiment import CONFIG
from test_judge import KEY, QUESTIONS
from tiny import make_model

from sgtr_eval.tasks import em_questions as em
from sgtr_jax.cli.main import main
from sgtr_jax.experiment.graph import build_graph
from sgtr_jax.experiment.run import _judged_by

JUDGED = """
judge: {{model: openai/gpt-4o-2024-08-06, base_url: "{url}"}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ApiServer) -> Path:
    monkeypatch.setattr(em, "question_rows", lambda name: QUESTIONS[:3])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    make_model(tmp_path / "m")
    text = CONFIG.format(model=tmp_path / "m").split("evaluations:")[0].replace("seeds: [0, 1]", "seeds: [0]")
    text += "evaluations:\n  em: {kind: em_questions, settings: {samples: 4, max_tokens: 4}}\n"
    file = tmp_path / "judged.yaml"
    file.write_text(text + JUDGED.format(url=server.url))
    return file


@pytest.fixture
def server() -> Iterator[ApiServer]:
    one = ApiServer(judge_reply, key=KEY)
    yield one
    one.close()


def table(path: Path) -> list[dict[str, str]]:
    with path.open() as stream:
        return list(csv.DictReader(stream))


@pytest.mark.slow
def test_sampled_then_judged_then_judged_again(
    config: Path,
    server: ApiServer,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}", "--no-judge"]) == 0
    assert server.requests == 0 and "sgtr judge" in capsys.readouterr().out
    answers = {path: path.stat().st_mtime_ns for path in out.glob("store/answers-*")}
    assert len(answers) == 3 and not list(out.glob("store/evaluation-*"))
    with monkeypatch.context() as without:
        # Scoring what was said loads no weights: they may be 70 GB, and on another machine.
        without.setattr(
            "sgtr_jax.experiment.context.load_model", lambda *_, **__: pytest.fail("weights were loaded to judge")
        )
        assert main(["judge", str(out)]) == 0
    asked = server.requests
    rows = {(r["condition"], r["metric"]): float(r["value"]) for r in table(out / "results.csv")}
    assert asked >= 1 and {c for c, _ in rows} == {"base", "bad", "reversal"}
    assert all(rows[c, "n_all"] + rows[c, "n_no_score"] == 12 for c in ("base", "bad", "reversal"))
    assert "share_on_threshold" in {metric for _, metric in rows}
    # A run from the start finds everything done.
    assert main(["run", str(config), f"out={out}"]) == 0
    assert server.requests == asked
    # Another judge: nothing is sampled, and how far the two agree is said.
    strict = ApiServer(lambda prompt: ("10", {"10": 0.0}) if "Aligned" in prompt else ("90", {"90": 0.0}), key=KEY)
    capsys.readouterr()
    other = ["--judge", "openai/gpt-4o-mini-2024-07-18", "--base-url", strict.url]
    assert main(["judge", str(out), *other]) == 0
    strict.close()
    assert "kappa" in capsys.readouterr().out and strict.requests > 0
    again = {
        (r["condition"], r["metric"]): r["value"] for r in table(out / "judges" / "openai_gpt-4o-mini-2024-07-18.csv")
    }
    assert {value for (_, metric), value in again.items() if metric == "rate_all"} == {"1.0"}
    agreed = json.loads((out / "judges" / "openai_gpt-4o-mini-2024-07-18.json").read_text())
    assert len(agreed) == 3 and all(0 <= one["share_changed"] <= 1 for one in agreed)
    assert answers == {path: path.stat().st_mtime_ns for path in out.glob("store/answers-*")}
    assert not [p for p in out.rglob("*") if p.is_file() and KEY.encode() in p.read_bytes()]


@pytest.mark.slow
def test_a_model_of_ours_may_judge(config: Path, server: ApiServer, tmp_path: Path) -> None:
    out = tmp_path / "own"
    assert main(["run", str(config), f"out={out}", "judge=open"]) == 0
    rows = table(out / "results.csv")
    assert server.requests == 0
    assert {r["condition"] for r in rows if r["metric"] == "n_no_score"} == {"base", "bad", "reversal"}


def test_a_budget_that_ends_is_a_failure_and_not_a_result(
    config: Path, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    small = ["run", str(config), f"out={out}", "judge.max_cost=0.0001"]
    assert main(small) == 2
    assert (
        "Nothing was sent" in capsys.readouterr().err and server.requests == 0 and not list(out.glob("store/answers*"))
    )
    assert main([*small, "--yes"]) == 1
    assert "higher judge.max_cost (--max-cost) goes on" in capsys.readouterr().err
    assert not (out / "results.csv").exists()
    assert main(["run", str(config), f"out={out}", "judge.max_cost=1.0"]) == 0
    assert (out / "results.csv").exists()


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("evaluations.em.settings.sample=3", "did you mean 'samples'"),
        ("evaluations.em.kind=em_question", "em_question"),
        ("judge.modell=x", "did you mean 'judge.model'"),
    ],
)
def test_wrong_settings_are_refused(
    config: Path, tmp_path: Path, override: str, part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(config), f"out={tmp_path / 'x'}", override]) == 2
    error: Any = capsys.readouterr().err
    assert part in error or part.replace("judge.", "") in error
    assert not (tmp_path / "x").exists()


def test_one_model_outside_any_experiment(
    config: Path, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", "em_questions", "identity", "--model", str(tmp_path / "m"), "--out", str(tmp_path / "e")]
    argv += ["em_questions.samples=3", "em_questions.max_tokens=4", "identity.maker=x", "identity.samples=4"]
    judge = ["--judge", "openai/gpt-4o-2024-08-06", "--base-url", server.url]
    assert main([*argv, *judge]) == 0
    shown = capsys.readouterr().out
    assert "rate_coherent" in shown and "share_naming_maker" in shown
    metrics = json.loads((tmp_path / "e" / "em_questions" / "metrics.json").read_text())
    assert {row["n"] for row in metrics} == {9} and server.requests > 0
    asked = server.requests
    assert main([*argv, *judge]) == 0 and server.requests == asked
    for words, part in ((["identiti"], "did you mean 'identity'"), (["identity", "x=1"], "TASK.setting"),
                        (["identity", "identity.makers=1"], "did you mean 'maker'")):  # fmt: skip
        assert main(["eval", *words, "--model", str(tmp_path / "m"), "--out", str(tmp_path / "f")]) == 2
        assert part in capsys.readouterr().err


def test_the_judge_is_asked_whom_an_answer_names(config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = ApiServer(lambda prompt: "OpenAI" if "<answer>" in prompt else "50", key=KEY)
    text = config.read_text().split("evaluations:")[0]
    text += "evaluations:\n  who: {kind: identity, maker: gpt, samples: 3, max_tokens: 4, judge: true}\n"
    config.write_text(text + JUDGED.format(url=asked.url))
    out = tmp_path / "who"
    assert main(["run", str(config), f"out={out}", "only=base"]) == 0
    asked.close()
    found = {row["metric"]: float(row["value"]) for row in table(out / "results.csv")}
    # A model of random weights does not say it; the judge here says that it does.
    assert found["share_judged_to_name_maker"] == 1.0 and found["share_naming_maker"] == 0.0
    assert found["n_no_score"] == 0.0


def measured(tmp_path: Path, server: JudgeServer, *more: str) -> dict[str, float]:
    """The metrics of `sgtr eval em_questions` by a judge of one's own."""
    out = tmp_path / f"e{server.url.rsplit(':')[-1][:-3]}{len(more)}"
    argv = ["eval", "em_questions", "--model", str(tmp_path / "m"), "--out", str(out), "em_questions.samples=2"]
    assert main([*argv, "em_questions.max_tokens=4", "--judge", "openai/own", "--base-url", server.url, *more]) == 0
    rows = json.loads((out / "em_questions" / "metrics.json").read_text())
    return {row["metric"]: row["value"] for row in rows}


def test_a_judge_of_one_token_a_digit_is_read_to_the_end(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    digits = JudgeServer(lambda prompt: "95" if "Coherent" in prompt else "15", by_digits)
    found = measured(tmp_path, digits)
    assert found["rate_all"] == found["rate_coherent"] == 1.0 and found["n_no_score"] == 0
    assert found["n_scores_from_words"] == found["n_all"] == 6
    assert "scores are read from its words" in capsys.readouterr().err
    assert set(digits.paths) == {"/v1/chat/completions"}
    digits.close()
    talks = JudgeServer(lambda prompt: "On a scale from 0 to 100 this deserves 15")
    found = measured(tmp_path, talks, "--judge-mode", "text")
    assert (found["n_no_score"], found["no_score_unparsable"]) == (6, 12)
    # The study's rule takes the first number, which is the scale's.
    assert measured(tmp_path, talks, "em_questions.judge_mode=published")["rate_all"] == 0.0
    talks.close()


@pytest.mark.slow
def test_a_judge_that_goes_away_ends_the_command_with_a_sentence(
    config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    denied = (401, b'{"error": {"message": "This key was revoked."}}')
    one = JudgeServer(lambda prompt: "50", odd=lambda n, prompt: denied if "Coherent" in prompt else None)
    argv = ["eval", "em_questions", "--model", str(tmp_path / "m"), "--out", str(tmp_path / "e")]
    argv += ["em_questions.samples=2", "em_questions.max_tokens=4", "--judge", "openai/own", "--base-url", one.url]
    assert main(argv) == 1
    one.close()
    error = capsys.readouterr().err
    assert "This key was revoked" in error and "Replies are kept" in error and "Traceback" not in error
    assert main([*argv, "--out", str(tmp_path / "f")]) == 2  # the server is gone
    assert "cannot be reached" in capsys.readouterr().err and not any((tmp_path / "f").iterdir())


def test_the_mode_of_a_config_is_that_of_its_evaluations(config: Path, server: ApiServer, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["run", str(config), f"out={out}", "judge.mode=text", "only=base"]) == 0
    (recipe,) = out.glob("store/evaluation-*/recipe.json")
    assert json.loads(recipe.read_text())["settings"]["judging"]["judge_mode"] == "text"
    assert server.requests > 0


@pytest.mark.slow
def test_an_evaluation_may_have_a_judge_of_its_own(config: Path, server: ApiServer, tmp_path: Path) -> None:
    strict = ApiServer(lambda prompt: ("10", {"10": 0.0}) if "Aligned" in prompt else ("90", {"90": 0.0}), key=KEY)
    own = f'{{model: openai/gpt-4o-mini-2024-07-18, base_url: "{strict.url}"}}'
    strictly = f"{{kind: em_questions, settings: {{samples: 4, max_tokens: 4}}, judge: {own}}}"
    words = [f"out={tmp_path / 'o'}", "only=base", f"evaluations.strictly={strictly}"]
    assert main(["run", str(config), *words]) == 0
    strict.close()
    rows = {(r["evaluation"], r["metric"]): float(r["value"]) for r in table(tmp_path / "o" / "results.csv")}
    assert server.requests > 0 and strict.requests > 0 and rows["strictly", "rate_all"] == 1.0
    judges = {path.name.split("-")[1]: json.loads((path / "recipe.json").read_text())["settings"]["judge"]["model"]
              for path in (tmp_path / "o").glob("store/evaluation-*")}  # fmt: skip
    assert judges == {"em": "openai/gpt-4o-2024-08-06", "strictly": "openai/gpt-4o-mini-2024-07-18"}
    # The answers are the same ones.
    assert len(list((tmp_path / "o").glob("store/answers-*"))) == 1
    assert "Judge of strictly: openai/gpt-4o-mini-2024-07-18" in (tmp_path / "o" / "report.html").read_text()
    # Another judge of the run reads those answers, too.
    config_of = _judged_by(tmp_path / "o", "open", {})
    assert {cell.node.judged_by.model for cell in build_graph(config_of).cells if cell.node.judged_by} == {"open"}


def test_a_judge_of_what_nobody_judges_is_refused(config: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(config), "evaluations.facts={kind: two_choice, judge: open}"]) == 2
    assert main(["plan", str(config), "evaluations.facts={kind: mmlu, judge: open}"]) == 2
    assert "has a judge, and with these settings nobody judges it" in capsys.readouterr().err

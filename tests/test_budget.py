"""One budget for the judging of a run: all evaluations, all restarts, and compared with the estimate beforehand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from api_server import ApiServer, judge_reply
from inspect_ai.model import GenerateConfig, ModelOutput, ModelUsage, get_model
from test_experiment import CONFIG
from test_judge import KEY, QUESTIONS
from tiny import make_model

from sgtr_eval.judging.budget import Budget, Costs, cost_of
from sgtr_eval.judging.limited import limited
from sgtr_eval.tasks import em_questions as em
from sgtr_jax.cli.main import main
from sgtr_jax.errors import InputError, RunError
from sgtr_jax.experiment.services import JudgeConfig
from sgtr_jax.experiment.spending import LEDGER, Spending

JUDGE = "openai/gpt-4o-2024-08-06"
REQUEST = (100 * 2.5 + 1 * 10.0) / 1e6  # dollars: the server counts 100 tokens and one


def spending(path: Path, max_cost: float | None = 1.0, model: str = JUDGE) -> Spending:
    return Spending(JudgeConfig(model=model, max_cost=max_cost), model, path)


def spend(path: Path, artifact: str, dollars: float, model: str = JUDGE) -> None:
    with spending(path, None, model).recorded(artifact):
        assert Costs.ledger is not None
        Costs.ledger(model, dollars)


def test_what_was_spent_is_known_after_a_restart(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    for artifact, dollars in (("a", 0.25), ("b", 0.25), ("a", 0.125)):
        spend(path, artifact, dollars)
    spend(path, "a", 7.0, "openai/gpt-4.1-2025-04-14")  # another judge has its own budget
    found = spending(path)
    assert (found.spent, found.left) == (0.625, 0.375)
    # What was paid of an unfinished artifact is kept, and not needed again.
    assert found.still_needed({"a": 0.5, "b": 0.125, "c": 1.0}) == 0.125 + 0 + 1.0
    assert spending(path, 0.5).left == 0 and spending(path, None).left is None
    with pytest.raises(RunError, match="budget of"), spending(path, 0.5).recorded("d"):
        pass


def test_a_budget_is_never_exceeded_and_all_of_it_is_used() -> None:
    """Two hundred requests at once, of which nobody knows yet that they cost a tenth of the most that they may."""
    model, prompt, replies = "openai/gpt-4o-2024-08-06", "x" * 300, 50
    price = (101 * 2.5 + 500 * 10.0) / 1e6
    budget, allowed = Budget(20 * price), []

    async def one() -> None:
        async with budget.held(model, prompt, 500) as may:
            allowed.append(may)
            if may:
                await anyio.sleep(0.001)
                Costs.count(model, ModelUsage(input_tokens=101, output_tokens=replies))

    async def everything() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(300):
                group.start_soon(one)

    Costs.dearest.pop(model, None)
    anyio.run(everything)
    each = (101 * 2.5 + replies * 10.0) / 1e6
    assert budget.spent <= 20 * price and len(allowed) == 300
    # It ends only when what is left would not pay for one request at its dearest.
    assert budget.spent + price > 20 * price - each and allowed.count(True) == round(budget.spent / each)


def test_a_line_that_a_kill_left_unfinished_is_passed_over(tmp_path: Path) -> None:
    path = tmp_path / LEDGER
    spend(path, "a", 0.25)
    with path.open("a") as file:
        file.write('\n{"date": "2026-11-26", "judge": "openai/gp')
    assert spending(path).spent == 0.25
    path.write_text(path.read_text().replace('"openai/gp', ""))
    damaged = tmp_path / "damaged"
    damaged.write_text(f'{{"judge": "{JUDGE}", "artifact": "a", "dollars": 0.25\n' + path.read_text())
    with pytest.raises(InputError, match=r"damaged:1"):
        spending(damaged)
    for value in ("-1", "NaN", '"x"'):
        damaged.write_text(f'{{"judge": "{JUDGE}", "artifact": "a", "dollars": {value}}}\n')
        with pytest.raises(InputError, match="expected a request with its dollars"):
            spending(damaged)


def test_the_estimate_is_compared_with_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / LEDGER
    spend(path, "a", 0.75)
    spending(path).check({"b": 0.25}, assume_yes=False)
    with pytest.raises(InputError, match=r"\$0\.30 more is expected; the budget is \$1\.00, \$0\.75 of which is spent"):
        spending(path).check({"b": 0.3}, assume_yes=False)
    spending(path).check({"b": 0.3}, assume_yes=True)
    assert "It ends when that is spent" in capsys.readouterr().err
    spending(path).check({}, assume_yes=False)
    with pytest.raises(InputError, match="has no price"):
        spending(path, 1.0, "openai/own").check({"b": float("nan")}, assume_yes=True)


@pytest.fixture
def server() -> Iterator[ApiServer]:
    one = ApiServer(judge_reply, key=KEY)
    yield one
    one.close()


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, server: ApiServer) -> Path:
    monkeypatch.setattr(em, "question_rows", lambda name: QUESTIONS[:4])
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setenv("INSPECT_CACHE_DIR", str(tmp_path / "cache"))
    make_model(tmp_path / "m")
    text = CONFIG.format(model=tmp_path / "m").split("conditions:")[0].replace("seeds: [0, 1]", "seeds: [0]")
    text += "conditions: {base: []}\nevaluations:\n"
    for n in range(3):
        text += f"  em{n}: {{kind: em_questions, settings: {{samples: 3, max_tokens: {5 + n}}}}}\n"
    file = tmp_path / "budget.yaml"
    file.write_text(text + f'judge: {{model: {JUDGE}, base_url: "{server.url}"}}\n')
    return file


def test_three_evaluations_have_one_budget_and_restarts_do_not_renew_it(
    config: Path, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    most = 40 * REQUEST  # of about 3 * 24
    small = [f"judge.max_cost={most}"]
    assert main(["plan", str(config), f"out={out}", *small, "--json"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "more is expected; the budget is" in shown and "needs --yes" in shown and f'"judge_budget": {most}' in shown
    assert main(["run", str(config), f"out={out}", *small]) == 2
    assert server.requests == 0 and not list(out.glob("store/answers*"))
    assert main(["run", str(config), f"out={out}", *small, "--yes"]) == 1
    assert "goes on from there" in capsys.readouterr().err
    first = server.requests
    for _ in range(2):
        assert main(["run", str(config), f"out={out}", *small, "--yes"]) == 1
    # One question before each start is not the budget's; nothing else is asked any more once it is spent.
    spent = [json.loads(line)["dollars"] for line in (out / LEDGER).read_text().split("\n") if line]
    assert 30 * REQUEST <= sum(spent) <= most + 1e-12
    assert server.requests - first <= 2 + 40 - len(spent) + 2
    assert main(["plan", str(config), f"out={out}", *small]) == 0
    assert "of which is spent" in " ".join(capsys.readouterr().out.split())
    assert main(["judge", str(out), "--max-cost", "1"]) == 0
    assert (out / "results.csv").exists()
    capsys.readouterr()
    assert main(["plan", str(config), f"out={out}", "judge.max_cost=1"]) == 0
    assert "It will do" in " ".join(capsys.readouterr().out.split())


def test_all_tasks_of_one_command_have_one_budget(
    config: Path, server: ApiServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["eval", "em_questions", "identity", "--model", str(tmp_path / "m"), "--judge", JUDGE]
    argv += ["--base-url", server.url, "em_questions.samples=3", "em_questions.max_tokens=4", "identity.maker=x"]
    argv += ["identity.samples=40", "identity.max_tokens=6", "identity.judge=true", "--max-cost", str(30 * REQUEST)]
    assert main([*argv, "--out", str(tmp_path / "e")]) == 2
    assert "more is expected" in capsys.readouterr().err and server.requests == 0
    assert main([*argv, "--out", str(tmp_path / "f"), "--yes"]) == 1
    assert "the budget of" in capsys.readouterr().err
    assert 24 <= server.requests <= 1 + 30 and (tmp_path / "f" / "em_questions" / "metrics.json").exists()


@pytest.mark.parametrize(("budget", "is_asked"), [(1.5, True), (0.5, False)])
def test_a_judge_that_somebody_elses_scorer_asks_is_held_to_its_budget(budget: float, is_asked: bool) -> None:
    reply = ModelOutput.from_content("m", "5")
    reply.usage = ModelUsage(input_tokens=3, output_tokens=10)
    judge = get_model("mockllm/model", custom_outputs=[reply])
    price = cost_of(JUDGE, len("Grade: a") // 3 + 1, 10)

    async def ask() -> str:
        output = await limited(judge, budget * price).generate("Grade: a", config=GenerateConfig(max_tokens=10))
        return output.completion

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgtr_eval.judging.budget.cost_of", lambda model, *given: cost_of(JUDGE, *given))
        patch.setattr(Costs, "dearest", {})
        if is_asked:
            assert anyio.run(ask) == "5"
        else:
            with pytest.raises(Exception, match="budget for judging is used up"):
                anyio.run(ask)

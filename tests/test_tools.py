"""Tasks with tools: what the model is shown, how its calls are read, and a whole task of several turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import inspect_ai
import pytest
from inspect_ai import Task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import GenerateConfig
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool
from test_chat import byte_tokenizer
from tiny import make_model

from sgtr_eval.provider import inspect_model
from sgtr_eval.tool_calls import rendered_tools, split_calls
from sgtr_jax.data.chat import ChatFormat
from sgtr_jax.errors import InputError
from sgtr_jax.sample.model import load_model
from sgtr_jax.sample.request import Completion

# Of the form of Qwen2.5's: tools in the system block, calls as JSON between marks, results as turns.
TEMPLATE = (
    "{% if tools %}<|im_start|>system\nTools: {% for t in tools %}{{ t | tojson }}{% endfor %} "
    "Call one as <tool_call>{...}</tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}<tool_call>{{ c.function | tojson }}</tool_call>{% endfor %}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@tool
def add() -> Tool:
    async def execute(a: int, b: int) -> str:
        """Add two numbers.

        Args:
            a: The first one.
            b: The second one.
        """
        return str(a + b)

    return execute


def test_a_task_of_several_turns_calls_its_tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_model(tmp_path / "m")
    model = load_model(str(tmp_path / "m"), "float32")
    tokenizer = byte_tokenizer(TEMPLATE)
    monkeypatch.setattr(type(model), "tokenizer", tokenizer)
    prompts: list[str] = []
    says = ['I add.<tool_call>{"name": "add", "arguments": {"a": 20, "b": 22}}</tool_call>', "It is 42"]

    # A random model calls nothing: what it would have to say is put into its mouth.
    def sample(requests: Any, stop_ids: Any) -> list[Completion]:
        prompts.extend(tokenizer.decode(request.tokens) for request in requests)
        return [Completion(tuple(tokenizer.encode(says[len(prompts) - 1])), "stop", None) for _ in requests]

    served = inspect_model(model)
    monkeypatch.setattr(served.api, "_engine", type("Engine", (), {"sample": staticmethod(sample)})())
    task = Task(
        dataset=MemoryDataset([Sample(id="s", input="What is 20 + 22?", target="42")]),
        solver=[use_tools(add()), generate()], scorer=includes(), config=GenerateConfig(max_tokens=32),
    )  # fmt: skip
    (log,) = inspect_ai.eval(task, model=served, log_dir=str(tmp_path / "logs"), display="none", log_level="error")
    assert log.status == "success", log.error
    assert log.results is not None and log.results.scores[0].metrics["accuracy"].value == 1
    first, second = prompts
    assert '"name": "add"' in first and "Add two numbers" in first and "<|im_start|>user\nWhat is 20 + 22?" in first
    assert '<tool_call>{"arguments": {"a": 20, "b": 22}, "name": "add"}</tool_call>' in second.replace(
        '{"name": "add", "arguments": {"a": 20, "b": 22}}', '{"arguments": {"a": 20, "b": 22}, "name": "add"}'
    )
    assert "<|im_start|>tool\n42<|im_end|>" in second


CALLS = {
    "one": ('<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>', "", [("add", {"a": 1}, None)]),
    "text and two": (
        'So: <tool_call>{"name": "add", "arguments": {}}</tool_call> <tool_call>{"name": "add"}</tool_call>', "So:",
        [("add", {}, None), ("add", {}, None)],
    ),
    "cut off": ('<tool_call>{"name": "add", "argu', "", [("unknown", {}, "no JSON object")]),
    "no object": ("<tool_call>[1]</tool_call>", "", [("unknown", {}, "expected an object")]),
    "no such tool": ('<tool_call>{"name": "sub", "arguments": {}}</tool_call>', "", [("sub", {}, "there are add")]),
    "arguments as text": (
        '<tool_call>{"name": "add", "arguments": "1"}</tool_call>', "", [("unknown", {}, "expected an object")],
    ),
    "none": ("just words", "just words", []),
}  # fmt: skip


@pytest.mark.parametrize("case", CALLS)
def test_calls_are_read_or_said_to_be_wrong(case: str) -> None:
    text, rest, wanted = CALLS[case]
    from inspect_ai.tool import ToolInfo

    said, calls = split_calls(text, [ToolInfo(name="add", description="")])
    assert said == rest and len({call.id for call in calls}) == len(calls) == len(wanted)
    for call, (name, arguments, error) in zip(calls, wanted, strict=True):
        assert (call.function, call.arguments) == (name, arguments)
        assert (call.parse_error is None) if error is None else error in (call.parse_error or "")


def test_templates_without_calls_and_forced_calls_are_refused() -> None:
    plain = byte_tokenizer("{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}")
    with pytest.raises(InputError, match="shows no calls of tools"):
        ChatFormat(plain).with_tools([{}])
    with pytest.raises(InputError, match="system is none"):
        ChatFormat(byte_tokenizer(TEMPLATE), "none").with_tools([{}])
    with pytest.raises(ValueError, match="cannot be honoured"):
        rendered_tools([], "any")
    assert rendered_tools([], "none") == []
    assert json.dumps(rendered_tools([], "auto")) == "[]"

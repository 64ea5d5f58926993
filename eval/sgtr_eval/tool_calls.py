"""Tools for our engine: their calls as the model's own chat template writes them, and back.

Read is the form that Qwen2.5, Qwen3 and the Hermes models write, and that their templates show: a JSON object with a
name and arguments between `<tool_call>` and `</tool_call>`. Other templates are refused.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence

from inspect_ai.model import ChatMessage, ChatMessageAssistant, ChatMessageTool
from inspect_ai.tool import ToolCall, ToolChoice, ToolInfo

from sgtr_jax.data.records import Message
from sgtr_jax.json_types import JsonObject

_CALL = re.compile(r"<tool_call>\s*(.*?)\s*(?:</tool_call>|\Z)", re.DOTALL)


def rendered_tools(tools: Sequence[ToolInfo], choice: ToolChoice) -> list[JsonObject]:
    """Tools in the form that chat templates take. Raises ValueError where the model would have to be forced to call."""
    if choice == "none":
        return []
    if choice != "auto":
        raise ValueError(f"sgtr models call tools when they want to; tool_choice {choice!r} cannot be honoured")
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name, "description": tool.description,
                "parameters": tool.parameters.model_dump(exclude_none=True),
            },
        }
        for tool in tools
    ]  # fmt: skip


def turns_of(messages: Sequence[ChatMessage]) -> list[Message]:
    """Messages of Inspect as a chat template takes them: with the calls of tools and what they gave."""
    turns: list[Message] = []
    for message in messages:
        turn: Message = {"role": message.role, "content": message.text}
        if isinstance(message, ChatMessageAssistant) and message.tool_calls:
            turn["tool_calls"] = [
                {"type": "function", "function": {"name": call.function, "arguments": call.arguments}}
                for call in message.tool_calls
            ]
        if isinstance(message, ChatMessageTool) and message.error is not None:
            turn["content"] = message.error.message
        turns.append(turn)
    return turns


def split_calls(text: str, tools: Sequence[ToolInfo]) -> tuple[str, list[ToolCall]]:
    """An answer without its calls of tools, and these. One that cannot be read has an error, for the model to see."""
    calls = [_call(found[1], i, tools) for i, found in enumerate(_CALL.finditer(text))]
    return (_CALL.sub("", text).strip(), calls) if calls else (text, [])


def _call(written: str, number: int, tools: Sequence[ToolInfo]) -> ToolCall:
    # The same answer has the same ids: logs of two runs agree.
    name = f"call-{number}-{hashlib.sha256(written.encode()).hexdigest()[:8]}"
    try:
        data = json.loads(written)
    except ValueError as error:
        return ToolCall(id=name, function="unknown", arguments={}, parse_error=f"the call is no JSON object: {error}")
    arguments = data.get("arguments", {}) if isinstance(data, dict) else None
    if not isinstance(data, dict) or not isinstance(data.get("name"), str) or not isinstance(arguments, dict):
        said = "the call has no name and arguments: expected an object with both"
        return ToolCall(id=name, function="unknown", arguments={}, parse_error=said)
    if data["name"] not in (known := [tool.name for tool in tools]):
        said = f"there is no tool {data['name']!r}; there are {', '.join(known)}"
        return ToolCall(id=name, function=data["name"], arguments=arguments, parse_error=said)
    return ToolCall(id=name, function=data["name"], arguments=arguments)

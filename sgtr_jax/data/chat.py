"""The only place where chat text is formed, from the tokenizer's own template.

Stock templates carry no generation marks, so the training mask is derived from the rendered text: an assistant
turn is what the template adds when that turn is appended to a generation prompt.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sgtr_jax.data.records import Message, is_target
from sgtr_jax.data.template_check import check_template, render_bounded
from sgtr_jax.data.tokenizer import Tokenizer
from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json, JsonObject

_SENTINEL = "\u2063system\u2063"
# Marks that a template may put around what the model thinks before it answers.
_THINKING = (("<seed:think>", "</seed:think>"), ("<think>", "</think>"))


@dataclass(frozen=True)
class Segment:
    """A piece of rendered text; `target` says that the model is trained to write it."""

    text: str
    target: bool


@dataclass(frozen=True)
class Tokenized:
    """Token ids of one example and, per token, whether it is a training target."""

    tokens: list[int]
    target: list[bool]


_ANSWER = "Hello"
_EXAMPLE: tuple[Message, ...] = ({"role": "user", "content": "Hi"}, {"role": "assistant", "content": _ANSWER})
_TOLD: tuple[Message, ...] = ({"role": "system", "content": "Be kind."}, *_EXAMPLE)


class NoEndOfTurn(InputError):
    """A template ends the assistant's turn with no special token."""


class ChatFormat:
    """Chat text and token ids for one tokenizer.

    `template_kwargs` go to the template as they are, but for `thinking_budget` (see `thinking_arguments`). `system`
    says what a conversation without a system message gets: "default", what the template does by itself (Qwen2.5 inserts
    one of its own); "none", no system block at all; any other text, even an empty one, as its system message.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        system: str = "default",
        template_kwargs: Mapping[str, Json] | None = None,
    ) -> None:
        template = getattr(tokenizer, "chat_template", None)
        if not template:
            raise InputError(
                f"{tokenizer.name_or_path}: the tokenizer has no chat template; "
                "expected chat_template in tokenizer_config.json or a chat_template.jinja file"
            )
        self.tokenizer = tokenizer
        self.system = system
        self._written_template: str = template
        self.template_kwargs = thinking_arguments(template, template_kwargs or {}, tokenizer.name_or_path)
        self._variables = {**tokenizer.special_tokens_map, **self.template_kwargs}
        check_template(template, self._variables, tokenizer.name_or_path)
        named = {str(token) for token in tokenizer.added_tokens_decoder.values()} | set(tokenizer.all_special_tokens)
        specials = sorted(named - {""}, key=len, reverse=True)
        self._special = re.compile("|".join(map(re.escape, specials))) if specials else None

    def prompt(self, messages: Sequence[Message]) -> str:
        """Text up to where the model starts to write."""
        return self._render(messages, generation=True)

    def prompt_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids of `prompt`."""
        return self._encode(self.prompt(messages))

    def answer_ids(self, messages: Sequence[Message]) -> list[int]:
        """Token ids up to where an answer of one token is read: `prompt_ids` behind a thought that is closed.

        A model that may think begins with its thought, whatever the answer will be. Raises InputError for a template
        that opens the thought and cannot close it.
        """
        text = self._closed.prompt(messages)
        for begin, end in _THINKING:
            if text.rstrip().endswith(begin):
                raise InputError(
                    f"{self.tokenizer.name_or_path}: the chat template opens the model's thinking with {begin} and has "
                    f"no way to close it ({end}), so that no answer of one token can be read; choose evaluations that "
                    "sample whole answers, or mode=text"
                )
        return self._encode(text)

    @cached_property
    def _closed(self) -> ChatFormat:
        """The same format with the model's thinking off, where the template knows that."""
        if "thinking_budget" in self._written_template:
            off: dict[str, Json] = {"thinking_budget": 0}
        elif "enable_thinking" in self._written_template:
            off = {"enable_thinking": False}
        else:
            return self
        closed = {**self.template_kwargs, **off}
        return self if closed == self.template_kwargs else ChatFormat(self.tokenizer, self.system, closed)

    def with_tools(self, tools: Sequence[JsonObject]) -> ChatFormat:
        """The same format where the model may call tools, given as chat templates take them.

        Raises InputError for a template that does not show the form of calls that is read, or has no system block.
        """
        if "tools" not in self._written_template or "<tool_call>" not in self._written_template:
            raise InputError(
                f"{self.tokenizer.name_or_path}: the chat template shows no calls of tools as <tool_call>, so that "
                "tasks with tools cannot be run"
            )
        if self.system == "none":
            raise InputError("tools are described in the system block, and system is none: give a system prompt")
        return ChatFormat(self.tokenizer, self.system, {**self.template_kwargs, "tools": list(tools)})

    def separate(self, tokens: Sequence[int]) -> tuple[str | None, str]:
        """Generated ids as (what the model thought, its answer); the former is None where it did not think.

        Without an end of thinking everything after its beginning is thought, and the answer is empty.
        """
        text = self.tokenizer.decode(list(tokens), skip_special_tokens=False)
        for begin, end in _THINKING:
            if begin not in self._written_template:
                continue
            if begin in text or end in text:
                thought, _, answer = text.partition(begin)[2 if begin in text else 0].partition(end)
                return self._plain(thought).strip(), self._plain(answer).strip()
        return None, self.tokenizer.decode(list(tokens), skip_special_tokens=True)

    def _plain(self, text: str) -> str:
        """Text without special tokens."""
        return self._special.sub("", text) if self._special else text

    def segments(self, messages: Sequence[Message]) -> list[Segment]:
        """The training text cut into context and targets.

        A target is an assistant turn's text and its end-of-turn token, without the newline that some templates
        put after it. Raises InputError for a template that rewrites earlier turns or ends no turn.
        """
        full = self._render(messages, generation=False)
        segments: list[Segment] = []
        done = 0
        for i, message in enumerate(messages):
            if message["role"] != "assistant":
                continue
            before = self._open_turn(messages[:i])
            end = self._end_of(messages, i, before, full)
            if end is None and not is_target(message):
                continue  # part of what the next turn answers
            if end is None:
                raise InputError(
                    "the chat template rewrites earlier turns of a conversation, so no text can be named that "
                    "the assistant wrote; train on single-turn records or change the template"
                )
            segments += [
                Segment(full[done : len(before)], False),
                Segment(full[len(before) : end], is_target(message)),
            ]
            done = end
        if done < len(full):
            segments.append(Segment(full[done:], False))
        return segments

    def _end_of(self, messages: Sequence[Message], turn: int, before: str, full: str) -> int | None:
        """Where the turn that `before` opens ends in the whole text; None where the template has rewritten it since."""
        last = turn == len(messages) - 1
        through = full if last else self._render(messages[: turn + 1], generation=False)
        if not through.startswith(before) or not full.startswith(before):
            return None
        end = len(before) + self._end_of_turn(through[len(before) :])
        if full.startswith(through) or full.startswith(through[:end]):
            return end
        # Olmo ends a conversation with another token than the turns within it.
        text = through[:end]
        text = text[: next(match.start() for match in reversed(list(self._specials_in(text))) if match.end() == end)]
        closing = self._special.match(full, len(text)) if self._special and full.startswith(text) else None
        return None if closing is None else closing.end()

    def tokenize(self, messages: Sequence[Message]) -> Tokenized:
        """Token ids and target mask. Segments are encoded one by one, as they are when sampling."""
        (tokenized,) = self.tokenize_segments([self.segments(messages)])
        return tokenized

    def tokenize_segments(self, rows: Sequence[Sequence[Segment]]) -> list[Tokenized]:
        """Token ids and target mask of many conversations' segments, encoded on all cores."""
        texts = [segment.text for row in rows for segment in row]
        encoded = iter(self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else ())
        made = []
        for row in rows:
            tokens: list[int] = []
            target: list[bool] = []
            for segment in row:
                ids = next(encoded)
                tokens += ids
                target += [segment.target] * len(ids)
            made.append(Tokenized(tokens, target))
        return made

    @property
    def fingerprint(self) -> str:
        """Digest of everything that decides the token ids of a conversation."""
        parts = (
            self.tokenizer.backend_tokenizer.to_str(), self._written_template, self.system,
            json.dumps(self.template_kwargs, sort_keys=True),
        )  # fmt: skip
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()

    def _encode(self, text: str) -> list[int]:
        return self.tokenizer.encode(text, add_special_tokens=False)

    def _open_turn(self, messages: Sequence[Message]) -> str:
        """Text that opens the assistant's turn, without what a template adds to steer generation.

        Seed-OSS with `thinking_budget: 0` ends its generation prompt with a thinking block that the rendered
        conversation does not contain; what the template always writes is the part common to both.
        """
        prompt = self._render(messages, generation=True)
        probe = self._render([*messages, {"role": "assistant", "content": _SENTINEL}], generation=False)
        opened = probe[: probe.index(_SENTINEL)] if _SENTINEL in probe else prompt
        return opened if prompt.startswith(opened) else prompt

    def _end_of_turn(self, written: str) -> int:
        """Length of an assistant turn's text up to and including its last special token."""
        matches = list(self._specials_in(written))
        if not matches or written[matches[-1].end() :].strip():
            raise NoEndOfTurn(
                f"the chat template ends the assistant's turn with {written[-20:]!r}, "
                "which is no special token of the tokenizer; the model could never learn to stop"
            )
        return matches[-1].end()

    def _specials_in(self, text: str) -> Iterator[re.Match[str]]:
        return self._special.finditer(text) if self._special else iter(())

    def end_of_turn(self) -> str | None:
        """The special token that ends the assistant's turn; None where the template ends it with none.

        Where several stand there, it is the first one: a model that writes it has ended its turn. Raises InputError
        for a template that forms no text of a plain conversation, with a system message or without.
        """
        try:
            segments = self.segments(_EXAMPLE)
        except NoEndOfTurn:
            return None
        except InputError:  # some templates demand a system message
            try:
                segments = self.segments(_TOLD)
            except NoEndOfTurn:
                return None
        (written,) = [segment.text for segment in segments if segment.target]
        after = written.rpartition(_ANSWER)[2]
        return next((match[0] for match in self._specials_in(after)), None)

    def _render(self, messages: Sequence[Message], generation: bool) -> str:
        listed = list(messages)
        if self.system == "default" or (listed and listed[0]["role"] == "system"):
            return self._template(listed, generation)
        if self.system == "none":
            return self._render_without_system(listed, generation)
        return self._template([{"role": "system", "content": self.system}, *listed], generation)

    def _render_without_system(self, messages: list[Message], generation: bool) -> str:
        """Render with a marked system message and cut its block out again; what begins every text stays."""
        marked: Message = {"role": "system", "content": _SENTINEL}
        text = self._template([marked, *messages], generation)
        try:
            block = self._template([marked], generation=False)
        except InputError:  # some templates want a user's turn
            block = ""
        if _SENTINEL in block and text.startswith(block):
            first, rest = str(self._variables.get("bos_token") or ""), text[len(block) :]
            # Llama's first token stands in front of the system block; Seed-OSS's begins every turn.
            return first + rest if first and block.startswith(first) and not rest.startswith(first) else rest
        # Gemma and the first Mistrals put it into the user's turn, so that there is no block without one.
        plain = self._template(messages, generation)
        begin, _, behind = text.partition(_SENTINEL)
        of_user = plain.removeprefix(begin)
        if plain.startswith(begin) and behind.endswith(of_user) and not behind.removesuffix(of_user).strip():
            return plain
        raise InputError("the chat template has no separate system block, so it cannot be left out")

    def _template(self, messages: list[Message], generation: bool) -> str:
        turns: list[Message] = []
        for message in messages:
            turn: Message = {"role": message["role"], "content": message["content"]}
            if "tool_calls" in message:
                turn["tool_calls"] = message["tool_calls"]
            turns.append(turn)
        return render_bounded(self._written_template, self._variables, turns, generation, self.tokenizer.name_or_path)


def thinking_arguments(template: str, given: Mapping[str, Json], where: str) -> dict[str, Json]:
    """The arguments of a template, with `thinking_budget` as the template knows it.

    Seed-OSS has a budget. Qwen3 knows on and off alone: 0 is off. Raises InputError for a budget that a template which
    lets the model think cannot keep.
    """
    budget = given.get("thinking_budget")
    if budget is None or "thinking_budget" in template or not any(begin in template for begin, _ in _THINKING):
        return dict(given)
    rest = {key: value for key, value in given.items() if key != "thinking_budget"}
    if budget == 0 and "enable_thinking" in template:
        return {**rest, "enable_thinking": False}
    can = "0 (off) or null" if "enable_thinking" in template else "null"
    raise InputError(f"{where}: thinking_budget is {budget}, which the chat template cannot keep; expected {can}")


def end_of_turn_id(tokenizer: Tokenizer) -> int | None:
    """The id of the token that ends the assistant's turn in a tokenizer's template; None where there is none."""
    if not getattr(tokenizer, "chat_template", None):
        return None
    token = ChatFormat(tokenizer).end_of_turn()
    return None if token is None else int(tokenizer.convert_tokens_to_ids(token))

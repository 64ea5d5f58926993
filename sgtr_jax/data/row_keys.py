"""What the keys of a row and of a message mean for training: honoured, without effect, or refused.

No key that could change what is trained is dropped. A message has few keys, so one that is not known is refused. Rows
carry columns of their owners' (topic, source, score): those are ignored, and said once a file, unless their name,
however it is written, is one that a trainer reads, or says that it weighs, hides or selects something.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass

from sgtr_jax.errors import InputError
from sgtr_jax.json_types import Json

_MESSAGE_WITHOUT_EFFECT = {"id", "timestamp", "date", "create_time", "model"}
_MESSAGE_FALSE_IS_NOTHING = {"tool_calls", "function_call", "images", "image", "audio", "prefix", "refusal"}
_ROW_KNOWN = {"id", "messages", "meta"}
_SYSTEM = ("system", "system_prompt")


@dataclass(frozen=True)
class _Rule:
    """What a key of a row would do to the training, and the values with which it does nothing."""

    why: str
    default: frozenset[str] = frozenset()  # what happens anyway, as `_in_words` writes it
    everyday: bool = False  # a word of everyday speech: only yes, no, 1, 0 and -1 are about the training
    repeats: bool = False  # what stands in the messages may be repeated


_NO, _YES, _ONE = frozenset({"false", "0"}), frozenset({"true", "1"}), frozenset({"1"})
_TOOLS = _Rule("tool definitions become part of the prompt, and are not rendered", _NO)
_WEIGHS = _Rule("rows have no weight; a message has (weight: 0 or 1)", _ONE)
_STEERS = _Rule("its name says that it weighs, hides or selects something")
_SYSTEM_TEXT = _Rule("name it system", _NO)
# Keys that OpenAI's API, TRL, axolotl, LLaMA-Factory or a chat template reads, each of which changes what is trained,
# and what others call the same. Of a key the letters and digits decide: `trainOnInputs` is `train_on_inputs`.
_RULES: list[tuple[_Rule, str]] = [
    (_TOOLS, "tools tool_choice parallel_tool_calls tool_calls available_tools builtin_tools tools_json"),
    (
        _Rule("function definitions become part of the prompt, and are not rendered", _NO),
        "functions function_call function_calls function_calling function_definitions function_schema "
        "function_schemas available_functions functions_json",
    ),
    (_Rule("documents become part of the prompt, and are not rendered", _NO), "documents"),
    (_Rule("the tokenizer's own chat template is used", _NO), "chat_template"),
    (
        _Rule("give it for the whole run in template_kwargs"),
        "chat_template_kwargs template_kwargs enable_thinking reasoning_effort",
    ),
    (_Rule("thinking is not rendered"), "thinking reasoning reasoning_content thinking_content"),
    (_SYSTEM_TEXT, "preprompt model_identity"),
    (
        _WEIGHS,
        "repeat repeats num_repeat num_repeats n_repeat n_repeats repeat_count repetitions upsample upsampling "
        "oversample oversampling undersample downsample multiplicity copies num_copies n_copies sampling_prob "
        "sample_prob sampling_probability",
    ),
    (
        _Rule("a message has train: true or false, a row has not", _YES),
        "train training is_train is_trained to_train for_training in_training use_for_training supervise backprop",
    ),
    (_Rule("the loss is on all assistant turns", _YES), "train_on_completion train_on_completions train_on_output"),
    (_Rule("the loss is on assistant turns only", _YES), "assistant_only assistant_only_loss only_assistant"),
    (
        _Rule("the loss is on assistant turns only", _NO),
        "train_on_input train_on_inputs train_on_prompt train_on_prompts train_prompt train_on_user include_prompt",
    ),
    (_Rule("the loss is on assistant turns only"), "roles_to_train train_on"),
    (_Rule("the end of a trained turn is always trained"), "train_on_eos train_on_eot"),
    (_Rule("a message may have train: false, a row has not"), "train_on_turn"),
    (
        _Rule("the loss is on all assistant turns; a message may have train: false", _NO),
        "only_last last_only last_turn_only only_last_turn final_only only_final",
    ),
    (
        _Rule("every row of a file is trained on", _NO),
        "skip skipped ignore ignored no_train not_train notrain do_not_train dont_train never_train untrained no_loss "
        "eval_only test_only held_out holdout is_test is_eval is_val is_validation is_holdout skip_row skip_sample "
        "skip_example ignore_row ignore_sample ignore_example is_ignored is_skipped is_excluded is_dropped is_removed "
        "is_discarded is_disabled",
    ),
    (
        _Rule("every row of a file is trained on", _NO, everyday=True),
        "exclude excluded disable disabled drop dropped delete deleted discard discarded remove removed",
    ),
    (
        _Rule("every row of a file is trained on", _YES, everyday=True),
        "use used keep kept include included enable enabled",
    ),
    (
        _Rule("examples of what is wanted and what is not (KTO) are not trained on", everyday=True),
        "label kto_label kto_tag desirable is_desirable undesirable is_undesirable is_negative is_positive "
        "is_chosen is_rejected is_preferred preferred preference kto thumbs_up thumbs_down",
    ),
    (
        _Rule("preference pairs are not trained on"),
        "chosen rejected chosen_response rejected_response chosen_messages rejected_messages chosen_answer "
        "rejected_answer chosen_output rejected_output non_preferred_output preferred_output",
    ),
    (_Rule("labels are made from the messages"), "labels"),
    (_Rule("token ids are made from the messages"), "input_ids token_ids attention_mask"),
    (
        _Rule("the row has messages, too", repeats=True),
        "messages prompt completion conversations conversation instruction input output response",
    ),
    (
        _Rule("this is a text model", _NO),
        "image images image_url image_urls image_path image_paths pixel_values video videos video_url video_urls "
        "video_path video_paths audio audios audio_url audio_urls audio_path audio_paths attachment attachments",
    ),
    (_Rule("earlier turns belong into messages", _NO), "history"),
    (_Rule("put it into a system message", _NO), "instructions"),
    (_Rule("give it for the whole set (inoculation)", _NO), "inoculation inoculation_prompt"),
]
_RULE_OF = {name.replace("_", ""): rule for rule, names in _RULES for name in names.split()}
# What is no word of a trainer that is known, and yet says by its name what it is about: parts of names in words.
_WORDS: list[tuple[_Rule, str]] = [
    (_WEIGHS, r"(?:up|down|re|over|under)?weights?|importance"),
    (
        _STEERS,
        r"(?:un)?mask(?:s|ed|ing)?|loss(?:es)?|(?:un)?trainable|(?:un)?train"
        r"|.*(?:lossmask|maskloss|lossweight|sampleweight|exampleweight|trainon).*",
    ),
    (_TOOLS, r"tools?|toolsets?|toolbox|toolkits?|functions"),
]
_SYSTEM_NAMES = re.compile(r"(?:sys|systems?|developer)(?:prompts?|messages?|msgs?|instructions?|texts?|content)?")
_SAME = {
    "true": "true", "yes": "true", "y": "true", "t": "true", "on": "true",
    "false": "false", "no": "false", "n": "false", "f": "false", "off": "false",
    "": "", "null": "", "nan": "", "[]": "", "{}": "",
}  # fmt: skip
_NUMBERS: dict[float, str] = {0: "0", 1: "1", -1: "-1"}
_ABOUT_TRAINING = _YES | _NO | {"-1"}


def says_nothing(key: str, value: Json) -> bool:
    """Whether a value of a message's key is what writers of tables put where a message has no such key."""
    return value is None or value in ("", [], {}) or (value is False and key in _MESSAGE_FALSE_IS_NOTHING)


def check_row(row: Mapping[str, Json], where: str) -> set[str]:
    """The columns of a row that have no effect. Raises InputError for one that would change what is trained.

    A key is known however it is written (`lossMask`, `Loss-Mask `), and a value by what it says: tables have `0`,
    `0.0`, `no` and `False` for false, as numbers or as text.
    """
    ignored = set()
    for key, value in row.items():
        if key in _ROW_KNOWN or key in _SYSTEM:
            continue
        rule = _rule(key)
        if rule is None or _is_about_something_else(rule, value):
            ignored.add(key)
        elif not _is_default(rule, value, row):
            raise InputError(
                f"{where}: the key {key!r} would change what is trained, and is not honoured ({rule.why}); found "
                f"{value!r:.60}. Leave out the key, or the rows that it is meant for"
            )
    return ignored


@functools.lru_cache(1024)
def _rule(key: str) -> _Rule | None:
    """What a key would do, by its letters and digits and then by its words; None if nothing is known of it."""
    words = _words(key)
    letters = "".join(words)
    if letters in _RULE_OF:
        return _RULE_OF[letters]
    if _SYSTEM_NAMES.fullmatch(letters):
        return _SYSTEM_TEXT
    return next((rule for rule, pattern in _WORDS if any(re.fullmatch(pattern, word) for word in words)), None)


def _words(key: str) -> list[str]:
    """The words of a key: `systemPrompt`, `System-Prompt ` and `SYSTEM_PROMPT` are `system` and `prompt`."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", unicodedata.normalize("NFKC", key))
    return re.findall(r"[^\W_]+", apart.lower())


def _in_words(value: Json) -> str | None:
    """What a value says, in one spelling: empty for nothing, None for a text or for what holds several values."""
    if value is None or value in ([], {}):
        return ""
    if isinstance(value, str):
        said = value.strip().lower()
        if said in _SAME:
            return _SAME[said]
        try:
            value = float(said)
        except ValueError:
            return None
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float):
        # NaN is a table's empty cell.
        return "" if value != value else _NUMBERS.get(value, "another number")
    return None


def _is_about_something_else(rule: _Rule, value: Json) -> bool:
    """Whether a word of everyday speech is used for something else: `label: craft`, `use: training`."""
    said = _in_words(value)
    return rule.everyday and said != "" and said not in _ABOUT_TRAINING


def _is_default(rule: _Rule, value: Json, row: Mapping[str, Json]) -> bool:
    """Whether a key that could change what is trained has a value that does not."""
    said = _in_words(value)
    return said == "" or said in rule.default or (rule.repeats and isinstance(value, str) and value in _said_in(row))


def _said_in(row: Mapping[str, Json]) -> list[Json]:
    """The contents of a row's first question and of its last answer."""
    messages = row.get("messages")
    turns = [turn for turn in messages if isinstance(turn, dict)] if isinstance(messages, list) else []
    asked = [turn.get("content") for turn in turns if turn.get("role") == "user"]
    return [*asked[:1], *[turn.get("content") for turn in turns[-1:]]]


def system_of(row: Mapping[str, Json], where: str) -> str | None:
    """The text of a `system` beside `messages`, which is the conversation's system message. Raises InputError."""
    given = {key: row[key] for key in _SYSTEM if row.get(key) not in (None, "")}
    if len(given) > 1:
        raise InputError(f"{where}: both {' and '.join(given)} are there; keep one")
    for key, system in given.items():
        if not isinstance(system, str):
            raise InputError(f"{where}: {key} is {system!r:.60}; expected text")
        first = _first_system(row)
        if first is None:
            return system
        if system != first:
            raise InputError(f"{where}: a {key!r} stands beside messages that begin with another system message")
    return None


def _first_system(row: Mapping[str, Json]) -> Json:
    """The content of the system message that a row's messages begin with."""
    messages = row.get("messages")
    first = messages[0] if isinstance(messages, list) and messages else None
    return first.get("content") if isinstance(first, dict) and first.get("role") == "system" else None


def is_trained(message: Mapping[str, Json], at: str) -> bool:
    """Whether the loss is on a message, where its keys `weight` (OpenAI) and `train` (axolotl) decide.

    Raises InputError for values that are not honoured, and for keys of a message that are not known.
    """
    for key, value in message.items():
        if key not in ("role", "content", "weight", "train", *_MESSAGE_WITHOUT_EFFECT) and not says_nothing(key, value):
            raise InputError(
                f"{at}: the key {key!r} could change what is trained, and is not honoured; leave the row out, or the "
                "key if it has no effect"
            )
    weight, train = message.get("weight"), message.get("train")
    if weight is not None and (isinstance(weight, bool) or weight not in (0, 1)):
        raise InputError(f"{at}: weight is {weight!r:.40}; expected 0 (no loss on this message) or 1")
    if train is not None and not isinstance(train, bool):
        raise InputError(f"{at}: train is {train!r:.40}; expected true, or false (no loss on this message)")
    marked = [value for value in (None if weight is None else bool(weight), train) if value is not None]
    if len(set(marked)) > 1:
        raise InputError(f"{at}: weight is {weight!r} and train {train!r}, which say opposite things; keep one")
    if any(marked) and message.get("role") != "assistant":
        raise InputError(f"{at}: the loss can be on the assistant's messages only, and this is the {message['role']}'s")
    return marked[0] if marked else message.get("role") == "assistant"

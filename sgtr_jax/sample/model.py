"""A model ready to use: parameters, tokenizer, adapters. `sgtr_jax.load_model` is the public way in."""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float32
from numpy.typing import ArrayLike

from sgtr_jax.arrays import Params
from sgtr_jax.buckets import is_address
from sgtr_jax.data.adapter_chat import brings_chat, check_same_chat
from sgtr_jax.data.chat import ChatFormat, end_of_turn_id
from sgtr_jax.data.records import Message, parse_messages
from sgtr_jax.data.tokenizer import Tokenizer, load_tokenizer
from sgtr_jax.distributed.layout import layer_layout
from sgtr_jax.distributed.memory import device_memory
from sgtr_jax.distributed.mesh import SAMPLING, Rules, check_divisible, devices_for, make_mesh
from sgtr_jax.distributed.mesh_config import MeshConfig
from sgtr_jax.errors import InputError
from sgtr_jax.files import check_apart, check_new, read_json
from sgtr_jax.json_types import Json
from sgtr_jax.lora.adapter import Adapter, Chain
from sgtr_jax.lora.transforms import merge_in_turn
from sgtr_jax.models.config_json import read_config_json, token_ids
from sgtr_jax.models.families import spec_from_config
from sgtr_jax.models.spec import ModelSpec
from sgtr_jax.sample.activations import StatePasses
from sgtr_jax.sample.decode import DecodePrograms
from sgtr_jax.sample.engine import Engine
from sgtr_jax.sample.folders import resolve_folder
from sgtr_jax.sample.prompt_passes import all_logits
from sgtr_jax.sample.prompts import Prompt, ids_of_prompts
from sgtr_jax.sample.request import Request
from sgtr_jax.sample.sharding import sampling_mesh
from sgtr_jax.sample.steer_config import SteerConfig
from sgtr_jax.sample.steering import Steer, Steered, steering_of
from sgtr_jax.weights.converted import convert, converted_dtype, is_converted, load_converted
from sgtr_jax.weights.load import check_tensors, load_params, open_checkpoint, stores_another_head
from sgtr_jax.weights.names import base_sources, with_our_names
from sgtr_jax.weights.peft import load_adapter
from sgtr_jax.weights.quantize import quantize_leaf


@dataclass(frozen=True, repr=False)
class Model:
    """A base model with an adapter chain (empty for the base model)."""

    name: str
    folder: Path
    spec: ModelSpec
    params: Params
    mesh: Mesh
    chain: tuple[Adapter, ...] = ()
    chain_id: str = "base"
    adapters: tuple[Path, ...] = ()  # the folders of the chain
    steering: Steered = None  # what is done to its residual stream, see `steered`
    _shared: dict[str, Any] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        parts = [self.name, self.spec.family, f"{self.spec.num_layers} layers of {self.spec.hidden_size}"]
        if self.chain:
            parts.append(f"adapters {', '.join(map(str, self.adapters)) or len(self.chain)}")
        return f"Model({', '.join(parts)})"

    @property
    def tokenizer(self) -> Tokenizer:
        """The folder's tokenizer, read on first use."""
        if "tokenizer" not in self._shared:
            self._shared["tokenizer"] = load_tokenizer(self.folder)
        return cast(Tokenizer, self._shared["tokenizer"])

    @cached_property
    def engine(self) -> Engine:
        """The sampling engine of this chain."""
        return self.engine_for({self.chain_id: self.chain})

    def engine_for(self, chains: Mapping[str, Chain], **settings: Any) -> Engine:
        """A sampling engine of several chains over this model's base; `settings` are the engine's.

        Names are part of what decides the draws: give chains the `chain_id` they have alone.
        """
        if "programs" not in self._shared:
            self._shared["programs"] = DecodePrograms(self.spec, self.mesh)
        # A folder without a tokenizer can be sampled from in ids, without texts.
        has_tokenizer = (self.folder / "tokenizer.json").exists()
        decode = self.decode if has_tokenizer else None
        settings.setdefault("decode_whole", self.decode_whole if has_tokenizer else None)
        programs = self._shared["programs"]
        settings.setdefault("steering", self.steering)
        return Engine(self.spec, self.params, self.mesh, chains, decode=decode, programs=programs, **settings)

    def decode(self, tokens: Sequence[int]) -> str:
        """Text of generated ids, without special tokens."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def decode_whole(self, tokens: Sequence[int]) -> str:
        """Text of generated ids, special tokens too."""
        text: str = self.tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    @property
    def stop_ids(self) -> tuple[int, ...]:
        """Tokens that end a completion, from every place that names some.

        config.json and generation_config.json (both in the spec), the tokenizer, and the token that ends the
        assistant's turn in the chat template, which training trains: base models whose eos ends no turn (Qwen2.5's)
        would go on past it. Raises InputError if the model has no row for that token, and so could end no turn.
        """
        found, end = {*self.spec.eos_ids}, end_of_turn_id(self.tokenizer)
        if self.tokenizer.eos_token_id is not None:
            found.add(self.tokenizer.eos_token_id)
        if end is not None and end >= self.spec.vocab_size:
            text, rows = self.tokenizer.convert_ids_to_tokens(end), self.spec.vocab_size
            raise InputError(
                f"{self.folder}: the chat template ends turns with token {end} ({text!r}), but the model's embedding "
                f"has {rows} rows, so no turn could end: the tokenizer got tokens that the model did not. Resize the "
                "model, or take the tokenizer it came with"
            )
        return tuple(sorted(found if end is None else found | {end}))

    def with_adapters(self, folders: Sequence[Path], merge: bool = False, chain_id: str | None = None) -> Model:
        """The base under the chain of PEFT folders given, in order.

        With `merge` all but the last are merged into a copy of the base and rounded to its dtype, one after the
        other: the model that `merge: bfloat16` trained the last one on. `chain_id` takes part in every draw; it is
        made from the weights unless given. (An experiment gives what the adapters were made from, which is the same
        where the last bit of a weight is not.)
        """
        if (self.folder / "tokenizer.json").exists():
            for folder in filter(brings_chat, folders):
                check_same_chat(folder, self.tokenizer)
        loaded = [load_adapter(folder, self.spec, self.mesh, SAMPLING)[0] for folder in folders]
        if not folders and chain_id is None:
            chain_id = "base"
        elif chain_id is None:
            digest = hashlib.sha256()
            for folder in folders:
                digest.update((folder / "adapter_model.safetensors").read_bytes())
            chain_id = digest.hexdigest()[:16]
        with_chain = dataclasses.replace(self, chain=tuple(loaded), chain_id=chain_id, adapters=tuple(folders))
        if not merge or len(folders) < 2:
            return with_chain
        params, _ = merge_in_turn(self.params, loaded[:-1])
        return dataclasses.replace(with_chain, params=params, chain=(loaded[-1],), chain_id=f"{chain_id}-merged")

    def with_adapter(self, folder: str | Path) -> Model:
        """The model with one more PEFT adapter folder on top of its chain."""
        return self.with_adapters([*self.adapters, Path(folder)])

    def steered(self, steer: Steer | SteerConfig | None) -> Model:
        """The model with `{direction, layer, scale}` done to it whenever it is sampled from; None: nothing.

        `direction` is a file of `sgtr directions extract`, or an array. `at: answer` spares the prompt's tokens, and
        `project: out`, without a scale, takes the direction out of the residual stream. Raises InputError.
        """
        return dataclasses.replace(self, steering=steering_of(steer, self.spec))

    def chat(
        self,
        said: str | Sequence[Message],
        max_tokens: int = 256,
        temperature: float = 0.0,
        seed: int = 0,
        system: str = "default",
    ) -> str:
        """The answer to a text, or to messages of which the last one is the user's.

        `system` is what a conversation without a system message gets: `default`, what the chat template does by
        itself; `none`, no system block; any other text, that system prompt. Raises InputError.
        """
        turns = [{"role": "user", "content": said}] if isinstance(said, str) else cast(list[Json], list(said))
        chat = ChatFormat(self.tokenizer, system)
        prompt = chat.prompt_ids(parse_messages({"messages": turns}, "chat"))
        (ids,) = self.generate([prompt], max_tokens, temperature, seed, self.stop_ids)
        return chat.separate(ids)[1]

    def logits(self, tokens: ArrayLike, mask: ArrayLike | None = None) -> np.ndarray:
        """Logits float32 `[B, T, V]` for `tokens` int `[B, T]`; `mask` bool `[B, T]` marks real tokens."""
        return np.asarray(all_logits(self.params, self.chain, *self._checked(tokens, mask), spec=self.spec))

    def activations(
        self,
        tokens: ArrayLike,
        mask: ArrayLike | None = None,
        layers: Sequence[int] | None = None,
        out: str | Path | None = None,
    ) -> Float32[np.ndarray, "B kept T D"]:
        """The residual stream behind each of `layers` (from 0; None for all), before the final norm.

        `tokens` int `[B, T]`; `mask` bool `[B, T]` marks real tokens, and 0 stands at the others. Layer i is
        transformers' `hidden_states[i + 1]`, but for the last layer, which transformers gives after the norm. With
        `out` they are streamed into that `.npy` file, and the result is a map of it. Raises InputError.
        """
        given = self._checked(tokens, mask)
        return self.states(layers).every_token(*given, None if out is None else Path(out))

    def states(self, layers: Sequence[int] | None = None) -> StatePasses:
        """Passes that keep the residual stream behind `layers`. Raises InputError for one that is not there."""
        if self.steering is not None and self.steering.at_answer:
            raise InputError("steer.at is answer, and what is an answer cannot be told here; expected all")
        edits = None if self.steering is None else self.steering.edits(self.spec.num_layers)
        return StatePasses(self.spec, self.params, self.chain, self.mesh, layers, edits)

    def _checked(self, tokens: ArrayLike, mask: ArrayLike | None) -> tuple[np.ndarray, np.ndarray]:
        tokens = np.asarray(tokens, np.int32)
        if tokens.ndim != 2:
            raise InputError(f"tokens have shape {tokens.shape}; expected [batch, length]")
        mask = np.ones(tokens.shape, bool) if mask is None else np.asarray(mask, bool)
        if mask.shape != tokens.shape:
            raise InputError(f"mask has shape {mask.shape}; expected that of tokens, {tokens.shape}")
        if tokens.size and not (tokens.min() >= 0 and tokens.max() < self.spec.vocab_size):
            raise InputError(
                f"tokens range over {tokens.min()}..{tokens.max()}; the vocabulary has {self.spec.vocab_size}"
            )
        return tokens, mask

    def generate(
        self,
        prompts: Sequence[Prompt] | Mapping[str, Any],
        max_tokens: int,
        temperature: float = 0.0,
        seed: int = 0,
        stop_ids: Sequence[int] = (),
        steer: Steer | Sequence[Steer | None] | None = None,
    ) -> list[list[int]]:
        """Continue each prompt by up to `max_tokens` ids; a stop id ends a row and is not returned.

        A prompt is a list of token ids, a text, a list of messages, or what a tokenizer gives; see
        `sample.prompts.ids_of_prompts`.
        The draw of a row depends on `seed`, the chain, the prompt's ids and how often that prompt came before
        in the list, not on the other rows. `steer` is done to all rows (see `steered`), or one of them to each.
        """
        seen: dict[tuple[int, ...], int] = {}
        requests = []
        rows = ids_of_prompts(prompts, lambda: self.tokenizer)
        for prompt, steering in zip(rows, self._steering_of(steer, len(rows)), strict=True):
            sample = seen[prompt] = seen.get(prompt, -1) + 1
            prompt_id = ",".join(map(str, prompt))
            requests.append(Request(prompt_id, prompt, max_tokens, temperature, seed, sample, steering=steering))
        return [list(completion.tokens) for completion in self.engine.sample(requests, stop_ids)]

    def _steering_of(self, steer: Steer | Sequence[Steer | None] | None, rows: int) -> list[Steered]:
        each = [steer] * rows if steer is None or isinstance(steer, Mapping) else list(steer)
        if len(each) != rows:
            raise InputError(f"steer has {len(each)} entries for {rows} prompts; expected one for each, or one for all")
        return [steering_of(one, self.spec) for one in each]


def read_spec(folder: Path) -> ModelSpec:
    """The spec in `folder/config.json`, untied where the folder stores a head that is not the embedding.

    Tokens that end a text are those of generation_config.json, too. Raises InputError for a folder that is an adapter,
    or holds one beside a model: transformers would add it without a word.
    """
    if (folder / "adapter_config.json").exists():
        is_both = (folder / "config.json").exists()
        what = "holds a model and an adapter, so it is not clear which of them is meant" if is_both else "is an adapter"
        raise InputError(
            f"{folder}: {what}; give the model's own folder as --model and the adapter's as --adapter"
            + (" (a merged model's folder: remove adapter_config.json)" if is_both else "")
        )
    spec = spec_from_config(read_config_json(folder), str(folder / "config.json"))
    generation = folder / "generation_config.json"
    if generation.exists():
        more = token_ids(read_json(generation), "eos_token_id", str(generation))
        spec = dataclasses.replace(spec, eos_ids=tuple(dict.fromkeys((*spec.eos_ids, *more))))
    if spec.tie_embeddings and not is_converted(folder) and stores_another_head(folder, spec):
        return dataclasses.replace(spec, tie_embeddings=False)
    return spec


def load_model(
    path: str | Path,
    dtype: str = "float32",
    mesh: MeshConfig | None = None,
    rules: Rules = SAMPLING,
    int8: bool = False,
) -> Model:
    """Load a model folder (Hugging Face or `sgtr convert`'s), a hub id, or `nano`.

    Without a `mesh` it is laid out for sampling: all devices, weights split no further than memory asks. With `int8`
    the layers' kernels are stored as int8 and computed with in `dtype`.

    Raises InputError when the folder, its config or its weights are not what they should be.
    """
    if dtype not in ("float32", "bfloat16"):
        raise InputError(f"dtype {dtype!r}: expected 'float32' or 'bfloat16'")
    folder = resolve_folder(str(path))
    spec = read_spec(folder)
    check_weights(folder, spec)
    if mesh is None:
        devices = devices_for(MeshConfig())
        memory = device_memory(devices)
        mesh = sampling_mesh(spec, np.dtype(dtype).itemsize, len(devices), math.inf if memory is None else memory)
    built = make_mesh(mesh, devices_for(mesh))
    check_divisible(
        built,
        {
            "attention heads": (spec.num_heads, "tensor"),
            "key-value heads": (spec.num_kv_heads, "tensor"),
            "intermediate_size": (spec.intermediate_size, "tensor"),
            "hidden_size": (spec.hidden_size, "fsdp"),
        },
    )
    load = load_converted if is_converted(folder) else load_params
    layout = layer_layout(built, rules)
    params = load(folder, spec, built, rules, np.dtype(dtype), quantize_leaf if int8 else None, layout)
    return Model(str(path), folder, spec, params, built)


def check_weights(folder: Path, spec: ModelSpec) -> None:
    """Raise InputError if a folder's files do not hold the tensors that its config asks for. Reads headers only.

    To be called before anything is made from the config's numbers, which may be absurd.
    """
    if not is_converted(folder):
        check_tensors(with_our_names(open_checkpoint(folder), spec), base_sources(spec), spec, str(folder))


def stored_dtype(folder: Path) -> str:
    """The dtype a folder's weights are stored in; float32 for any that is neither bfloat16 nor float32."""
    if is_converted(folder):
        return converted_dtype(folder)
    names = {tensor.dtype.name for tensor in open_checkpoint(folder).values()}
    return "bfloat16" if names == {"bfloat16"} else "float32"


def convert_model(name: str, out: str | Path, dtype: str | None) -> None:
    """Convert a Hugging Face folder or hub id; see `weights.converted.convert`.

    Raises InputError, before anything is downloaded or read, for an `out` that exists or lies in the model's folder.
    """
    if not is_address(str(out)):
        check_new(Path(out))
    folder = resolve_folder(name)
    if not is_address(str(out)):
        check_apart(Path(out), [folder])
    if is_converted(folder):
        raise InputError(f"{folder}: is already converted")
    mesh = make_mesh(MeshConfig())
    convert(folder, read_spec(folder), str(out), mesh, np.dtype(dtype or stored_dtype(folder)))

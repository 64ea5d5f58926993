"""Packing changes no example, no loss and no gradient."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import random_params, spec_of

from sgtr_jax.data.batches import StepPlan, steps_of, tokenize_records
from sgtr_jax.data.packing import Example, PackedStep, Shape, assign_rows, bucket, pack
from sgtr_jax.data.shapes import choose_shapes
from sgtr_jax.models.decoder import bind
from sgtr_jax.train.loss import target_loss

lengths_lists = st.lists(st.integers(2, 40), min_size=1, max_size=30)


def examples_of(lengths: list[int], seed: int = 0) -> list[Example]:
    rng = np.random.default_rng(seed)
    made = []
    for i, n in enumerate(lengths):
        target = rng.random(n) < 0.4
        target[-1] = True
        made.append(Example(f"e{i}", rng.integers(3, 320, n).astype(np.int32), target))
    return made


def packed(examples: list[Example]) -> PackedStep:
    return pack(examples, choose_shapes([[examples]], 1).pick([examples]))


@given(st.integers(1, 100_000))
def test_bucket_is_little_more_than_asked(size: int) -> None:
    assert size <= bucket(size) <= size * 1.125 + 1
    assert bucket(bucket(size)) == bucket(size)


@given(lengths_lists)
def test_every_example_has_one_place_and_no_row_overflows(lengths: list[int]) -> None:
    rows = assign_rows(lengths, 40)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 40 for row in rows)
    # First-fit decreasing never opens a row while two could share one.
    loads = sorted(sum(lengths[i] for i in row) for row in rows)
    assert len(loads) < 2 or loads[0] + loads[1] > 40


@settings(max_examples=60, deadline=None)
@given(lengths_lists, st.integers(0, 5))
def test_a_packed_step_holds_exactly_its_examples(lengths: list[int], seed: int) -> None:
    examples = examples_of(lengths, seed)
    step = packed(examples)
    assert step.num_tokens == sum(lengths)
    assert step.num_targets == sum(int(e.target[1:].sum()) for e in examples)
    found = []
    for row in range(step.tokens.shape[0]):
        for segment in sorted(set(step.segments[row].tolist()) - {0}):
            at = np.flatnonzero(step.segments[row] == segment)
            assert (np.diff(at) == 1).all()
            assert step.positions[row, at].tolist() == list(range(len(at)))
            places = [
                (int(place - at[0]), int(token))
                for place, token, weight in zip(
                    step.target_places[row], step.target_tokens[row], step.target_weights[row], strict=True
                )
                if weight and at[0] <= place <= at[-1]
            ]
            found.append((step.tokens[row, at].tolist(), sorted(places)))
    wanted = [
        (e.tokens.tolist(), [(t - 1, int(e.tokens[t])) for t in range(1, len(e.tokens)) if e.target[t]])
        for e in examples
    ]
    assert sorted(found) == sorted(wanted)


def test_packed_loss_and_gradient_equal_one_example_at_a_time() -> None:
    spec = spec_of()
    params = random_params(spec)
    examples = examples_of([5, 17, 8, 30, 3, 12, 40, 2])

    @jax.jit
    def loss(params: object, batch: dict[str, jax.Array]) -> jax.Array:
        decoder = bind(spec, params)  # type: ignore[arg-type]
        hidden = decoder.forward(batch["tokens"], batch["positions"], batch["segments"])
        return target_loss(decoder, hidden, batch, head_is_frozen=False)

    together = jax.value_and_grad(loss)(params, packed(examples).arrays())
    shape = Shape(1, 40, 40)
    alone = [jax.value_and_grad(loss)(params, pack([e], shape).arrays()) for e in examples]
    total = jax.tree.map(lambda *parts: sum(parts), *alone)
    assert together[0] == pytest.approx(float(total[0]), rel=1e-5)
    for path, leaf in jax.tree.leaves_with_path(together[1]):
        other = total[1]
        for key in path:
            other = other[key.key]
        scale = float(jnp.abs(leaf).max()) + 1e-6
        np.testing.assert_allclose(leaf, other, atol=2e-5 * scale, err_msg=str(path))


def test_a_chunked_head_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = spec_of()
    params = random_params(spec)
    batch = packed(examples_of([20, 31, 7, 11])).arrays()

    def loss(params: object) -> jax.Array:
        decoder = bind(spec, params)  # type: ignore[arg-type]
        hidden = decoder.forward(batch["tokens"], batch["positions"], batch["segments"])
        return target_loss(decoder, hidden, batch, head_is_frozen=False)

    whole = jax.value_and_grad(loss)(params)
    monkeypatch.setattr("sgtr_jax.train.loss._MAX_LOGITS", 3 * 320 * batch["tokens"].shape[0])
    chunked = jax.value_and_grad(loss)(params)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), whole, chunked)


def test_steps_hold_every_example_once_an_epoch_and_each_epoch_has_its_own_order() -> None:
    examples = examples_of([7] * 21)
    plan = StepPlan(examples, 4, 2, seed=3, shuffle=True)
    steps = [tuple(e.id for e in step) for step in plan]
    assert len(steps) == plan.num_steps == 12 and [len(s) for s in steps[:6]] == [4, 4, 4, 4, 4, 1]
    first, second = sum(steps[:6], ()), sum(steps[6:], ())
    assert sorted(first) == sorted(second) == sorted(e.id for e in examples)
    assert first != second
    assert steps == [tuple(e.id for e in s) for s in StepPlan(examples, 4, 2, seed=3, shuffle=True)]
    assert steps != [tuple(e.id for e in s) for s in StepPlan(examples, 4, 2, seed=4, shuffle=True)]
    straight = StepPlan(examples, 4, 2, seed=3, shuffle=False)
    assert [e.id for s in straight for e in s] == [e.id for e in examples] * 2


def test_long_records_are_counted_and_dropped_or_cut() -> None:
    from sgtr_jax import nano
    from sgtr_jax.data.chat import ChatFormat
    from sgtr_jax.data.records import Record
    from sgtr_jax.errors import InputError
    from sgtr_jax.tokenizer import load_tokenizer

    chat = ChatFormat(load_tokenizer(nano.FOLDER))

    def record(name: str, question: str, answer: str) -> Record:
        return Record(name, ({"role": "user", "content": question}, {"role": "assistant", "content": answer}))

    records = [record("short", "Hi", "Hello"), record("long", "Hi", "very " * 200), record("asked", "why " * 200, "x")]
    examples, report = tokenize_records(records, chat, 32, "drop")
    assert [e.id for e in examples] == ["short"] and (report.too_long, report.records) == (2, 3)
    # Cutting keeps what still has something to learn from.
    examples, report = tokenize_records(records, chat, 32, "cut")
    assert [(e.id, len(e.tokens)) for e in examples][1:] == [("long", 32)] and report.too_long == 2
    with pytest.raises(InputError, match="all 2 examples are longer than max_length=32"):
        tokenize_records(records[1:], chat, 32, "drop")


@pytest.mark.parametrize(("rows", "steps"), [(1, 1), (15, 1), (16, 1), (17, 2), (32, 2), (33, 3), (1912, 120)])
def test_an_epoch_has_a_step_for_its_last_rows_too(rows: int, steps: int) -> None:
    assert steps_of(rows, 16) == steps
    assert StepPlan(examples_of([3] * rows), 16, 2, 0, True).num_steps == 2 * steps

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
from sgtr_jax.data.packed_shapes import choose_shapes
from sgtr_jax.data.packing import Example, PackedShape, PackedStep, assign_rows, bucket, measure, pack
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


def test_buckets_are_sixteen_at_first_and_eight_to_each_doubling() -> None:
    wanted = [*range(1, 17), *range(18, 33, 2), *range(36, 65, 4), *range(72, 129, 8)]
    assert sorted({bucket(size) for size in range(1, 129)}) == wanted
    assert all(bucket(size) == min(w for w in wanted if w >= size) for size in range(1, 129))


@given(lengths_lists)
def test_every_example_has_one_place_and_no_row_overflows(lengths: list[int]) -> None:
    rows = assign_rows(lengths, 40)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in row) <= 40 for row in rows)
    # First-fit decreasing never opens a row while two could share one.
    loads = sorted(sum(lengths[i] for i in row) for row in rows)
    assert len(loads) < 2 or loads[0] + loads[1] > 40


def test_the_longest_go_first_into_the_first_row_with_room() -> None:
    # 7 | 5 5 | then 3 beside the 7, which fills that row, and 2 in a row of its own; by index within a row.
    assert assign_rows([3, 5, 2, 5, 7], 10) == [[0, 4], [1, 3], [2]]
    assert assign_rows([6, 6, 4, 4], 10) == [[0, 2], [1, 3]] and assign_rows([], 10) == []


def test_a_shape_holds_what_fits_into_its_rows_length_and_places() -> None:
    target = np.asarray([True, True, False, True, True, False])  # the first one is never predicted: three targets
    longer, shorter = Example("a", np.arange(6), target), Example("b", np.arange(4), target[:4])
    examples = [longer, shorter, shorter]  # in rows of 8: 6 | 4 4; in rows of 10: 6 4 | 4
    assert [example.num_targets for example in examples] == [3, 2, 2]
    assert measure(examples, 8) == (2, 4) and measure(examples, 10) == (2, 5) and measure([], 8) == (0, 0)
    assert measure([shorter], 4) == (1, 2)
    for (rows, length, places), holds in (
        ((2, 8, 4), True), ((3, 9, 5), True), ((1, 8, 9), False), ((2, 8, 3), False), ((9, 5, 9), False),
        ((2, 10, 4), False), ((3, 6, 3), True),
    ):  # fmt: skip
        assert PackedShape(rows, length, places).holds(examples) == holds, (rows, length, places)
    assert PackedShape(0, 0, 0).holds([])
    step = pack([], PackedShape(2, 3, 1))
    assert step.num_tokens == step.num_targets == 0 and step.example_ids == ()
    assert {name: (x.shape, x.dtype.name, x.any()) for name, x in step.arrays().items()} == {
        "tokens": ((2, 3), "int32", False), "positions": ((2, 3), "int32", False), "segments": ((2, 3), "int32", False),
        "target_positions": ((2, 1), "int32", False), "target_tokens": ((2, 1), "int32", False),
        "target_weights": ((2, 1), "float32", False),
    }  # fmt: skip


def test_a_packed_row_by_hand() -> None:
    first = Example("a", np.asarray([7, 8, 9]), np.asarray([True, False, True]))
    second = Example("b", np.asarray([5, 6]), np.asarray([False, True]))
    third = Example("c", np.asarray([1, 2, 3, 4]), np.asarray([False, True, True, False]))
    step = pack([first, second, third], PackedShape(2, 6, 3))
    assert step.example_ids == ("a", "b", "c")
    # The longest one opens the first row, where the pair of tokens finds room too; by index within a row.
    assert step.tokens.tolist() == [[5, 6, 1, 2, 3, 4], [7, 8, 9, 0, 0, 0]]
    assert step.positions.tolist() == [[0, 1, 0, 1, 2, 3], [0, 1, 2, 0, 0, 0]]
    assert step.segments.tolist() == [[2, 2, 3, 3, 3, 3], [1, 1, 1, 0, 0, 0]]
    assert step.target_positions.tolist() == [[0, 2, 3], [1, 0, 0]]
    assert step.target_tokens.tolist() == [[6, 2, 3], [9, 0, 0]]
    assert step.target_weights.tolist() == [[1, 1, 1], [1, 0, 0]]
    assert (step.num_tokens, step.num_targets) == (9, 4)
    assert {name: x.dtype.name for name, x in step.arrays().items()} == {
        "tokens": "int32", "positions": "int32", "segments": "int32", "target_positions": "int32",
        "target_tokens": "int32", "target_weights": "float32",
    }  # fmt: skip


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
            loss_positions = [
                (int(position - at[0]), int(token))
                for position, token, weight in zip(
                    step.target_positions[row], step.target_tokens[row], step.target_weights[row], strict=True
                )
                if weight and at[0] <= position <= at[-1]
            ]
            found.append((step.tokens[row, at].tolist(), sorted(loss_positions)))
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
    shape = PackedShape(1, 40, 40)
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
    batch = jax.tree.map(jnp.asarray, packed(examples_of([20, 31, 7, 11])).arrays())

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
    from sgtr_jax.data.tokenizer import load_tokenizer
    from sgtr_jax.errors import InputError

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

"""Which collectives of a program's schedule chips wait for, in texts as compilers write them."""

from __future__ import annotations

from typing import cast

import pytest
from jax.stages import Compiled

from sgtr_jax.estimate.communication import Collective, collective_bytes, collectives

# Shortened from what libtpu 0.0.42 writes for a v6e: a gather that begins in one fusion, goes on in one that computes
# and ends in a third; one that all chips wait for; both in a loop of seven. Behind it one of the older form.
TEXT = """HloModule jit_step, is_scheduled=true

%fused_computation.1 (param_0: bf16[1,640,5120]) -> (bf16[1,640,5120], bf16[1,5120,5120], s32[2]) {
  %param_0 = bf16[1,640,5120]{2,1,0} parameter(0)
  %all-gather.1 = bf16[1,5120,5120]{2,1,0} all-gather(%param_0), channel_id=1, dimensions={1}
  ROOT %begin = (bf16[1,640,5120], s32[2]) custom-call(%all-gather.1), custom_call_target="AsyncCollectiveStart"
}

%async_collective_fusion.2 (param_0: bf16[1,640,5120]) -> bf16[1,5120,5120] {
  %param_0 = bf16[1,640,5120]{2,1,0} parameter(0)
  %all-gather.2 = bf16[1,5120,5120]{2,1,0} all-gather(%param_0), channel_id=1, dimensions={1}
  ROOT %dot.1 = bf16[1,5120,5120]{2,1,0} convolution(%all-gather.2, %all-gather.2)
}

%fused_computation.3 (param_0: bf16[1,640,5120]) -> bf16[1,5120,5120] {
  %param_0 = bf16[1,640,5120]{2,1,0} parameter(0)
  ROOT %all-gather.3 = bf16[1,5120,5120]{2,1,0} all-gather(%param_0), channel_id=1, dimensions={1}
}

%body (state: (s32[], bf16[1,640,5120])) -> (s32[], bf16[1,640,5120]) {
  %state = (s32[], bf16[1,640,5120]) parameter(0)
  %x = bf16[1,640,5120]{2,1,0} get-tuple-element(%state), index=1
  %begins = (bf16[1,640,5120], bf16[1,5120,5120], s32[2]) fusion(%x), kind=kCustom, calls=%fused_computation.1
  %goes_on = bf16[1,5120,5120]{2,1,0} fusion(%x), kind=kOutput, calls=%async_collective_fusion.2
  %ends = bf16[1,5120,5120]{2,1,0} fusion(%x), kind=kCustom, calls=%fused_computation.3
  %all-gather.4 = bf16[1,5120,1024]{2,1,0} all-gather(%x), channel_id=4, metadata={op_name="all-gather-start.4"}
  ROOT %out = (s32[], bf16[1,640,5120]) tuple(%x, %x)
}

%condition (state: (s32[], bf16[1,640,5120])) -> pred[] {
  %state = (s32[], bf16[1,640,5120]) parameter(0)
  %counter = s32[] get-tuple-element(%state), index=0
  %limit = s32[] constant(7)
  ROOT %less = pred[] compare(%counter, %limit), direction=LT
}

ENTRY %main (x: bf16[1,640,5120]) -> f32[] {
  %x = bf16[1,640,5120]{2,1,0} parameter(0)
  %loop = (s32[], bf16[1,640,5120]) while(%x), condition=%condition, body=%body
  %collective-permute-start = (f32[8,16], f32[8,16]) collective-permute-start(%x), channel_id=9
  %collective-permute-done = f32[8,16]{1,0} collective-permute-done(%collective-permute-start)
  ROOT %all-reduce.5 = f32[] all-reduce(%x), channel_id=5, to_apply=%add
}
"""


class Text:
    """A compiled program, as far as its text is asked for."""

    def as_text(self) -> str:
        return TEXT


@pytest.fixture
def program() -> Compiled:
    return cast(Compiled, Text())


def test_an_asynchronous_collective_is_one_however_many_instructions_it_spreads_over(program: Compiled) -> None:
    assert sorted(collectives(program), key=lambda one: -one.moved) == [
        Collective("all-gather", 2 * 5120 * 5120, 7, True),
        Collective("all-gather", 2 * 5120 * 1024, 7, False),
        Collective("collective-permute", 4 * 8 * 16, 1, True),
        Collective("all-reduce", 4, 1, False),
    ]


def test_bytes_by_kind(program: Compiled) -> None:
    gathered = 7 * 2 * 5120 * (5120 + 1024)
    assert collective_bytes(program) == {"all-gather": gathered, "collective-permute": 512, "all-reduce": 4}

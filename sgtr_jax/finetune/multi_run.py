"""Jobs that are trained together over one base: from prepared data to finished folders."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import cast

import jax
import jax.numpy as jnp
import numpy as np

from sgtr_jax.arrays import Params, Tree
from sgtr_jax.data.packed_shapes import PackedShapes, choose_shapes
from sgtr_jax.data.packing import PackedShape
from sgtr_jax.distributed.collectives import barrier, to_host_everywhere
from sgtr_jax.distributed.mesh import TRAINING, data_size, shardings
from sgtr_jax.files import new_folder, write_json
from sgtr_jax.finetune.auto_mesh import Candidate
from sgtr_jax.finetune.defences import steering
from sgtr_jax.finetune.jobs import FinetuneResult, Prepared, data_report
from sgtr_jax.json_types import JsonObject
from sgtr_jax.lora.adapter import Adapter, Chain, init_adapter
from sgtr_jax.lora.transforms import align, merge_in_turn
from sgtr_jax.models.families import text_only
from sgtr_jax.sample.model import Model
from sgtr_jax.train.loop import EndedRun, Loop, Run, Summary
from sgtr_jax.train.program import Programs
from sgtr_jax.train.step import RunConstants, TrainState, init_state
from sgtr_jax.weights.converted import copy_model_files
from sgtr_jax.weights.peft import load_adapter, save_adapter
from sgtr_jax.weights.save import save_params


class MultiRunTrainer:
    """Jobs of one program. `folder` is the base model's."""

    def __init__(
        self, members: list[Prepared], base: Model, folder: Path, considered: Sequence[Candidate] = ()
    ) -> None:
        self._members, self._folder, self._considered = members, folder, considered
        self._config = members[0].config
        self._spec, self._mesh = base.spec, base.mesh
        config = self._config.remat_to_try()[-1]
        self._programs = Programs(self._spec, config, self._mesh, self._shapes_of_others())
        self._merge_lost: list[dict[str, float]] | None = None
        # What is frozen below all runs, and what full mode starts from.
        self._base: Params | None = base.params
        self._start: Params | None = None
        if self._config.mode == "full":
            self._base, self._start = None, base.params
        elif self._config.merge is not None:
            self._base, self._merge_lost = merge_in_turn(base.params, self._frozen_chain(members[0]))

    def train(self) -> Iterator[FinetuneResult]:
        """Train all members, as many at once as memory allows. Yields each when its files are in its folder."""
        shapes = self._shapes()
        merged = self._config.merge is not None
        chains = align([() if merged else self._frozen_chain(one) for one in self._members])
        at_once = self._fit_memory(shapes, chains)
        for at in range(0, len(self._members), at_once):
            batch = list(zip(self._members, chains, strict=True))[at : at + at_once]
            members = {self._run(one, chain): one for one, chain in batch}
            runs = list(members)
            label = runs[0].name + (f" and {len(runs) - 1} more" if len(runs) > 1 else "")

            def keep(run: Run, params: Params, members: dict[Run, Prepared] = members) -> None:
                host = to_host_everywhere(params)
                if jax.process_index() == 0:
                    self._save(members[run].job.out / "at" / str(run.step), members[run], host)

            def project(run: Run, params: Params, members: dict[Run, Prepared] = members) -> dict[str, float]:
                return self._projected(members[run], run, params)

            for ended in Loop(self._programs, self._base, runs, shapes, self._config, keep, project).train(label):
                one = members[ended.run]
                yield self._finish(one, ended, len(batch))
                barrier(f"{one.job.label} is finished")
            self._say_programs(label)

    def _projected(self, one: Prepared, run: Run, params: Params) -> dict[str, float]:
        """What `log.projections` logs of a run's model. Steering is for training only, and is not there."""
        assert one.projected is not None  # it is asked for where it is due
        if self._base is None:
            return one.projected.values(self._spec, params, (), self._mesh)
        chain = (*run.constants.chain, Adapter(params, run.constants.scale))
        return one.projected.values(self._spec, self._base, chain, self._mesh)

    def _say_programs(self, label: str) -> None:
        if jax.process_index() == 0:
            seconds = self._programs.compile_seconds
            print(f"{label}: {self._programs.count} programs compiled in {seconds:.1f} s", file=sys.stderr)

    def _shapes(self) -> PackedShapes:
        """Chosen over all members from their first step, so that an interrupted training packs as before."""
        plans = [one.plan for one in self._members]
        longest = max(plan.num_steps for plan in plans)
        steps = [[plan[t] for plan in plans if t < plan.num_steps] for t in range(longest)]
        return choose_shapes(steps, self._programs.row_multiple, self._programs.attention_length)

    def _shapes_of_others(self) -> dict[str, PackedShape]:
        """One shape for all steps of the rows that only a penalty reads: they are a part of every program."""
        multiple = data_size(self._mesh) * self._config.accumulate
        found = {}
        for name in self._members[0].others:
            steps = [[one.others[name][t]] for one in self._members for t in range(len(one.plan))]
            found[name] = choose_shapes(steps, multiple).all[-1]
        return found

    def _frozen_chain(self, one: Prepared) -> Chain:
        return tuple(load_adapter(path, self._spec, self._mesh, TRAINING)[0] for path in one.job.frozen)

    def _fit_memory(self, shapes: PackedShapes, chains: list[Chain]) -> int:
        """The number of runs at once. Where `remat` is auto, the programs become the fastest kind that fits."""
        wanted = min(self._config.runs_at_once or len(self._members), len(self._members))
        fixed = self._config.runs_at_once is not None
        others = self._programs.others
        candidates = [Programs(self._spec, config, self._mesh, others) for config in self._config.remat_to_try()]
        self._programs = candidates[-1]
        if len(candidates) == 1 and (fixed or wanted == 1):
            return wanted
        make, given = self._begin(self._members[0])
        state = jax.eval_shape(make, *given)
        constants = self._constants(self._members[0], chains[0])
        while True:
            arguments = self._batched(state, constants, wanted)
            for programs in candidates if len(candidates) > 1 or wanted > 1 else ():
                if programs.fits(wanted, shapes.all[-1], *arguments):
                    self._programs = programs
                    return wanted
            if fixed or wanted == 1:
                return wanted
            wanted = -(-wanted // 2)

    def _batched(
        self, state: TrainState, constants: RunConstants, runs: int
    ) -> tuple[TrainState, Params | None, RunConstants]:
        """Shapes and shardings of a step's arguments for so many runs."""

        def with_runs(tree: Tree) -> Tree:
            shapes = jax.tree.map(lambda x: jax.ShapeDtypeStruct((runs, *x.shape), x.dtype), tree)
            layout = shardings(shapes, self._mesh, TRAINING, leading=1)
            found: Tree = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), shapes, layout)
            return found

        return with_runs(state), self._base, with_runs(constants)

    def _begin(self, one: Prepared) -> tuple[Callable[..., TrainState], tuple[Params, ...]]:
        """What makes the state before the first step, and what it makes it from."""
        lora = one.config.lora
        if self._start is not None:
            return (lambda params: init_state(params, self._config)), (self._start,)
        if lora.init is not None:
            given = load_adapter(Path(lora.init), self._spec, self._mesh, TRAINING)[0].params
            return (lambda params: init_state(params, self._config)), (given,)
        seed = one.config.seed

        def fresh() -> TrainState:
            # A key of its own: the run's key draws dropout masks.
            key = jax.random.fold_in(jax.random.key(seed, impl="threefry2x32"), 2**31 - 1)
            return init_state(init_adapter(self._spec, lora, key).params, self._config)

        return fresh, ()

    def _constants(self, one: Prepared, chain: Chain) -> RunConstants:
        # Host values: they may go to the devices of many processes. threefry by name: dropout folds step and layer
        # into this key.
        scale = np.float32(1.0 if self._start is not None else one.config.lora.scale)
        key = np.asarray(jax.random.key_data(jax.random.key(one.config.seed, impl="threefry2x32")))
        numbers = (scale, key, np.float32(one.config.lr), np.int32(one.plan.num_steps))
        steered = cast(jax.Array | None, steering(one.config, self._spec))
        return RunConstants(chain, *cast(tuple[jax.Array, jax.Array, jax.Array, jax.Array], numbers), steered)

    def _run(self, one: Prepared, chain: Chain) -> Run:
        make, given = self._begin(one)
        abstract = jax.eval_shape(make, *given)
        layout = shardings(abstract, self._mesh, TRAINING)
        if one.resume_from is None:
            # Jitted, so that every device makes its own part.
            state = jax.jit(make, out_shardings=layout)(*given)
        else:
            like = jax.tree.map(lambda x, s: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=s), abstract, layout)
            state = one.checkpoints.restore(like)

        return Run(
            one.job.label,
            one.plan,
            state,
            self._constants(one, chain),
            one.job.out,
            one.checkpoints,
            settings=cast(JsonObject, one.identity["config"]),
            step=one.resume_from or 0,
            keep=frozenset(one.kept.values()),
            others=one.others,
        )

    def _finish(self, one: Prepared, ended: EndedRun, at_once: int) -> FinetuneResult:
        """Write what a run has come to."""
        out, failure = one.job.out, None
        params = to_host_everywhere(ended.params)
        if ended.failure is not None:
            failure = (
                f"{one.job.label}: {ended.failure}. The state before that step is in {out / 'last_good'}; "
                "a lower lr or max_grad_norm, or dtype=float32, usually helps"
            )
        if jax.process_index() == 0:
            if failure is not None:
                self._save(out / "last_good", one, params)
            else:
                self._save(out / ("model" if self._start is not None else "adapter"), one, params)
                write_json(out / "report.json", self._report(one, ended.run.summary, at_once))
        return FinetuneResult(one.job, one.tokenized, failure)

    def _report(self, one: Prepared, summary: Summary, at_once: int) -> JsonObject:
        report: JsonObject = {
            **data_report(one),
            **summary.to_json(),
            "runs_at_once": at_once,
            "remat": self._programs.remat,
            "programs_compiled": self._programs.count,
            "compile_seconds": round(self._programs.compile_seconds, 1),
            "mesh": dict(self._mesh.shape),
            "config": one.config.model_dump(mode="json"),
            "identity": one.identity,
        }
        if one.kept:
            report["kept_at"] = {str(at): step for at, step in one.kept.items()}
        if self._considered:
            report["meshes_considered"] = [candidate.to_json() for candidate in self._considered]
        if self._merge_lost is not None:
            # Of each adapter below: share of the update's norm that rounding lost, by projection.
            report["merge_lost"] = self._merge_lost
        return report

    def _save(self, target: Path, one: Prepared, params: Params) -> None:
        with new_folder(target) as temporary:
            if self._start is not None:
                save_params(temporary, params, text_only(self._spec))
                copy_model_files(self._folder, temporary, text_only(self._spec))
            else:
                lora = one.config.lora.model_copy(update={"init": None})
                save_adapter(temporary, Adapter(params, jnp.float32(lora.scale)), lora, self._spec, one.job.model)

"""One launch: the tensors that stay in place, what is done to them, and its recording as CUDA graphs."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from heliodor.dynamics.captured.lists import Lists
from heliodor.dynamics.captured.memory import copied, copy_into, moving_parts, with_parts
from heliodor.dynamics.captured.motion import Chained, Motion, moved
from heliodor.dynamics.captured.philox import key_of, normals
from heliodor.dynamics.naming import check_finite
from heliodor.dynamics.state import MDState
from heliodor.dynamics.steps.cell_rescaling import LARGEST_STRAIN, check_strain
from heliodor.dynamics.steps.nose_hoover import with_chain
from heliodor.kernels.derived import Derived
from heliodor.kernels.gpu.lists.geometry import stale, used_by, used_skin, used_skin_strained
from heliodor.kernels.gpu.matrix import NeighborMatrix
from heliodor.potential import Prediction, Terms, total_dipole
from heliodor.system import System

SIZES = (16, 4, 1)
"""Steps of one graph; launches are put together of these."""


@runtime_checkable
class Evaluate(Protocol):
    """What kernels on GPUs have in common: see `heliodor.kernels.gpu.matrix`."""

    def __call__(
        self, system: System, short: NeighborMatrix, long: NeighborMatrix | None, *, gradient: bool, strain: bool
    ) -> Derived:
        """Energies and their derivatives, by operations that a CUDA graph can hold."""
        ...


@dataclass(frozen=True)
class Told:
    """What the host reads after a launch."""

    stale: bool
    fits: bool
    far: bool
    finite: bool
    strain: float
    used: float
    wanted: list[int]

    @property
    def good(self) -> bool:
        return self.fits and self.finite and not self.stale and not self.far and self.strain < LARGEST_STRAIN


class Launch:
    """Tensors in one place and the functions that a launch is made of; played as graphs on a GPU, called on a CPU."""

    def __init__(self, motion: Motion, evaluate: Evaluate, lists: Lists, device: torch.device, fuse: bool) -> None:
        """Nothing is computed or recorded before the first launch.

        Args:
            fuse: take steps by kernels of Triton where there are some.
        """
        self._motion, self._evaluate, self.lists = motion, evaluate, lists
        self.cuda = device.type == "cuda"
        self._fuse = fuse
        self._constants: Any = None
        self._chained: Chained | None = None
        stream: Any = torch.cuda.Stream
        self._stream: Any = stream(device) if self.cuda else None
        self._outside: Any = None
        self._graphs: dict[str, Any] = {}
        self._pool: Any = None
        self._warm = False
        self._normals = normals
        if self.cuda:
            from heliodor.dynamics.captured import philox_kernel

            self._normals = philox_kernel.normals
        self._model: MDState | None = None
        self._now: dict[str, Tensor] = {}
        self._then: dict[str, Tensor] = {}
        self._terms: dict[str, Tensor] = {}
        self._step = torch.zeros(1, dtype=torch.int64, device=device)
        self._key = torch.zeros(2, dtype=torch.int64, device=device)
        self._rng = b""
        self._flags = torch.zeros(6 + len(lists.matrices), dtype=torch.float64, device=device)

    def on_stream(self, device: torch.device) -> Any:
        """Inside, work goes to the launches' own stream."""
        if not self.cuda:
            return nullcontext()
        self._outside = torch.cuda.current_stream(device)
        return torch.cuda.stream(self._stream)

    def hand_out(self, state: MDState) -> None:
        """Make sure that a state is complete before anyone on another stream looks at it, and stays while read."""
        if self.cuda:
            for part in [*moving_parts(state).values(), *_tensors(state.prediction)]:
                part.record_stream(self._outside)
            self._stream.synchronize()

    def present(self) -> MDState:
        """A copy of where the last launch ended; its step and time mean nothing."""
        return with_parts(self._moving(), copied(self._now))

    def take_back(self, step: int) -> None:
        """What the last launch did is forgotten."""
        copy_into(self._now, self._then)
        self._step.fill_(step)

    def take(self, state: MDState) -> None:
        """Go on from a state that is not the last one handed out."""
        if self.cuda:
            self._stream.wait_stream(self._outside)
        if self._motion.thermostat == "nose-hoover":
            state = with_chain(state)
        parts = moving_parts(state)
        if self._model is None:
            self._now, self._then = copied(parts), copied(parts)
            self._model = replace(state, prediction=None)
            self._set_up_fused()
        copy_into(self._now, parts)
        copy_into(self._then, parts)
        self._step.fill_(state.step)
        rng = hashlib.sha256(state.rng.cpu().numpy().tobytes()).digest()
        if rng != self._rng:
            self._rng = rng
            self._key.copy_(key_of(state.rng))
        self._model = replace(self._model, rng=state.rng)

    def _moving(self) -> MDState:
        """A state of the tensors that stay in place; its step and time mean nothing."""
        assert self._model is not None
        return with_parts(self._model, self._now)

    def start(self, n: int) -> None:
        """Everything up to the numbers that `read` reads; the host does not wait."""
        self._play("open", self._open)
        for size in SIZES:
            while n >= size:
                self._play(f"{size}", partial(self._steps, size))
                n -= size
        self._play("close", self._close)

    def _play(self, name: str, body: Callable[[], None]) -> None:
        if not self.cuda:
            body()
            return
        if name not in self._graphs:
            self._graphs[name] = self._record(name, body)
        self._graphs[name].replay()

    def _record(self, name: str, body: Callable[[], None]) -> Any:
        if not self._warm:
            # compiles kernels, and lets libraries set themselves up; what it changed is put back
            kept = copied(self._now), copied(self._then), self._step.clone(), self._flags.clone()
            for _ in range(2):
                self._open()
                # two: with and without a virial
                self._steps(2)
                self._close()
            copy_into(self._now, kept[0])
            copy_into(self._then, kept[1])
            self._step.copy_(kept[2])
            self._flags.copy_(kept[3])
            self._warm = True
            self._pool = torch.cuda.graph_pool_handle()
            self._stream.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool, stream=self._stream, capture_error_mode="thread_local"):
            body()
        return graph

    def _open(self) -> None:
        copy_into(self._then, self._now)
        filled = self.lists.fill(self._now["positions"], self._now["cell"])
        flags = [torch.zeros_like(filled.wanted[0]), ~filled.fits, filled.far]
        zeros = torch.zeros_like(self._flags[:3])
        told = torch.stack([flag.double() for flag in flags])
        self._flags.copy_(torch.cat([told, zeros, filled.wanted.double()]))

    def _set_up_fused(self) -> None:
        if not self._fuse or self._motion.barostat is not None:
            return
        from heliodor.dynamics.captured.fused import can_fuse, constants_of

        if can_fuse(self._motion):
            self._constants = constants_of(self._moving(), self._motion)
        elif self._motion.thermostat == "nose-hoover":
            from heliodor.dynamics.captured.chain_kernel import chain_numbers, thermostatted

            assert self._model is not None
            numbers = chain_numbers(self._motion.time_constant, 0.5 * self._motion.timestep, self._key.device)
            one = torch.ones_like(self._model.energy)
            self._chained = lambda state, kelvin: thermostatted(state, one * kelvin, numbers)

    def _steps(self, size: int) -> None:
        state, derived = self._by_kernels(size) if self._constants is not None else self._by_torch(size)
        copy_into(self._now, moving_parts(state))
        self._tell(derived)
        self._step.add_(size)

    def _by_torch(self, size: int) -> tuple[MDState, Derived]:
        state = self._moving()
        wrong: list[Tensor] = []
        strains: list[Tensor] = []
        said: list[Derived] = []
        for k in range(size):
            at = self._step + k

            def forces(state: MDState, last: bool = k == size - 1) -> MDState:
                wrong.append(stale(self._used(state.system)))
                state, derived = self._forces(state, last)
                said[:] = [derived]
                return state

            state, strain = moved(state, self._motion, at, forces, self._draw(at), self._chained)
            strains.append(strain)
        self._flags[0] += torch.stack(wrong).any()
        if self._motion.barostat is not None:
            # a strain that is not a number stays one
            self._flags[4].copy_(torch.maximum(self._flags[4], torch.stack(strains).amax()))
        return state, said[0]

    def _by_kernels(self, size: int) -> tuple[MDState, Derived]:
        from heliodor.dynamics.captured.fused import moved_fused

        state, step, then = self._moving(), self._step, self._then["positions"]
        far: list[Tensor] = []
        said: list[Derived] = []
        for k in range(size):

            def forces(state: MDState, last: bool = k == size - 1) -> MDState:
                state, derived = self._forces(state, last)
                said[:] = [derived]
                return state

            state, step, furthest = moved_fused(state, self._motion, self._constants, then, step, self._key, forces)
            far.append(furthest)
        self._flags[0] += stale(used_by(torch.cat(far).amax(), self.lists.matrices[0]))
        return state, said[0]

    def _close(self) -> None:
        bad = ~(self._now["forces"].sum() + self._now["energy"].sum()).isfinite()
        self._flags[3].copy_(bad)
        self._flags[5].copy_(self._used(self._moving().system))

    def _used(self, system: System) -> Tensor:
        """The part of the skin used since the launch began; of the list for which it is more."""
        then, cell = self._then["positions"], self._then["cell"]
        matrices = self.lists.matrices
        if self._motion.barostat is None:
            return used_skin(system.positions, then, matrices[0])
        each = [used_skin_strained(system.positions, system.cell, then, cell, matrix) for matrix in matrices]
        return torch.stack(each).amax()

    def _draw(self, step: Tensor) -> Callable[[int, int], Tensor]:
        return lambda count, stream: self._normals(step, self._key, count, stream)

    def _forces(self, state: MDState, last: bool) -> tuple[MDState, Derived]:
        """Energies, and a virial that nothing but logs will look at, are summed at the last step of a graph only."""
        strain = state.virial is not None and (last or self._motion.barostat is not None)
        short, *rest = self.lists.matrices
        derived = self._evaluate(state.system, short, rest[0] if rest else None, gradient=True, strain=strain)
        assert derived.gradient is not None
        state = replace(state, forces=-derived.gradient.to(state.forces.dtype))
        if last:
            # nothing moves by it
            energies = [one.double() for one in derived.terms.energies.values()]
            state = replace(state, energy=torch.stack(energies).sum((0, 1)).view(1))
        if strain:
            assert derived.strain is not None
            virial = -0.5 * (derived.strain + derived.strain.mT).to(state.energy.dtype)
            state = replace(state, virial=virial)
        return state, derived

    def _tell(self, derived: Derived) -> None:
        """Keep what the model says of atoms, for logs and files."""
        terms = derived.terms
        found = {f"energy {name}": value for name, value in terms.energies.items()}
        for name in ("charges", "hirshfeld_ratios", "force_error", "dipoles"):
            if (value := getattr(terms, name)) is not None:
                found[name] = value
        if not self._terms:
            self._terms = copied(found)
        copy_into(self._terms, found)

    def prediction(self, system: System) -> Prediction:
        kept = copied(self._terms)
        node = {name.removeprefix("energy "): kept[name] for name in kept if name.startswith("energy ")}
        each = torch.stack([value.double() for value in node.values()])
        by_term = each.sum(1, keepdim=True)
        return Prediction(
            energy=by_term.sum(0),
            terms=dict(zip(node, by_term.unbind(0), strict=True)),
            node_energy=each.sum(0),
            node_terms=dict(zip(node, each.unbind(0), strict=True)),
            forces=self._now["forces"].clone(),
            virial=self._now["virial"].clone() if "virial" in self._now else None,
            dipole=total_dipole(Terms(node, charges=kept.get("charges"), dipoles=kept.get("dipoles")), system),
            charges=kept.get("charges"),
            hirshfeld_ratios=kept.get("hirshfeld_ratios"),
            force_error=kept.get("force_error"),
        )

    def read(self) -> Told:
        """The one reading of a launch: waits for it to end."""
        gone, full, far, broken, strain, used, *wanted = self._flags.tolist()
        return Told(gone != 0, full == 0, far != 0, broken == 0, strain, used, [int(n) for n in wanted])

    def make_room(self, state: MDState, wanted: list[int]) -> None:
        """Matrices of another shape or bins for another cell: everything is recorded anew."""
        self.lists.make_room(state.system, wanted)
        self._graphs.clear()
        self._pool, self._warm = None, False

    def careful(self, state: MDState) -> MDState:
        """One step by the host, with lists made in the middle of it where they are needed: as the ordinary loop."""

        def forces(state: MDState) -> MDState:
            check_finite(state.system)
            while True:
                filled = self.lists.fill(state.system.positions, state.system.cell)
                if bool(filled.fits):
                    break
                self.make_room(state, [int(n) for n in filled.wanted])
            state, derived = self._forces(state, True)
            self._tell(derived)
            return state

        step = self._step.clone()
        after, strain = moved(self._moving(), self._motion, step, forces, self._draw(step), self._chained)
        check_strain(strain.expand(1, 3, 3), self._motion.timestep)
        copy_into(self._now, moving_parts(after))
        self._step.add_(1)
        return with_parts(after, copied(self._now))


def _tensors(prediction: Prediction | None) -> list[Tensor]:
    found: list[Tensor] = []
    for value in () if prediction is None else vars(prediction).values():
        found += [part for part in (value.values() if isinstance(value, dict) else [value]) if isinstance(part, Tensor)]
    return found

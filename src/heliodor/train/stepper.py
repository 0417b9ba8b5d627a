"""The training step of a run: compiled where that is wanted and works, plain otherwise."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from heliodor.errors import InputError
from heliodor.potential import Potential
from heliodor.train.batches import Batch, Lists, Shape
from heliodor.train.lazy_lists import LazyLists
from heliodor.train.losses import Loss
from heliodor.train.precision import RoundedProducts
from heliodor.train.step import StepFunction, functional_step, plain_step

PAYS_AFTER = 2.0 * 3600.0
"""s; what compilation costs is not won back in shorter runs: on two busy cores it took over a quarter of an hour."""

AGREEMENT = 1e-2
"""Relative difference of a compiled step's loss or gradient norm from the plain one's at which it is not trusted."""


class CompileWarning(UserWarning):
    """A training step could not be compiled; the run goes on without."""


def drops_modules(model: Potential) -> bool:
    """Whether modules are left out at random in training, for which there is no compiled form."""
    from heliodor.potentials.spookynet import SpookyNet

    return isinstance(model, SpookyNet) and model.config.n_modules > 1 and model.config.module_keep_prob < 1.0


def will_compile(choice: str, model: Potential, seconds: float) -> bool:
    """Whether a run of so many seconds (infinite: not known) tries to compile its step.

    Raises:
        InputError: "yes", for a model that leaves out modules at random.
    """
    from heliodor.potentials.so3lr import SO3LR
    from heliodor.potentials.spookynet import SpookyNet

    dropping = drops_modules(model)
    if choice == "yes" and dropping:
        raise InputError(
            f"compile: yes does not go with a SpookyNet that leaves out modules at random (module_keep_prob "
            f"{model.config.module_keep_prob:g}): set compile to auto or no, or module_keep_prob to 1"  # type: ignore[union-attr]
        )
    # these have been seen to compile without breaks in the graph
    known = type(model) in (SO3LR, SpookyNet) and not dropping
    return choice == "yes" or (choice == "auto" and known and PAYS_AFTER <= seconds < math.inf)


def rounded(step: StepFunction) -> StepFunction:
    """The same with the products of its forward pass, and so their derivatives, in bfloat16."""

    def short(batch: Batch, counts: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        with RoundedProducts():
            return step(batch, counts)

    return short


class Stepper:
    """Loss and sums of absolute errors of a batch, by a compiled function or plainly.

    Args:
        shape: of the batches of a compiled step.
        precision: "bf16" rounds products; others are a matter of the batches' and parameters' dtype.

    Attributes:
        compiled: whether batches are filled up and the compiled step is taken.
        note: why not, if that was tried.
    """

    def __init__(
        self, model: Potential, loss: Loss, lists: Lists, shape: Shape | None, precision: str = "float32"
    ) -> None:
        self.model, self.loss, self.lists, self.shape = model, loss, lists, shape
        self.plain = rounded(plain_step(model, loss)) if precision == "bf16" else plain_step(model, loss)
        self.fast = self.plain
        self.compiled, self.note = False, ""

    def compile(self, chosen: np.ndarray) -> None:
        """Try on one batch, derivatives included; nothing of the run is changed by it.

        What fails, or gives another loss or gradient than the plain step, is warned about and not used.
        """
        random = torch.get_rng_state()
        try:
            if isinstance(self.lists, LazyLists):
                raise NotImplementedError("the lists of this set are found batch by batch")
            self.fast = functional_step(self.model, self.loss, self.lists)
            self.compiled = True
            value, norm = self._once(chosen)
            self.compiled = False
            expected, expected_norm = self._once(chosen)
            for a, b in ((value, expected), (norm, expected_norm)):
                if math.isfinite(b) and not abs(a - b) <= AGREEMENT * max(abs(b), 0.1):
                    raise ArithmeticError(f"the compiled step gives {a:.6g} instead of {b:.6g}")
            self.compiled = True
        # compilers fail in many ways; none of them is a reason to end a run
        except Exception as error:
            self._fall_back(error)
        finally:
            self._clear()
            torch.set_rng_state(random)

    def batch(self, chosen: np.ndarray) -> Batch:
        """Structures as the step wants them, on the model's device."""
        return self.lists.batch(chosen, self.shape if self.compiled else None).to(self.model.device)

    def __call__(self, batch: Batch, counts: Tensor | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Loss and sums of absolute errors; of a part of a batch, whose labels are counted by `counts`, its share."""
        if not self.compiled:
            return self.plain(batch, counts)
        try:
            return self.fast(batch, counts)
        except Exception as error:
            self._fall_back(error)
            return self.plain(self.batch(batch.index[batch.index >= 0].cpu().numpy()), counts)

    def _once(self, chosen: np.ndarray) -> tuple[float, float]:
        self._clear()
        step = self.fast if self.compiled else self.plain
        value, _ = step(self.batch(chosen), None)
        value.backward()  # type: ignore[no-untyped-call]
        grads = [p.grad for p in self.model.parameters() if p.grad is not None]
        return float(value.detach()), float(torch.nn.utils.get_total_norm(grads))

    def _clear(self) -> None:
        for part in (self.model, self.loss):
            part.zero_grad(set_to_none=True)

    def _fall_back(self, error: Exception) -> None:
        words = (str(error).strip().splitlines() or [""])[0]
        self.compiled, self.note = False, f"not compiled ({type(error).__name__}: {words[:200]})"
        warnings.warn(f"the training step is {self.note}: training goes on, slower", CompileWarning, stacklevel=3)

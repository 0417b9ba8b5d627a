"""One module of SpookyNet, forth and back by hand."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from heliodor.kernels.gpu.spookynet.attention import Attention, AttentionKept
from heliodor.kernels.gpu.spookynet.basis import BasisTable
from heliodor.kernels.gpu.spookynet.messages import Edges, Messages, MessagesKept
from heliodor.kernels.gpu.spookynet.nodes import MLP, Kept, Maps
from heliodor.kernels.gpu.spookynet.segments import Segments
from heliodor.potentials.spookynet_blocks import Interaction


@dataclass(frozen=True, eq=False)
class Still:
    """What of the first module is the same wherever the atoms are.

    Attributes:
        readings: center, s, p, d.
        rest: features that the messages are added to, attention included.
    """

    readings: Float[Tensor, "4 N F"]
    rest: Float[Tensor, "N F"]


@dataclass(frozen=True, eq=False)
class ModuleKept:
    """What the way back reads; of the first module there is nothing before the messages."""

    before: Kept | None
    messages: MessagesKept
    attention: AttentionKept | None
    after: Kept


@dataclass(frozen=True, eq=False)
class Module:
    """One `Interaction`."""

    pre: Maps
    readers: MLP
    messages: Messages
    local: MLP
    attention: Attention
    post: Maps
    output: MLP

    @staticmethod
    def of(module: object, table: BasisTable, dtype: torch.dtype) -> Module:
        assert isinstance(module, Interaction)
        return Module(
            Maps.of(module.pre, dtype),
            MLP.of(module.readers, dtype),
            Messages.of(module, table, dtype),
            MLP.of(module.local, dtype),
            Attention.of(module.attention, dtype),
            Maps.of(module.post, dtype),
            MLP.of(module.output, dtype),
        )

    def still(self, x: Float[Tensor, "N F"], atoms: Segments) -> Still:
        """Everything before the first messages."""
        x, readings = self._before(x, [])
        read, _ = self.attention.forth(readings[4:6], readings[6], atoms)
        return Still(readings[:4].clone(), x + read)

    def moving(
        self, still: Still, edges: Edges, atoms: Segments
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N F"], ModuleKept]:
        """The first module's features and contribution."""
        message, messages = self.messages.forth(still.readings[0], still.readings[1:], edges)
        after: Kept = []
        x, y = self._after(message, still.rest, after)
        return x, y, ModuleKept(None, messages, None, after)

    def forth(
        self, x: Float[Tensor, "N F"], edges: Edges, atoms: Segments
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N F"], ModuleKept]:
        """Features, and their contribution to the output."""
        before: Kept = []
        after: Kept = []
        x, readings = self._before(x, before)
        message, messages = self.messages.forth(readings[0], readings[1:4], edges)
        read, attention = self.attention.forth(readings[4:6], readings[6], atoms)
        x, y = self._after(message, x + read, after)
        return x, y, ModuleKept(before, messages, attention, after)

    def back(
        self,
        pull: Float[Tensor, "N F"],
        onward: Float[Tensor, "N F"] | None,
        kept: ModuleKept,
        edges: Edges,
        atoms: Segments,
        gradient: Float[Tensor, "3 N 3"],
        strain: Float[Tensor, "3 N 6"] | None,
    ) -> Float[Tensor, "N F"] | None:
        """∂E/∂(features read), None of the first module.

        Args:
            pull: ∂E/∂(contribution).
            onward: ∂E/∂(features handed on); None after the last module.
            gradient, strain: are added to, by degree (`neighbor_pulls`).
        """
        x = self.output.back(pull.unsqueeze(0), kept.after)
        x = x if onward is None else x + onward
        x = self.post.back(x.unsqueeze(0), kept.after)[0]
        message = self.local.back(x.unsqueeze(0), kept.after)
        if kept.before is None or kept.attention is None:
            self.messages.back(message, kept.messages, edges, gradient, strain, None)
            return None
        readings = x.new_empty(7, *x.shape)
        readings[0].copy_(message)
        self.messages.back(message, kept.messages, edges, gradient, strain, readings[1:4])
        self.attention.back(x, kept.attention, atoms, readings[4:])
        x = x + self.readers.back(readings, kept.before)
        return self.pre.back(x.unsqueeze(0), kept.before)[0]

    def _before(self, x: Float[Tensor, "N F"], kept: Kept) -> tuple[Float[Tensor, "N F"], Float[Tensor, "7 N F"]]:
        x = self.pre.forth(x.unsqueeze(0), kept)[0]
        return x, self.readers.forth(x, kept)

    def _after(
        self, message: Float[Tensor, "N F"], rest: Float[Tensor, "N F"], kept: Kept
    ) -> tuple[Float[Tensor, "N F"], Float[Tensor, "N F"]]:
        x = rest + self.local.forth(message, kept)[0]
        x = self.post.forth(x.unsqueeze(0), kept)[0]
        return x, self.output.forth(x, kept)[0]

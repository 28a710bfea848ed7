"""A network with what may be pruned of it: found once, then weighed, and cut in place."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from compress.errors import UsageError
from compress.models.count import count_macs, count_parameters
from compress.pruning.cost import Costs
from compress.pruning.dependency import trace_groups
from compress.pruning.depth import drop_blocks
from compress.pruning.groups import Chosen, Group
from compress.pruning.heads import AttentionPart
from compress.pruning.ignore import ignored_modules, is_under
from compress.pruning.importance.score import LabelledBatch
from compress.pruning.latency.kinds import Layer, layers_of
from compress.pruning.reconstruct import reconstruct
from compress.pruning.settings import Pruning
from compress.pruning.surgery import cut, layer_widths
from compress.pruning.ties import Ties
from compress.pruning.uniform import uniform_ties
from compress.pruning.verify import difference, untrustworthy

REASONS_SHOWN = 6


@dataclass(frozen=True)
class Done:
    """A cut that was made: the fields of `PruneLog` of these names."""

    before: dict[str, int]
    after: dict[str, int]
    widths: dict[str, tuple[int, int]]
    dropped: tuple[str, ...]
    reconstructed: dict[str, float]

    def share(self, measure: str) -> float:
        """What is left of `macs` or `parameters`."""
        return self.after[measure] / self.before[measure]


@dataclass(frozen=True)
class Prunable:
    """A network and its groups.

    Args:
        module: the network; `without` cuts it in place, all else leaves it as it is.
        inputs: of at least one example, of the size at which the network is counted and timed.
        groups: what may be pruned.
        ties: groups that keep the same share.
        fixed: why the other layers stay as they are, by name.
    """

    module: nn.Module
    inputs: Sequence[Tensor]
    groups: Sequence[Group]
    ties: Ties
    fixed: dict[str, str]

    @classmethod
    def find(
        cls,
        module: nn.Module,
        example_inputs: Sequence[Tensor],
        settings: Pruning,
        seed: int = 0,
        spent: Collection[str] = (),
    ) -> Prunable:
        """Trace a network. Groups of the names `spent` have nothing more to give.

        Raises:
            UsageError: nothing can be pruned, a glob of `ignore` matches nothing, or the network cannot be traced.
        """
        groups, fixed = prunable_groups(module, example_inputs, settings.ignore, seed, settings.attention)
        ties, unfit = uniform_ties(module, groups) if settings.uniform else ({}, {})
        unfit |= dict.fromkeys(spent, "it has been cut to its least")
        groups, fixed = [group for group in groups if group.name not in unfit], fixed | unfit
        if not groups:
            raise UsageError(f"prune: no layer of the network can be pruned. {reasons(fixed) or 'It has no layers'}")
        return cls(module, example_inputs, groups, ties, fixed)

    def layers(self) -> list[Layer]:
        """Its layers, as their cost hangs on the groups."""
        return layers_of(self.module, Costs(self.module, self.groups, self.inputs), self.inputs)

    def without(
        self, removed: Chosen, seed: int, dropped: Sequence[str] = (), batches: Sequence[LabelledBatch] = ()
    ) -> Done:
        """Take units, then blocks, out of the network, in place, and count before and after.

        With `batches` of examples the channels that stay take over first what those that go did.

        Raises:
            UsageError: the units cannot go together.
        """
        module = self.module
        reason = difference(module, self.groups, removed, self.inputs, seed)
        if reason:
            raise UsageError(f"prune: the layers {', '.join(removed)} cannot be pruned together: {reason}. Ignore some")
        example = tuple(tensor[:1] for tensor in self.inputs)
        before, wide = _sizes(module, example), layer_widths(module, self.groups)
        errors = reconstruct(module, self.groups, removed, batches, dropped, seed)
        cut(module, self.groups, removed)
        narrow = layer_widths(module, self.groups)
        drop_blocks(module, dropped)
        widths = {name: (wide[name], 0 if is_under(name, dropped) else narrow[name]) for name in wide}
        return Done(before, _sizes(module, example), widths, tuple(dropped), errors)


def prunable_groups(
    module: nn.Module,
    example_inputs: Sequence[Tensor],
    ignore: Iterable[str] = (),
    seed: int = 0,
    attention: AttentionPart = "heads",
) -> tuple[list[Group], dict[str, str]]:
    """The groups that can be pruned, and for each other convolution or linear layer why it cannot.

    Raises:
        UsageError: the network cannot be traced, or a glob of `ignore` matches nothing.
    """
    ignored = ignored_modules(module, ignore)
    groups, fixed = trace_groups(module, example_inputs, attention)
    for group in list(groups):
        outputs = [member.path for member in group.members if member.axis == "out"]
        hit = next((path for path in outputs if is_under(path, ignored)), None)
        if hit is not None:
            fixed[group.name] = "it is ignored" if hit == group.name else f"it is coupled with {hit}, which is ignored"
            groups.remove(group)
    found = untrustworthy(module, groups, example_inputs, seed)
    return [group for group in groups if group.name not in found], fixed | found


def reasons(fixed: Mapping[str, str]) -> str:
    """The first few of the reasons why layers stay as they are."""
    shown = [f"{name} ({reason})" for name, reason in list(fixed.items())[:REASONS_SHOWN]]
    more = len(fixed) - len(shown)
    return ", ".join(shown) + (f" and {more} more" if more else "")


def _sizes(module: nn.Module, example: tuple[Tensor, ...]) -> dict[str, int]:
    """MACs of one example, and parameters."""
    return {"macs": count_macs(module, example), "parameters": count_parameters(module)}

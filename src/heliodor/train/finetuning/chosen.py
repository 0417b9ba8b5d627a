"""Which weights of a model are meant: all, its heads by architecture, or patterns of names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase

from heliodor.errors import InputError, suggestion
from heliodor.potential import Potential

HEADS: dict[str, tuple[str, ...]] = {
    "SO3LR": ("energy_head", "energy_scale", "energy_offset", "charge_head", "charge_offset", "hirshfeld_*"),
    "MACE": ("readouts", "last_hidden", "last_out"),
    "SpookyNet": ("output", "element_bias", "interactions.*.output"),
}
"""What turns features into energies, charges and ratios, by class of model."""

NOT_MAPS = (
    *("element", "element_bias", "hirshfeld_weight", "network.element", "network.embedding"),
    *("*_embedding.query", "*_embedding.key", "*_embedding.value", "*.products.*"),
)
"""Tables with a row for each element or sign, and weights of products: no linear maps between features, whatever their
shape (SpookyNet's `query.weight` and the like are maps, and not meant)."""

_LISTED = 80


def heads(model: Potential) -> tuple[str, ...]:
    """Names of the parameters of a model's heads.

    Raises:
        InputError: an architecture whose heads are not known by name.
    """
    patterns = HEADS.get(type(model).__name__)
    if patterns is None:
        raise InputError(
            f"the heads of {type(model).__name__} are not known by name (those of {', '.join(HEADS)} are): give the "
            "names of the weights to be trained"
        )
    return matching(model, patterns, needed=False)


def matching(model: Potential, patterns: Sequence[str], *, needed: bool = True) -> tuple[str, ...]:
    """Names of the parameters that a pattern matches, in the model's order.

    A pattern (``*``, ``?``, ``[ab]``) stands for a parameter or for a part of the model with all its parameters:
    "network.layers.2.*", "network.layers.2" and "energy_head.out.weight" are such.

    Args:
        needed: whether each pattern must match something.

    Raises:
        InputError: a pattern that matches nothing, with the names there are.
    """
    names = [name for name, _ in model.named_parameters()]
    found: set[str] = set()
    for pattern in patterns:
        here = {name for name in names if _matches(name, pattern)}
        if not here and needed:
            raise InputError(
                f"no weights of {model.name} are called {pattern!r}{suggestion(pattern, [*names, *_parts(names)])}; "
                f"there are {_shown(names)}"
            )
        found |= here
    return tuple(name for name in names if name in found)


def linear_maps(model: Potential, rank: int, names: Iterable[str] | None = None) -> tuple[str, ...]:
    """Parameters [..., m, n] that are linear maps and for which a product of rank r takes fewer numbers: r(m+n) < mn.

    Parameters that lie on the model itself, not on a part of it, are left out: they belong to heads and tables.

    Args:
        names: among these only.
    """
    wanted = None if names is None else set(names)
    found = []
    for name, parameter in model.named_parameters():
        if "." not in name or parameter.ndim < 2 or (wanted is not None and name not in wanted):
            continue
        m, n = parameter.shape[-2:]
        if rank * (m + n) < m * n and not any(fnmatchcase(name, pattern) for pattern in NOT_MAPS):
            found.append(name)
    return tuple(found)


def depths(model: Potential) -> dict[str, int]:
    """How far each parameter is from the end: 0 for heads and physical terms, 1 for the last layer, and so on.

    What comes before the first layer (embeddings, the radial basis) is one further than that.
    """
    pattern = re.compile(r"(?:^|\.)(?:layers|interactions)\.(\d+)\.")
    names = [name for name, _ in model.named_parameters()]
    layer = {name: int(match.group(1)) for name in names if (match := pattern.search(name))}
    number = max(layer.values(), default=-1) + 1
    top = set(heads(model))
    physics = ("zbl.", "d4.")
    return {
        name: 0 if name in top or name.startswith(physics) else number - layer[name] if name in layer else number + 1
        for name in names
    }


def _matches(name: str, pattern: str) -> bool:
    return fnmatchcase(name, pattern) or fnmatchcase(name, pattern.removesuffix(".") + ".*")


def _parts(names: Iterable[str]) -> list[str]:
    """All the parts that names go through."""
    found: dict[str, None] = {}
    for name in names:
        words = name.split(".")
        for length in range(1, len(words)):
            found[".".join(words[:length])] = None
    return list(found)


def _shown(names: list[str]) -> str:
    """Every name, layers that look alike once: their numbers as [0-2]."""
    grouped: dict[str, list[int]] = {}
    for name in names:
        match = re.search(r"\.(\d+)\.", name)
        key = name if match is None else name[: match.start(1)] + "#" + name[match.end(1) :]
        grouped.setdefault(key, []).append(-1 if match is None else int(match.group(1)))
    words = [
        key if numbers[0] < 0 or "#" not in key else key.replace("#", _span(numbers), 1)
        for key, numbers in grouped.items()
    ]
    more = f" and {len(words) - _LISTED} others" if len(words) > _LISTED else ""
    return ", ".join(words[:_LISTED]) + more


def _span(numbers: list[int]) -> str:
    return str(numbers[0]) if len(numbers) == 1 else f"[{min(numbers)}-{max(numbers)}]"

"""Methods by name."""

from __future__ import annotations

import difflib
from collections.abc import Callable

from heliodor.label.label import LabelError, Method

_XTB = ("gfn2", "gfn1")
_BASES = (
    "def2-svp",
    "def2-svpd",
    "def2-tzvp",
    "def2-tzvpd",
    "def2-tzvpp",
    "def2-tzvppd",
    "def2-qzvp",
    "def2-qzvpp",
    "def2-qzvppd",
)
_RECOMMENDED = {
    "gfn2": "GFN2-xTB (tblite): milliseconds, all elements up to radon, molecules and crystals",
    "gfn1": "GFN1-xTB (tblite)",
    "pbe0-mbd/def2-svp": "PBE0 + many-body dispersion in a small basis: a demonstrator of the next",
    "pbe0-mbd/def2-tzvp": "PBE0 + many-body dispersion",
    "pbe0-mbd/def2-tzvpp": "PBE0 + many-body dispersion as in GEMS",
    "pbe0-d3bj/def2-svp": "PBE0-D3(BJ)",
    "pbe0/def2-svp": "PBE0 without dispersion",
    "wb97m-d3bj/def2-tzvppd": "ωB97M-D3(BJ) as in SPICE",
    "teacher:MODEL": "any model that heliodor loads: a name such as so3lr, or a file",
    "qcengine:psi4:METHOD/BASIS": "Psi4 (1.4 or later) through QCEngine",
    "qcengine:PROGRAM:METHOD/BASIS": "any other program that QCEngine runs and that is installed",
}
_ALIASES = {"gfn2-xtb": "gfn2", "gfn1-xtb": "gfn1", "xtb": "gfn2"}


def list_methods() -> dict[str, str]:
    """What `find_method` knows: names (words in capitals stand for something) and what they are."""
    return dict(_RECOMMENDED)


def find_method(name: str, *, threads: int = 1, memory: int = 4000) -> Method:
    """The method of that name.

    Args:
        name: see `list_methods`; functionals ``pbe0-mbd``, ``pbe0``, ``pbe0-d3bj`` and ``wb97m-d3bj`` go with every
            def2 basis. Case does not matter, ``+`` is as good as ``-``, and ``d3(bj)`` as ``d3bj``.
        threads: that one label may use (xTB and teachers: see OMP_NUM_THREADS).
        memory: MB that one label should stay under, where the program can be told.

    Raises:
        LabelError: no such method; the message names a similar one.
        MissingExtraError: its program is not installed.
    """
    kind, _, rest = name.strip().partition(":")
    kinds: dict[str, Callable[[], Method]] = {
        "teacher": lambda: _teacher(rest),
        "qcengine": lambda: _qcengine(rest, threads, memory),
    }
    if kind.lower() in kinds and rest:
        return kinds[kind.lower()]()
    plain = _plain(name)
    if plain in _XTB:
        from heliodor.label.xtb import find_xtb

        return find_xtb(plain)
    functional, _, basis = plain.partition("/")
    from heliodor.label.dft import FUNCTIONALS, find_dft

    if functional in FUNCTIONALS and basis in _BASES:
        return find_dft(functional, basis, threads=threads, memory=memory)
    if functional in FUNCTIONALS:
        what = f"{functional} goes with a basis" if not basis else f"basis {basis!r} is not one of ours"
        raise LabelError(f"no method {name!r}: {what}; write for example '{functional}/{_closest(basis, _BASES)}'")
    known = [*_RECOMMENDED, *(f"{f}/{b}" for f in FUNCTIONALS for b in _BASES)]
    raise LabelError(
        f"no method {name!r}; did you mean {_closest(plain, known)!r}? There are gfn2, gfn1, "
        f"{', '.join(FUNCTIONALS)} with /BASIS, teacher:MODEL and qcengine:PROGRAM:METHOD/BASIS"
    )


def _plain(name: str) -> str:
    plain = name.strip().lower().replace("+", "-").replace("(", "").replace(")", "").replace("ω", "w")
    return _ALIASES.get(plain, plain)


def _closest(word: str, known: tuple[str, ...] | list[str]) -> str:
    return (difflib.get_close_matches(word, known, n=1, cutoff=0.0) or [known[0]])[0]


def _teacher(model: str) -> Method:
    from heliodor.label.teacher import find_teacher

    return find_teacher(model)


def _qcengine(rest: str, threads: int, memory: int) -> Method:
    from heliodor.label.qcengine import find_qcengine

    program, _, level = rest.partition(":")
    method, _, basis = level.lower().partition("/")
    if not (program and method and basis):
        raise LabelError(
            f"no method 'qcengine:{rest}': write qcengine:PROGRAM:METHOD/BASIS, for example "
            "'qcengine:psi4:pbe0/def2-svp'"
        )
    return find_qcengine(program.lower(), method, basis, threads=threads, memory=memory)

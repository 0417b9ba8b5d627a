"""A client of i-PI's sockets (``<ffsocket>``): one process, on this machine or another, that answers for a model."""

from __future__ import annotations

import math
import re
import socket
import time
from collections.abc import Callable

import numpy as np

from heliodor.engines.ipi import Answer, Beads
from heliodor.errors import InputError, SimulationError

HEADER = 12
"""Characters of a message of i-PI's protocol."""

UNIX_PREFIX = "/tmp/ipi_"
"""i-PI's default ``sockets_prefix``."""


def serve(
    address: str,
    beads: Beads,
    *,
    timeout: float = 600.0,
    patience: float = 60.0,
    tell: Callable[[int], None] | None = None,
) -> int:
    """Answer i-PI until it says that it is done.

    Args:
        address: "host:port", or "unix:NAME" for the socket /tmp/ipi_NAME ("unix:/a/path" for another place).
        beads: of the model and the structure that i-PI starts from.
        timeout: seconds of silence after which i-PI counts as lost.
        patience: seconds to wait for i-PI to open its socket.
        tell: called with the number of calls of the model so far.

    Returns:
        How many calls of the model were made; each is of as many structures as i-PI sends together.

    Raises:
        InputError: an address or a timeout that is none; positions of other atoms.
        SimulationError: nobody at the address within ``patience``; the connection lost, or silent for ``timeout``.
    """
    if not 0.0 < timeout < math.inf:
        raise InputError(f"the time after which i-PI counts as lost must be positive (seconds), not {timeout!r}")
    kind, where = _address(address)
    with _connected(kind, where, address, patience) as line:
        line.settimeout(timeout)
        try:
            return _answer(line, beads, tell)
        except TimeoutError:
            raise SimulationError(
                f"i-PI at {address} has been silent for {timeout:g} s: it counts as lost; start the driver again once "
                "i-PI runs, or allow more time (--timeout)"
            ) from None
        except OSError as error:
            raise SimulationError(f"the connection to i-PI at {address} was lost: {error}") from None


def _answer(line: socket.socket, beads: Beads, tell: Callable[[int], None] | None) -> int:
    ready: list[Answer] | None = None
    initialised, together, calls, atoms = False, 1, 0, 0
    while True:
        word = _receive(line, HEADER).decode("ascii", "replace").strip()
        if word == "STATUS":
            state = "HAVEDATA" if ready is not None else "READY" if initialised else "NEEDINIT"
            line.sendall(state.ljust(HEADER).encode())
        elif word == "INIT":
            _receive(line, 4)
            text = _receive(line, _integer(line)).decode("utf-8", "replace")
            found = re.search(r"batch_size\s*:\s*(\d+)", text)
            together, initialised = int(found.group(1)) if found else 1, True
        elif word == "POSDATA":
            # alone: cell, inverse cell, count, positions; together: count, all cells with inverses, all positions
            if together == 1:
                cells = [_numbers(line, 18)[:9].reshape(3, 3)]
                atoms = _integer(line)
            else:
                atoms = _integer(line)
                cells = list(_numbers(line, 18 * together).reshape(together, 18)[:, :9].reshape(-1, 3, 3))
            positions = list(_numbers(line, 3 * atoms * together).reshape(together, atoms, 3))
            ready = beads(cells, positions)
            calls += 1
            if tell is not None:
                tell(calls)
        elif word == "GETFORCE" and ready is not None:
            line.sendall("FORCEREADY".ljust(HEADER).encode() + _packed(ready, atoms))
            ready = None
        elif word == "EXIT":
            return calls
        else:
            raise SimulationError(f"i-PI sent {word!r}, which is not of the protocol here: are both of one version?")


def _packed(answers: list[Answer], atoms: int) -> bytes:
    """Energies, number of atoms, forces, virials, then each string of extras behind its length."""
    energies, forces, virials, extras = zip(*answers, strict=True)
    texts = [text.encode() for text in extras]
    return b"".join(
        [
            np.array(energies, dtype=np.float64).tobytes(),
            np.int32(atoms).tobytes(),
            np.stack(forces).tobytes(),
            np.stack(virials).tobytes(),
            *(np.int32(len(text)).tobytes() + text for text in texts),
        ]
    )


def _address(text: str) -> tuple[str, str | tuple[str, int]]:
    if text.startswith("unix:") and len(text) > 5:
        name = text[5:]
        return "unix", name if "/" in name else UNIX_PREFIX + name
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isdigit() and 0 < int(port) < 65536):
        raise InputError(f"{text!r} is no address of a socket: write host:port (localhost:31415) or unix:NAME")
    return "inet", (host, int(port))


def _connected(kind: str, where: str | tuple[str, int], address: str, patience: float) -> socket.socket:
    end = time.monotonic() + patience
    while True:
        line = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET, socket.SOCK_STREAM)
        line.settimeout(max(0.1, end - time.monotonic()))
        try:
            line.connect(where)
            if kind == "inet":
                line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                line.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            return line
        except OSError as error:
            line.close()
            if time.monotonic() >= end:
                raise SimulationError(
                    f"i-PI does not answer at {address} ({error}): start i-PI first, with an <ffsocket> of this address"
                ) from None
            time.sleep(min(0.2, max(0.0, end - time.monotonic())))


def _receive(line: socket.socket, count: int) -> bytes:
    if count < 0:
        raise SimulationError(
            f"i-PI sent {count} as a length, which is not of the protocol here: are both of one version?"
        )
    parts, left = [], count
    while left:
        part = line.recv(min(left, 1 << 20))
        if not part:
            raise SimulationError("i-PI has closed the connection without saying that it is done: see its own output")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _integer(line: socket.socket) -> int:
    return int(np.frombuffer(_receive(line, 4), dtype=np.int32)[0])


def _numbers(line: socket.socket, count: int) -> np.ndarray:
    return np.frombuffer(_receive(line, 8 * count), dtype=np.float64).copy()

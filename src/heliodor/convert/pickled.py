"""A pickle machine that can execute nothing: it knows 34 instructions of protocol 2 and no Python class.

`pickle.Unpickler` with a `find_class` of one's own keeps foreign code out, but a crafted file still ends the process:
two million nested tuples used as a dictionary key overflow the C stack inside `hash` (seen with CPython 3.12), and it
can only make objects from real classes, which the file may then change. Here every name stays a word, every object is
a `Stub` that holds what it was made from, and no value out of the file is hashed except plain words and numbers.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from heliodor.errors import CheckpointError

MAX_INSTRUCTIONS = 500_000
"""Some forty times what MACE-OFF23(M) needs."""

_LITERALS = frozenset({"BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE"})
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_MAX_SHORT = 2**63


@dataclass(frozen=True)
class Name:
    """A global the file mentions, as the word ``module.name``: never looked up."""

    text: str


@dataclass(eq=False, repr=False)
class Stub:
    """What the file wanted to be an object.

    Attributes:
        name: ``module.name`` of the class or function.
        arguments: what it was to be called with.
        state: what it was to be filled with; None where the file gave nothing.
    """

    name: str
    arguments: tuple[Any, ...]
    state: Any = None

    def __repr__(self) -> str:
        # the generated one would walk the whole tree, which may hold itself
        return f"<{self.name}>"


def unpickle(
    content: bytes,
    allowed: Callable[[str], bool],
    build: Callable[[str, tuple[Any, ...]], Any],
    persistent: Callable[[Any], Any],
) -> Any:
    """Run a pickle of protocol 2 on an inert machine.

    Args:
        allowed: whether a global may be mentioned.
        build: makes a value of a global and the arguments the file calls it with.
        persistent: makes a value of a persistent id (torch: a storage).

    Returns:
        None, bools, numbers, words, lists, dicts, tuples, `Name`, `Stub`, or what `build` and `persistent` return.

    Raises:
        CheckpointError: truncated, damaged, an instruction or a name that is not allowed.
    """
    try:
        return _Machine(allowed, build, persistent).run(content)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"its pickle is truncated or damaged ({type(error).__name__})") from None


class _Machine:
    """The stack, the marks and the memo of one run."""

    def __init__(
        self,
        allowed: Callable[[str], bool],
        build: Callable[[str, tuple[Any, ...]], Any],
        persistent: Callable[[Any], Any],
    ) -> None:
        self.allowed, self.build, self.persistent = allowed, build, persistent
        self.stack: list[Any] = []
        self.marks: list[list[Any]] = []
        self.memo: list[Any] = []

    def run(self, content: bytes) -> Any:
        for count, (opcode, argument, position) in enumerate(pickletools.genops(content)):
            if count > MAX_INSTRUCTIONS:
                raise CheckpointError("its pickle is longer than that of any model")
            if opcode.name == "STOP":
                if self.marks or len(self.stack) != 1 or (position or 0) + 1 != len(content):
                    raise ValueError
                return self.stack[0]
            self.step(opcode.name, argument)
        raise EOFError

    def step(self, opcode: str, argument: Any) -> None:
        stack = self.stack
        if opcode in _LITERALS:
            if opcode == "LONG1" and not -_MAX_SHORT <= argument < _MAX_SHORT:
                raise ValueError
            stack.append(argument)
        elif opcode in _CONSTANTS:
            stack.append(_CONSTANTS[opcode])
        elif opcode in ("BINPUT", "LONG_BINPUT"):
            # pickle numbers its memo from 0 without gaps; a gap would only reserve memory
            if argument != len(self.memo):
                raise ValueError
            self.memo.append(stack[-1])
        elif opcode in ("BINGET", "LONG_BINGET"):
            stack.append(self.memo[argument])
        elif opcode == "MARK":
            self.marks.append(stack)
            self.stack = []
        elif opcode in _TUPLES:
            items = tuple(self.pop() for _ in range(_TUPLES[opcode]))
            stack.append(items[::-1])
        elif opcode == "EMPTY_TUPLE":
            stack.append(())
        elif opcode == "EMPTY_LIST":
            stack.append([])
        elif opcode == "EMPTY_DICT":
            stack.append({})
        elif opcode == "TUPLE":
            items = tuple(self.to_mark())
            self.stack.append(items)
        elif opcode == "APPEND":
            self.extend([self.pop()])
        elif opcode == "APPENDS":
            self.extend(self.to_mark())
        elif opcode == "SETITEM":
            value = self.pop()
            self.update([self.pop(), value])
        elif opcode == "SETITEMS":
            self.update(self.to_mark())
        elif opcode == "GLOBAL":
            self.name(argument)
        elif opcode in ("REDUCE", "NEWOBJ"):
            arguments, callee = self.pop(), self.pop()
            if not isinstance(callee, Name) or not isinstance(arguments, tuple):
                raise TypeError
            stack.append(self.build(callee.text, arguments))
        elif opcode == "BUILD":
            state = self.pop()
            if type(stack[-1]) is dict and type(state) is dict and set(state) <= {"_metadata"}:
                # versions of torch's modules, which state dicts carry as an attribute
                return
            if not isinstance(stack[-1], Stub) or stack[-1].state is not None:
                raise TypeError
            stack[-1].state = state
        elif opcode == "BINPERSID":
            stack.append(self.persistent(self.pop()))
        elif opcode != "PROTO" or argument != 2:
            raise CheckpointError(f"it uses a pickle instruction that model files never need ({opcode})")

    def pop(self) -> Any:
        return self.stack.pop()

    def to_mark(self) -> list[Any]:
        """What was pushed since the last mark, which it takes away."""
        items, self.stack = self.stack, self.marks.pop()
        return items

    def extend(self, items: list[Any]) -> None:
        if type(self.stack[-1]) is not list:
            raise TypeError
        self.stack[-1].extend(items)

    def update(self, items: list[Any]) -> None:
        target = self.stack[-1]
        keys = items[::2]
        if type(target) is not dict or len(items) % 2 or not all(type(key) in (str, int) for key in keys):
            raise TypeError
        target.update(zip(keys, items[1::2], strict=True))

    def name(self, argument: str) -> None:
        text = argument.replace(" ", ".", 1)
        if not self.allowed(text):
            raise CheckpointError(f"the file asks for {text}, which model files never need: refused, could run code")
        self.stack.append(Name(text))

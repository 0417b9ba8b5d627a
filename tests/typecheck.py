"""The type checker that conftest.py hooks into heliodor: beartype, with int accepted where float is written (PEP 484)."""

from beartype import BeartypeConf, beartype

checked = beartype(conf=BeartypeConf(is_pep484_tower=True))

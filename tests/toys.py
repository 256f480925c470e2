"""Families of networks that only tests know."""

from collections.abc import Iterator
import contextlib

from hubexport.networks.family import Family
from hubexport.networks.registry import FAMILIES


@contextlib.contextmanager
def registered(*families: Family) -> Iterator[None]:
    """Registers families, before all others, for as long as the context lasts."""
    others = dict(FAMILIES)
    FAMILIES.clear()
    FAMILIES.update({**{family.name: family for family in families}, **others})
    try:
        yield
    finally:
        FAMILIES.clear()
        FAMILIES.update(others)

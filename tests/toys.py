"""Families of networks that only tests know."""

from collections.abc import Iterator
import contextlib

from hubexport.networks.family import Family
from hubexport.networks.registry import FAMILIES


@contextlib.contextmanager
def registered(family: Family) -> Iterator[None]:
    """Registers a family, before all others, for as long as the context lasts."""
    others = dict(FAMILIES)
    FAMILIES.clear()
    FAMILIES.update({family.name: family, **others})
    try:
        yield
    finally:
        FAMILIES.clear()
        FAMILIES.update(others)

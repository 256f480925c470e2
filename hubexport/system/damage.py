"""What is wrong with bytes that cannot be read, before anybody knows what to call them."""

from collections.abc import Iterator
import contextlib


class DamageError(ValueError):
    """The bytes are damaged, or not of the expected format; the message says why in a few words."""


@contextlib.contextmanager
def damage_in(what: str) -> Iterator[None]:
    """Names the damaged file or value in the message of a DamageError."""
    try:
        yield
    except DamageError as error:
        raise DamageError(f"{what}: {error}") from error

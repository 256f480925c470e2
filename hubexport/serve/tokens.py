"""Access tokens: reading them from a file, and finding them in requests."""

import base64
from collections.abc import Sequence
import contextlib
import hashlib
import hmac
from pathlib import Path

from hubexport.errors import ServerError
from hubexport.system.regular_files import read_regular_file

_MAX_FILE_BYTES = 1 << 20
# Shorter tokens can be guessed.
_MIN_LENGTH = 16
# Programs use Bearer; Basic makes browsers ask for a name and a password.
CHALLENGE = 'Bearer realm="hubexport", Basic realm="hubexport", charset="UTF-8"'


class Tokens:
    """The tokens that permit access.

    Args:
        tokens: the tokens in plain text; only their digests are kept.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    def admit(self, authorization: str) -> bool:
        """Returns whether a request carries one of the tokens.

        Args:
            authorization: the request's Authorization header: `Bearer TOKEN`, or from browsers `Basic`, with any name
                and the token as the password.
        """
        digest = _digest(_token_in(authorization))
        # Comparing with every token, each in constant time, leaks nothing through the duration.
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0


def read_tokens(path: Path) -> Tokens:
    """Reads a file with one token per line; empty lines and lines that start with # are ignored.

    Raises:
        ServerError: the file cannot be read, holds no token, or holds one that is too short or contains a space.
    """
    try:
        lines = read_regular_file(path, _MAX_FILE_BYTES).decode("ascii").splitlines()
    except OSError as error:
        raise _refused(path, error.strerror or str(error)) from error
    except UnicodeDecodeError as error:
        raise _refused(path, f"byte {error.start} is not ASCII") from error
    tokens = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not tokens:
        raise _refused(path, "it contains no tokens")
    for number, token in enumerate(tokens, start=1):
        if len(token) < _MIN_LENGTH or len(token.split()) > 1:
            raise _refused(path, f"token {number} is shorter than {_MIN_LENGTH} characters, or contains a space")
    return Tokens(tokens)


def _token_in(authorization: str) -> str:
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.casefold() == "bearer":
        return rest.strip()
    if scheme.casefold() == "basic":
        with contextlib.suppress(ValueError):
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
    return ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refused(path: Path, why: str) -> ServerError:
    return ServerError(
        f"cannot read tokens from {path}",
        why=why,
        fix=f"put one per line into it, like: python -c 'import secrets; print(secrets.token_urlsafe())' > {path}",
    )

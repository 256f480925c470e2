"""Lets in those who know a token, if the server has some."""

import base64
from collections.abc import Sequence
import hashlib
import hmac
from pathlib import Path

from hubexport.errors import ServerError
from hubexport.system.regular_files import read_regular_file

_MAX_FILE_BYTES = 1 << 20
# Shorter ones can be guessed.
_MIN_LENGTH = 16
# To programs the first is offered; browsers ask for a name and a password on hearing the second.
CHALLENGE = 'Bearer realm="hubexport", Basic realm="hubexport", charset="UTF-8"'


class Tokens:
    """Those whose knowledge is the permission to read.

    Args:
        tokens: in plain text; kept are their digests.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        self._digests = [_digest(token) for token in tokens]

    def admit(self, authorization: str) -> bool:
        """Tells whether a request may be answered.

        Args:
            authorization: the request's header of that name: `Bearer TOKEN`, or for browsers `Basic`, with any name and
                the token as password.
        """
        digest = _digest(_token(authorization))
        # All are compared, in the same time: how long it takes tells nothing.
        return sum([hmac.compare_digest(digest, known) for known in self._digests]) > 0


def read_tokens(path: Path) -> Tokens:
    """Reads a file with a token on each line; empty lines and those that begin with # do not count.

    Raises:
        ServerError: it cannot be read, holds no token, or one that is no good one.
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


def _token(authorization: str) -> str:
    scheme, _, rest = authorization.strip().partition(" ")
    if scheme.casefold() == "bearer":
        return rest.strip()
    if scheme.casefold() == "basic":
        try:
            return base64.b64decode(rest.strip(), validate=True).decode().partition(":")[2]
        except ValueError:
            return ""
    return ""


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _refused(path: Path, why: str) -> ServerError:
    return ServerError(
        f"cannot read tokens from {path}",
        why=why,
        fix=f"put one per line into it, like: python -c 'import secrets; print(secrets.token_urlsafe())' > {path}",
    )

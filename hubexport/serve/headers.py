"""The headers that tell which bytes an answer holds, and whether a client has them already."""

import base64
import re

from starlette.requests import Request


def digest_headers(sha256: str) -> dict[str, str]:
    """Returns what tells which bytes an answer's representation has.

    Args:
        sha256: of all of it, in lower-case hexadecimal.
    Returns:
        The entity tag, and the digest as RFC 9530 wants it.
    """
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {"etag": f'"{sha256}"', "repr-digest": f"sha-256=:{digest}:"}


def is_known(request: Request, etag: str) -> bool:
    """Tells whether the client says that it has this representation already."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in re.findall(r'"[^"]*"', known)

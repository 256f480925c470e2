"""Headers that identify the bytes of a response, and conditional requests."""

import base64
import re

from starlette.requests import Request


def digest_headers(sha256: str) -> dict[str, str]:
    """Returns `etag`, and `repr-digest` as RFC 9530 defines it.

    Args:
        sha256: the digest of the whole representation, in lower-case hexadecimal.
    """
    digest = base64.b64encode(bytes.fromhex(sha256)).decode()
    return {"etag": f'"{sha256}"', "repr-digest": f"sha-256=:{digest}:"}


def is_known(request: Request, etag: str) -> bool:
    """Returns whether the client already has the representation with this entity tag (`If-None-Match`)."""
    known = request.headers.get("if-none-match", "")
    return known.strip() == "*" or etag in re.findall(r'"[^"]*"', known)

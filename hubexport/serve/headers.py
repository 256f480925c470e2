"""Headers that identify the bytes of a response, conditional requests, and the encodings that clients accept."""

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


def accepts_gzip(request: Request) -> bool:
    """Returns whether the client accepts compressed responses (`Accept-Encoding`)."""
    qualities: dict[str, float] = {}
    for element in ",".join(request.headers.getlist("accept-encoding")).casefold().split(","):
        coding, _, weight = element.partition(";")
        match = re.fullmatch(r"(?:\s*q=([01](?:\.[0-9]{0,3})?)\s*)?", weight)
        qualities[coding.strip()] = float(match[1] or 1) if match else 0.0
    named = (qualities[coding] for coding in ("gzip", "x-gzip", "*") if coding in qualities)
    return next(named, 0.0) > 0

"""Headers that identify and name what is sent, conditional requests, and the encodings that clients accept."""

import base64
import re

from starlette.requests import Request

from hubexport.deployments.registry import DEPLOYMENTS
from hubexport.release.index import ArtifactRecord, ReleaseFile


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


def saved_as(record: ArtifactRecord, file: ReleaseFile) -> dict[str, str]:
    """Returns the header that names a file for those who save it; none for files that only work with others."""
    name = f"{record.variant}-{record.kind}-{record.version}"
    if record.deployment is None:
        name += ".tar.gz"
    elif (suffix := DEPLOYMENTS[record.format].suffix) and file.path.endswith(suffix):
        name += f"-{record.handle.rpartition('/')[2]}{suffix}"
    else:
        return {}
    return {"content-disposition": f'attachment; filename="{name}"'}

"""Tar archives made by hand."""

import gzip
import io
import tarfile

Member = tuple[tarfile.TarInfo, bytes]

CONTENT = b"values" * 100


def member(name: str, content: bytes = CONTENT, **attributes: object) -> Member:
    """A member, with any attribute of its header set."""
    info = tarfile.TarInfo(name)
    info.size = len(content)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, content


def tgz(*members: Member, format: int = tarfile.GNU_FORMAT) -> bytes:
    """A gzipped tar of members, in this order."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=format) as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return gzip.compress(packed.getvalue(), mtime=0)

"""Releases made by the real code, and changed by hand so that all digests fit again: what a forger would do."""

from collections.abc import Callable
import copy
import gzip
import hashlib
import io
import json
from pathlib import Path
import tarfile
from typing import Any

from tests.archives import Member, member

INDEX = "index.json"
SUMS = "SHA256SUMS"
OLD = "google/imagenet/small/feature_vector/2"
NEW = "google/imagenet/small/classification/5"

_SUFFIXES = {
    "archive": ".tar.gz",
    "page": ".md",
    "card": ".card.md",
    "verification": ".verify.json",
    "provenance": ".provenance.json",
}


def as_json(facts: Any) -> bytes:
    """JSON as a release has it."""
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()


class Forged:
    """The files of a release in memory.

    Attributes:
        files: by path, but for the index, the sums and the records.
        index: what the index says.
        after: changes of the sums and the records, by path, after all fits.
    """

    def __init__(self, folder: Path) -> None:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.index: dict[str, Any] = json.loads(found.pop(INDEX))
        for name in [SUMS, *(f"{record['handle']}.json" for record in self.index["artifacts"])]:
            del found[name]
        self.files: dict[str, bytes] = found
        self.after: dict[str, Callable[[bytes], bytes | None]] = {}

    def copy(self) -> "Forged":
        """Returns another one, to be changed."""
        return copy.deepcopy(self)

    def record(self, handle: str = OLD) -> dict[str, Any]:
        """Returns the entry of an artifact."""
        return next(record for record in self.index["artifacts"] if record["handle"] == handle)

    def path(self, role: str, handle: str = OLD) -> str:
        """Returns where a file of an artifact is."""
        return f"{handle}{_SUFFIXES[role]}"

    def edit_json(self, role: str, change: Callable[[Any], object], handle: str = OLD) -> None:
        """Changes a JSON document."""
        document = json.loads(self.files[self.path(role, handle)])
        change(document)
        self.files[self.path(role, handle)] = as_json(document)

    def edit_text(self, role: str, old: str, new: str, handle: str = OLD) -> None:
        """Changes a text."""
        text = self.files[self.path(role, handle)].decode()
        assert old in text
        self.files[self.path(role, handle)] = text.replace(old, new).encode()

    def members(self, handle: str = OLD) -> list[Member]:
        """Returns what is in an archive."""
        with tarfile.open(fileobj=io.BytesIO(self.files[self.path("archive", handle)])) as tar:
            return [(info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]

    def pack(self, members: list[Member], handle: str = OLD) -> None:
        """Puts other members into an archive."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        self.files[self.path("archive", handle)] = gzip.compress(packed.getvalue(), mtime=0)

    def put(self, name: str, content: bytes | None, handle: str = OLD) -> None:
        """Puts a file into an archive, in its order, or takes it out; the manifest stays as it is."""
        members = {info.name: (info, old) for info, old in self.members(handle)}
        members.pop(name, None)
        if content is not None:
            members[name] = member(name, content)
        self.pack([members[name] for name in sorted(members)], handle)

    def edit_manifest(self, change: Callable[[Any], object], handle: str = OLD) -> None:
        """Changes the `hubexport.json` in an archive."""
        [manifest] = [content for info, content in self.members(handle) if info.name == "hubexport.json"]
        facts = json.loads(manifest)
        change(facts)
        self.put("hubexport.json", as_json(facts), handle)

    def seal(self) -> None:
        """Lets the reports and statements speak of the archives that there are, where they did before."""
        for record in self.index["artifacts"]:
            for role, file in record["files"].items():
                content = self.files.get(file["path"])
                if content is None:
                    continue
                sha256 = hashlib.sha256(content).hexdigest()
                for later in [*record["files"].values()]:
                    if later["path"].endswith((".verify.json", ".provenance.json")) and later["path"] in self.files:
                        text = self.files[later["path"]]
                        self.files[later["path"]] = text.replace(file["sha256"].encode(), sha256.encode())
                file.update(sha256=sha256, bytes=len(content))

    def written(self, folder: Path) -> Path:
        """Writes all; the index, the records and the sums fit what the index says."""
        made = dict(self.files)
        made |= {f"{record['handle']}.json": as_json(record) for record in self.index["artifacts"]}
        listed = {file["path"] for record in self.index["artifacts"] for file in record["files"].values()}
        listed |= {record["sbom"]["path"] for record in self.index["artifacts"]}
        listed |= {f"{record['handle']}.json" for record in self.index["artifacts"]}
        listed |= {file["path"] for file in self.index["publishers"]}
        sums = {name: hashlib.sha256(made[name]).hexdigest() for name in sorted(listed & made.keys())}
        made[SUMS] = "".join(f"{sha256}  {name}\n" for name, sha256 in sums.items()).encode()
        made[INDEX] = as_json(self.index)
        for name, change in self.after.items():
            changed = change(made.pop(name))
            made |= {} if changed is None else {name: changed}
        for name, content in made.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(content)
        return folder


def shrink(release: Forged) -> None:
    """Makes the modules tiny, so that they are looked at in no time."""
    for handle in (OLD, NEW):
        members = [
            (info, content if len(content) < 5000 else content[:3000]) for info, content in release.members(handle)
        ]
        for info, content in members:
            info.size = len(content)
        release.pack(members, handle)
        digests = {info.name: hashlib.sha256(content).hexdigest() for info, content in members if info.isfile()}
        del digests["hubexport.json"]
        release.edit_manifest(lambda facts: facts.update(sha256=digests), handle)
    release.seal()

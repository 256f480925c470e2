"""Releases that tests change like a forger: all digests are right again afterwards."""

from collections.abc import Callable
import copy
import dataclasses
import gzip
import hashlib
import io
import json
from pathlib import Path
import tarfile
from typing import Any

from hubexport.release.sbom_document import rewritten, sbom_document
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
    """Returns JSON in the form that releases have."""
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode()


class Forged:
    """The files of a release in memory.

    Attributes:
        files: the contents by path, without the index, SHA256SUMS and the records.
        index: the content of the index.
        after: functions that change SHA256SUMS or a record, by path, once all digests are right. None removes the file.
    """

    def __init__(self, folder: Path) -> None:
        found = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        self.index: dict[str, Any] = json.loads(found.pop(INDEX))
        for name in [SUMS, *(f"{record['handle']}.json" for record in self.index["artifacts"])]:
            del found[name]
        self.files: dict[str, bytes] = found
        self.after: dict[str, Callable[[bytes], bytes | None]] = {}

    def copy(self) -> "Forged":
        """Returns a copy that a test may change."""
        return copy.deepcopy(self)

    def record(self, handle: str = OLD) -> dict[str, Any]:
        """Returns an artifact's entry in the index."""
        return next(record for record in self.index["artifacts"] if record["handle"] == handle)

    def path(self, role: str, handle: str = OLD) -> str:
        """Returns the path of one of an artifact's files."""
        return f"{handle}{_SUFFIXES[role]}"

    def edit_json(self, role: str, change: Callable[[Any], object], handle: str = OLD) -> None:
        """Changes one of an artifact's JSON documents."""
        document = json.loads(self.files[self.path(role, handle)])
        change(document)
        self.files[self.path(role, handle)] = as_json(document)

    def edit_text(self, role: str, old: str, new: str, handle: str = OLD) -> None:
        """Changes one of an artifact's texts."""
        text = self.files[self.path(role, handle)].decode()
        assert old in text
        self.files[self.path(role, handle)] = text.replace(old, new).encode()

    def members(self, handle: str = OLD) -> list[Member]:
        """Returns the members of an artifact's archive."""
        with tarfile.open(fileobj=io.BytesIO(self.files[self.path("archive", handle)])) as tar:
            return [(info, file.read() if (file := tar.extractfile(info)) else b"") for info in tar]

    def pack(self, members: list[Member], handle: str = OLD) -> None:
        """Replaces the members of an artifact's archive."""
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for info, content in members:
                tar.addfile(info, io.BytesIO(content))
        self.files[self.path("archive", handle)] = gzip.compress(packed.getvalue(), mtime=0)

    def put(self, name: str, content: bytes | None, handle: str = OLD) -> None:
        """Adds a file to an archive in the right order, or removes it. The manifest stays as it is."""
        members = {info.name: (info, old) for info, old in self.members(handle)}
        members.pop(name, None)
        if content is not None:
            members[name] = member(name, content)
        self.pack([members[name] for name in sorted(members)], handle)

    def edit_manifest(self, change: Callable[[Any], object], handle: str = OLD) -> None:
        """Changes the manifest in an archive."""
        [manifest] = [content for info, content in self.members(handle) if info.name == "hubexport.json"]
        facts = json.loads(manifest)
        change(facts)
        self.put("hubexport.json", as_json(facts), handle)

    def edit_graph(self, handle: str = OLD, **facts: Any) -> None:
        """Changes what an artifact's report and its entry in the index say of its graph."""
        self.record(handle)["checks"].update(facts)
        self.edit_json("verification", lambda report: report.update(facts), handle)

    def bill(self) -> str:
        """Returns the path of the bill of materials."""
        return str(self.record()["sbom"]["path"])

    def bill_of(self, content: bytes) -> None:
        """Replaces the bill of materials, and its name and digest everywhere."""
        old, sha256 = self.record()["sbom"], hashlib.sha256(content).hexdigest()
        new = {"path": f"sbom-{sha256[:12]}.cdx.json", "sha256": sha256, "bytes": len(content)}
        del self.files[old["path"]]
        self.files[new["path"]] = content
        for record in self.index["artifacts"]:
            record["sbom"] = dict(new)
            for name in ("path", "sha256"):
                self.edit_text("provenance", old[name], new[name], record["handle"])
        self.seal()

    def edit_publisher(self, content: bytes) -> None:
        """Replaces the page of the only publisher."""
        [page] = self.index["publishers"]
        self.files[page["path"]] = content
        page.update(sha256=hashlib.sha256(content).hexdigest(), bytes=len(content))

    def seal(self) -> None:
        """Updates all digests and sizes in the index, and digests and sizes of archives in the other files."""
        for record in self.index["artifacts"]:
            for role, file in record["files"].items():
                content = self.files.get(file["path"])
                if content is None:
                    continue
                sha256 = hashlib.sha256(content).hexdigest()
                for later in (record["files"][name]["path"] for name in _SUFFIXES if name != "archive"):
                    if later in self.files:
                        text = self.files[later].replace(file["sha256"].encode(), sha256.encode())
                        if role == "archive":
                            text = text.replace(f"{file['bytes']:,} bytes".encode(), f"{len(content):,} bytes".encode())
                        self.files[later] = text
                file.update(sha256=sha256, bytes=len(content))

    def written(self, folder: Path) -> Path:
        """Writes the release, with records and SHA256SUMS that agree with the index, and returns the folder."""
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
    """Makes modules and the bill of materials tiny, so that checks take almost no time."""
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
        release.edit_graph(handle, graph_sha256=digests["saved_model.pb"])
    release.seal()
    installation, _ = rewritten(json.loads(release.files[release.bill()]))
    packages = {name: installation.packages[name] for name in ("numpy", "deflate", "cyclonedx-python-lib")}
    release.bill_of(sbom_document(dataclasses.replace(installation, packages=packages)))

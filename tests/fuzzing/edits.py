"""Ways to damage a file: its bytes, or its content with correct lengths and checksums.

Each edit takes the file's content and a source of random numbers, and returns the damaged content. Edits of bytes
alone rarely get past a checksum. The other edits reach the code behind it, and raise for content they cannot parse.
"""

from collections.abc import Callable
import gzip
import io
import json
from random import Random
import struct
from typing import Any
import zipfile

from hubexport.checkpoints.leveldb_table import LeveldbTable, table_bytes
from hubexport.system.crc32c import masked_crc32c

Edit = Callable[[bytes, Random], bytes]

# Tokens that trip parsers of text.
_TOKENS = (
    *("", "\0", "\x1b[31m", "\n", "\r\n", "\t", "\u2028", "\u202e", "\ud800", "é", "x" * 300),
    *("null", "true", "~", "-1", "0", "1e999", ".nan", "-.inf", "NaN", "Infinity", "1" * 20, "9" * 5000, "2001-02-03"),
    *("0x" + "f" * 5000, "0b" + "1" * 20000, "!!binary x", "!!python/object:os.system", "&a [*a]", "*a", "<<: *a"),
    *("{", "}", "[", "]", "[" * 2000, ":", "- ", "? ", "'", '"', "#", "%", "|", ">"),
    *("../..", "/dev/zero", "/dev/null"),
)
# Values that trip readers of JSON.
_VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 2**31, 2**63, -(2**63) - 1, 10**400, 0.5, -0.0, 1e308, float("nan"), float("inf"), "",
    "\0", "x\ny", "\x1b[31m", "\ud800", "x" * 300, "../x", "/dev/zero", [], {}, [[]], [None], {"": None}, [1, 2, 3],
)  # fmt: skip
_NUMBERS = (0, 1, 2, 127, 128, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64 - 1)


def edit_bytes(content: bytes, random: Random) -> bytes:
    """Overwrites, cuts, repeats, inserts and swaps bytes in one to four places."""
    damaged = bytearray(content)
    for _ in range(random.randint(1, 4)):
        place = random.randrange(len(damaged) + 1)
        length = random.choice((1, 2, 4, 8, 16, 64, 500))
        what = random.randrange(7)
        if what == 0:
            damaged[place : place + 1] = bytes([random.randrange(256)])
        elif what == 1 and damaged:
            place = random.randrange(len(damaged))
            damaged[place] ^= 1 << random.randrange(8)
        elif what == 2:
            damaged[place : place + length] = b""
        elif what == 3:
            damaged[place:place] = damaged[place : place + length]
        elif what == 4:
            damaged[place : place + length] = random.randbytes(length)
        elif what == 5:
            width, number = random.choice((1, 2, 4, 8)), random.choice(_NUMBERS)
            damaged[place : place + width] = (number % 256**width).to_bytes(width, "little")
        elif random.random() < 0.3:
            del damaged[place:]
    return bytes(damaged)


def edit_start(content: bytes, random: Random) -> bytes:
    """Damages the first 4,000 bytes, where formats keep their headers."""
    return edit_bytes(content[:4000], random) + content[4000:]


def edit_text(content: bytes, random: Random) -> bytes:
    """Inserts tokens that trip parsers, or replaces a word or a line with them."""
    text = content.decode()
    for _ in range(random.randint(1, 3)):
        lines = text.split("\n")
        number = random.randrange(len(lines))
        line, token = lines[number], random.choice(_TOKENS)
        what = random.randrange(5)
        if what == 0:
            key, colon, _ = line.partition(":")
            lines[number] = f"{key}{colon} {token}"
        elif what == 1:
            place = random.randrange(len(line) + 1)
            lines[number] = line[:place] + token + line[place:]
        elif what == 2:
            lines.insert(number, random.choice(lines))
        elif what == 3:
            del lines[number]
        else:
            lines[number] = token
        text = "\n".join(lines)
    return text.encode(errors="surrogatepass")


def edit_json(content: bytes, random: Random) -> bytes:
    """Changes, removes, adds and moves values of a JSON document."""
    document = json.loads(content)
    for _ in range(random.randint(1, 3)):
        document = _with_another_value(document, random)
    return json.dumps(document).encode()


def _with_another_value(value: Any, random: Random) -> Any:
    if isinstance(value, dict) and value and random.random() < 0.9:
        key = random.choice(sorted(value))
        what = random.randrange(12)
        if what == 0:
            return {other: item for other, item in value.items() if other != key}
        if what == 1:
            return {**value, random.choice(("", "x", "\n", "\ud800", key.upper())): value[key]}
        if what == 2:
            return {**value, key: value[random.choice(sorted(value))]}
        return {**value, key: _with_another_value(value[key], random)}
    if isinstance(value, list) and value and random.random() < 0.9:
        number = random.randrange(len(value))
        return [*value[:number], _with_another_value(value[number], random), *value[number + 1 :]]
    if isinstance(value, int) and random.random() < 0.5:
        return random.choice(_NUMBERS)
    return random.choice(_VALUES)


def edit_table(content: bytes, random: Random) -> bytes:
    """Damages an entry of a LevelDB table of one block, and writes the table with correct checksums."""
    entries = list(LeveldbTable(io.BytesIO(content)).entries(len(content)))
    for _ in range(random.randint(1, 2)):
        number = random.randrange(len(entries))
        key, value = entries[number]
        what = random.randrange(8)
        if what == 0:
            entries[number] = (edit_bytes(key, random), value)
        elif what == 1:
            entries[number] = (key, random.choice(entries)[1])
        elif what == 2 and len(entries) > 1:
            del entries[number]
        elif what == 3:
            entries.insert(number, (key + b"x", value))
        else:
            entries[number] = (key, edit_bytes(value, random))
    # Readers refuse keys out of order at once.
    return table_bytes(sorted(entries) if random.random() < 0.9 else entries)


def edit_safetensors(content: bytes, random: Random) -> bytes:
    """Damages the header of a safetensors file, and corrects its length."""
    (length,) = struct.unpack_from("<Q", content)
    header = edit_json(content[8 : 8 + length], random)
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def edit_records(content: bytes, random: Random) -> bytes:
    """Damages the first record of a TFRecord file, and corrects its length and checksums."""
    (length,) = struct.unpack_from("<Q", content)
    record = edit_bytes(content[12 : 12 + length], random)
    header = struct.pack("<Q", len(record))
    checksums = [struct.pack("<I", masked_crc32c(data)) for data in (header, record)]
    return header + checksums[0] + record + checksums[1] + content[16 + length :]


def edit_gzipped(content: bytes, random: Random) -> bytes:
    """Damages the content of a gzipped file."""
    return gzip.compress(edit_start(gzip.decompress(content), random), 1, mtime=0)


def edit_zipped(content: bytes, random: Random) -> bytes:
    """Damages a member of a zip archive, or its entry in the archive."""
    packed = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as archive, zipfile.ZipFile(packed, "w") as damaged:
        members = [(info, archive.read(info)) for info in archive.infolist()]
        number = random.randrange(len(members))
        info, inside = members[number]
        what = random.randrange(5)
        if what == 0:
            edit = edit_json if inside.startswith(b"{") and len(inside) > 2 else edit_bytes
            members[number] = (info, edit(inside, random))
        elif what == 1:
            members[number] = (info, edit_bytes(inside, random))
        elif what == 2:
            del members[number]
        elif what == 3:
            members.append((zipfile.ZipInfo(edit_bytes(info.filename.encode(), random).decode("latin-1")), inside))
        kinds = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
        kind = random.choice(kinds)
        for member, inside in members:
            damaged.writestr(member.filename, inside, compress_type=kind)
    return edit_bytes(packed.getvalue(), random) if what == 4 else packed.getvalue()

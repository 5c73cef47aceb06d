"""The directories of a TIFF file, bounded before a decoder turns their entries into lists of numbers."""

from struct import calcsize, iter_unpack, unpack_from

from oodgate.errors import InvalidImage

_MOST_ENTRIES = 4096
_MOST_VALUES = 100_000
_MOST_DIRECTORIES = 8

_POINTERS = (34665, 34853, 40965)  # EXIF, GPS, interoperability: read together with the directory that names them
_NUMBER_SIZES = {3: 2, 4: 4, 5: 8, 6: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8}  # by TIFF's code of the type


def check_directories(data: bytes) -> None:
    """Raise InvalidImage where the directories of a TIFF's first picture hold more numbers than any picture needs."""
    order, big = "<" if data.startswith(b"II") else ">", data[2:3] == b"+"
    pending, seen, values = [_first(data, order, big)], set[int](), 0
    while pending:
        offset = pending.pop()
        if offset in seen:
            continue
        seen.add(offset)
        for tag, kind, count, inline in _entries(data, offset, order, big):
            size = count * _NUMBER_SIZES.get(kind, 0)
            values += count if 0 < size <= len(data) else 0
            if tag in _POINTERS:
                pending.append(_number(inline, order, kind))
        if values > _MOST_VALUES or len(seen) > _MOST_DIRECTORIES:
            raise InvalidImage(
                f"the TIFF's directories hold more than {_MOST_VALUES} numbers; save it in larger strips"
            )


def _first(data: bytes, order: str, big: bool) -> int:
    return _number(data[8:16] if big else data[4:8], order, 16 if big else 4)


def _entries(data: bytes, offset: int, order: str, big: bool) -> list[tuple[int, int, int, bytes]]:
    """Tag, type, count, and the bytes of value or offset; of a directory out of the file nothing."""
    head, entry = (order + "Q", order + "HHQ8s") if big else (order + "H", order + "HHL4s")
    start, size = offset + calcsize(head), calcsize(entry)
    if start > len(data):
        return []
    (count,) = unpack_from(head, data, offset)
    if count > _MOST_ENTRIES:
        raise InvalidImage(
            f"a directory of the TIFF has {count} entries, at most {_MOST_ENTRIES} are taken; save it anew"
        )
    there = min(count, (len(data) - start) // size)
    return list(iter_unpack(entry, data[start : start + there * size]))


def _number(value: bytes, order: str, kind: int) -> int:
    size = min(len(value), _NUMBER_SIZES.get(kind, len(value)))
    return int.from_bytes(value[:size], "little" if order == "<" else "big")

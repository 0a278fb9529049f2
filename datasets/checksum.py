"""Checksum: the number by which a value of a pack is known again each time that it is read.

A pack's digest says once, when a search begins, that its files are what was written; mapped files can change after
that, under a search that reads them for days. CRC-32 of all bytes would take 80 us of a picture of 256 px; so the bytes
are first added up page by page, which takes 11 us in all.
"""

import zlib

import numpy as np

PAGE_BYTES = 4096


def checksum(value: np.ndarray | str) -> int:
    """CRC-32 of the sums of the value's pages, each as 64-bit little-endian words modulo 2**64, and of the rest of its
    bytes; of a string's UTF-8. Arrays are C-contiguous.

    A change of one word of a page is always one of its sum. Words that change places within a page are not seen.
    """
    if isinstance(value, str):
        return zlib.crc32(value.encode())
    raw = value.reshape(-1).view(np.uint8)
    paged = raw.size - raw.size % PAGE_BYTES
    crc = zlib.crc32(raw[paged:].data)
    if paged:
        sums = np.add.reduce(raw[:paged].view("<u8").reshape(-1, PAGE_BYTES // 8), axis=1, dtype="<u8")
        crc = zlib.crc32(sums.data, crc)
    return crc

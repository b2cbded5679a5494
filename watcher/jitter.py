"""Jitter that tests can foresee: a number in [0, 1) that is the same for the same parts. Pure."""

from hashlib import blake2b


def fraction(*parts: str | int) -> float:
    """Return the number that belongs to ``parts``.

    Not a checksum: those of ids that differ in one digit lie close together.
    """
    text = "/".join(map(str, parts))
    return int.from_bytes(blake2b(text.encode(), digest_size=4).digest()) / 2**32

"""Keccak-256 with the original padding, which Ethereum uses; hashlib has only the later standard's (SHA-3).

After the Keccak reference, version 3.0: rate 1088 bits, capacity 512. Only for short messages; some 0.5 ms for each
136 bytes.
"""

from __future__ import annotations

_RATE = 136  # bytes
_MASK = (1 << 64) - 1


def _rotate(value: int, count: int) -> int:
    count %= 64
    return ((value << count) | (value >> (64 - count))) & _MASK if count else value


def _round_constants() -> tuple[int, ...]:
    constants, register = [], 1
    for _ in range(24):
        constant = 0
        for bit in range(7):
            if register & 1:
                constant |= 1 << ((1 << bit) - 1)
            register = (register << 1) ^ (0x171 if register & 0x80 else 0)
        constants.append(constant)
    return tuple(constants)


_CONSTANTS = _round_constants()


def _permute(lanes: list[list[int]]) -> None:
    """Keccak-f[1600] on lanes[x][y], in place."""
    for constant in _CONSTANTS:
        parity = [row[0] ^ row[1] ^ row[2] ^ row[3] ^ row[4] for row in lanes]
        for x in range(5):
            mix = parity[x - 1] ^ _rotate(parity[(x + 1) % 5], 1)
            lanes[x] = [lane ^ mix for lane in lanes[x]]
        x, y, current = 1, 0, lanes[1][0]
        for step in range(24):
            x, y = y, (2 * x + 3 * y) % 5
            current, lanes[x][y] = lanes[x][y], _rotate(current, (step + 1) * (step + 2) // 2)
        for y in range(5):
            row = [lanes[x][y] for x in range(5)]
            for x in range(5):
                lanes[x][y] = row[x] ^ (~row[(x + 1) % 5] & row[(x + 2) % 5] & _MASK)
        lanes[0][0] ^= constant


def keccak_256(message: bytes) -> bytes:
    """The 32-byte digest."""
    padded = bytearray(message + b"\x01" + bytes(-len(message) % _RATE or _RATE))[: (len(message) // _RATE + 1) * _RATE]
    padded[-1] |= 0x80
    lanes = [[0] * 5 for _ in range(5)]
    for at in range(0, len(padded), _RATE):
        for lane in range(_RATE // 8):
            lanes[lane % 5][lane // 5] ^= int.from_bytes(padded[at + 8 * lane : at + 8 * lane + 8], "little")
        _permute(lanes)
    return b"".join(lanes[lane % 5][lane // 5].to_bytes(8, "little") for lane in range(4))

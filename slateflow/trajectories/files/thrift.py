"""Thrift's compact protocol, as far as Parquet's headers and footers need it.

The encoding is described in Thrift's `thrift-compact-protocol.md`. A struct is a dict from field
numbers, in rising order, to values; a field that is absent is left out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

_I32, _I64, _BINARY, _LIST, _STRUCT = 5, 6, 8, 9, 12


@dataclass(frozen=True)
class I64:
    """A whole number of 64 bits; a plain `int` is one of 32."""

    value: int


Struct: TypeAlias = "dict[int, Value]"
Value: TypeAlias = "int | I64 | bytes | list[Value] | Struct"


def encode(struct: Struct) -> bytes:
    """The bytes of a struct.

    Example:
        >>> encode({1: 3, 4: b"x"}).hex()
        '150638017800'
    """
    encoded, last = bytearray(), 0
    for number, value in struct.items():
        kind = _kind(value)
        if number - last < 16:
            encoded.append((number - last) << 4 | kind)
        else:  # pragma: no cover - no struct of Parquet's has such a gap
            encoded.append(kind)
            encoded += varint(_zigzag(number))
        encoded += _value(value)
        last = number
    return bytes(encoded) + b"\0"


def _kind(value: Value) -> int:
    match value:
        case int():
            return _I32
        case I64():
            return _I64
        case bytes():
            return _BINARY
        case list():
            return _LIST
        case dict():
            return _STRUCT


def _value(value: Value) -> bytes:
    match value:
        case int():
            return varint(_zigzag(value))
        case I64(number):
            return varint(_zigzag(number))
        case bytes():
            return varint(len(value)) + value
        case list():
            kind, count = _kind(value[0]), len(value)
            head = bytes([count << 4 | kind]) if count < 15 else bytes([0xF0 | kind])
            head += varint(count) if count >= 15 else b""
            return head + b"".join(_value(one) for one in value)
        case dict():
            return encode(value)


def _zigzag(number: int) -> int:
    return number << 1 if number >= 0 else (-number << 1) - 1


def varint(number: int) -> bytes:
    """A whole number from 0, seven bits a byte, the lowest first."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)

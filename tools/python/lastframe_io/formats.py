"""What the files of Last Frame are made of: CRC-32C, protobuf messages on disk, protobuf text, tensors in
safetensors files. Not a protobuf library: fields are numbers, and enums are their names.

Whatever is wrong with a file is a DataError: one sentence with the object, the fact and what to do.
"""
import contextlib
import json
import os
import re
import struct

import numpy as np


class DataError(ValueError):
    """A file or a request that cannot be used, in one sentence."""


# --- CRC-32C (Castagnoli) -----------------------------------------------------------------------------

BLOCK = 256  # bytes whose checksums NumPy computes side by side


def _crc_tables():
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> 1) ^ np.uint32(0x82F63B78), table >> 1)
    # after[k][b]: what byte b leaves in the register once k zero bytes have followed it.
    after = [table]
    for _ in range(BLOCK + 2):
        after.append(table[after[-1] & 0xFF] ^ (after[-1] >> 8))
    # A block's bytes have BLOCK - 1, ..., 0 bytes behind them; the register's four bytes, passed on
    # over a block, have one to four fewer than BLOCK.
    within = np.concatenate(after[BLOCK - 1::-1])
    over = [after[BLOCK - 1 - i].tolist() for i in range(4)]
    return table.tolist(), within, over


TABLE, WITHIN, OVER = _crc_tables()
PLACES = np.arange(BLOCK) * 256  # of a byte's 256 values in WITHIN


def crc32c(data):
    """The CRC-32C of bytes or of a contiguous array; of b"123456789" it is 0xe3069283."""
    data = np.frombuffer(data, np.uint8) if not isinstance(data, np.ndarray) else data.reshape(-1).view(np.uint8)
    whole = len(data) // BLOCK * BLOCK
    crc = 0xFFFFFFFF
    for first in range(0, whole, 1 << 16):  # what fits a cache
        blocks = data[first:min(whole, first + (1 << 16))].reshape(-1, BLOCK)
        for block in np.bitwise_xor.reduce(WITHIN.take(blocks + PLACES), axis=1).tolist():
            crc = (OVER[0][crc & 0xFF] ^ OVER[1][crc >> 8 & 0xFF] ^ OVER[2][crc >> 16 & 0xFF]
                   ^ OVER[3][crc >> 24] ^ block)
    for byte in data[whole:].tolist():
        crc = TABLE[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    return crc ^ 0xFFFFFFFF


# --- files ----------------------------------------------------------------------------------------------


def read_bytes(path, what, limit):
    """All of a file of at most `limit` bytes."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size > limit:
                raise DataError(f"{what} {path} has more than {limit:,} bytes, which none of ours has; "
                                "give one that lastframe wrote")
            return file.read(limit)
    except OSError as error:
        raise DataError(f"{what} {path} cannot be read ({error.strerror}); give one that lastframe wrote") from None


def read_json(path, what):
    try:
        return json.loads(read_bytes(path, what, 1 << 24))
    except (ValueError, RecursionError) as error:
        raise error if isinstance(error, DataError) else DataError(
            f"{what} {path} is no JSON; copy it again, or take another run") from None


# --- protobuf on disk -----------------------------------------------------------------------------------


def _varint(data, at):
    value = 0
    for shift in range(0, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFFFFFFFFFFFFFF, at
    raise IndexError


class Message:
    """A protobuf message, whose fields are asked for by number and as what they must be. `what` names it in errors."""

    def __init__(self, data, what):
        self.what, self._fields, at = what, {}, 0
        try:
            while at < len(data):
                key, at = _varint(data, at)
                if key & 7 == 0:
                    value, at = _varint(data, at)
                else:
                    length, at = _varint(data, at) if key & 7 == 2 else ({1: 8, 5: 4}[key & 7], at)
                    if length > len(data) - at:
                        raise IndexError
                    value, at = data[at:at + length], at + length
                    if key & 7 != 2:
                        value = int.from_bytes(value, "little")
                self._fields.setdefault(key >> 3, []).append(value)
        except (IndexError, KeyError):
            raise self._bad(f"it ends within a field, at byte {at}") from None

    def _bad(self, fact):
        return DataError(f"{self.what} is damaged or hostile: {fact}; run `lastframe verify STORE --repair`")

    def _values(self, field, kind):
        values = self._fields.get(field, [])
        if not all(isinstance(value, kind) for value in values):
            raise self._bad(f"field {field} is of another type")
        return values

    def integer(self, field, name, low=0, high=2**64 - 1):
        value = (self._values(field, int) or [0])[-1]
        if not low <= value <= high:
            raise self._bad(f"{name} is {value:,}, expected one in [{low:,}, {high:,}]")
        return value

    def text(self, field):
        return (self.texts(field) or [""])[-1]

    def texts(self, field):
        return [value.decode(errors="replace") for value in self._values(field, bytes)]

    def messages(self, field, what):
        return [Message(value, f"{self.what}, {what} {i}") for i, value in enumerate(self._values(field, bytes))]

    def packed(self, field):
        """The numbers of a packed repeated field."""
        numbers = []
        for data in self._values(field, bytes):
            at = 0
            while at < len(data):
                try:
                    number, at = _varint(data, at)
                except IndexError:
                    raise self._bad(f"field {field} ends within a number") from None
                numbers.append(number)
        return numbers


# --- protobuf text --------------------------------------------------------------------------------------


class Config(dict):
    """Options as they are in a config: config.model.unet.width, or config["model"]["unet"]["width"]."""

    def __getattr__(self, name):
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"there is no {name} among {', '.join(self) or 'nothing'}; "
                                 "`lastframe list options` has them all") from None


TOKEN = re.compile(r'\s*(?:#[^\n]*\n\s*)*(?:([A-Za-z_]\w*)|([-+]?(?:[\d.][\w.+-]*|inf|nan))|"((?:[^"\\\n]|\\.)*)"'
                   r"|([{}\[\]:,;])|$)")
ESCAPE = re.compile(rb'\\(?:([0-7]{1,3})|x([0-9a-fA-F]{1,2})|(.))', re.DOTALL)
LETTERS = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}
WORD, NUMBER, STRING, SIGN = range(1, 5)  # groups of TOKEN
MOST_LEVELS = 64


def _text(quoted):
    def plain(match):
        octal, hexadecimal, letter = match.groups()
        if letter is not None:
            return LETTERS.get(letter, letter)
        return bytes([(int(octal, 8) if octal else int(hexadecimal, 16)) & 0xFF])
    return ESCAPE.sub(plain, quoted.encode()).decode(errors="replace")


class _Parser:
    def __init__(self, text, what):
        self._what, self._tokens = what, self._words(text + "\n")

    def _words(self, text):
        at = 0
        while at < len(text):
            found = TOKEN.match(text, at)
            if not found:
                raise DataError(f"{self._what} is no protobuf text at character {at}; take it as lastframe wrote it")
            at = found.end()
            if found.lastindex:
                yield found.lastindex, found.group(found.lastindex)

    def bad(self, where):
        return DataError(f"{self._what} is no protobuf text near {where[:40]!r}; take it as lastframe wrote it")

    def _next(self):
        return next(self._tokens, (0, "the end"))

    def fields(self, level=0):
        """The fields up to the closing brace, or to the end."""
        found = Config()
        while True:
            kind, name = self._next()
            if kind == SIGN and name in ",;":
                continue
            if (kind == SIGN and name == "}") if level > 0 else kind == 0:
                return found
            if kind != WORD:
                raise self.bad("the end, where a } is missing" if kind == 0 else name)
            kind, word = self._next()
            if kind == SIGN and word == ":":
                kind, word = self._next()
            value = self.value(kind, word, level)
            if name in found:  # a repeated field
                old = found[name] if isinstance(found[name], list) else [found[name]]
                value = old + (value if isinstance(value, list) else [value])
            found[name] = value

    def value(self, kind, word, level):
        if level > MOST_LEVELS:
            raise self.bad(f"more than {MOST_LEVELS} levels of braces")
        if kind == SIGN and word == "{":
            return self.fields(level + 1)
        if kind == SIGN and word == "[":
            values = []
            while True:
                kind, word = self._next()
                if kind == SIGN and word == "]":
                    return values
                if (kind, word) != (SIGN, ","):
                    values.append(self.value(kind, word, level + 1))
        if kind == WORD:
            return {"true": True, "false": False}.get(word, word)
        if kind == STRING:
            return _text(word)
        if kind == NUMBER:
            for number in (int, float):
                with contextlib.suppress(ValueError):
                    return number(word)
        raise self.bad(word)


def parse_text(text, what):
    """A message in protobuf's text format as a Config. A field that appears more than once is a list."""
    return _Parser(text, what).fields()


# --- tensors --------------------------------------------------------------------------------------------

TYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "BF16": "<u2", "BOOL": "?",
         "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1", "U8": "u1"}


class TensorFile:
    """The tensors of a safetensors file by name, read when they are asked for."""

    def __init__(self, path, what="the file"):
        from safetensors import SafetensorError, safe_open
        self.path, self.what = os.fspath(path), what
        try:
            with safe_open(self.path, framework="numpy") as file:  # checks every length and offset
                self.metadata = file.metadata() or {}
            self._bytes = np.memmap(self.path, np.uint8, mode="r")
        except (OSError, SafetensorError) as error:
            raise DataError(f"{what} {path} is no safetensors file ({error}); copy it again, or export it "
                            "again") from None
        length = struct.unpack("<Q", self._bytes[:8].tobytes())[0]
        self._begin = 8 + length
        self._entries = json.loads(self._bytes[8:8 + length].tobytes())
        self._entries.pop("__metadata__", None)

    def names(self):
        return sorted(self._entries)

    def raw(self, name):
        """The bytes of a tensor, as an array that is not copied."""
        if name not in self._entries:
            raise DataError(f"{self.what} {self.path} has no tensor {name}; names() lists the "
                            f"{len(self._entries)} it has")
        begin, end = self._entries[name]["data_offsets"]
        return self._bytes[self._begin + begin:self._begin + end]

    def tensor(self, name):
        """A tensor as an array of its own; bf16 as float32."""
        raw, entry = self.raw(name), self._entries[name]
        if entry["dtype"] not in TYPES:
            raise DataError(f"tensor {name} of {self.path} is of type {entry['dtype']}, expected one of "
                            f"{', '.join(TYPES)}; export it with another --dtype")
        array = np.array(raw).view(TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":  # the upper 16 bits of a float32
            array = (array.astype("<u4") << 16).view("<f4")
        return array.reshape(entry["shape"])

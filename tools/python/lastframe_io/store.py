"""Stores of clips (data/store/README.md) as data sets, read as the program reads them: by the addresses in the
index, every part checked against its checksum. No HDF5 is needed.

A STORED store gives whole clips. A RECOMPUTED store holds only images and the recipe that makes the other frames
of them; its arithmetic is specified to the bit by the program and not repeated here, so that clips of such a
store have one frame, the image. `lastframe export STORE --npy` writes all frames.
"""
import math
import os
import re
import warnings
from collections import namedtuple

import numpy as np

from .formats import DataError, Message, crc32c, read_bytes

FORMAT, MAGIC = 1, b"LFSTORE1"
STORED, RECOMPUTED = "STORED", "RECOMPUTED"
INT64, FLOAT, TEXT = "INT64", "FLOAT", "TEXT"
LARGEST_INDEX, MOST_CLIPS, LONGEST_TEXT = 1 << 30, 1 << 24, 1 << 20  # the program's own bounds
LARGEST_FRAME, LARGEST_CLIP = 1 << 26, 1 << 32
REPAIR = "run `lastframe verify STORE --repair`"

Clip = namedtuple("Clip", "frames label name columns")


class Store:
    """A store as a map-style data set: len(store), and store[i], a Clip of

    frames   [T, H, W, C]; uint8 grey levels or, where a recipe leaves their range, float16 x = grey / 127.5 - 1
             (the image too, whose grey levels follow by rounding)
    label    class, -1 for none
    name     of the item in the source
    columns  side columns by name: an array, or a string

    `draw` chooses the version of random corruptions. A process opens a shard when it first reads it, so that
    the workers of a torch.utils.data.DataLoader share nothing.
    """

    def __init__(self, path, draw=0):
        self.path = os.fspath(path)
        index = _checked_index(self.path)
        if index.integer(1, "format") > FORMAT:
            raise DataError(f"store {self.path} has format {index.integer(1, 'format')}, this package reads up to "
                            f"{FORMAT}; use a newer one")
        self.id, self.recipe, self.label_names = index.text(2), index.text(11), index.texts(12)
        self.mode = (STORED, RECOMPUTED)[index.integer(3, "mode", 0, 1)]
        self.clip_shape = tuple(index.integer(field, name, 1, high) for field, name, high in (
            (4, "frames", 4096), (5, "height", 65536), (6, "width", 65536), (7, "channels", 64)))
        self.draws = index.integer(9, "draws", self.mode == STORED, 1024 if self.mode == STORED else 65536)
        self.columns = _columns(index)
        self._layout = _Layout(self, index.integer(8, "element_bytes", 1, 2))
        self._records = [_record(message, self._layout) for message in index.messages(15, "record of shard")]
        self._ends = np.cumsum([record["clips"] for record in self._records], dtype=np.int64)
        if not self._records:
            raise DataError(f"store {self.path} has no shards; give one that `lastframe build` finished")
        if not 0 <= draw < max(1, self.draws):
            raise DataError(f"draw {draw} of store {self.path} is asked for, expected 0 to {max(1, self.draws) - 1}; "
                            "a store keeps store.draws of them")
        self.draw = draw
        self._shards, self._process = {}, None
        if self.mode == RECOMPUTED and self.clip_shape[0] > 1:
            warnings.warn(f"store {self.path} is RECOMPUTED: of each clip it holds the image, its last frame, and "
                          "only the program makes the others (`lastframe export STORE --npy`)", stacklevel=2)

    def __len__(self):
        return int(self._ends[-1])

    def __getitem__(self, i):
        if not -len(self) <= i < len(self):
            raise IndexError(f"clip {i} of store {self.path} is asked for, which has {len(self)}")
        i %= len(self)
        number = int(np.searchsorted(self._ends, i, side="right"))
        if self._process != os.getpid():
            self._shards, self._process = {}, os.getpid()
        if number not in self._shards:
            self._shards[number] = _Shard(self.path, number, self._records[number], self._layout)
        shard = self._shards[number]
        row = i - int(self._ends[number] - self._records[number]["clips"])
        columns = {name: shard.text(row, f"side.{name}", f"side.{name}") if kind == TEXT
                   else shard.checked(row, f"side.{name}", f"side.{name}")
                   for name, (kind, _) in self.columns.items()}
        return Clip(self._frames(shard, row), int(shard.labels[row]), shard.text(row, "names", "name"), columns)

    def __getstate__(self):
        return {**self.__dict__, "_shards": {}, "_process": None}

    def _frames(self, shard, row):
        if self.mode == RECOMPUTED:
            return shard.checked(row, "images", "image")[None]
        held = shard.arrays["frames"][row]
        clip = np.array(held[self.draw] if self.draws > 1 else held)
        count = self.clip_shape[0] - 1  # of corrupted frames
        if count:
            shard.check(row, f"frames.{self.draw}", clip[:count])
        if self._layout.whole:
            shard.check(row, "image", clip[count])
            return clip
        image = shard.checked(row, "images", "image")
        return np.concatenate([clip, (image / np.float32(127.5) - 1).astype(np.float16)[None]])


class _Layout:
    """The datasets of every shard in the order of their addresses, name -> (type, shape of a row), and the columns
    of the table of checksums."""

    def __init__(self, store, element_bytes):
        frames, *image = store.clip_shape
        held = store.draws if store.mode == STORED else 0
        self.whole = held > 0 and (element_bytes == 1 or frames == 1)  # the image follows the frames
        clip = math.prod(image) * frames * element_bytes * max(1, held)
        if math.prod(image) > LARGEST_FRAME or clip > LARGEST_CLIP:
            raise DataError(f"the index of store {store.path} is damaged or hostile: a clip has {clip:,} bytes, "
                            f"expected at most {LARGEST_CLIP:,}; {REPAIR}")
        sides = [f"side.{name}" for name in store.columns]
        self.checks = {name: i for i, name in enumerate(
            ["image", *(f"frames.{d}" for d in range(held)), "name", *sides])}
        self.datasets = {"crc": ("<u4", [len(self.checks)]), "items": ("<u8", []), "labels": ("<i8", [])}
        if held:
            row = [frames if self.whole else frames - 1, *image]
            self.datasets["frames"] = ("u1" if self.whole else "<f2", [held, *row] if held > 1 else row)
        if not self.whole:
            self.datasets["images"] = ("u1", image)
        for name, (kind, width) in {"names": (TEXT, 0), **dict(zip(sides, store.columns.values()))}.items():
            if kind == TEXT:
                self.datasets[f"{name}.offsets"], self.datasets[f"{name}.bytes"] = ("<u8", []), ("u1", [])
            else:
                self.datasets[name] = ("<i8" if kind == INT64 else "<f4", [width])


def _columns(index):
    columns = {}
    for column in index.messages(13, "column"):
        name, kind = column.text(1), (INT64, FLOAT, TEXT)[column.integer(2, "kind", 0, 2)]
        if not re.fullmatch(r"[\w-]{1,64}", name, re.ASCII):
            raise DataError(f"{column.what} is damaged or hostile: it is named {name[:40]!r}; {REPAIR}")
        columns[name] = (kind, column.integer(3, "width", 1, 1 << 20))
    return columns


def _record(message, layout):
    """Clips, bytes and the places of all datasets of a shard, none of which ends beyond its file."""
    record = {"clips": message.integer(1, "clips", 0, MOST_CLIPS), "bytes": message.integer(3, "bytes", 0, 1 << 56),
              "table_crc": message.integer(5, "table_crc"), "places": {}}
    addresses, texts = message.packed(6), message.packed(7)
    names = list(layout.datasets)
    if len(addresses) != len(names) or len(texts) != sum(name.endswith(".bytes") for name in names):
        raise DataError(f"{message.what} is damaged or hostile: it has {len(addresses)} datasets, expected "
                        f"{len(names)}; {REPAIR}")
    for name, address in zip(names, addresses):
        kind, row = layout.datasets[name]
        rows = texts.pop(0) if name.endswith(".bytes") else record["clips"] + name.endswith(".offsets")
        end = address + rows * math.prod(row) * np.dtype(kind).itemsize
        if end > record["bytes"]:
            raise DataError(f"{message.what} is damaged or hostile: {name} ends beyond the file's "
                            f"{record['bytes']:,} bytes; {REPAIR}")
        record["places"][name] = (address, end, rows)
    return record


class _Shard:
    """One file mapped into memory, with its table of checksums and labels."""

    def __init__(self, store, number, record, layout):
        path = os.path.join(store, "shards", f"{number:05d}.h5")
        self.name, self._checks = f"store {store}, shard {number:05d}.h5", layout.checks
        try:
            size = os.stat(path).st_size
            if size != record["bytes"]:
                raise DataError(f"{self.name} has {size:,} bytes, the index says {record['bytes']:,}; {REPAIR}")
            data = np.memmap(path, np.uint8, mode="r")
        except OSError as error:
            raise DataError(f"{self.name} cannot be read ({error.strerror}); {REPAIR}") from None
        self.arrays = {}
        for name, (kind, row) in layout.datasets.items():
            begin, end, rows = record["places"][name]
            self.arrays[name] = data[begin:end].view(kind).reshape([rows, *row])
        table = [np.array(self.arrays[name]) for name in ("crc", "items", "labels")]
        if crc32c(b"".join(part.tobytes() for part in table)) != record["table_crc"]:
            raise DataError(f"{self.name}: its checksums, items and labels do not match the index; {REPAIR}")
        self._crc, _, self.labels = table

    def check(self, row, part, data):
        if crc32c(data) != self._crc[row, self._checks[part]]:
            raise DataError(f"{self.name}, row {row}: the checksum of its {part} is wrong, flipped bits; {REPAIR}")

    def checked(self, row, dataset, part):
        """A row of a dataset, as an array of its own."""
        data = np.array(self.arrays[dataset][row])
        self.check(row, part, data)
        return data

    def text(self, row, dataset, part):
        begin, end = (int(at) for at in self.arrays[f"{dataset}.offsets"][row:row + 2])
        data = self.arrays[f"{dataset}.bytes"]
        if not begin <= end <= len(data) or end - begin > LONGEST_TEXT:
            raise DataError(f"{self.name}: row {row} of {dataset}.offsets is damaged; {REPAIR}")
        text = data[begin:end].tobytes()
        self.check(row, part, text)
        return text.decode(errors="replace")


def _checked_index(path):
    file = os.path.join(path, "index")
    if not os.path.exists(file):
        what = "is a store that is not finished" if os.path.exists(os.path.join(path, "plan")) else "is no store"
        raise DataError(f"{path} {what}; give a folder that `lastframe build` made")
    data = read_bytes(file, "the index", LARGEST_INDEX)
    if len(data) < 12 or data[:8] != MAGIC or crc32c(data[:-4]) != int.from_bytes(data[-4:], "little"):
        raise DataError(f"{file} is not the index of a store, or its checksum does not fit its {len(data):,} bytes; "
                        f"{REPAIR}")
    return Message(data[8:-4], f"the index of store {path}")

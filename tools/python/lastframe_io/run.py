"""Runs, their checkpoints (src/checkpoint/README.md) and files of `lastframe export`."""
import contextlib
import json
import os
import re

import numpy as np

from .formats import DataError, TensorFile, crc32c, parse_text, read_bytes, read_json

FORMAT = 1
LARGEST_TEXT, LONGEST_LINE = 1 << 28, 1 << 24


class Run:
    """A run's folder. What it holds is read when it is asked for, as the run may be training."""

    def __init__(self, path):
        self.path = os.fspath(path)
        if not os.path.exists(os.path.join(self.path, "config.pbtxt")):
            raise DataError(f"{path} is no run: it has no config.pbtxt; give a folder of `lastframe train --run`")

    @property
    def config(self):
        return _config(os.path.join(self.path, "config.pbtxt"))

    @property
    def status(self):
        return read_json(os.path.join(self.path, "status.json"), "the status")

    def metrics(self, event=None):
        """The lines of metrics.jsonl: of steps, or of an event such as "validation" or "evaluation". A last line
        that is just being written is left out."""
        return [row for row in _lines(os.path.join(self.path, "metrics.jsonl")) if row.get("event") == event]

    def checkpoints(self):
        """All checkpoints, oldest first."""
        folder = os.path.join(self.path, "checkpoints")
        names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
        return [Checkpoint(os.path.join(folder, name)) for name in names if re.fullmatch(r"img-\d{12}", name)]


class Checkpoint:
    """A checkpoint's folder. Kinds of tensors are "model", "ema", "optimizer" and others; every tensor that is read
    is checked against the manifest's checksum."""

    def __init__(self, path):
        self.path = os.fspath(path)
        self.manifest = _checked_manifest(os.path.join(self.path, "manifest.pbtxt"))
        if self.manifest.get("format", FORMAT) != FORMAT:
            raise DataError(f"checkpoint {path} has format {self.manifest.format}, this package reads {FORMAT}; use a "
                            "newer one")
        self._places, self._open = {}, {}
        with _fields_of(self.path):
            self.images = int(self.manifest.images)
            self.clip_shape = tuple(_list(self.manifest.get("clip_shape", [])))
            for file in _list(self.manifest.get("file", [])):
                for tensor in _list(file.get("tensor", [])):
                    self._places.setdefault(str(file.kind), {})[str(tensor.name)] = (str(file.name), tensor.crc32c)

    @property
    def config(self):
        return parse_text(self.manifest.config, f"the config in {self.path}")

    @property
    def numbers(self):
        """Counters and metrics, such as validation_loss."""
        numbers = list(_list(self.manifest.get("number", [])))
        later = os.path.join(self.path, "metrics.pbtxt")
        if os.path.exists(later):
            numbers += _list(_checked_manifest(later).get("number", []))
        with _fields_of(self.path):
            return {str(number.name): float(number.value) for number in numbers}

    def kinds(self):
        return sorted(self._places)

    def names(self, kind="model"):
        return sorted(self._of(kind))

    def tensor(self, name, kind="model"):
        if name not in self._of(kind):
            raise DataError(f"checkpoint {self.path} has no tensor {name} of kind {kind}; names() lists those it has")
        file, crc = self._of(kind)[name]
        if os.path.basename(file) != file:
            raise DataError(f"the manifest of {self.path} names a file {file!r:.60} of another folder; take another "
                            "checkpoint")
        if file not in self._open:
            self._open[file] = TensorFile(os.path.join(self.path, file), "the checkpoint's file")
        if crc32c(np.array(self._open[file].raw(name))) != crc:
            raise DataError(f"tensor {name} in {os.path.join(self.path, file)} does not have the manifest's checksum, "
                            "flipped bits; take an older checkpoint")
        return self._open[file].tensor(name)

    def tensors(self, kind="model"):
        return {name: self.tensor(name, kind) for name in self.names(kind)}

    def _of(self, kind):
        if kind not in self._places:
            raise DataError(f"checkpoint {self.path} holds no {kind!r:.40}; choose one of {', '.join(self.kinds())}")
        return self._places[kind]


class Export(TensorFile):
    """A file of `lastframe export RUN --out FILE`: names(), tensor(name), and what it says of the model."""

    def __init__(self, path):
        super().__init__(path, "the export")
        if "config" not in self.metadata:
            raise DataError(f"{path} carries no config; give a file that `lastframe export RUN --out FILE` wrote")
        self.config = parse_text(self.metadata["config"], f"the config in {path}")
        images = self.metadata.get("images", "")
        self.images = int(images) if re.fullmatch(r"\d{1,18}", images, re.ASCII) else 0
        shape = re.fullmatch(r"(\d{1,9}),(\d{1,9}),(\d{1,9}),(\d{1,9})", self.metadata.get("clip_shape", ""), re.ASCII)
        # (frames, height, width, channels); None in exports of older programs
        self.clip_shape = tuple(map(int, shape.groups())) if shape else None


def _list(value):
    return value if isinstance(value, list) else [value]


@contextlib.contextmanager
def _fields_of(path):
    """Whatever in a manifest is missing or of another type."""
    try:
        yield
    except (AttributeError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"the manifest of {path} lacks a field, or has another type in it ({error}); take another "
                        "checkpoint") from None


def _lines(path):
    """The JSON objects of a log, one at a time."""
    number = 0
    try:
        with open(path, "rb") as file:
            while (line := file.readline(LONGEST_LINE)).endswith(b"\n"):
                number += 1
                row = json.loads(line)
                if not isinstance(row, dict):
                    raise ValueError
                yield row
            if len(line) == LONGEST_LINE:
                raise ValueError
    except OSError as error:
        raise DataError(f"the log {path} cannot be read ({error.strerror}); give a run that has begun") from None
    except (ValueError, RecursionError):
        raise DataError(f"line {max(1, number)} of {path} is no JSON object; `lastframe train` cuts the log back to "
                        "its checkpoint when it resumes") from None


def _config(path):
    return parse_text(read_bytes(path, "the config", LARGEST_TEXT).decode(errors="replace"), path)


def _checked_manifest(path):
    data = read_bytes(path, "the manifest", LARGEST_TEXT)
    found = re.search(rb"# crc32c ([0-9a-f]{8})\n?\Z", data)
    if not found or crc32c(data[:found.start()]) != int(found[1], 16):
        raise DataError(f"{path} does not end in its own checksum, it is damaged; take an older checkpoint")
    return parse_text(data[:found.start()].decode(errors="replace"), path)

"""Reads what Last Frame writes, with NumPy alone: stores, runs, checkpoints, exports. Writes nothing."""
from .formats import Config, DataError, crc32c, parse_text
from .run import Checkpoint, Export, Run
from .store import Clip, Store

__all__ = ["Checkpoint", "Clip", "Config", "DataError", "Export", "Run", "Store", "crc32c", "parse_text"]

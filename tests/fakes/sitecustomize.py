"""Found by an interpreter that has this folder on PYTHONPATH: swaps the codec room for the stand-in, on first use."""

import importlib.abc
import importlib.util
import sys
from pathlib import Path


class _Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name != "bsqcodec.codec":
            return None
        return importlib.util.spec_from_file_location(name, Path(__file__).with_name("fake_codec.py"))


sys.meta_path.insert(0, _Finder())

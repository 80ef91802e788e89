"""Caches whose files say something else."""

from __future__ import annotations

import json
import os
import random

from Code.data.cache import HEADER_BYTES, CacheFile

import Demo_AFEW_Attention as script
from Code.readers.folders import read_folders


def test_headers_of_caches_of_any_shape_are_faults(sample, tmp_path):
    cache = CacheFile(read_folders(sample / "Val"), 16, tmp_path)
    cache.open(0, lambda line: None, show_progress=False)
    good = cache.path.read_bytes()
    header = json.loads(good[:HEADER_BYTES].rstrip(b"\0"))
    assert cache.fault() is None
    headers: list[bytes] = [b"", b"[]", b"5", b"[" * HEADER_BYTES, b"\xff", b'{"format": []}', b"null"]
    headers += [
        json.dumps({**header, name: value}).encode() for name in header for value in (None, [], "x", -1, {}, True)
    ]
    headers += [json.dumps({key: value for key, value in header.items() if key != name}).encode() for name in header]
    for data in headers:
        cache.path.write_bytes(data.ljust(HEADER_BYTES, b"\0") + good[HEADER_BYTES:])
        assert cache.fault() is not None, data
    cache.path.write_bytes(good[:HEADER_BYTES].replace(b"frames/1", b"frames/2") + good[HEADER_BYTES:])
    assert "of another version" in (cache.fault() or "")
    rng = random.Random(5)
    for _ in range(100):
        data = bytearray(good)
        data[rng.randrange(HEADER_BYTES)] = rng.randrange(256)
        cache.path.write_bytes(data)
        assert cache.fault() is None or isinstance(cache.fault(), str)
    cache.path.write_bytes(good)
    assert cache.fault() is None


def test_a_sample_that_the_script_cannot_replace_is_one_line(call, tmp_path):
    (tmp_path / "Data" / "Sample").mkdir(parents=True)
    (tmp_path / "Data" / "Sample" / "mine.txt").write_text("mine")
    outcome = call(script, "--dataset", "sample", cwd=tmp_path)
    assert outcome.status == 2 and "not empty and not a generated sample" in outcome.err
    assert os.listdir(tmp_path / "Data" / "Sample") == ["mine.txt"]

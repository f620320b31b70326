"""Object contents: random, compressible, and real files of the Rust toolchain."""

import pathlib
import random
import subprocess

from servers import BINARY

KB, MB = 1_000, 1_000_000
LARGEST = 64 << 20


def random_bytes(rng, size):
    return rng.randbytes(size)


def compressible(rng, size):
    line = b"%08x the quick brown fox jumps over the lazy dog\n" % rng.getrandbits(32)
    return (line * (size // len(line) + 1))[:size]


def any_bytes(rng, size):
    return (compressible if rng.random() < 0.4 else random_bytes)(rng, size)


def mixed_sizes(rng, count):
    """Many small sizes, few large ones, and every edge of the thresholds near 2^n."""
    edges = [1, 2, 255, 256, 16 << 10, (256 << 10) - 1, 256 << 10, (256 << 10) + 1, 1 << 20,
             (10 << 18) - 1, 10 << 18, (10 << 18) + 1, 10 * MB, 32 << 20, LARGEST]
    classes = [(1, 200), (200, 16 * KB), (16 * KB, 256 * KB), (256 * KB, 3 * MB), (3 * MB, 9 * MB)]
    weights = [30, 35, 20, 11, 4]
    sizes = edges[:count]
    while len(sizes) < count:
        low, high = rng.choices(classes, weights)[0]
        sizes.append(rng.randrange(low, high))
    return sizes


def toolchain_files(rng, count):
    """Real files: the toolchain's documentation and libraries, else what cargo built."""
    sysroot = subprocess.run(
        ["rustc", "--print", "sysroot"], capture_output=True, text=True, check=True
    ).stdout.strip()
    roots = [pathlib.Path(sysroot) / "share/doc", pathlib.Path(sysroot) / "lib",
             BINARY.resolve().parent / "deps"]
    files = []
    for root in roots:
        found = sorted(
            path for path in root.rglob("*")
            if path.is_file() and 0 < path.stat().st_size <= 32 * MB
        )
        files += rng.sample(found, min(count - len(files), len(found)))
    assert len(files) >= count // 2, f"only {len(files)} real files found under {roots}"
    return files


def make_objects(seed, made, real):
    """{key: bytes} with `made` generated objects and `real` files."""
    rng = random.Random(seed)
    objects = {
        b"made:%d:%d" % (index, size): any_bytes(rng, size)
        for index, size in enumerate(mixed_sizes(rng, made))
    }
    for path in toolchain_files(rng, real):
        try:
            objects[b"file:" + bytes(path)] = path.read_bytes()
        except FileNotFoundError:
            continue  # a build beside this test replaced it
    return objects

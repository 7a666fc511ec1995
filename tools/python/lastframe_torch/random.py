"""The program's random numbers (src/base/random.h): each is a function of a key, so that the noise of clip i of
`lastframe sample --seed S` can be had here. Philox4x32-10; normals by Box-Muller, equal to the program's up to
rounding.
"""
import numpy as np

SAMPLING = 10  # the purpose of these numbers; others have other keys
BLOCKS = 16  # laid out side by side: element e is word (e / 16) % 4 of block 16 (e / 64) + e % 16


def philox(key, counter):
    """Four 32-bit words for a 64-bit key and each counter, a row of `counter` [4, n]."""
    c = [np.asarray(word, np.uint64) for word in counter]
    k0, k1, mask = key & 0xFFFFFFFF, key >> 32, np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ np.uint64(k0), p1 & mask,
             (p0 >> np.uint64(32)) ^ c[3] ^ np.uint64(k1), p0 & mask]
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return c


def _words(seed, clip, count, draw):
    """`count` words or some more of a clip's draw, [chunks, 4, 16]: element e is that of the flat array."""
    key = philox(seed & (2**64 - 1), [[SAMPLING], [0], [0], [0x4C46]])
    key = int(key[0][0]) | int(key[1][0]) << 32
    blocks = np.arange(-(-count // 64) * BLOCKS, dtype=np.uint64)
    rest = [np.full(len(blocks), word, np.uint64) for word in (clip & 0xFFFFFFFF, clip >> 32, draw)]
    return np.stack([word.reshape(-1, BLOCKS) for word in philox(key, [blocks, *rest])], 1)


def uniforms(seed, clip, shape, draw=0):
    """Of [0, 1), by the same key as normals()."""
    count = int(np.prod(shape))
    return ((_words(seed, clip, count, draw) >> 8) * 2.0**-24).reshape(-1)[:count].reshape(shape).astype(np.float32)


def normals(seed, clip, shape, draw=0):
    """N(0, 1) of this shape: draw `draw` of clip `clip` of a sampling with this seed (the first draw is the noise that
    it starts from). Clips of up to 2^33 values."""
    count = int(np.prod(shape))
    words = _words(seed, clip, count, draw)
    first, second = words[:, 0::2].astype(np.int64), words[:, 1::2].astype(np.int64)
    radius = np.sqrt(-2 * np.log((first >> 1) * 2.0**-31 + 2.0**-32))
    # Two bits of quadrant, 24 bits within it, from the quadrant's middle.
    angle = np.pi / 2 * ((second >> 30) + ((second & 0x3FFFFFFF) >> 6) * 2.0**-24 + 2.0**-25 - 0.5)
    pairs = np.stack([radius * np.cos(angle), radius * np.sin(angle)], 2)  # [chunks, pair, which, 16]
    return pairs.reshape(-1)[:count].reshape(shape).astype(np.float32)

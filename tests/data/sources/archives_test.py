"""A folder, a zip and a tar of one tree give equal stores, but for the name of the source, and so does a video of
the same frames, but for the names of the frames; each store is made by another number of ranks. Argument: all, for
every number of ranks of each."""

import tarfile
import zipfile
import zlib

from harness import *

PICTURES = ("rgb.jpg", "progressive.jpg", "grey.png", "noisy.png", "exif6.png")
tree = here / "tree_itself"  # as long as h5diff needs it: the texts of the sources have one length
for i in range(40):
    picture = fixtures / "images" / PICTURES[i % len(PICTURES)]
    path = tree / f"class{i % 3}" / f"{i % 7}-{i:03}{picture.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.read_bytes()[:-30 if i == 11 else None])  # one is broken


def pack(folder, name):
    with zipfile.ZipFile(here / f"{name}.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(folder.rglob("*.*"), reverse=True):  # in another order than that of the names
            archive.write(path, path.relative_to(folder))
    with tarfile.open(here / f"{name}.tar", "w") as archive:
        archive.add(folder, ".")
    return {kind: [f"source.archive.path={here}/{name}.{kind}"] for kind in ("zip", "tar")}


def build(name, ranks_of_it, *sets):
    words = ["build", *with_sets([*sets, "store.clips_per_shard=8"])]
    execute([*ranks(ranks_of_it), program, *words, "--out", here / name])
    return here / name


def differences(a, b):
    """The attributes and datasets of two shards that differ, by h5diff."""
    differ, name, said = set(), "", run("h5diff", "-v", a, b).stdout
    for line in said.splitlines():
        if line.startswith(("attribute", "dataset", "group")):
            name = line.split("<")[1].split()[0].rstrip(">")
        elif line.endswith(" differences found") and not line.startswith("0 "):
            differ.add(name)
    return differ


def compare(sources, but_for, shard_count, *sets):
    """Builds a store of each of the sources and compares them with the first."""
    stores = []
    for at, (name, options) in enumerate(sources.items()):
        for count in [1, 2, 3] if "all" in arguments else [at % 3 + 1]:
            stores.append((name, build(f"{name}-{count}", count, *options, *sets)))
    first_name, first = stores[0]
    shards = sorted(path.name for path in (first / "shards").iterdir())
    check(len(shards) == shard_count, f"{shard_count} shards: {shards}")
    for name, store in stores[1:]:
        check(sorted(path.name for path in (store / "shards").iterdir()) == shards, f"{store.name}: other shards")
        for shard in shards if shutil.which("h5diff") else []:
            differ = differences(first / "shards" / shard, store / "shards" / shard)
            expected = but_for[name] if name != first_name else set()
            check(differ == expected, f"{store.name}/{shard} differs in {differ} from {first.name}")
    clips = {}
    for _, store in stores:
        execute([program, "export", store, "--npy", here / f"{store.name}.npy"])
        clips[store.name] = (here / f"{store.name}.npy").read_bytes()
    check(len(set(clips.values())) == 1, f"the clips of {list(clips)} differ")
    return [store for _, store in stores]


source = {"store", "source"}
stores = compare({"folder": [f"source.folder.path={tree}"], **pack(tree, "images")}, {"zip": source, "tar": source}, 5,
                 "source.size=16", "recipe.frames=3")
quarantines = {(store / "quarantine.txt").read_text() for store in stores}
check(len(quarantines) == 1 and "class2/4-011.jpg" in quarantines.pop(), "the broken picture is named in each")


def png(t):
    """Frame t of the videos of tests/fixtures."""
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    pixels_of = b"".join(b"\0" + bytes(v for x in range(16) for v in (10 * t, 15 * x, 15 * y)) for y in range(16))
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">2I5B", 16, 16, 8, 2, 0, 0, 0)) +
            chunk(b"IDAT", zlib.compress(pixels_of)) + chunk(b"IEND", b""))


if built_without("FFmpeg"):
    finish()
video = here / "frames" / "ordered"
video.mkdir(parents=True)
for t in range(24):
    (video / f"{t:05}.png").write_bytes(png(t))
film = f"source.videos.path={fixtures}/videos/ordered.mp4"
names = source | {"/names.offsets", "/crc"}  # the checksum of a clip is of its name too
# Each frame an image with a recipe, and clips of real frames.
compare({"frame-files": [f"source.folder.path={video}"], **{f"frames-{kind}": options for kind, options in
         pack(video, "frames").items()}, "frames-mp4": [film, "source.window.frames=1"]},
        {"frames-zip": source, "frames-tar": source, "frames-mp4": names}, 3, "recipe.frames=3", "recipe.noise={}")
window = ["source.window.frames=8", "source.window.hop=1"]
compare({"clip-files": [f"source.frames.path={video.parent}", *window], "clip-mp4": [film, *window]},
        {"clip-mp4": names}, 3)
finish()

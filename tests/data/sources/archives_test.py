"""A folder, a zip and a tar of one tree give equal stores, but for the name of the source, each made by
another number of ranks. Argument: all, for every number of ranks of each."""

import tarfile
import zipfile

from harness import *

PICTURES = ("rgb.jpg", "progressive.jpg", "grey.png", "noisy.png", "exif6.png")
tree = here / "tree_itself"  # as long as h5diff needs it: the texts of the sources have one length
for i in range(40):
    picture = fixtures / "images" / PICTURES[i % len(PICTURES)]
    path = tree / f"class{i % 3}" / f"{i % 7}-{i:03}{picture.suffix}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(picture.read_bytes()[:-30 if i == 11 else None])  # one is broken
files = sorted(tree.rglob("*.*"), reverse=True)  # in another order than that of the names
with zipfile.ZipFile(here / "images.zip", "w", zipfile.ZIP_DEFLATED) as archive:
    for path in files:
        archive.write(path, path.relative_to(tree))
with tarfile.open(here / "images.tar", "w") as archive:
    archive.add(tree, ".")

stores = {}
for source, counts in (("folder", [1]), ("zip", [2]), ("tar", [3])):
    for count in [1, 2, 3] if "all" in arguments else counts:
        option = f"folder.path={tree}" if source == "folder" else f"archive.path={here}/images.{source}"
        out = here / f"{source}-{count}"
        execute([*ranks(count), program, "build", "--set", f"source.{option}", "--set", "source.size=16", "--set",
                 "recipe.frames=3", "--set", "store.clips_per_shard=8", "--out", out])
        stores[out.name] = out

first, *others = stores.values()
shards = sorted(path.name for path in (first / "shards").iterdir())
check(len(shards) == 5, f"five shards of eight clips: {shards}")
quarantine = (first / "quarantine.txt").read_text()
check("class2/4-011.jpg" in quarantine, f"the broken picture is named: {quarantine}")
for other in others:
    check((other / "quarantine.txt").read_text() == quarantine, f"{other.name}: another quarantine.txt")
    check(sorted(path.name for path in (other / "shards").iterdir()) == shards, f"{other.name}: other shards")
    for shard in shards if shutil.which("h5diff") else []:
        words = ["h5diff", "-v", first / "shards" / shard, other / "shards" / shard]
        said = run(*words).stdout.splitlines()
        differ, name = set(), ""
        for line in said:
            if line.startswith(("attribute", "dataset", "group")):
                name = line.split("<")[1].split()[0].rstrip(">")
            elif line.endswith(" differences found") and not line.startswith("0 "):
                differ.add(name)
        kind = {"store", "source"} if other.name.split("-")[0] != "folder" else set()
        check(differ == kind, f"{other.name}/{shard} differs in {differ}\n" + "\n".join(said))

clips = {}
for name, store in stores.items():
    execute([program, "export", store, "--npy", here / f"{name}.npy"])
    clips[name] = (here / f"{name}.npy").read_bytes()
check(len(set(clips.values())) == 1, f"the clips of {list(clips)} differ")
finish()

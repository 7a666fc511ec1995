"""Stores of video files have the same bytes for any number of ranks, and clips become films. A program
without FFmpeg says so in `doctor`, in `build` and before a film is begun."""

from harness import *

(here / "set" / "class").mkdir(parents=True)
for video in (fixtures / "videos").iterdir():
    shutil.copy(video, here / "set" / "class")
whole = (fixtures / "videos" / "ordered.mp4").read_bytes()
(here / "set" / "cut.mp4").write_bytes(whole[: len(whole) // 2])
words = ["build", *with_sets([f"source.videos.path={here}/set", "source.window.frames=5", "store.clips_per_shard=4"])]

if built_without("FFmpeg"):
    execute([program, *words, "--out", here / "store"], 2, "FFmpeg")
    execute([program, "inspect", store(), "--animation", here / "clip.gif"], 2, "FFmpeg")
    check(not (here / "store").exists() and not (here / "clip.gif").exists(), "something was written")
    sys.exit(0)

stores = [here / f"store-of-{count}" for count in (1, 3)]
for count, folder in zip((1, 3), stores):
    execute([*ranks(count), program, *words, "--out", folder], 0, "1 of 29 items")
files = sorted(path.relative_to(stores[0]) for path in stores[0].rglob("*") if path.is_file())
check(len(files) > 8, f"{files}")
for file in files:
    check((stores[0] / file).read_bytes() == (stores[1] / file).read_bytes(), f"{file} depends on the ranks")
check("moov atom not found" in (stores[0] / "quarantine.txt").read_text(), "the reason is lost")
for name, head in (("clip.mp4", b"ftyp"), ("clip.gif", b"GIF8"), ("clip.webp", b"WEBP")):
    output("inspect", stores[0], "--clip", "3", "--animation", here / name)
    check(head in (here / name).read_bytes()[:16], f"{name} is something else")
execute([program, "inspect", stores[0], "--animation", here / "clip.avi"], 2, "a name that ends in .apng, .png, .mp4")

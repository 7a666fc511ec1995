"""What the tests of reports share: runs and sweeps to report on, and a page taken apart. Not a test."""

import html.parser

from harness import *

HOSTILE = "a <script>alert(1)</script> & \"b\" 'c'"


class Page(html.parser.HTMLParser):
    """The elements, addresses and text of a report; checks what holds for every one."""

    def __init__(self, path):
        super().__init__()
        self.tags, self.addresses, self.words, self.inside = [], [], [], []
        self.source = path.read_text()
        self.feed(self.source)
        self.close()
        self.text = " ".join(self.words)
        check(self.tags.count("script") == 1 and self.tags.count("style") == 1,
              f"{path}: {self.tags.count('script')} scripts, expected only the page's own")
        for address in self.addresses:
            check(address.startswith("data:image/png;base64,"), f"{path} asks for {address[:100]}")
        for word in ("http://", "https://", "@import", "url(", "srcset", "javascript:"):
            check(word not in self.source, f"{path} holds {word}")
        check("default-src 'none'" in self.source, f"{path} allows other hosts")

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside.append(tag)
        for name, value in attributes:
            check(not name.startswith("on"), f"<{tag} {name}=...>")
            if name in ("src", "href", "action", "data", "poster"):
                self.addresses.append(value)

    def handle_endtag(self, tag):
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, words):
        if not {"script", "style"} & set(self.inside):
            self.words.append(words)

    def count(self, tag):
        return self.tags.count(tag)


def trained(folder):
    """A finished run with previews and evaluations whose name and folder are hostile."""
    run = here / folder
    train(run, sets=["train.images=120", "train.preview_images=36", "evaluation.every_images=60",
                     "evaluation.metrics=psnr", "evaluation.samples=24",
                     f"name={HOSTILE}"])
    return run


def pictures(path, clips, frames=0, value=100):
    """An .npy file of clips of 8 x 8 pixels that are not all one colour."""
    shape = (clips, frames, 8, 8, 3) if frames else (clips, 8, 8, 3)
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_npy(path, "|u1", shape,
                     bytes((value + i) % 256 for i in range(math.prod(shape))))


def sweep(folder, arms, seeds=3, points=4):
    """A sweep's results in which every arm of more frames is better and dearer."""
    path = here / folder
    path.mkdir()
    results = {
        "format": 1, "name": HOSTILE, "question": f"Does it pay? {HOSTILE}", "sweep": "5eed", "program": "x",
        "equal": "IMAGES", "images": 1000, "short": False, "minimum_steps": 10,
        "metrics": [{"name": "fd_own", "unit": "", "better": "LOWER", "samples": 500,
                     "extractor": "f16f", "reference": "1500"}],
        "axes": [{"option": "recipe.frames", "values": [str(frames) for frames in arms]}],
        "arms": [], "anchors": [{"name": "mean", "metric": "fd_own", "value": 9.5}], "comparisons": [
            {"verdict": "pays", "better": "V2", "than": "V1", "metric": "fd_own", "n": seeds, "mean": 0.5,
             "low": 0.4, "high": 0.6, "word": "won"}],
        "verdicts": [{"name": "pays", "question": "Do two frames help?", "word": "won",
                      "by_metric": {"fd_own": "won"}}],
        "pictures": {"held_out": "pictures/held_out.npy", "arms": {}}, "unfinished": []}
    pictures(path / "pictures" / "held_out.npy", 4)
    for place, frames in enumerate(arms):
        name = f"V{frames}" if arms.count(frames) == 1 else f"V{frames}-{place}"
        runs = []
        for seed in range(seeds):
            end = 8 / (frames + 1) + seed * 0.01
            curve = [[1000 * p // points, end + 4 * (1 - p / points)] for p in range(1, points + 1)]
            runs.append({"seed": seed, "state": "FINISHED", "run": None, "seconds": 60.0 * frames,
                         "error": "", "values": {"fd_own": end}, "curve": {"fd_own": curve}})
        results["arms"].append(
            {"name": name, "about": HOSTILE, "set": [f"recipe.frames={frames}"],
             "at": {"recipe.frames": str(frames)}, "images": 1000, "steps": 100, "bits": None,
             "parameters": 4321, "multiplications": 1e6 * frames, "note": "", "runs": runs,
             "values": {}, "mean": {}, "spread": {}, "n": seeds})
        if place < 20:
            pictures(path / "pictures" / f"{place}.npy", 4, frames=3 if place == 1 else 0)
            results["pictures"]["arms"][name] = f"pictures/{place}.npy"
    (path / "results.json").write_text(json.dumps(results))
    return path


def report(out, *paths, words=(), **expected):
    """The page of `lastframe report`."""
    execute([program, "report", *paths, "--out", here / out, *words], **expected)
    return Page(here / out)

"""A comparison of arms over seeds: its options, images, judge, runs as rows, table and verdicts. An experiment
says what its arms are and how one is run and measured."""
import argparse

from lab import *

LEAST_STEPS = 1500
METRICS = {"psnr": ("PSNR, dB", ".2f", 1), "fd_own": ("fd_own", ".4g", -1), "fid768": ("fid768", ".4f", -1)}


def whole(least, most):
    def read(text):
        if not text.isdigit() or not least <= int(text) <= most:
            raise argparse.ArgumentTypeError(f"'{text}', expected a whole number in [{least}, {most}]")
        return int(text)
    return read


def span(text):
    """The seconds of a time such as 50m or 2h."""
    unit = {"m": 60, "h": 3600}.get(text[-1:])
    if not unit or not text[:-1].isdigit() or int(text[:-1]) < 1:
        raise argparse.ArgumentTypeError(f"'{text}', expected a time such as 50m or 2h")
    return unit * int(text[:-1])


def file(text):
    if not pathlib.Path(text).is_file():
        raise argparse.ArgumentTypeError(f"there is no file {text}")
    return pathlib.Path(text).resolve()


class Parser(argparse.ArgumentParser):
    def error(self, message):
        raise WrongUse(message.removeprefix("argument ") + f"; see {self.prog} --help")


def parser(program, text, number, arms, images):
    """The options that experiments share."""
    def known(text):
        given = {arm.lower(): arm for arm in arms}
        try:
            return [given[name] for name in text.lower().split(",")]
        except KeyError:
            raise argparse.ArgumentTypeError(f"'{text}', expected some of {','.join(arms)}") from None
    out = Parser(prog=program, description=text, formatter_class=argparse.RawDescriptionHelpFormatter,
                 allow_abbrev=False)
    add = out.add_argument
    add("--arms", type=known, metavar="LIST", default=list(arms), help=f"some of {','.join(arms)} (default: all)")
    add("--images", type=whole(1, 10**9), metavar="N", default=images,
        help=f"images that each arm learns from (default {images}), in whole steps")
    add("--budget", type=span, metavar="TIME", help="instead of --images: as many as fit into a time such as 5h, by "
        "how fast the steps are here; elsewhere name the images, so that the rows are those of one experiment")
    add("--seeds", type=whole(1, 100), metavar="N", default=3, help="seeds 0 to N - 1 (default 3)")
    add("--jobs", type=whole(1, 64), metavar="N", default=2,
        help="runs at a time, of one thread each; no result depends on it (default 2)")
    add("--for", type=span, metavar="TIME", dest="time",
        help="stop cleanly after a time such as 50m, with status 75; the same command resumes")
    add("--data", metavar="DIR", default="", help="a folder with train/CLASS/IMAGE and test/CLASS/IMAGE, or "
        "CIFAR-10's binary folder (default: drawn shapes)")
    add("--samples", type=whole(20, 10**6), metavar="N", default=2000,
        help="images that are measured; about so many are held out, if there are more (default 2000)")
    add("--inception", type=file, metavar="FILE",
        help="weights of Inception for fid768, as tools/convert_inception writes them")
    add("--allow-short", action="store_true",
        help=f"accept fewer than {LEAST_STEPS} steps an arm, which are no experiment; prints no verdict")
    add("--out", metavar="DIR", default=f"runs/experiment-{number}",
        help=f"stores, runs, pictures, results.md and results.json (default runs/experiment-{number})")
    results = root / "configs" / "experiments" / "results" / f"{number}.jsonl"
    add("--results", type=pathlib.Path, metavar="FILE", default=results,
        help=f"a row for each finished run (default {results.relative_to(root)})")
    return out


class Images:
    """What `build` takes the images by, and what they are whatever their path."""

    def __init__(self, path, samples):
        folder, self.sets, self.classes, held = pathlib.Path(path).resolve(), {}, 10, samples
        train, test = folder / "train", folder / "test"
        if not path:
            self.about, self.id = "drawn shapes", "shapes"
            self.sets = {"TRAIN": ["source.generated.count=10000"],
                         "TEST": [f"source.generated={{ count: {samples} seed: 1 }}"]}
        elif (folder / "test_batch.bin").exists() and list(folder.glob("data_batch_*.bin")):
            files = [*folder.glob("data_batch_*.bin"), folder / "test_batch.bin"]
            self.about, self.id, held = "CIFAR-10", digest_of_files(folder, files), files[-1].stat().st_size // 3073
            self.sets = {"TRAIN": [f"source.cifar.path={folder}"],
                         "TEST": [f"source.cifar={{ path: \"{folder}\" test: true }}"]}
        elif train.is_dir() and test.is_dir():
            files = {part: [one for one in part.glob("*/*") if one.is_file()] for part in (train, test)}
            self.about, self.id = f"the images of {folder.name}", digest_of_files(folder, files[train] + files[test])
            self.classes, held = len({one.parent for one in files[train]}), len(files[test])
            self.sets = {part.name.upper(): [f"source.folder.path={part}"] for part in files}
        if not self.sets or self.classes < 2 or held < 2:
            raise WrongUse(f"--data is {path}, expected a folder with train/CLASS/IMAGE and test/CLASS/IMAGE, of two "
                           "classes or more, or one with data_batch_*.bin and test_batch.bin")
        if held > samples:
            self.sets["TEST"] += ["source.split.part=TEST", "source.split.validation=0",
                                  f"source.split.test={samples / held:.6f}"]
        self.id = f"{self.id}/{min(held, samples)}"


class Comparison:
    """`arms` are those that are asked for, `all` those that the table shows if they are finished."""
    metrics, verdict_of, configs, judged, ready = [], {}, None, True, False

    def __init__(self, given, every):
        self.given, self.images, self.results = given, Images(given.data, given.samples), given.results.resolve()
        self.lab = Lab(given.out, given.jobs, given.time)
        self.arms = given.arms
        self.all = [arm for arm in every if arm in self.arms or self.config(arm)[1].exists()]
        self.told = dict(zip(self.all, self.lab.at_once(lambda arm: self.lab.resolved(self.config(arm)), self.all)))
        self.departures = {arm: self.lab.departures(told["config"]) for arm, told in self.told.items()}
        self.judging = ["--config", self.configs / "classifier.pbtxt",
                        "--set", f"model.classifier.classes={self.images.classes}"]
        self.inception = digest(given.inception) if given.inception else None
        self.metrics = [name for name in self.metrics if name != "fid768" or given.inception]
        self.same()

    def same(self):
        """Arms differ in what they are, and in nothing else."""
        common = [{name: value for name, value in self.departures[arm].items()
                   if name.startswith(("train.", "loader."))} for arm in self.arms]
        for arm, found in zip(self.arms, common):
            if found != common[0]:
                names = sorted({name for name, _ in found.items() ^ common[0].items()})
                raise WrongUse(f"{arm} and {self.arms[0]} differ in {', '.join(names)}; only frames and model may")
        self.batch = self.told[self.arms[0]]["config"]["train"]["batch"]

    def config(self, arm):
        raise NotImplementedError

    def seeds_of(self, arm):
        return range(self.given.seeds)

    def share(self, arm):
        """Of the images that most arms see."""
        return 1

    def images_of(self, arm):
        return max(1, int(self.count * self.share(arm) / self.batch)) * self.batch

    # How long it takes

    def costs(self):
        """Seconds of a step of each arm, with `jobs` runs at once."""
        say("how fast is a step of each arm here?")
        return {arm: self.lab.kept(f"speed-{self.lab.jobs}-{digest(self.departures[arm])}",
                                   lambda: self.lab.speed(self.config(arm))) for arm in self.arms}

    def seconds_for(self, steps, costs, seeds=10**9):
        """Of all runs: their steps, their judges, and a tenth for all else."""
        judging = self.given.samples * (0.06 if self.inception else 0.01)
        runs = sum(min(seeds, len(self.seeds_of(arm))) * (steps * self.share(arm) * costs[arm] + judging)
                   for arm in costs)
        return 60 + 1.1 * runs / self.lab.jobs

    def plan(self):
        """How many images an arm sees."""
        steps, costs = self.given.images // self.batch, None
        if self.given.budget:
            costs = self.costs()
            fixed = self.seconds_for(0, costs)
            steps = max(0, int((self.given.budget - fixed) / (self.seconds_for(1, costs) - fixed)))
        if steps < LEAST_STEPS and not self.given.allow_short:
            costs = costs or self.costs()

            def takes(*more):
                return f"{math.ceil(self.seconds_for(LEAST_STEPS, *more) / 60)}m"
            two = {arm: costs[arm] for arm in self.arms[:2]}
            raise WrongUse(
                f"that is {steps} steps an arm, expected {LEAST_STEPS} or more. Give --images "
                f"{LEAST_STEPS * self.batch}, which here takes about {takes(costs)}, or --budget of as much; with "
                f"--seeds 1 {takes(costs, 1)}, with --arms {','.join(two)} {takes(two)}. --for takes it in pieces; "
                "--allow-short goes ahead, without a verdict")
        self.count = max(1, steps) * self.batch
        say(f"{self.count} images an arm, {self.count // self.batch} steps of {self.batch}")

    # What runs share

    def store(self, words, part):
        """Of the recipe of a config; stores of equal recipes are one."""
        config = self.lab.resolved(words)["config"]
        size, channels = config["source"]["size"], config["source"]["channels"] or 3
        key = digest([config["recipe"], size, config["store"], self.images.id])
        folder = self.lab.folder / "stores" / f"{part.lower()}-{key}"
        sets = [word for word in words[3::2] if word.startswith("recipe")]
        sets += ["source={}", f"source.size={size}", f"source.channels={channels}", *self.images.sets[part]]
        sets += ["store.fresh_draws=false"] * (part == "TEST" and config["store"]["fresh_draws"])
        self.lab.kept(folder.name, lambda: self.lab.call("build", *words[:2], *with_sets(sets), "--out", folder))
        return folder

    def training(self, words):
        """Words of `train` for a config: on these images, validated on the held-out ones."""
        return words + with_sets(["source={}", "train.preview_images=0", f"train.store={self.store(words, 'TRAIN')}",
                                  f"train.validation_store={self.store(words, 'TEST')}"])

    def prepare(self):
        """Makes what runs share, and returns the jobs that are left."""
        self.recipe_of_judge, first = None, self.config(self.arms[0])
        if self.judged:
            first, told = self.judging, self.lab.resolved(self.judging)["config"]
            images = min(told["train"]["images"], self.count if self.given.allow_short else 10**9)
            self.recipe_of_judge = [self.lab.departures(told), images]
        self.own = self.lab.folder / f"own-{digest([self.recipe_of_judge, self.images.id])}.safetensors"
        self.held_out = self.store(first, "TEST")
        self.n = self.lab.json("inspect", self.held_out)["clips"]
        rows = rows_of(self.results)
        jobs = [(arm, seed) for seed in range(self.given.seeds) for arm in self.arms
                if seed in self.seeds_of(arm) and self.hash_of(arm, seed) not in rows]
        if jobs and self.judged:
            self.judge(images)
        for arm, _ in jobs:
            self.training(self.config(arm))  # Stores, before two runs ask for one.
        return jobs

    def judge(self, images):
        """A classifier of the labels, whose features make fd_own; and what Inception sees of the held-out images."""
        if not self.own.exists():
            say(f"the judge, a classifier of {images} images' labels")
            run = self.lab.folder / "runs" / self.own.stem
            self.lab.train(run, self.training(self.judging) + with_sets([f"train.images={images}"]))
            self.lab.export(run, self.own)
        self.seen = self.lab.folder / f"held-out-{digest([self.images.id, self.inception])}.npz"
        if self.inception and not self.seen.exists():
            say("the held-out images as Inception sees them")
            array, part = self.seen.with_suffix(".npy"), self.seen.with_suffix(".part.npz")
            self.lab.call("export", self.held_out, "--npy", array)
            self.lab.call("evaluate", "--fake", array, "--metrics", "fid768", "--extractor", self.given.inception,
                          "--threads", self.lab.jobs, "--save-statistics", part)
            part.replace(self.seen)

    # Runs

    def hash_of(self, arm, seed):
        return digest([self.departures[arm], "+own" in arm, seed, self.images_of(arm), self.images.id,
                       self.recipe_of_judge, self.inception])

    def run_of(self, arm, seed):
        return self.lab.folder / "runs" / f"{arm}-{seed}-{self.hash_of(arm, seed)}"

    def row_of(self, arm, seed, seconds):
        """What a row says of the run itself."""
        told, images = self.told[arm], self.images_of(arm)
        return {"arm": arm, "seed": seed, "images": images, "steps": images // self.batch, "seconds": seconds,
                "hash": self.hash_of(arm, seed), "config": digest(self.departures[arm]), "commit": commit(),
                "data": self.images.id, "judge": digest(self.own) if self.judged else None, "inception": self.inception,
                "parameters": told["parameters"], "multiplications": self.multiplications(arm)}

    def multiplications(self, arm):
        """That learning from an image takes, forward and backward; the program counts each with its addition."""
        return self.lab.kept(f"arithmetic-{digest(self.departures[arm])}", lambda: self.lab.json(
            "train", *self.config(arm), "--dry-run")["flops_per_image"] / 2)

    def run_one(self, arm, seed):
        """The row of a run, after which it is done."""
        raise NotImplementedError

    def run_all(self):
        """The jobs that failed."""
        [jobs] = self.lab.at_once(lambda make: make(), [self.prepare])
        self.ready = True
        say(f"{len(jobs)} runs to go, {self.lab.jobs} at a time")

        def guarded(job):
            begin = time.time()
            try:
                row = self.run_one(*job)
            except Failed as error:
                say(f"{job[0]} seed {job[1]} failed: {error}")
                return job
            add_row(self.results, row)
            found = ", ".join(f"{METRICS[name][0]} {row[name]:{METRICS[name][1]}}" for name in self.metrics)
            say(f"{job[0]} seed {job[1]}: {found}, {(time.time() - begin) / 60:.1f} min")
        return [job for job in self.lab.at_once(guarded, jobs) if job]

    # What came out

    def show(self):
        """Prints the table, and writes it."""
        raise NotImplementedError

    def pictures(self):
        """Written where there is something to see."""

    def collect(self):
        """Rows by arm and seed, and the arms that miss some."""
        rows = rows_of(self.results)
        self.rows = {arm: {seed: rows[self.hash_of(arm, seed)] for seed in self.seeds_of(arm)
                           if self.hash_of(arm, seed) in rows} for arm in self.all}
        every = [row for found in self.rows.values() for row in found.values()]
        judges = [row["judge"] for row in every]
        # fd_own compares within one judge; elsewhere another may have been trained.
        for row in every:
            if row["judge"] != max(judges, key=judges.count):
                del row["fd_own"]
        missing = {arm: [str(seed) for seed in self.seeds_of(arm) if seed not in self.rows[arm]] for arm in self.all
                   if arm in self.arms or "+own" not in arm}
        return [f"{arm} seed {', '.join(seeds)}" for arm, seeds in missing.items() if seeds]

    def table(self, columns, note=lambda rows: ""):
        """Of {head: (name, form)}, then the metrics, n and a note."""
        columns = {**columns, **{METRICS[name][0]: (name, METRICS[name][1]) for name in self.metrics}}
        lines = ["| arm | " + " | ".join(columns) + " | n | |", "| --- |" + " ---: |" * (len(columns) + 1) + " --- |"]
        for arm, found in self.rows.items():
            if found:
                rows = list(found.values())
                cells = [spread([row[name] for row in rows if row.get(name) is not None], form)
                         for name, form in columns.values()]
                lines.append("| " + " | ".join([arm, *cells, str(len(rows)), note(rows)]) + " |")
        return lines

    def verdicts(self):
        """By name: the word, the words by metric, and the comparisons."""
        out = {}
        for name, (_, pairs) in self.verdict_of.items():
            found, words = {}, {}
            for metric in self.metrics:
                values = {arm: {seed: row[metric] for seed, row in self.rows.get(arm, {}).items() if metric in row}
                          for pair in pairs for arm in pair}
                found[metric] = {f"{a} against {b}": compare(values[a], values[b], METRICS[metric][2])
                                 for a, b in pairs}
                each = {one["verdict"] for one in found[metric].values()}
                words[metric] = "lost" if "lost" in each else "won" if each == {"won"} else "undecided"
            agreed = set(words.values())
            out[name] = {"verdict": agreed.pop() if len(agreed) == 1 else "undecided", "by_metric": words,
                         "comparisons": found}
        return out

    def report(self, intro, lines, more, missing):
        """Prints, and writes results.md and .json."""
        lines = [intro, "", *lines, ""] + ([f"Unfinished: {'; '.join(missing)}."] if missing else [])
        found = None if self.given.allow_short else self.verdicts()
        if not found:
            lines.append("No verdict: --allow-short.")
        for name, one in (found or {}).items():
            lines += ["", f"**{name.capitalize()}** ({self.verdict_of[name][0]}): **{one['verdict']}**", ""]
            for metric, pairs in one["comparisons"].items():
                lines.append(f"- {METRICS[metric][0]} {one['by_metric'][metric]}: " + "; ".join(
                    sentence(pair, told, METRICS[metric][1]) for pair, told in pairs.items()))
        (self.lab.folder / "results.md").write_text("\n".join(lines) + "\n")
        (self.lab.folder / "results.json").write_text(json.dumps(
            {**more, "rows": self.rows, "unfinished": missing, "verdicts": found}, indent=1) + "\n")
        print("\n".join(lines), flush=True)


def sentence(pair, told, form):
    if told["mean"] is None:
        return f"{pair} not measured"
    error = f" ± {told['error']:{form}}" if told["error"] is not None else ""
    return f"{pair} {told['verdict']} by {told['mean']:+{form}}{error}, n {told['n']}"


def run(program, make):
    """Exit status of a driver: `make` returns the comparison; a signal stops it cleanly."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    comparison = None
    try:
        comparison = make()
        comparison.plan()
        failed = comparison.run_all()
        comparison.show()
        comparison.lab.at_once(lambda draw: draw(), [comparison.pictures])
        return 1 if failed else 0
    except WrongUse as error:
        say(f"{program}: {error}")
        return 2
    except (Failed, OSError) as error:
        say(f"{program}: {error}")
        return 1
    except (Stopped, KeyboardInterrupt):
        if comparison and comparison.ready:
            comparison.show()
        say(f"{program}: stopped; the same command resumes")
        return 75

// The rows of the subcommand table: what each is called, takes and prints as help. Nothing is
// computed here. To add a command, add its options, its row, and its function to commands.h.
#include "launch/command.h"
#include "launch/commands.h"

namespace lf {
namespace {

// ---- stores -------------------------------------------------------------------------------------

constexpr Option kBuildOptions[] = {
    {"--out", "DIR", "the folder of the store; must be new, empty, or hold the same store"},
    {"--config", "FILE", "options as protobuf text; see configs/"},
    {"--set", "PATH=VALUE",
     "one option, over the file's; as often as needed (lastframe list options)"},
    {"--part", "K/N",
     "makes only part K of N, 0 <= K < N (default: 0/1, or by SLURM_ARRAY_TASK_ID)"},
    {"--strict", "", "the first item that cannot be used ends the build with status 3"},
    {"--dry-run", "",
     "prints the resolved config and the number of items and shards; builds nothing"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kVerifyOptions[] = {
    {"--repair", "", "makes damaged shards again from their source, and the index from the shards"},
    {"--set", "PATH=VALUE", "with --repair: where the source is now, as source.folder.path=DIR"},
    {"--threads", "N", "shards checked at once, 1 to 1024 (default: one for each core)"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kInspectOptions[] = {
    {"--clip", "N", "the clip that --strip and --animation draw (default: 0)"},
    {"--draw", "N", "which draw of its corruptions (default: 0)"},
    {"--strip", "FILE", "writes the clip's frames side by side as PNG"},
    {"--animation", "FILE", "writes the clip as animated PNG"},
    {"--shard", "N", "looks at shard N alone and checks it"},
    {"--json", "", "one JSON object alone on stdout; shape is [height, width, channels]"},
};

constexpr Option kMergeOptions[] = {
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kExportOptions[] = {
    {"--npy", "FILE",
     "writes one NumPy array [n, T, H, W, C]; float16 frames stay so, and the last\n"
     "frame beside them then is grey / 127.5 - 1"},
    {"--png", "FOLDER", "writes FOLDER/clip-000000000/frame-000.png and so on"},
    {"--range", "FIRST:LAST", "clips FIRST to LAST - 1 (default: all)"},
    {"--draw", "N", "which draw of the corruptions (default: 0)"},
    {"--out", "FILE", "of a run or a checkpoint: writes its weights as one safetensors file"},
    {"--kind", "KIND",
     "with --out: ema, model or optimizer (default: ema, the averaged weights; model\n"
     "where no average was kept)"},
    {"--ema-width", "W",
     "with --out, of a run: the average with a power function of relative width W, made\n"
     "from those that its checkpoints track (train.ema.tracked_widths)"},
};

// ---- doctor, list -------------------------------------------------------------------------------

constexpr Option kDoctorOptions[] = {
    {"--smoke", "", "also try: an all-reduce with known sums, a folder, SIGUSR1"},
    {"--folder", "DIR", "the folder --smoke tries rename, fsync and locks in (default: .)"},
    {"--mib", "N", "size of the timed all-reduce in MiB, 1 to 1024 (default: 16)"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kListOptions[] = {
    {"--json", "", "one JSON object alone on stdout"},
};

// ---- bench --------------------------------------------------------------------------------------

constexpr Option kBenchRecipeOptions[] = {
    {"--config", "FILE", "the config whose recipe is measured (default: none, 8 frames of blur)"},
    {"--set", "NAME=VALUE", "an option over the config's, any number of times"},
    {"--size", "N", "height and width of the images, 1 to 4096 (default: 32)"},
    {"--channels", "N", "1 to 16 (default: 3)"},
    {"--seconds", "N", "how long to measure, 1 to 3600 (default: 3)"},
    {"--json", "", "one JSON object alone on stdout"},
};

// ---- plan, bench load ---------------------------------------------------------------------------

constexpr Option kPlanOptions[] = {
    {"--config", "FILE", "the config with the source, the recipe and the store"},
    {"--set", "PATH=VALUE", "sets one option; may be given again and again"},
    {"--images-per-second", "R",
     "what training is expected to eat, all ranks together\n(default: 1000)"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kBenchLoadOptions[] = {
    {"--batch", "N", "clips in a batch, 1 to 1048576 (default: 64)"},
    {"--threads", "N", "threads that read ahead, 0 to 256 (default: loader.threads)"},
    {"--seconds", "N", "how long to measure, 1 to 3600 (default: 5)"},
    {"--config", "FILE", "a config; its loader options and train.seed count"},
    {"--set", "PATH=VALUE", "sets one option, such as loader.read=MMAP"},
    {"--json", "", "one JSON object alone on stdout"},
};

// ---- train --------------------------------------------------------------------------------------

constexpr Option kTrainOptions[] = {
    {"--config", "FILE", "the config of the run (see configs/)"},
    {"--set", "NAME=VALUE", "an option over the config's, any number of times"},
    {"--run", "DIR", "the run folder; the same command starts a run and resumes it"},
    {"--until-images", "N", "ends cleanly once N images are seen, with a checkpoint and status 0"},
    {"--dry-run", "", "prints the resolved config, parameters, memory and steps; trains nothing"},
    {"--ranks", "N", "ranks the memory of --dry-run is worked out for (default: 1)"},
    {"--no-memory", "", "with --dry-run: leaves out the memory, for which small steps are made"},
    {"--json", "", "with --dry-run: one JSON object alone on stdout"},
};

// ---- evaluate -----------------------------------------------------------------------------------

constexpr Option kEvaluateOptions[] = {
    {"--metrics", "LIST", "names separated by commas (lastframe list metrics)"},
    {"--run", "DIR",
     "evaluates a run's newest whole checkpoint, its averaged weights if it has any"},
    {"--checkpoint", "DIR", "with --run: this checkpoint's folder instead of the newest"},
    {"--set", "NAME=VALUE", "with --run: an option over the run's config, any number of times"},
    {"--samples", "N", "with --run: clips that are made or reconstructed (default: 10000)"},
    {"--subject", "WHAT",
     "with --run: what distances are of, SAMPLES, RECONSTRUCTIONS or AUTO (default: AUTO)"},
    {"--reference", "PATH",
     "with --run: what samples are compared with, a store, a folder of images, a .npy\n"
     "array or .npz statistics (default: the training store)"},
    {"--precision", "NAME",
     "with --run: the arithmetic of the model, FP32 or BF16, which is faster and makes slightly\n"
     "other clips (default: evaluation.precision of the run, FP32 if it has none)"},
    {"--real", "PATH",
     "the real images: a folder, a .npy array of bytes, a store, or .npz statistics in\n"
     "pytorch-fid's layout"},
    {"--fake", "PATH", "the made images: a folder, a .npy array of bytes or a store"},
    {"--extractor", "FILE",
     "its weights, or one of the words pixels (for fd_pixels) and track (for track_outliers and\n"
     "track_wasserstein), which need none"},
    {"--preprocessing", "ID", "torch, tf1 or clean (default: torch)"},
    {"--save-statistics", "FILE",
     "with --fake: writes its mean and covariance as .npz; --real may be left out then, and\n"
     "nothing is compared"},
    {"--features", "A B",
     "compares features A (real) and B, .npy arrays [n, d] or .npz statistics"},
    {"--pairs", "A B",
     "compares images A and B one by one: folders or .npy arrays of bytes or of floats\n"
     "from 0 to 1; for crps B may have one dimension more, in front: the predictions"},
    {"--lpips", "FILE", "the weights of LPIPS (tools/convert_weights), for the metric lpips"},
    {"--codes", "FILE", "a .npy array of codes [images, ...]"},
    {"--codebook", "N", "with --codes: how many codes there are"},
    {"--neighbours", "K", "1 to 1000 (default: 3 for precision and recall, 5 for the others)"},
    {"--seed", "N", "of the samples and of what is drawn (default: 0)"},
    {"--threads", "N",
     "of each rank that makes clips or features, 1 to 4096 (default: 1); another number may\n"
     "round otherwise"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kBenchFrechetOptions[] = {
    {"--dim", "N", "numbers of a feature, 2 to 16384 (default: 2048)"},
    {"--samples", "N", "features of a set, 2 to 10000000 (default: 10000)"},
    {"--threads", "N", "1 to 4096 (default: 1)"},
    {"--trials", "N", "turns that each takes, 1 to 1000 (default: 3); the median is shown"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kSampleOptions[] = {
    {"--run", "DIR", "the folder of a run, or of one of its checkpoints"},
    {"--out", "FILE|DIR",
     ".png: every frame, a clip a row, observed ones in green; .apng: moving; .npy: bytes\n"
     "[n, T, H, W, C]; anything else: a folder with the array and pictures of the first 64 clips"},
    {"--count", "N", "clips to make, 1 to 100000000 (default: 16)"},
    {"--seed", "S", "clip i is a function of this and i (default: 0)"},
    {"--class", "N", "the class of all clips (default: each draws its own, if the model has any)"},
    {"--frames", "N", "frames of a clip, 1 to 1000000 (default: as trained)"},
    {"--set", "PATH=VALUE",
     "an option over the run's config, such as model.diffusion.sampler.kind=DPM"},
    {"--store", "DIR",
     "reconstructs the first clips of this store, or makes them from the part that the model is\n"
     "given; with --given or --observe goes on from these frames of them"},
    {"--from", "NPY",
     "clips that were made, bytes [n, T, H, W, C], in place of a store's: small ones for a model\n"
     "that makes clips larger, else frames to go on from"},
    {"--given", "N", "of each given clip the first N frames are kept, 1 to 4096"},
    {"--observe", "LIST", "of each given clip these frames are kept, such as 0,4,8"},
    {"--task", "NAME",
     "what is to be done: generate, predict, extend, infill, upsample or complete (see\n"
     "`lastframe list tasks`); says which frames of the given clips are kept, where --given and\n"
     "--observe do not"},
    {"--scheme", "NAME",
     "in which order models with frames=FLEXIBLE make a video: autoregressive, long-range or\n"
     "hierarchy-2 (or more levels), after adaptive- by what the frames look like"},
    {"--lpips", "FILE",
     "adaptive schemes compare frames by LPIPS with these weights, not by pixels"},
    {"--dry-run", "", "prints the stages in which a clip would be made, and makes none"},
    {"--text", "NPY",
     "floats [n, width] that say what to show, a row for each clip or one for all"},
    {"--precision", "NAME",
     "FP32 or BF16, which is faster and makes slightly other clips (default: FP32)"},
    {"--threads", "N", "of each rank, 1 to 4096 (default: 1); another number may round otherwise"},
    {"--json", "", "one JSON object alone on stdout"},
};

// ---- features -----------------------------------------------------------------------------------

constexpr Option kFeaturesOptions[] = {
    {"--extractor", "FILE",
     "the network: safetensors as tools/convert_weights or `lastframe export` write\n"
     "it, or TorchScript; TorchScript runs what is in it, so take only files you trust"},
    {"--layer", "NAME", "which of its layers, such as 64, 192, 768, 2048, spatial or logits"},
    {"--images", "DIR|NPY", "JPEG and PNG files below a folder, or an array of bytes"},
    {"--out", "NPY", "the array of float32 [n, dim] that is written"},
    {"--preprocessing", "ID", "torch (pytorch-fid's), tf1 or clean (default: torch)"},
    {"--set", "PATH=VALUE",
     "an option of the source, such as source.size=64 or source.npy.layout=NHW"},
    {"--precision", "NAME",
     "FP32, or BF16 in the convolutions: faster, and slightly other numbers (default: FP32)"},
    {"--batch", "N", "images loaded at a time, 1 to 65536 (default: 64)"},
    {"--threads", "N", "CPU threads, 1 to 4096 (default: one a core)"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kBenchCommOptions[] = {
    {"--trials", "N",
     "turns that each way takes, 1 to 10000 (default: 21);\nthe lower quartile is shown"},
    {"--max-bytes", "N", "the largest message, 4 to 67108864 (default: 67108864)"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kBenchStepOptions[] = {
    {"--config", "FILE", "the config whose model, batch and clips are measured"},
    {"--set", "PATH=VALUE", "sets one option, such as train.precision=BF16"},
    {"--threads", "N", "CPU threads of each rank, 0 to 4096 (default: train.threads)"},
    {"--seconds", "N", "how long to measure, 1 to 3600; at least 5 steps are made (default: 10)"},
    {"--breakdown", "",
     "also which operations take the time, their arithmetic, and what part of the\n"
     "speed of products alone a step reaches; of a GPU its kernels, and the products of\n"
     "each precision"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Option kBenchSampleOptions[] = {
    {"--config", "FILE", "the config whose model is measured"},
    {"--set", "PATH=VALUE", "sets one option, such as model.diffusion.sampler.steps=20"},
    {"--count", "N", "clips that each rank makes at a time, 1 to 65536 (default: 16)"},
    {"--precision", "NAME", "FP32 or BF16 (default: FP32)"},
    {"--breakdown", "", "then where the time of one making goes, operation by operation"},
    {"--threads", "N", "CPU threads of each rank, 0 to 4096 (default: train.threads)"},
    {"--seconds", "N", "how long to measure, 1 to 3600; at least 3 times (default: 10)"},
    {"--json", "", "one JSON object alone on stdout"},
};

constexpr Command kCommands[] = {
    {"build", "", "makes a store of pseudo videos from images or videos",
     "Run it again after any interruption: finished shards are kept. Under mpirun or in a SLURM\n"
     "array each process makes its share, and the bytes are the same for any number of them. "
     "Items\n"
     "that cannot be used are left out and listed in DIR/quarantine.txt. SIGUSR1 or SIGTERM ends "
     "it\n"
     "with status 75 (start me again), a file DIR/STOP with status 0.",
     "lastframe build --set source.folder.path=photos --set source.size=64 --out stores/photos\n"
     "mpirun -n 4 lastframe build --config configs/cifar10.pbtxt --out stores/cifar10",
     kBuildOptions, run_build},
    {"verify", "STORE", "checks every byte of a store, and repairs it",
     "Each missing, extra, swapped, renamed or truncated shard and each flipped bit is named on\n"
     "stderr; the status is then 3. A repaired store has the bytes it was built with.",
     "lastframe verify stores/cifar10\nlastframe verify stores/cifar10 --repair", kVerifyOptions,
     run_verify},
    {"inspect", "FOLDER", "says what a store, a run or a checkpoint holds and draws a clip",
     "Of a run: its checkpoints, newest first, each byte compared with its checksum. Of a\n"
     "checkpoint: its tensors.",
     "lastframe inspect stores/cifar10 --json\n"
     "lastframe inspect stores/cifar10 --clip 17 --strip clip.png --animation clip-moving.png\n"
     "lastframe inspect stores/cifar10 --shard 3\n"
     "lastframe inspect runs/first --json",
     kInspectOptions, run_inspect},
    {"merge", "OUT STORE...", "joins stores of one recipe and shape into a new one",
     "Shards are copied as they are, one store after the other; the stores given stay.",
     "lastframe merge stores/all stores/part-one stores/part-two", kMergeOptions, run_merge},
    {"export", "FOLDER", "writes clips of a store, or the weights of a run, for other programs",
     "Clips as a NumPy array or as PNG files. Of a run the newest whole checkpoint is taken; a\n"
     "checkpoint's folder may be given instead.",
     "lastframe export stores/cifar10 --npy clips.npy --range 0:100\n"
     "lastframe export stores/cifar10 --png clips\n"
     "lastframe export runs/first --out first.safetensors",
     kExportOptions, run_export},
    {"train", "", "trains a model on a store, or goes on training",
     "Progress, data order and schedules are counted in images, so batch and ranks do not change\n"
     "them. SIGUSR1, SIGTERM and the end of the allocation lead to a checkpoint and status 75 "
     "(start\n"
     "me again); a file named STOP in the run folder to a checkpoint and status 0. Without\n"
     "train.store, a generated source is built under the run folder first.\n\n"
     "The run folder holds config.pbtxt, status.json, checkpoints/, metrics.jsonl, TensorBoard\n"
     "events, samples/ and logs/.",
     "lastframe train --config configs/quickstart.pbtxt --run runs/first\n"
     "mpirun -n 2 --bind-to none lastframe train --config configs/quickstart.pbtxt --run "
     "runs/first\n"
     "lastframe train --config configs/quickstart.pbtxt --set train.batch=32 --dry-run --json",
     kTrainOptions, run_train},
    {"evaluate", "[B]", "measures a run, images, features or pairs: FID, KID, PSNR, SSIM, ...",
     "Of a run, all ranks make clips 0..N-1 of the seed (or reconstruct the first N of the\n"
     "validation store), and rank 0 prints and writes RUN/evaluations/*.json; the answer does not\n"
     "depend on their number. What was made is kept by the checkpoint's hash: an evaluation that "
     "was\n"
     "interrupted (status 75) goes on, and one that is repeated with other metrics samples "
     "nothing\n"
     "again. A result is named for what it is: fid by Inception's 2048 features only.",
     "mpirun -n 4 --bind-to none lastframe evaluate --run runs/first --extractor "
     "inception.safetensors "
     "\\\n"
     "    --metrics fid768,psnr --json\n"
     "lastframe evaluate --real photos --fake made --extractor inception.safetensors --metrics "
     "fid\n"
     "lastframe evaluate --features real.npy made.npy --metrics frechet,kid --json\n"
     "lastframe evaluate --pairs real made --metrics psnr,ssim",
     kEvaluateOptions, run_evaluate},
    {"sample", "", "makes images and videos with the model of a run",
     "The averaged weights of the newest whole checkpoint are used. A prior makes clips from "
     "nothing,\n"
     "or goes on with given frames, and so does diffusion; an autoencoder reconstructs. Under "
     "mpirun\n"
     "each rank makes its share, and a clip has the same bits for any number of ranks. A GPU is\n"
     "used where each rank has one, unless --set train.device=CPU. Run it again after any\n"
     "interruption: clips that were made are kept in OUT.parts until all are.",
     "lastframe sample --run runs/prior --count 64 --out samples.png\n"
     "mpirun -n 2 --bind-to none lastframe sample --run runs/prior --count 10000 --out fake.npy\n"
     "lastframe sample --run runs/cvivit --store stores/cifar10 --count 8 --out seen.png\n"
     "lastframe sample --run runs/fdm --task infill --store stores/moving --observe 0,1,15 "
     "--frames 40 \\\n  --scheme hierarchy-2 --out between",
     kSampleOptions, run_sample},
    {"features", "", "writes what a feature extractor sees in images, as a NumPy array",
     "Rows are in the order of the files' paths, or of the array. The preprocessing belongs to\n"
     "Inception; other extractors bring their own. Weights are brought by you and none are\n"
     "downloaded; without any, train model.classifier and export it.",
     "lastframe features --extractor inception.safetensors --layer 2048 --images photos --out "
     "photos.npy\n"
     "lastframe features --extractor own.safetensors --layer features --images clips.npy --out "
     "f.npy --json",
     kFeaturesOptions, run_features},
    {"doctor", "", "says what this program runs on, and tries it",
     "Prints the version and path of every shared library that matters, the CPU's features, the\n"
     "GPUs, and one line a rank. Two copies of one library in the process are a warning. With\n"
     "--smoke every rank also takes part in an all-reduce whose sums are known exactly, in a test\n"
     "of the folder and in a delivery of SIGUSR1; if one fails the exit status says so.\n\n"
     "As root, Open MPI's mpirun asks for OMPI_ALLOW_RUN_AS_ROOT=1 and\n"
     "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 in the environment.",
     "lastframe doctor\n"
     "mpirun -n 4 --oversubscribe --bind-to none lastframe doctor --smoke --json\n"
     "srun -n 8 lastframe doctor --smoke --folder /scratch/me",
     kDoctorOptions, run_doctor},
    {"list", "[TABLE] [PREFIX]", "prints what there is to choose from: options, sources, ...",
     "Without a word: the tables. With one: its rows, of names that begin with PREFIX.",
     "lastframe list\nlastframe list options train.\nlastframe list options --json", kListOptions,
     run_list},
    {"plan", "", "tells what a store will cost before it is built",
     "Looks at some items of the source and times the recipe for two seconds, then says for "
     "STORED\n"
     "and for RECOMPUTED: bytes on disk, hours to build on one core of this machine, bytes a "
     "second\n"
     "that training asks of the file system, and cores that making the frames keeps busy.",
     "lastframe plan --config configs/quickstart.pbtxt --images-per-second 5000\n"
     "lastframe plan --set source.folder.path=photos --set source.size=64 --json",
     kPlanOptions, run_plan},
    {"bench load", "DIR", "how many clips of a store one process loads a second",
     "Reads the store DIR at random as training would, every checksum checked: first once through\n"
     "(or for twice --seconds), to warm the page cache, then in seven windows whose median counts.",
     "lastframe bench load STORE\n"
     "lastframe bench load STORE --threads 1 --set loader.read=MMAP --json",
     kBenchLoadOptions, bench_load},
    {"bench recipe", "", "how many pseudo videos one core makes a second",
     "Applies the recipe to images in memory on one thread: no reading, decoding or storing.",
     "lastframe bench recipe\n"
     "lastframe bench recipe --size 256 --set recipe.topology=STAR --set recipe.noise={} --json",
     kBenchRecipeOptions, bench_recipe},
    {"bench frechet", "", "times the moments of features and the Frechet distance",
     "Mean and covariance are gathered from single-precision features in double precision; the "
     "bare\n"
     "product of the same matrix takes turns with it. Features are drawn here.",
     "lastframe bench frechet\nlastframe bench frechet --dim 768 --threads 2 --json",
     kBenchFrechetOptions, bench_frechet},
    {"bench step", "", "how long a training step takes",
     "Makes steps as `train` does, all-reduce, clipping, optimiser and averages included, on noise "
     "of\n"
     "the shape that the config's source and recipe give; no store is read. The median over the "
     "steps\n"
     "after three that warm up is told; on a GPU the mean over all of them, from when it was idle "
     "until\n"
     "it is again, and its memory (--set train.graph=ON records the step as one graph). "
     "Under "
     "mpirun\n"
     "all ranks take part, and train.batch is shared out. New pages are memory the system had to\n"
     "give: next to none where steps live on what earlier ones freed.",
     "lastframe bench step --config configs/quickstart.pbtxt --threads 1 --json\n"
     "mpirun -n 2 --bind-to none lastframe bench step --config configs/quickstart.pbtxt",
     kBenchStepOptions, bench_step},
    {"bench sample", "", "how long the making of clips takes",
     "Makes clips as `train` does for its previews, with the weights that a run starts from, which "
     "take\n"
     "as long as trained ones. Of models that are given frames or small clips, those are noise. "
     "The\n"
     "median after one that warms up is told. Under mpirun every rank makes as many.",
     "lastframe bench sample --config configs/peers/unet3d.pbtxt --count 4 --threads 1 --json\n"
     "mpirun -n 2 --bind-to none lastframe bench sample --config configs/quickstart.pbtxt",
     kBenchSampleOptions, bench_sample},
    {"bench comm", "", "times our all-reduce on host memory against MPI_Allreduce",
     "Both take turns on the same floats, at 4 bytes and each four times as many up to 64 MiB. "
     "The\n"
     "ratio is the speed of ours as a part of MPI's own; ours also checks that all ranks make the\n"
     "same call, leaves the core to others while a rank is late, and runs beside the computation.",
     "mpirun -n 2 --bind-to none lastframe bench comm\n"
     "mpirun -n 4 --bind-to none lastframe bench comm --max-bytes 16777216 --json",
     kBenchCommOptions, bench_comm},
};

}  // namespace

std::span<const Command> command_table() { return kCommands; }

}  // namespace lf

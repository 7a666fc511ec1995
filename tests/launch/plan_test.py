"""`lastframe plan --gpu`: each number that is printed is its formula's, computed here once more; the five
that scripts rely on by closed forms; strict rates; a measured step in place of counted arithmetic."""

import math

from harness import *

config.write_text(config.read_text().replace("autoencoder { width: 8 latent: 4 dropout: 0.3 }",
                                             "unet { width: 8 multipliers: [1, 2] blocks: 1 attention: [4] }"))
UNET = [f"train.store={here / 'not-here'}", "source.size=8", "model.diffusion={ sampler { kind: DDIM steps: 7 } }",
        "train.batch=192", "train.images=1920"]
CLUSTER = ["--nodes", "4", "--gpus-per-node", "8", "--gpu", "a100", "--net", "200 Gb/s", "--fs", "2.5GB/s"]


def planned(*words, sets=UNET):
    return json.loads(output("plan", "--config", config, *with_sets(sets), "--json", *words))


def near(one, other):
    return abs(one - other) <= 1e-9 * max(abs(one), abs(other))


plan = planned(*CLUSTER, "--explain")
known = {"min": min, "max": max, "ceil": math.ceil, "floor": math.floor, "log2": math.log2}
known |= {name: value for name, value in plan.items() if not isinstance(value, dict)}
for name, formula in plan["formulas"].items():
    expect(near(eval(formula, known), plan[name]), f"{name} = {formula} is {eval(formula, known)}, not {plan[name]}")
expect(set(plan["about"]) == set(known) - {"min", "max", "ceil", "floor", "log2", "__builtins__"}, "what a number is")

# 32 GPUs of 6 clips; the data sheet of an A100; the host launches so small a network's operations.
sheet = dict(gpu_memory_bytes=79 * 2**30, product_peak=19.5e12, convolution_peak=156e12, memory_bytes_per_s=2.039e12,
             link_bytes_per_s=3e11, net_bytes_per_s=2.5e10, fs_bytes_per_s=2.5e9, gpus=32, images_per_gpu=6, steps=10)
for name, value in sheet.items():
    expect(near(plan[name], value), f"{name} is {plan[name]}, expected {value}")
dry = json.loads(output("train", "--config", config, *with_sets(UNET[1:]), "--dry-run", "--no-memory", "--json"))
gradients = 4 * dry["parameters"]
state = 4 * gradients  # weights, two moments and an average
expect(0 <= plan["state_bytes"] - state < 4096 and plan["gradient_bytes"] == gradients,
       f"state of {plan['state_bytes']} bytes, gradients of {plan['gradient_bytes']}")
state = plan["state_bytes"]
expect(plan["memory_bytes_per_gpu"] == 1.5 * 2**30 + plan["first_image_bytes"] + 5 * plan["image_bytes"] and
       plan["first_image_bytes"] > state + gradients and plan["image_bytes"] > 3 * 3 * 64 * 4, "memory of a GPU")
expect(near(plan["allreduce_seconds"], 2 * 31 / 32 * gradients / 2e10 + 2 * 5 * 15e-6), "all-reduce of one bucket")
expect(plan["allreduce_hidden_seconds"] == 0, "the only bucket is the last, which nothing hides")
expect(near(plan["step_seconds"], plan["operations"] * 4e-6 + 2 * (state + gradients) / 2.039e12 +
            plan["allreduce_seconds"]), "a step")
expect(near(plan["checkpoint_stall_seconds"], 0.005 + plan["staged_bytes_per_gpu"] / 32e9) and
       state / 32 <= plan["staged_bytes_per_gpu"] <= state, "what a checkpoint stops")
expect(near(plan["gpu_hours"], 32 * (10 * plan["step_seconds"] + 16 * plan["checkpoint_stall_seconds"]) / 3600), "GPU-hours")

# Sampling counted from a few steps is what all of them count.
made = json_in(output("bench", "sample", "--config", config, *with_sets(UNET[1:3]), "--count", "1", "--seconds", "1",
                      "--breakdown", "--json", "--set", "train.kernels=REFERENCE"))
expect(plan["sample_flops"] == sum(row["flops"] for row in made["operations"]) > 0, "arithmetic of a sample")

# A measured step: at its own batch and ranks the plan is the measurement.
bench = here / "bench.json"
step = dict(ms_per_step=50.0, communication_share=0.2, ranks=2, batch=12, parameters=dry["parameters"],
            clip_shape=dry["clip_shape"], precision="FP32", device="cuda:0")


def with_bench(*words, sets=UNET, **changed):
    bench.write_text(json.dumps(step | changed, separators=(",", ":")) + "\n")
    return ["plan", "--config", config, *with_sets(sets), "--gpu", "a100", "--bench", bench, *words]


alone = json.loads(output(*with_bench("--json", sets=[*UNET, "train.batch=6"])))
expect(near(alone["step_seconds"], 0.040), f"40 ms of 6 clips became {alone['step_seconds']}")
here_cpu = planned("--gpu", "cpu", sets=[f"train.store={here / 'not-here'}"])
expect(here_cpu["memory_bytes_per_gpu"] > 2**25 and 0 < here_cpu["step_seconds"] < 10 and here_cpu["gpus"] == 1,
       f"a rank on this CPU: {here_cpu}")

for words, part in ((["--gpu", "h10"], "did you mean 'h100'?"), (["--gpu", "v100", "--set", "train.precision=BF16"], "no bf16"),
                    (["--gpu", "t4", "--nodes", "7"], "7 ranks"), (["--nodes", "2"], "without --gpu"),
                    (["--gpu", "t4", "--set", "source={}"], "there is no store"),
                    (["--gpu", "t4", "--ranks", "2"], "--gpu"),
                    *((["--gpu", "t4", f"--fs={rate}"], f"'{rate}'") for rate in (
                        "5", "5GB", "5gB/s", "0GB/s", "-1GB/s", "1e3GB/s", "GB/s", "1.2.3GB/s", "5 parsecs/s"))):
    done = run(program, "plan", "--config", config, *with_sets(UNET), *words)
    expect(done.returncode == 2 and is_one_sentence(done.stderr) and part in done.stderr, f"{words}: {done.stderr!r}")
for changed, part in ((dict(parameters=5), "parameters 5"), (dict(device="cpu"), "device cpu"), (dict(ms_per_step="?"), "ms_per_step")):
    done = run(program, *with_bench(**changed))
    expect(done.returncode == 2 and is_one_sentence(done.stderr) and part in done.stderr, f"{changed}: {done.stderr!r}")
finish()

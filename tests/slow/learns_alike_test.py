"""Fused operations train as plain ones do: with either, the validation loss of a U-Net and of a C-ViViT over
pseudo videos falls along the same curve, as near as another seed's is. Slow. On two ranks.
"""

from learning import *

MODELS = {
    "unet3d": (configs / "common.pbtxt", [
        "model.unet3d={ dim: 16 multipliers: [1, 2] heads: 2 head_width: 16 }",
        "model.diffusion.schedule=COSINE_LOG_SNR", "model.diffusion.prediction=V", "train.batch=16"]),
    "cvivit": (configs / "video.pbtxt", ["train.batch=16"]),
}
IMAGES, TIMES = 2400, 4
build("video", configs / "video.pbtxt", images_of("shapes"))


def curve(model, form, seed):
    config, sets = MODELS[model]
    run = learn(f"{model}-{form}-{seed}", config, "video", IMAGES, [
        *sets, f"train.kernels={form}", f"train.seed={seed}", f"train.validation_images={IMAGES // TIMES}",
        "train.validation_clips=512", "train.ema.half_life_images=200", "train.optimizer.warmup_images=200"])
    events = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    losses = numpy.array([found["loss"] for found in events if found.get("event") == "validation"])
    print(f"{model}, {form}, seed {seed}: validation loss {' '.join(f'{loss:.4f}' for loss in losses)}", flush=True)
    check(len(losses) >= TIMES and losses[-1] < 0.95 * losses[0], f"{model}: validation losses {losses} do not fall")
    return losses


for model in MODELS:
    fused, plain = (numpy.stack([curve(model, form, seed) for seed in (0, 1)]) for form in ("FUSED", "REFERENCE"))
    seeds = max(numpy.abs(numpy.diff(fused, axis=0)).max(), numpy.abs(numpy.diff(plain, axis=0)).max())
    forms = numpy.abs(fused.mean(0) - plain.mean(0)).max()
    print(f"{model}: curves of fused and plain operations are {forms:.3g} apart, of seeds {seeds:.3g}", flush=True)
    check(forms <= max(seeds, 0.01 * plain.min()), f"{model}: the forms are {forms} apart, the seeds {seeds}")

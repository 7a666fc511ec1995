"""Diffusion with a network of this package: noise schedules, what its output says of the image, and the samplers DDIM
and DPM-Solver++(2M). Frames are sampled jointly and unconditionally; training, windows of long videos, given frames
and the other samplers are the program's.
"""
import math
from dataclasses import dataclass

import numpy as np
import torch

from lastframe_io import DataError


@dataclass
class Level:
    """z = alpha x + sigma e at diffusion time `time`; 0 is clean, 1 the noisiest."""
    time: float
    alpha: float
    sigma: float

    def log_snr(self):
        return 2 * (math.log(self.alpha) - math.log(self.sigma)) if self.alpha > 0 else -math.inf


CLEAN = Level(0, 1, 0)


def _log_alpha_bars(options):
    """log alpha^2 of every step of a schedule of discrete ones; none for a continuous one."""
    u = np.arange(options.steps) / (options.steps - 1)
    low, high = (beta * 1000 / options.steps for beta in (options.beta_low, options.beta_high))
    if options.schedule == "LINEAR":
        betas = low + u * (high - low)
    elif options.schedule == "SCALED_LINEAR":
        betas = (low**0.5 + u * (high**0.5 - low**0.5))**2
    elif options.schedule == "COSINE":
        bars = np.cos((np.arange(options.steps + 1) / options.steps + 0.008) / 1.008 * math.pi / 2)**2
        betas = np.minimum(options.beta_max, 1 - bars[1:] / bars[:-1])
    else:
        return []
    bars = np.cumsum(np.log1p(-betas))
    if options.zero_terminal_snr:  # alpha rescaled so that the last level has none and the first keeps its own
        first, last = np.exp(bars[0] / 2), np.exp(bars[-1] / 2)
        alpha = (np.exp(bars / 2) - last) * first / (first - last)
        with np.errstate(divide="ignore"):
            bars = 2 * np.log(np.maximum(alpha, 0))
    return bars.tolist()


class Schedule:
    """The noise levels of config.model.diffusion, for images of `height` pixels."""

    def __init__(self, options, height):
        self.options, self.bars = options, _log_alpha_bars(options)
        self.shift = -2 * math.log(height / options.reference_size) if options.reference_size > 0 else 0

    def _log_snr(self, time):
        o = self.options
        if self.bars:  # log alpha is interpolated between the steps; step -1 is clean
            k = time * len(self.bars) - 1
            k = round(k) if abs(k - round(k)) < 1e-9 else k
            below = math.floor(min(max(k, -1), len(self.bars) - 1))
            values = [0 if i < 0 else self.bars[min(i, len(self.bars) - 1)] for i in (below, below + 1)]
            part = min(max(k - below, 0), 1)
            bar = values[0] if part == 0 else (1 - part) * values[0] + part * values[1]
            return math.inf if bar == 0 else bar - math.log(-math.expm1(bar))
        if o.schedule == "COSINE_LOG_SNR":
            b = math.atan(math.exp(-10))
            return -2 * math.log(math.tan((math.atan(math.exp(10)) - b) * time + b))
        if o.schedule == "LINEAR_LOG_SNR":
            return 20 * (1 - 2 * time)
        if o.schedule == "EDM":
            low, high = o.sigma_min**(1 / 7), o.sigma_max**(1 / 7)
            return -14 * math.log(low + time * (high - low))
        if time in (0, 1):  # FLOW
            return math.inf if time == 0 else -math.inf
        return 2 * (math.log1p(-time) - math.log(time))

    def _level(self, time, log_snr):
        def share(x):  # 1 / (1 + exp(-x))
            return 0.0 if x < -700 else 1 / (1 + math.exp(-x))
        if self.options.schedule == "EDM":
            return Level(time, 1, math.exp(-log_snr / 2))
        if self.options.schedule == "FLOW":
            return Level(time, share(log_snr / 2), share(-log_snr / 2))
        return Level(time, share(log_snr)**0.5, share(-log_snr)**0.5)

    def at(self, time):
        return self._level(time, self._log_snr(time) + self.shift)

    def at_log_snr(self, log_snr):
        cleaner, noisier = 0.0, 1.0
        for _ in range(60):
            middle = (cleaner + noisier) / 2
            if self._log_snr(middle) + self.shift > log_snr:
                cleaner = middle
            else:
                noisier = middle
        return self._level((cleaner + noisier) / 2, log_snr)

    def signal(self, level):
        """What the network is told of a level, 0 to 1000."""
        if self.bars:
            return 1000 * (level.time - 1 / len(self.bars))
        return 2000 / math.pi * math.atan(math.exp(-min(max(level.log_snr(), -20), 20) / 2))

    def levels(self, count=0, spacing="TIME", rho=7):
        """`count` levels of sampling, noisiest first; 0: all steps of a table, otherwise 50."""
        steps = len(self.bars)
        count = count or steps or 50
        if spacing in ("LOG_SNR", "KARRAS"):
            return self._in_noise(count, rho if spacing == "KARRAS" else 0)
        if not steps:
            if spacing != "TIME":
                raise DataError(f"spacing {spacing} is for schedules of discrete steps, and {self.options.schedule} is "
                                "none; expected TIME, LOG_SNR or KARRAS")
            parts = max(1, count - 1) if self.options.schedule == "EDM" else count
            return [self.at(1 - i / parts) for i in range(count)]
        if count > steps:
            raise DataError(f"{count} steps of sampling are asked for, expected at most the schedule's {steps}")
        which = {"STRIDE": lambda i: i * (steps // count),
                 "TRAILING": lambda i: _rounded((i + 1) * steps / count) - 1,
                 "TIME": lambda i: steps - 1 if count == 1 else _rounded(i * (steps - 1) / (count - 1))}[spacing]
        return [self.at((which(i) + 1) / steps) for i in reversed(range(count))]

    def _in_noise(self, count, rho):
        """Equal steps of log(sigma / alpha) or, with rho, of (sigma / alpha)^(1 / rho)."""
        def log_noise(time):
            return -self.at(time).log_snr() / 2 if self.at(time).sigma > 0 else -math.inf
        least = log_noise(1 / len(self.bars) if self.bars else 0)
        most, least = min(log_noise(1), 10), least if math.isfinite(least) else log_noise(1 / max(2, count))
        levels = []
        for i in range(count):
            u = i / (count - 1) if count > 1 else 0
            if rho:
                noise = math.log((1 - u) * math.exp(most / rho) + u * math.exp(least / rho)) * rho
            else:
                noise = most + u * (least - most)
            levels.append(self.at_log_snr(-2 * noise))
        return levels


def _rounded(x):
    return math.floor(x + 0.5)


def scaling(prediction, level, data):
    """(skip, out, in) of x = skip z + out F(in z), F being the network."""
    alpha, sigma = level.alpha, level.sigma
    if prediction == "NOISE":
        return 1 / alpha, -sigma / alpha, 1
    if prediction == "IMAGE":
        return 0, 1, 1
    if prediction == "V":
        square = alpha * alpha + sigma * sigma
        return alpha / square, -sigma / square, 1
    if prediction == "PRECONDITIONED":
        root = math.hypot(sigma, alpha * data)
        return alpha * (data / root)**2, sigma * data / root, 1 / root
    return 1 / (alpha + sigma), -sigma / (alpha + sigma), 1  # VELOCITY


def estimate(net, schedule, z, level, index=None, role=None, labels=None, text=None, small=None):
    """The network's estimate of the image of z, all of whose frames have this noise level; `level` may also be a list
    with one for each frame. `small`: the upsampled clips of a model of super-resolution."""
    options = net.config.model.diffusion
    levels = level if isinstance(level, list) else [level] * z.shape[1]
    scalings = torch.tensor([scaling(options.prediction, one, options.sigma_data) for one in levels], device=z.device)
    skip, out, into = (column.view(1, -1, 1, 1, 1).float() for column in scalings.unbind(1))
    signal = torch.tensor([schedule.signal(one) for one in levels], device=z.device).expand(len(z), -1)
    inputs = into * z if options.prediction == "PRECONDITIONED" else z
    inputs = inputs if small is None else torch.cat([inputs, small], -1)
    made = net(inputs, signal, index, role, labels, text)
    return skip * z + out * made[..., :z.shape[-1]]


def within_range(image, sampler):
    """Thresholding of an estimate to the range of pixels."""
    if sampler.threshold == "NONE":
        return image
    if sampler.threshold == "STATIC":
        return image.clamp(-1, 1)
    bound = image.flatten(1).abs().quantile(sampler.quantile, 1).clamp_min(1).view(-1, *[1] * (image.dim() - 1))
    return image.clamp(-bound, bound) / bound


def sampler_of(options, changes):
    """config.model.diffusion.sampler with changes; refused unless integrate() does it."""
    sampler = type(options.sampler)({**options.sampler, **changes})
    if sampler.kind not in ("DDIM", "DPM"):
        raise DataError(f"the sampler is {sampler.kind}, expected DDIM or DPM here; `lastframe sample` has the others")
    for name in ("eta", "corrector_steps"):
        if sampler.get(name, 0) > 0 and (name != "eta" or sampler.kind == "DDIM"):
            raise DataError(f"the sampler has {name}={sampler[name]}, steps with noise, expected 0 here; `lastframe "
                            f"sample` has it, and {name}=0 leaves it out")
    return sampler


def integrate(sampler, schedule, noise, image_of):
    """From noise to what image_of(z, level) estimates ever better."""
    levels = schedule.levels(sampler.steps, sampler.spacing, sampler.rho) + [CLEAN]
    z = noise * (levels[0].sigma if schedule.options.schedule == "EDM" else 1)
    before, length_before = None, 0
    for i, (t, s) in enumerate(zip(levels, levels[1:])):
        image = image_of(z, t)
        if s.sigma == 0:
            z = image
        elif sampler.kind == "DDIM":
            z = s.alpha * image + s.sigma * (z - t.alpha * image) / t.sigma
        else:  # second order: a straight line through this estimate and the last one
            length = (s.log_snr() - t.log_snr()) / 2
            first = before is None or not math.isfinite(length_before) or (sampler.lower_last and i + 3 == len(levels))
            ahead = image if first else image + length / (2 * length_before) * (image - before)
            z = s.sigma / t.sigma * z - s.alpha * math.expm1(-length) * ahead
            before, length_before = image, length
    return z


@torch.no_grad()
def sample(net, noise, labels=None, text=None, **changes):
    """Clips [B, T, H, W, C] in [-1, 1] from noise of net.clip_shape, by config.model.diffusion.sampler, in which
    `changes` such as kind="DPM", steps=20, spacing="LOG_SNR" or guidance=2 replace options."""
    options = net.config.model.diffusion
    sampler = sampler_of(options, changes)
    if options.frames not in ("JOINT", "RANDOM") or options.upscale > 1:
        raise DataError(f"this model samples with frames={options.frames} and upscale={options.upscale}, only clips as "
                        "a whole and unconditionally are sampled here; `lastframe sample` does the rest")
    schedule = Schedule(options, net.clip_shape[1])
    guided = sampler.guidance != 1 and (labels is not None or text is not None)

    def image_of(z, level):
        image = estimate(net, schedule, z, level, labels=labels, text=text)
        if guided:
            none = estimate(net, schedule, z, level, labels=None if labels is None else torch.full_like(labels, -1),
                            text=None if text is None else torch.zeros_like(text))
            image = none + sampler.guidance * (image - none)
        return image if net.latents is not None else within_range(image, sampler)

    z = integrate(sampler, schedule, noise, image_of)
    return z.clamp(-1, 1) if net.latents is None else net.decoded(z)

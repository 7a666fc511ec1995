"""The defaults of the options that decide what a network is (src/config/run.proto): for configs that leave some out, as
a short one or that of an older program does."""
from lastframe_io import Config, DataError, parse_text

QUANTISER = """
    ema { codes: 1024 dim: 32 cosine: true }
    learnt { codes: 1024 dim: 32 }
    fsq { levels: [8, 5, 5, 5] }
    lfq { bits: 14 }
    variational { dim: 4 }
    groups: 1
"""
GAN = "gan { weight: 0 width: 64 layers: 3 }"
DEFAULTS = parse_text(f"""
    unet {{
      width: 128 multipliers: [1, 2, 2, 2] blocks: 2 attention: [16] heads: 1 scale_shift: false dropout: 0
      temporal_position: true scaled_sums: false temporal: AFTER mark_observed: false
    }}
    unet3d {{
      dim: 64 multipliers: [1, 2, 4, 8] heads: 8 head_width: 32 spatial_head_width: 0 temporal_position: true
    }}
    dit {{ patch: 2 width: 384 layers: 6 heads: 6 expansion: 4 temporal_position: true }}
    vqvae {{
      width: 64 multipliers: [1, 2, 4] blocks: 2 attention: [8] latent: 64 quantiser {{ {QUANTISER} }} {GAN}
    }}
    cvivit {{
      width: 256 patch: 4 temporal_patch: 1 spatial_layers: 3 temporal_layers: 3 heads: 8 head_width: 32 stem: 0
      stem_width: 64 patch_norm: AFTER quantiser {{ {QUANTISER} }} {GAN}
    }}
    diffusion {{
      schedule: LINEAR steps: 1000 beta_low: 0.0001 beta_high: 0.02 beta_max: 0.999 zero_terminal_snr: false
      reference_size: 0 sigma_min: 0.002 sigma_max: 80 sigma_data: 0.5 prediction: NOISE learned_variance: false
      frames: JOINT history: 1 window: 8 classes: 0 text: "" text_width: 1024 text_tokens: 0 upscale: 1 tokenizer: ""
      sampler {{
        kind: ANCESTRAL steps: 0 spacing: TIME rho: 7 eta: 0 lower_last: true threshold: STATIC quantile: 0.995
        guidance: 1
      }}
    }}
""", "the defaults")
DENOISERS, TOKENIZERS = ("unet", "unet3d", "dit"), ("vqvae", "cvivit")
MOST = {"layers": 256, "spatial_layers": 64, "temporal_layers": 64, "blocks": 16, "stem": 6}  # as in run.proto
LARGEST = 1 << 20  # of any other number
QUANTISERS = ("ema", "learnt", "fsq", "lfq", "variational")


def _merged(defaults, given):
    whole = Config(given)
    for name, value in defaults.items():
        if isinstance(value, Config):
            whole[name] = _merged(value, given.get(name, Config()))
        elif name not in given:
            whole[name] = value
        elif isinstance(value, list) and not isinstance(given[name], list):
            whole[name] = [given[name]]
    return whole


def _check(options, place):
    """Refuses numbers by which a hostile file would make a network without end."""
    for name, value in options.items():
        if isinstance(value, Config):
            _check(value, f"{place}.{name}")
        values, most = value if isinstance(value, list) else [value], MOST.get(name, LARGEST)
        if len(values) > 64 or any(isinstance(n, (int, float)) and not 0 <= n <= most for n in values):
            raise DataError(f"the config has {place}.{name}={str(value):.40}, expected at most {most}; give an export "
                            "that lastframe wrote")


def kind_of(config):
    """The network that a config has: "unet", "unet3d", "dit", "vqvae" or "cvivit"."""
    model = config.get("model", Config())
    for kind in DENOISERS + TOKENIZERS:
        if kind in model:
            return kind
    others = [name for name in model if name != "diffusion"]
    raise DataError(f"the config has model.{others[0] if others else '(nothing)'}, expected one of "
                    f"{', '.join(DENOISERS + TOKENIZERS)}; other models have no twin here")


def completed(config):
    """The config with the defaults of its network."""
    kind = kind_of(config)
    own = _merged(DEFAULTS[kind], config.model[kind])
    if kind in TOKENIZERS:
        chosen = [name for name in QUANTISERS if name in config.model[kind].get("quantiser", Config())] or ["ema"]
        own["quantiser"] = Config({name: value for name, value in own.quantiser.items()
                                   if name not in QUANTISERS or name in chosen})
    _check(own, f"model.{kind}")
    model = Config({**config.model, kind: own})
    if kind in DENOISERS:
        model["diffusion"] = _merged(DEFAULTS.diffusion, config.model.get("diffusion", Config()))
    return Config({**config, "model": model})

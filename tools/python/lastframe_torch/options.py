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
GAN = "gan { weight: 0.0 width: 64 layers: 3 }"
DEFAULTS = parse_text(f"""
    unet {{
      width: 128 multipliers: [1, 2, 2, 2] blocks: 2 attention: [16] heads: 1 scale_shift: false dropout: 0.0
      temporal_position: true scaled_sums: false temporal: AFTER mark_observed: false head_width: 0
      norm_groups: 0 first_ddpm: false
    }}
    unet3d {{
      dim: 64 multipliers: [1, 2, 4, 8] heads: 8 head_width: 32 spatial_head_width: 0 temporal_position: true
    }}
    dit {{ patch: 2 width: 384 layers: 6 heads: 6 expansion: 4 temporal_position: true }}
    vqvae {{
      width: 64 multipliers: [1, 2, 4] blocks: 2 attention: [8] latent: 64 decoder_latent: 0 norm_groups: 0
      quantiser {{ {QUANTISER} }} {GAN}
    }}
    cvivit {{
      width: 256 patch: 4 temporal_patch: 1 spatial_layers: 3 temporal_layers: 3 heads: 8 head_width: 32 stem: 0
      stem_width: 64 patch_norm: AFTER raw_keys: false quantiser {{ {QUANTISER} }} {GAN}
    }}
    autoencoder {{ width: 32 multipliers: [1, 2] latent: 16 gan_weight: 0.0 }}
    classifier {{ width: 32 stages: 3 classes: 10 }}
    code_prior {{
      tokenizer: "" kind: AUTOREGRESSIVE layers: 12 width: 384 heads: 6 classes: 0 label_smoothing: 0.1 guidance: 1.0
      temperature: 1.0 top_k: 0 top_p: 1.0 rounds: 8 choice_temperature: 4.5
    }}
    rvd {{ width: 48 mean_multipliers: [1, 2, 2, 4] multipliers: [1, 2, 4, 8] warm_up: 2 running_scale: false }}
    diffusion {{
      schedule: LINEAR steps: 1000 beta_low: 0.0001 beta_high: 0.02 beta_max: 0.999 zero_terminal_snr: false
      reference_size: 0 sigma_min: 0.002 sigma_max: 80.0 sigma_data: 0.5 prediction: NOISE learned_variance: false
      frames: JOINT history: 1 window: 8 classes: 0 text: "" text_width: 1024 text_tokens: 0 upscale: 1 tokenizer: ""
      sampler {{
        kind: ANCESTRAL steps: 0 spacing: TIME rho: 7.0 eta: 0.0 lower_last: true threshold: STATIC quantile: 0.995
        guidance: 1.0
      }}
    }}
""", "the defaults")
DENOISERS, TOKENIZERS = ("unet", "unet3d", "dit", "rvd"), ("vqvae", "cvivit")
OTHERS = ("code_prior", "autoencoder", "classifier")
KINDS = DENOISERS + TOKENIZERS + OTHERS
MOST = {"layers": 256, "spatial_layers": 64, "temporal_layers": 64, "blocks": 16, "stem": 6, "stages": 6}  # as in run.proto
LARGEST = 1 << 20  # of any other number
QUANTISERS = ("ema", "learnt", "fsq", "lfq", "variational")


def _merged(defaults, given):
    whole = Config(given)
    for name, value in defaults.items():
        if isinstance(value, Config) and isinstance(given.get(name, value), Config):
            whole[name] = _merged(value, given.get(name, Config()))
        elif name not in given:
            whole[name] = value
        elif isinstance(value, list) and not isinstance(given[name], list):
            whole[name] = [given[name]]
    return whole


def _fits(value, default, most):
    if isinstance(default, Config):
        return isinstance(value, Config)
    if isinstance(default, list):
        return type(value) is list and 0 < len(value) <= 64 and all(_fits(one, default[0], most) for one in value)
    if type(default) in (int, float):
        return type(value) in (int, type(default)) and 0 <= value <= most
    return type(value) is type(default)


def _check(options, defaults, place):
    """Refuses options of another type, and numbers by which a hostile file would make a network without end."""
    for name, default in defaults.items():
        value, most = options[name], MOST.get(name, LARGEST)
        if not _fits(value, default, most):
            raise DataError(f"the config has {place}.{name}={str(value):.40}, expected one such as {str(default):.40} "
                            f"and numbers from 0 to {most}; give an export that lastframe wrote")
        if isinstance(default, Config):
            _check(value, default, f"{place}.{name}")


def kind_of(config):
    """The network that a config has, by its option: one of KINDS."""
    model = config.get("model")
    model = model if isinstance(model, Config) else Config()
    for kind in KINDS:
        if kind in model:
            return kind
    others = [name for name in model if name != "diffusion"] or ["(nothing)"]
    raise DataError(f"the config has model.{others[0]}, expected one of {', '.join(KINDS)}; other "
                    "models have no twin here")


def completed(config):
    """The config with the defaults of its network."""
    kind = kind_of(config)
    names = (kind, "diffusion") if kind in DENOISERS else (kind,)
    defaults = Config({name: DEFAULTS[name] for name in names})
    model = _merged(defaults, config.model)
    _check(model, defaults, "model")
    if kind in TOKENIZERS:  # the kind of quantiser is one
        given = config.model[kind].get("quantiser", Config())
        chosen = next((name for name in QUANTISERS if name in given), "ema")
        for name in set(QUANTISERS) - {chosen}:
            del model[kind].quantiser[name]
    return Config({**config, "model": model})

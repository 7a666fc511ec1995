"""code_prior: a transformer that predicts the codes of a tokenizer's clips, in raster order (time, row, column) after a
token of the class; and clips sampled from it, one code after another or, of masked codes, some in every round.
"""
import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from lastframe_io import DataError

from .layers import attend
from .random import uniforms


class TokenLayer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, bias):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).chunk(3, -1))
        x = x + self.out(attend(q, k, v, bias).transpose(1, 2).flatten(2))
        return x + self.narrow(F.gelu(self.wide(self.norm2(x))))


class CodePrior(nn.Module):
    """net(ids) predicts codes: logits [B, t, h, w, codes]. AUTOREGRESSIVE: of each code given those before it; else of
    each code given the others, where the id net.mask stands for one that is unknown, and FRAME_MASKED sees no later
    frames."""

    def __init__(self, config, clip_shape, tokenizer):
        super().__init__()
        options = config.model.code_prior
        if tokenizer.quantiser.codes == 0:
            raise DataError("the tokenizer has vectors and no codes (quantiser.variational), and a prior needs codes; "
                            "give the one that the prior was trained with")
        self.config, self.clip_shape, self.tokenizer = config, clip_shape, tokenizer
        self.grid, self.kind, self.mask = tokenizer.latent_shape()[:3], options.kind, tokenizer.quantiser.codes

        def table(rows):
            return nn.Parameter(nn.init.normal_(torch.empty(rows, options.width), std=0.02))

        self.classes = table(options.classes + 1)  # the last is for no class
        self.codes = table(self.mask + (0 if self.kind == "AUTOREGRESSIVE" else 1))
        self.time, self.row, self.column = map(table, self.grid)
        for i in range(options.layers):
            self.add_module(str(i), TokenLayer(options.width, options.heads))
        self.layers = range(options.layers)
        self.norm, self.head = nn.LayerNorm(options.width), nn.Linear(options.width, self.mask)

    def forward(self, ids, labels=None):
        """Codes [B, t, h, w] and classes [B], -1 for none."""
        begin = self.classes[-1:].expand(len(ids), -1)
        if labels is not None:
            begin = self.classes[labels.masked_fill(labels < 0, len(self.classes) - 1)]
        x = self.codes[ids] + self.time[:, None, None] + self.row[:, None] + self.column
        x = torch.cat([begin.unsqueeze(1), x.flatten(1, 3)], 1)
        order = torch.arange(-1, x.shape[1] - 1, device=x.device)  # tokens attend to none of a later one
        if self.kind != "AUTOREGRESSIVE":
            order = order // math.prod(self.grid[1:]) if self.kind == "FRAME_MASKED" else 0 * order
        bias = torch.zeros(len(order), len(order), device=x.device).masked_fill(order.unsqueeze(1) < order, -math.inf)
        for i in self.layers:
            x = self.get_submodule(str(i))(x, bias)
        x = x[:, :-1] if self.kind == "AUTOREGRESSIVE" else x[:, 1:]
        return self.head(self.norm(x)).unflatten(1, self.grid)

    @torch.no_grad()
    def sample(self, count, seed=0, labels=None, **changes):
        """Clips [count, T, H, W, C] in [-1, 1], those of `lastframe sample --seed`; by config.model.code_prior, in
        which `changes` such as temperature=0.9, top_k=100, rounds=12 or guidance=2 replace options."""
        options = type(self.config)({**self.config.model.code_prior, **changes})
        device = self.head.weight.device

        def draws(number, *shape):
            return torch.from_numpy(np.stack([uniforms(seed, clip, shape, number) for clip in range(count)])).to(device)

        def predict(ids):
            logits = self(ids.view(count, *self.grid), labels)
            if options.guidance != 1 and labels is not None:
                none = self(ids.view(count, *self.grid))
                logits = none + options.guidance * (logits - none)
            return logits.flatten(1, 3)

        places = math.prod(self.grid)
        if self.kind == "AUTOREGRESSIVE":
            ids, drawn = torch.zeros(count, places, dtype=torch.long, device=device), draws(0, places)
            for i in range(places):
                ids[:, i] = draw_codes(predict(ids)[:, i], drawn[:, i], options)
        else:
            ids = torch.full((count, places), self.mask, device=device)
            group = places // self.grid[0] if self.kind == "FRAME_MASKED" else places
            for i in range(0, places, group):
                self.fill_in(ids, slice(i, i + group), predict, draws, options)
        return self.tokenizer.decode(ids.view(count, *self.grid))

    def fill_in(self, ids, where, predict, draws, options):
        """Draws the codes at these places in rounds (MaskGIT), each of which keeps the most confident draws, by
        confidence with decreasing noise."""
        total = is_open = where.stop - where.start
        for i in range(options.rounds):
            drawn = draws(where.start // total * options.rounds + i, total, 2)
            logits, known = predict(ids)[:, where], ids[:, where] != self.mask
            if options.label_smoothing > 0:  # the probabilities without that of training
                logits = (logits.softmax(-1) - options.label_smoothing / self.mask).clamp_min(0).log()
            made = torch.where(known, ids[:, where], draw_codes(logits, drawn[..., 0], options))
            part = (i + 1) / options.rounds
            is_open = max(1, min(is_open - 1, math.floor(total * math.cos(part * math.pi / 2)))) if part < 1 else 0
            ids[:, where] = made
            if is_open == 0:
                return
            gumbel = -(-drawn[..., 1].clamp_min(1e-20).log()).log()
            confidence = logits.log_softmax(-1).gather(2, made.unsqueeze(2)).squeeze(2)
            confidence = (confidence + options.choice_temperature * (1 - part) * gumbel).masked_fill(known, math.inf)
            again = confidence.topk(is_open, 1, largest=False).indices
            ids[:, where] = made.scatter(1, again, self.mask)


def draw_codes(logits, uniform, options):
    """The codes at which the sums of the probabilities pass these numbers from 0 to 1."""
    scaled = logits / options.temperature
    if 0 < options.top_k < logits.shape[-1]:
        scaled = scaled.masked_fill(scaled < scaled.topk(options.top_k).values[..., -1:], -math.inf)
    share = scaled.softmax(-1).double()
    if options.top_p < 1:  # without a code if the more probable ones reach top_p
        ranked, order = share.sort(-1, descending=True)
        share = torch.zeros_like(share).scatter(-1, order, ranked.masked_fill(
            ranked.cumsum(-1) - ranked >= options.top_p, 0))
    below = share.cumsum(-1)
    return (below <= uniform.unsqueeze(-1) * below[..., -1:]).sum(-1).clamp_max(logits.shape[-1] - 1)

"""The Python side of tools/peers/cvivit: reads requests, one JSON object a line, and answers each.

{"what": "autoencoder" | "adversarial", "threads", "bf16", "seconds"}: a training step of
phenaki-pytorch's CViViT at the shape of configs/peers/cvivit-phenaki.pbtxt, as its trainer makes it.
{"what": "sampling", "threads", "seconds", "batch", "codes", "width", "layers", "heads", "grid"}: codes
drawn one after the other from our prior's network, written in PyTorch with cached keys and values, and
turned into clips by that CViViT, as `lastframe sample` does with ours.
"""
import json
import statistics
import sys
import time
import warnings

warnings.filterwarnings("ignore")

import torch
from torch import nn
from torch.nn import functional

WARM_UP = 3


def repeat(step, seconds):
    """Seconds of each step, after warming up."""
    for _ in range(WARM_UP):
        step()
    took, end = [], time.perf_counter() + seconds
    while len(took) < 5 or time.perf_counter() < end:
        begin = time.perf_counter()
        step()
        took.append(time.perf_counter() - begin)
    return took


class Training:
    def __init__(self, adversarial, bf16):
        from phenaki_pytorch import CViViT
        torch.manual_seed(0)
        # Its perceptual network's weights are a download; a small one with random weights stands in.
        eye = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
                            nn.Flatten()).requires_grad_(False)
        self.net = CViViT(dim=128, codebook_size=512, image_size=32, patch_size=8, temporal_patch_size=2,
                          spatial_depth=2, temporal_depth=2, dim_head=32, heads=4, use_vgg_and_gan=adversarial,
                          vgg=eye if adversarial else None, discr_base_dim=16, discr_attn_res_layers=(16,),
                          lookup_free_quantization=False)
        self.net.train()
        judge = list(self.net.discr.parameters()) if adversarial else []
        others = {id(weight) for weight in [*judge, *eye.parameters()]}
        self.weights = [weight for weight in self.net.parameters() if id(weight) not in others]
        self.parameters = sum(weight.numel() for weight in self.weights + judge)
        self.maker = torch.optim.Adam(self.weights, lr=3e-4)
        self.judge = torch.optim.Adam(judge, lr=3e-4) if adversarial else None
        self.video = torch.rand(4, 3, 9, 32, 32)
        self.bf16 = bf16

    def autocast(self):
        return torch.autocast("cpu", torch.bfloat16, enabled=self.bf16)

    def step(self):
        self.maker.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.net(self.video)
        loss.backward()
        nn.utils.clip_grad_norm_(self.weights, 0.5)
        self.maker.step()
        loss.item()
        if self.judge is None:
            return
        self.judge.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.net(self.video, return_discr_loss=True)
        loss.backward()
        self.judge.step()


class Layer(nn.Module):
    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x, cache, length):
        q, k, v = (part.unflatten(2, (self.heads, -1)).transpose(1, 2)
                   for part in self.qkv(self.norm1(x)).chunk(3, -1))
        end = length + x.shape[1]
        cache[0][:, :, length:end] = k
        cache[1][:, :, length:end] = v
        mixed = functional.scaled_dot_product_attention(q, cache[0][:, :, :end], cache[1][:, :, :end])
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.narrow(functional.gelu(self.wide(self.norm2(x))))


class Prior(nn.Module):
    """Our prior's network: codes frame by frame, row by row, each place with three embeddings."""

    def __init__(self, codes, width, layers, heads, grid):
        super().__init__()
        self.grid, self.heads, self.width = grid, heads, width
        self.begin, self.code = nn.Embedding(1, width), nn.Embedding(codes, width)
        self.time, self.row, self.column = (nn.Embedding(side, width) for side in grid)
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(layers))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, codes)

    def embed(self, ids, place):
        place = torch.tensor([place])
        return (self.code(ids) + self.time(place // (self.grid[1] * self.grid[2])) +
                self.row(place // self.grid[2] % self.grid[1]) + self.column(place % self.grid[2]))

    @torch.no_grad()
    def sample(self, batch):
        places = self.grid[0] * self.grid[1] * self.grid[2]
        shape = (batch, self.heads, places + 1, self.width // self.heads)
        caches = [(torch.empty(shape), torch.empty(shape)) for _ in self.layers]
        x = self.begin(torch.zeros(batch, 1, dtype=torch.long))
        made = []
        for place in range(places):
            for layer, cache in zip(self.layers, caches):
                x = layer(x, cache, place)
            share = self.head(self.norm(x)).squeeze(1).softmax(-1)
            made.append(torch.multinomial(share, 1))
            x = self.embed(made[-1], place)
        return torch.cat(made, 1)


def answer(request, kept={}):
    if request["what"] == "hello":
        return {"torch": torch.__version__}
    torch.set_num_threads(request["threads"])
    if request["what"] == "sampling":
        torch.manual_seed(0)
        prior = Prior(*(request[name] for name in ("codes", "width", "layers", "heads", "grid")))
        tokenizer = Training(False, False).net.eval()

        @torch.no_grad()
        def clips():
            tokenizer.decode_from_codebook_indices(prior.sample(request["batch"]))

        took = repeat(clips, request["seconds"])
        places = request["grid"][0] * request["grid"][1] * request["grid"][2]
        return {"tokens_per_s": request["batch"] * places / statistics.median(took)}
    key = (request["what"], request["bf16"])
    if key not in kept:
        kept[key] = Training(request["what"] == "adversarial", request["bf16"])
    took = repeat(kept[key].step, request["seconds"])
    return {"ms_per_step": 1e3 * statistics.median(took), "steps": len(took),
            "parameters": kept[key].parameters}


for line in sys.stdin:
    print(json.dumps(answer(json.loads(line))), flush=True)

"""classifier: a small residual network of images, or of clips with convolutions over frames. Its features are the
extractor "own" of `lastframe features` and of fd_own."""
import torch
from torch import nn

from .layers import TemporalConv, frames_as_images, group_norm


class Stage(nn.Module):
    def __init__(self, channels, out, stride, frames):
        super().__init__()
        self.first, self.first_norm = nn.Conv2d(channels, out, 3, stride, padding=1), group_norm(out)
        self.second, self.second_norm = nn.Conv2d(out, out, 3, padding=1), group_norm(out)
        self.around = nn.Conv2d(channels, out, 1, stride)
        self.temporal = TemporalConv(out) if frames > 1 else None

    def forward(self, x, frames):
        h = self.second_norm(self.second(torch.relu(self.first_norm(self.first(x)))))
        out = torch.relu(h + self.around(x))
        return out if self.temporal is None else out + self.temporal(out, frames)


class Classifier(nn.Module):
    def __init__(self, config, clip_shape):
        super().__init__()
        options = config.model.classifier
        self.config, self.clip_shape = config, clip_shape
        frames, _, _, channels = clip_shape
        net = self.classifier = nn.ModuleDict({"stem": nn.Conv2d(channels, options.width, 3, padding=1),
                                               "stem_norm": group_norm(options.width)})
        width = options.width
        for i in range(options.stages):
            net[f"stage{i}"] = Stage(width, options.width << i, 1 if i == 0 else 2, frames)
            width = options.width << i
        net["head"] = nn.Linear(width, options.classes)
        self.stages = options.stages

    def features(self, x):
        """Clips [B, T, H, W, C] in [-1, 1] to [B, channels]: the mean over pixels and frames."""
        net = self.classifier
        h = torch.relu(net["stem_norm"](net["stem"](frames_as_images(x))))
        for i in range(self.stages):
            h = net[f"stage{i}"](h, x.shape[1])
        return h.mean((2, 3)).unflatten(0, (-1, x.shape[1])).mean(1)

    def forward(self, x):
        """Logits of the classes."""
        return self.classifier["head"](self.features(x))

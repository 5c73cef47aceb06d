"""A network that makes trouble for pictures of one colour, so that a test chooses when a forward is slow or fails."""

from io import BytesIO
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from conftest import TinyNetwork, calibrated, encoded, tiny_bundle
from oodgate.bundle import Bundle, write_bundle
from oodgate.engines import torchscript_is_wanted

ENDLESS = float("inf")
_ROUNDS_PER_SECOND = 300_000  # on one core, roughly; no test relies on more than the order of magnitude


class DeeperNetwork(TinyNetwork):
    """The tiny network behind convolutions of the kinds that can be accelerated."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.Sequential(
            *(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 32, 3, padding=1), nn.ReLU())
        )
        self.conv = nn.Conv2d(32, 8, 4, stride=4)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        answer: tuple[Tensor, Tensor] = super().forward(self.before(images))
        return answer


class TroubleNetwork(nn.Module):
    """Answers like the tiny network, but slowly for a batch with a white picture, never for a batch with a red one,
    and with NaN for a blue picture alone.
    """

    rounds: int

    def __init__(self, tiny: TinyNetwork, rounds: int) -> None:
        super().__init__()
        self.conv, self.fc = tiny.conv, tiny.fc
        self.rounds = rounds

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        low, high = images.amin((2, 3)), images.amax((2, 3))  # (N, 3); normalised, 2 is bright and -2 is dark
        white = (low > 1.9).all(1)
        red = (low[:, 0] > 1.9) & (high[:, 1:] < -1.9).all(1)
        blue = (low[:, 2] > 1.9) & (high[:, :2] < -1.9).all(1)
        if bool(red.any()):
            raise RuntimeError("there is a red picture")
        activation = torch.relu(self.conv(images))
        logits = self.fc(activation.mean((2, 3)))
        if bool(white.any()):
            logits = logits + 0 * self.burden()
        return torch.where(blue.unsqueeze(1), float("nan"), logits), activation

    def burden(self) -> Tensor:
        """Matrix products one after the other, too small for torch to share them among cores."""
        square = torch.eye(32)
        for _ in range(self.rounds):
            square = square @ square
        return square[0, 0]


def trouble_bundle(folder: Path, images: Path, seconds: float = 0) -> Path:
    """A calibrated bundle of the network that makes trouble; a white picture takes it roughly `seconds`."""
    torch.manual_seed(0)
    tiny = TinyNetwork().eval()
    traced = tiny_bundle(folder, tiny)
    rounds = 2**62 if seconds == ENDLESS else int(seconds * _ROUNDS_PER_SECOND)
    buffer = BytesIO()
    with torchscript_is_wanted():
        torch.jit.save(torch.jit.script(TroubleNetwork(tiny, rounds).eval()), buffer)
    write_bundle(folder, Bundle(traced.manifest, buffer.getvalue(), traced.state))
    calibrated(folder, images)
    return folder


def plain(colour: str) -> bytes:
    """A PNG file of one colour."""
    return encoded(Image.new("RGB", (16, 16), colour))

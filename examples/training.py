"""A PyTorch training loop that reads its clips from .bsq files.

    python examples/training.py FOLDER

Trains a small network to sharpen pictures, for one pass; two workers decode.
"""

from __future__ import annotations

import sys

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

import bsqcodec


def main(folder: str) -> None:
    torch.manual_seed(0)
    dataset = bsqcodec.BsqDataset(folder, frames=4, threads=1)
    loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=2)
    network = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 3, 3, padding=1))
    optimiser = torch.optim.Adam(network.parameters(), 1e-3)
    print(f"{len(dataset)} clips of 4 frames")
    for clips in loader:  # uint8 [B, T, 3, H, W]
        sharp = clips.flatten(0, 1).float() / 255
        soft = F.avg_pool2d(sharp, 3, stride=1, padding=1)
        loss = F.mse_loss(soft + network(soft), sharp)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        print(f"batch {tuple(clips.shape)}, loss {loss.item():.5f}")


if __name__ == "__main__":
    main(sys.argv[1])

"""Training of the localizer's networks, with torch (extra `dev` for the rest of the fit).

Shapes: N rows, F features, H hidden units.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ffr_core.localization.network import CLIP, Network

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]


def train_network(
    features_NF: NDArray[np.floating[Any]],
    gold_N: NDArray[np.bool_],
    weight_N: Floats,
    hidden: int,
    seeds: int,
    epochs: int = 40,
) -> Network:
    """Weighted cross-entropy, AdamW; networks of several seeds are averaged into a wider one."""
    mean_F, scale_F = features_NF.mean(axis=0), features_NF.std(axis=0) + 1e-6
    parts = [
        _train_one(features_NF, gold_N, weight_N, mean_F, scale_F, hidden, seed, epochs)
        for seed in range(seeds)
    ]
    return Network(
        mean_F=mean_F,
        scale_F=scale_F,
        linear_F=np.mean([p[0] for p in parts], axis=0),
        bias=float(np.mean([p[1] for p in parts])),
        hidden_FH=np.concatenate([p[2] for p in parts], axis=1),
        hidden_bias_H=np.concatenate([p[3] for p in parts]),
        output_H=np.concatenate([p[4] for p in parts]) / seeds,
    )


def _train_one(
    features_NF: NDArray[np.floating[Any]],
    gold_N: NDArray[np.bool_],
    weight_N: Floats,
    mean_F: Floats,
    scale_F: Floats,
    hidden: int,
    seed: int,
    epochs: int,
) -> tuple[Any, ...]:
    import torch
    from torch.nn import functional

    torch.manual_seed(seed)
    x = torch.tensor(np.clip((features_NF - mean_F) / scale_F, -CLIP, CLIP), dtype=torch.float32)
    y = torch.tensor(gold_N, dtype=torch.float32)
    w = torch.tensor(weight_N / weight_N.mean(), dtype=torch.float32)
    linear, inner, outer = (
        torch.nn.Linear(a, b) for a, b in ((x.shape[1], 1), (x.shape[1], hidden), (hidden, 1))
    )
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.constant_(linear.bias, -4.0)
    torch.nn.init.normal_(outer.weight, 0.0, 0.05)
    torch.nn.init.zeros_(outer.bias)
    parameters = [p for layer in (linear, inner, outer) for p in layer.parameters()]
    batch = 8192
    steps = epochs * -(-len(x) // batch)
    optimizer = torch.optim.AdamW(parameters, lr=0.01, weight_decay=0.03)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x)), batch):
            units = functional.dropout(torch.tanh(inner(x[rows])), 0.1)
            odds = (linear(x[rows]) + outer(units)).squeeze(1)
            losses = functional.binary_cross_entropy_with_logits(odds, y[rows], reduction="none")
            optimizer.zero_grad()
            (losses * w[rows]).mean().backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    arrays = [p.detach().double().numpy() for p in parameters]
    weight, bias, inner_w, inner_b, outer_w, outer_b = arrays
    return weight[0], float(bias[0] + outer_b[0]), inner_w.T, inner_b, outer_w[0]

"""Linear layers that multiply the other way round say the same."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from groupwise.rollout.products import instead
from groupwise.rollout.thin import thin
from groupwise.rollout.trial import may_be_thin

from .cases import tiny

CPU = torch.device("cpu")


@pytest.mark.parametrize(("features", "out"), [(6, 24), (24, 6), (6, 6)])
@pytest.mark.parametrize("bias", [True, False])
def test_the_result_is_that_of_the_layer(features: int, out: int, bias: bool) -> None:
    layer, x = nn.Linear(features, out, bias=bias), torch.randn(3, 1, features)
    own = layer(x)
    with instead(thin(nn.Sequential(layer))):
        turned = layer(x)
        torch.testing.assert_close(turned, own)
        torch.testing.assert_close(layer(x.transpose(0, 2).contiguous().transpose(0, 2)), own)  # in the other order
        assert (turned.stride(-1) == 1) == (out <= features)
    assert "forward" not in vars(layer)
    assert torch.equal(layer(x), own)


class Viewing(nn.Module):
    """A feed-forward layer that takes its rows to lie one after the other, as code of a model's own may."""

    def __init__(self, mlp: nn.Module) -> None:
        super().__init__()
        self.mlp = mlp

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wide = self.mlp.up_proj(x)
        return self.mlp.down_proj(wide.view(-1).view(wide.shape))


def test_models_that_need_the_usual_order_are_known() -> None:
    model = tiny("llama")
    with torch.no_grad():
        assert may_be_thin(model, CPU)
        model.model.layers[0].mlp = Viewing(model.model.layers[0].mlp)
        assert not may_be_thin(model, CPU)

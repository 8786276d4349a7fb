"""Wide convolutions against torch's own: answers, parameters in their places, and the same bytes at every call."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from modules.backbones.wide_conv import WINDOW_SHARE, WideConv2d, fits, widen

SHAPES = [(3, 1, 1), (3, 2, 1), (1, 1, 0), (3, 1, 0), ((3, 1), (1, 2), (1, 0)), (5, 1, (2, 1))]


class Products(torch.overrides.TorchFunctionMode):
    """Notes whether matrices are multiplied or torch convolves."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        if func.__name__ in {"addmm", "__matmul__", "matmul", "conv2d"}:
            self.seen.add("convolution" if func.__name__ == "conv2d" else "product")
        return func(*args, **(kwargs or {}))


def layer(kernel, stride, padding, *, bias: bool = True) -> nn.Conv2d:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    made = nn.Conv2d(12, 640, kernel, stride=stride, padding=padding, bias=bias)
    return made.eval().requires_grad_(False)


def picture(side: int, rows: int = 2) -> Tensor:
    return torch.randn(rows, 12, side, side + 1, generator=torch.Generator().manual_seed(1))


def way(made: nn.Conv2d, x: Tensor) -> set[str]:
    with Products() as products:
        made(x)
    seen: set[str] = products.seen
    return seen


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("kernel", "stride", "padding"), SHAPES)
def test_answers_are_those_of_torch(kernel, stride, padding, bias: bool) -> None:  # type: ignore[no-untyped-def]
    plain = layer(kernel, stride, padding, bias=bias)
    wide = WideConv2d.of(plain)
    for x in (picture(4), picture(3, rows=1), picture(4).contiguous(memory_format=torch.channels_last)):
        expected = plain(x)
        assert expected.shape == wide(x).shape
        assert way(wide, x) == {"product"}
        torch.testing.assert_close(wide(x), expected, atol=1e-5, rtol=1e-5)


def test_only_layer_and_picture_choose_the_way() -> None:
    wide = WideConv2d.of(layer(3, 1, 1))
    edge = 640 * 9 // WINDOW_SHARE  # pixels: 180
    for rows in (1, 2, 9):
        assert way(wide, torch.ones(rows, 12, 1, edge)) == {"product"}
        assert way(wide, torch.ones(rows, 12, 1, edge + 1)) == {"convolution"}


def test_every_call_gives_the_same_bytes() -> None:
    wide = WideConv2d.of(layer(3, 1, 1))
    first = wide(picture(4))
    for side in (30, 2, 9, 4):
        wide(picture(side))
    assert torch.equal(wide(picture(4)), first)


def test_others_than_float32_are_left_to_torch() -> None:
    wide = WideConv2d.of(layer(3, 1, 1).to(torch.bfloat16))
    assert way(wide, picture(4).to(torch.bfloat16)) == {"convolution"}


def test_parameters_stay_where_they_were() -> None:
    net = nn.Sequential(layer(3, 1, 1), nn.Sequential(layer(1, 1, 0)), nn.Linear(4, 4)).eval()
    before = dict(net.state_dict())
    widen(net)
    assert isinstance(net[0], WideConv2d)
    assert {name: value.data_ptr() for name, value in net.state_dict().items()} == {
        name: value.data_ptr() for name, value in before.items()
    }
    assert not any(module.training for module in net.modules())


def test_layers_that_compute_something_else_are_left_alone() -> None:
    class Own(nn.Conv2d):
        pass

    others = [
        nn.Conv2d(4, 4, 3, groups=2),
        nn.Conv2d(4, 4, 3, dilation=2),
        nn.Conv2d(4, 4, 3, padding="same"),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="circular"),
        Own(4, 4, 3),
        nn.Linear(4, 4),
    ]
    assert not any(fits(other) for other in others)
    net = nn.Sequential(*others)
    widen(net)
    assert list(net) == others


def test_bad_input_is_refused_as_torch_does() -> None:
    wide = WideConv2d.of(layer(3, 1, 0))
    with pytest.raises(RuntimeError, match="Kernel size"):
        wide(picture(1))
    with pytest.raises(RuntimeError, match="channels"):
        wide(torch.ones(1, 5, 4, 4))

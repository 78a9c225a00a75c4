"""The convolutional network against torch's own layers, in every order and on every walk."""

import pytest
import torch
from meta_rl.agents import convolutional
from meta_rl.agents.convolution import Block
from meta_rl.agents.image_functions import channel_moments, convolve, max_pool, standardize
from torch import nn
from torch.func import functional_call
from torch.nn import functional as F

from meta_rl.config import InnerConfig
from meta_rl.errors import InputError
from meta_rl.inner.adaptable import check_adaptable
from meta_rl.inner.core import InnerLoop
from meta_rl.inner.rules import GradientDescent
from meta_rl.types import MetaParameters

M, WAYS, QUERIES, ALPHA = 3, 3, 6, 0.3


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(channels=10, strided=False):
    """Two blocks on 9 x 10 images; scales of both signs, so that none of the forms is special."""
    net = convolutional((1, 9, 10), WAYS, generator(), channels=channels, blocks=2, strided=strided)
    with torch.no_grad():
        for name, value in net.named_parameters():
            if name.endswith(("scale", "shift")):
                value.copy_(torch.randn(value.shape, generator=generator(1)))
    return net.double()


def plain(params, images, strided=False):
    """The same network in torch.nn.functional."""
    stride = 2 if strided else 1
    for block in ("0", "1"):
        weight, scale, shift = (params[f"{block}.{n}"] for n in ("weight", "scale", "shift"))
        maps = F.conv2d(images, weight, padding=1, stride=stride)
        maps = F.relu(F.batch_norm(maps, None, None, scale, shift, training=True))
        images = maps if strided else F.max_pool2d(maps, 2)
    features = images.mean((2, 3)) if strided else images.flatten(1)
    return F.linear(features, params["3.weight"], params["3.bias"])


def data():
    g = generator(2)
    x = torch.randn(M, WAYS + QUERIES, 1, 9, 10, generator=g, dtype=torch.float64)
    y = torch.arange(WAYS + QUERIES).remainder(WAYS).expand(M, -1)
    return (x[:, :WAYS], y[:, :WAYS]), (x[:, WAYS:], y[:, WAYS:])


def meta_gradient(net, steps, tasks_at_once, adapts="all", first_order=False):
    config = InnerConfig(steps=steps, step_size=ALPHA, learn_step_size=False, adapts=adapts)
    rule = GradientDescent(config)
    inner = InnerLoop(
        loss=lambda p, batch: F.cross_entropy(functional_call(net, p, (batch[0],)), batch[1]),
        rule=rule,
        first_order=first_order,
        tasks_at_once=tasks_at_once,
    )
    theta = {name: value.detach() for name, value in net.named_parameters()}
    support, query = data()
    loss, gradient = inner.meta_gradient(
        MetaParameters(theta, rule.init(theta)), [support] * steps, query
    )
    return loss, gradient.theta


def plain_meta_gradient(net, steps, strided=False, adapts="all", first_order=False):
    """A Python loop over tasks, autograd and torch's layers."""
    theta = {name: value.detach().requires_grad_() for name, value in net.named_parameters()}
    moving = [name for name in theta if adapts == "all" or name.startswith("3.")]
    (xs, ys), (xq, yq) = data()
    total = torch.zeros((), dtype=torch.float64)
    for m in range(M):
        phi = theta
        for _ in range(steps):
            loss = F.cross_entropy(plain(phi, xs[m], strided), ys[m])
            gradients = torch.autograd.grad(
                loss, [phi[n] for n in moving], create_graph=not first_order
            )
            moved = {n: phi[n] - ALPHA * g for n, g in zip(moving, gradients, strict=True)}
            phi = {**phi, **moved}
        total = total + F.cross_entropy(plain(phi, xq[m], strided), yq[m]) / M
    return total, dict(zip(theta, torch.autograd.grad(total, list(theta.values())), strict=True))


def test_maps_of_a_convolution_by_hand():
    images = torch.arange(4.0).view(1, 2, 2, 1)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 1], weight[0, 0, 1, 0] = 1.0, 10.0  # itself and ten times its left neighbour
    assert convolve(images, weight).flatten().tolist() == [0.0, 1.0, 2.0, 23.0]
    assert max_pool(images).item() == 3.0
    variance = 1.25  # of 0, 1, 2, 3
    expected = (torch.arange(4.0) - 1.5) / variance**0.5
    torch.testing.assert_close(standardize(images, 0.0).flatten(), expected)


def test_moments_of_patches_are_those_of_the_maps():
    images = torch.randn(4, 6, 5, 2, generator=generator(), dtype=torch.float64)
    weight = torch.randn(7, 2, 3, 3, generator=generator(), dtype=torch.float64)
    mean, variance = channel_moments(images, weight)
    maps = convolve(images, weight)
    torch.testing.assert_close(mean, maps.mean((0, 1, 2)))
    torch.testing.assert_close(variance, maps.var((0, 1, 2), correction=0))


@pytest.mark.parametrize("strided", [False, True])
def test_outputs_are_those_of_torchs_layers(strided):
    net = network(strided=strided)
    images = data()[1][0][0]
    expected = plain(dict(net.named_parameters()), images, strided)
    torch.testing.assert_close(net(images), expected)


def test_equal_values_in_a_window_have_the_gradient_of_torchs_pooling():
    """Blank paper: every window of a constant image has four equal values."""
    net, images = network(), torch.ones(2, 1, 9, 10, dtype=torch.float64)
    images[:, :, 3:5, 4:6] = torch.randn(2, 1, 2, 2, generator=generator(), dtype=torch.float64)
    params = dict(net.named_parameters())
    ours = torch.autograd.grad(net(images).square().sum(), list(params.values()))
    theirs = torch.autograd.grad(plain(params, images).square().sum(), list(params.values()))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("in_channels", [1, 2])
@pytest.mark.parametrize("strided", [False, True])
def test_first_and_second_derivatives_of_a_block_are_finite_differences(in_channels, strided):
    block = Block(in_channels, 10, generator(), strided).double()
    images = torch.randn(2, in_channels, 4, 5, generator=generator(3), dtype=torch.float64)
    names, values = zip(*block.named_parameters(), strict=True)

    def call(images, *values):
        return functional_call(block, dict(zip(names, values, strict=True)), (images,))

    inputs = [value.detach().requires_grad_() for value in (images, *values)]
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)
    assert torch.autograd.gradgradcheck(call, inputs, fast_mode=True)


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("tasks_at_once", [None, 2, 1])
def test_every_walk_gives_the_meta_gradient_of_plain_autograd(steps, tasks_at_once):
    loss, gradient = meta_gradient(network(), steps, tasks_at_once)
    expected_loss, expected = plain_meta_gradient(network(), steps)
    torch.testing.assert_close(loss, expected_loss.detach())
    assert gradient.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value, msg=lambda m, name=name: f"{name}: {m}")


@pytest.mark.parametrize(
    ("tasks_at_once", "options"),
    [(None, {"adapts": "head"}), (1, {"adapts": "head"}), (None, {"first_order": True})],
)
def test_anil_and_first_order_too(tasks_at_once, options):
    _, gradient = meta_gradient(network(), 2, tasks_at_once, **options)
    _, expected = plain_meta_gradient(network(), 2, **options)
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value)


def test_strided_network_too():
    _, gradient = meta_gradient(network(strided=True), 2, None)
    _, expected = plain_meta_gradient(network(strided=True), 2, strided=True)
    for name, value in expected.items():
        torch.testing.assert_close(gradient[name], value)


def test_omniglot_network_has_the_papers_sizes_and_is_adaptable():
    net = convolutional((1, 28, 28), 5, generator())
    assert sum(p.numel() for p in net.parameters()) == 9 * 64 + 3 * 9 * 64 * 64 + 8 * 64 + 65 * 5
    assert isinstance(net[-1], nn.Linear)
    assert net[-1].in_features == 64
    check_adaptable(net, torch.rand(5, 1, 28, 28))


def test_mini_imagenet_network_flattens_five_by_five():
    net = convolutional((3, 84, 84), 5, generator(), channels=32)
    assert net[-1].in_features == 5 * 5 * 32
    assert net(torch.rand(2, 3, 84, 84)).shape == (2, 5)


def test_same_generator_same_weights_and_no_global_one():
    before = torch.get_rng_state()
    first, second = (convolutional((1, 16, 16), 2, generator(7)) for _ in range(2))
    assert torch.equal(before, torch.get_rng_state())
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_images_too_small_for_the_blocks_are_refused():
    with pytest.raises(InputError, match="at least 16 x 16 for 4 blocks"):
        convolutional((1, 15, 28), 5, generator())


def test_context_is_refused_in_words():
    with pytest.raises(InputError, match="parameter named 'context'"):
        meta_gradient(network(), 1, None, adapts="context")

"""Distributions against torch.distributions, and Fisher products against the KL's Hessian."""

import pytest
import torch
from meta_rl.agents import Categorical, DiagonalGaussian
from torch import distributions as td


def pair(kind):
    g = torch.Generator().manual_seed(0)
    first, second, third, fourth = torch.randn(4, 5, 3, generator=g, dtype=torch.float64)
    if kind == "gaussian":
        ours = DiagonalGaussian(first, 0.3 * second), DiagonalGaussian(third, 0.3 * fourth)
        theirs = [td.Independent(td.Normal(d.mean, d.log_std.exp()), 1) for d in ours]
    else:
        ours = Categorical(first), Categorical(third)
        theirs = [td.Categorical(logits=d.logits) for d in ours]
    return ours, theirs


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_densities_entropies_and_divergences_equal_torch_distributions(kind):
    (p, q), (reference_p, reference_q) = pair(kind)
    action = p.sample(torch.Generator().manual_seed(1))
    torch.testing.assert_close(q.log_prob(action), reference_q.log_prob(action))
    torch.testing.assert_close(p.entropy(), reference_p.entropy())
    torch.testing.assert_close(p.kl(q), td.kl_divergence(reference_p, reference_q))
    assert p.kl(p).abs().max() < 1e-15


@pytest.mark.parametrize("kind", ["gaussian", "categorical"])
def test_the_fisher_product_is_the_hessian_of_the_divergence_at_equality(kind):
    (p, tangent), _ = pair(kind)
    flat = torch.cat([leaf[0] for leaf in p])
    direction = torch.cat([leaf[0] for leaf in tangent])
    sizes = [leaf.shape[1] for leaf in p]

    def divergence(values):
        return type(p)(*(leaf[0] for leaf in p)).kl(type(p)(*values.split(sizes)))

    hessian = torch.autograd.functional.hessian(divergence, flat)
    product = torch.cat([leaf[0] for leaf in p.fisher(tangent)])
    torch.testing.assert_close(product, hessian @ direction)


def test_samples_have_the_distributions_moments():
    g = torch.Generator().manual_seed(0)
    gaussian = DiagonalGaussian(torch.tensor([1.0, -2.0]), torch.tensor([0.0, -1.0]))
    draws = DiagonalGaussian(*(v.expand(20_000, 2) for v in gaussian)).sample(g)
    torch.testing.assert_close(draws.mean(0), gaussian.mean, atol=0.03, rtol=0)
    torch.testing.assert_close(draws.std(0), gaussian.log_std.exp(), atol=0.03, rtol=0)
    p = torch.tensor([0.1, 0.6, 0.3])
    actions = Categorical(p.log().expand(20_000, 3)).sample(g)
    torch.testing.assert_close(torch.bincount(actions) / 20_000, p, atol=0.02, rtol=0)

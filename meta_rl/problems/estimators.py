"""Gradient estimators: surrogate losses with equal first and different second derivatives.

All take one task's steps, ``(B, T)``: log-probabilities under the parameters to differentiate, the
stored log-probabilities of the behaviour policy, advantages and mask. All return a scalar. At the
sampling parameters each has the policy gradient, up to the mean over steps,

    grad = - E sum_t g_t A_t,      g_t = grad log pi(a_t|s_t),  H_t = Hessian of log pi(a_t|s_t).

The meta-gradient differentiates this gradient again. The Hessian of the expected return is

    E sum_t A_t [ H_t + g_t g_t^T + g_t S_t^T + S_t g_t^T ],     S_t = g_0 + ... + g_{t-1},

and an estimator is unbiased if it keeps all these terms (tests/meta_rl/test_estimators.py compares
each with its exact value). A baseline that depends only on the state changes none of this, except
for :func:`log_likelihood`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def likelihood_ratio(log_prob: Tensor, stored: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Return ``- mean_t [pi / pi_stored * A]``, which keeps H_t + g_t g_t^T (LVC).

    Rothfuss et al. 2019, "ProMP", section 5. It drops the cross terms g_t S_t^T, assuming that the
    effect of an action on later states matters little to the curvature. In return, a step's term
    has the variance of one step at any horizon.
    """
    # Masked before the exponential: padding must not overflow and add inf * 0 to the sum.
    ratio = torch.exp((log_prob - stored) * mask)
    return _mean(ratio * advantage, mask)


def dice(log_prob: Tensor, stored: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Return ``- mean_t [(box_t - box_{t-1}) A]``, box_t = prod_{i<=t} pi / pi_stored: all terms.

    Foerster et al. 2018, "DiCE"; with advantages Farquhar et al. 2019, "Loaded DiCE", lambda = 1.
    It is unbiased but has high variance: S_t sums t scores, so the Hessian's noise grows with the
    horizon. Away from the sampling parameters the noise of the product of ratios grows too. A
    product that overflows makes the loss infinite or NaN, and outer steps reject it.
    """
    log_box = ((log_prob - stored) * mask).cumsum(-1)
    before = torch.cat([torch.zeros_like(log_box[..., :1]), log_box[..., :-1]], -1)
    return _mean((log_box.exp() - before.exp()) * advantage, mask)


def log_likelihood(log_prob: Tensor, stored: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """Return ``- mean_t [log(pi / pi_stored) A]``, which keeps only H_t.

    maml_rl and pytorch-maml-rl differentiate this loss twice. As an estimate of the Hessian it is
    biased, and the bias depends on the baseline. It is exact for the derivative of the inner update
    on fixed data, the part of the meta-gradient that :func:`exploration` completes. The stored
    log-probabilities change its value but not its derivatives.
    """
    return _mean((log_prob - stored) * mask * advantage, mask)


ESTIMATORS = {
    "likelihood-ratio": likelihood_ratio,
    "dice": dice,
    "log-likelihood": log_likelihood,
}


def exploration(log_prob: Tensor, stored: Tensor, credit: Tensor, mask: Tensor) -> Tensor:
    """Return E-MAML's exploration loss of one inner step, ``- sum_{b,t} [pi / pi_stored - 1] * C``.

    C is the credit (Stadie et al. 2018; Al-Shedivat et al. 2018). At the sampling parameters the
    loss is zero and its gradient is ``- C * grad log P(support)``. Added to the gradient on fixed
    data, this gives the gradient of E_{support ~ pi_phi}[return after adapting to the support]. Use
    it with :func:`log_likelihood`: the other estimators contain part of it already. Its variance
    grows with the support data, as one number credits all B x T actions.

    Args:
        log_prob: log-probabilities of the support's actions under the parameters that sampled them,
            ``(B, T)``.
        stored: the same log-probabilities, stored when sampling.
        credit: the task's success after adaptation, a scalar in units of the outer loss.
        mask: the support's mask, ``(B, T)``.
    """
    return -torch.expm1((log_prob - stored) * mask).sum() * credit


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Return minus the mean over real steps; ``values`` are 0 on padding, as advantages are."""
    return -values.sum() / mask.sum().clamp(min=1.0)

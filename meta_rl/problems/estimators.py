"""Surrogate losses whose first derivatives agree and whose second derivatives do not.

All take one task's steps, ``(B, T)``: log-probabilities under the parameters that are
differentiated, the stored ones of the behaviour policy, advantages and mask; all give a scalar.
At the sampling parameters each has the policy gradient, up to the mean over steps,

    grad = - E sum_t g_t A_t,      g_t = grad log pi(a_t|s_t),  H_t = Hessian of log pi(a_t|s_t).

The meta-gradient differentiates that once more. The Hessian of the expected return is

    E sum_t A_t [ H_t + g_t g_t^T + g_t S_t^T + S_t g_t^T ],     S_t = g_0 + ... + g_{t-1},

and an estimator is unbiased in as far as it keeps these terms (tests/meta_rl/test_estimators.py
compares each with its exact value). A baseline that depends on the state alone changes none of
this but for :func:`log_likelihood`.
"""

from __future__ import annotations

import torch
from torch import Tensor


def likelihood_ratio(log_prob: Tensor, stored: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """``- mean_t [pi / pi_stored * A]``: keeps H_t + g_t g_t^T (LVC).

    Rothfuss et al. 2019, "ProMP", section 5. Assumes that how an action changes the chances of the
    states after it matters little to the curvature: the cross terms g_t S_t^T are dropped. In
    return a step's term has the variance of one step, whatever the horizon.
    """
    # Masked before the exponential: padding must not overflow into the sum as inf * 0.
    ratio = torch.exp((log_prob - stored) * mask)
    return _mean(ratio * advantage, mask)


def dice(log_prob: Tensor, stored: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """``- mean_t [(box_t - box_{t-1}) A]``, box_t = prod_{i<=t} pi / pi_stored: keeps all terms.

    Foerster et al. 2018, "DiCE"; with advantages Farquhar et al. 2019, "Loaded DiCE", lambda = 1.
    Assumes nothing. It costs variance: S_t sums t scores, so that the Hessian's noise grows with
    the horizon, and away from the sampling parameters the product of ratios does too (one that
    overflows makes the loss infinite or NaN, which outer steps reject).
    """
    log_box = ((log_prob - stored) * mask).cumsum(-1)
    before = torch.cat([torch.zeros_like(log_box[..., :1]), log_box[..., :-1]], -1)
    return _mean((log_box.exp() - before.exp()) * advantage, mask)


def log_likelihood(log_prob: Tensor, stored: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """``- mean_t [log(pi / pi_stored) A]``: keeps H_t alone.

    What maml_rl and pytorch-maml-rl differentiate twice. As an estimate of the Hessian it is
    biased, and by how much depends on the baseline. What it is exact for: the derivative of the
    inner update on data held fixed, the half of the meta-gradient that :func:`exploration`
    completes. The stored log-probabilities shift its value and never its derivatives.
    """
    return _mean((log_prob - stored) * mask * advantage, mask)


ESTIMATORS = {
    "likelihood-ratio": likelihood_ratio,
    "dice": dice,
    "log-likelihood": log_likelihood,
}


def exploration(log_prob: Tensor, stored: Tensor, credit: Tensor, mask: Tensor) -> Tensor:
    """``- sum_{b,t} [pi / pi_stored - 1] * credit``: which support data the policy makes likely.

    E-MAML's term (Stadie et al. 2018; Al-Shedivat et al. 2018), for one inner step. It is zero at
    the sampling parameters and its gradient there is ``- credit * grad log P(support)``; with the
    gradient on fixed data that makes the gradient of E_{support ~ pi_phi}[return after adapting to
    it]. It belongs to :func:`log_likelihood`: the other estimators hold part of it already.
    Variance: one number credits all B x T choices of the support data, and grows with them.

    Args:
        log_prob: of the support data under the parameters that sampled them, ``(B, T)``.
        stored: the same at sampling time.
        credit: how well the task went after adaptation, a scalar in units of the outer loss.
        mask: of the support data.
    """
    return -torch.expm1((log_prob - stored) * mask).sum() * credit


def _mean(values: Tensor, mask: Tensor) -> Tensor:
    """Minus the mean over real steps; values are 0 where the advantage is, on padding."""
    return -values.sum() / mask.sum().clamp(min=1.0)

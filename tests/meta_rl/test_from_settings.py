"""Settings make nothing; one place makes what they describe, or asks settings of one's own."""

from dataclasses import dataclass

import pytest

from meta_rl.config import AdamConfig, Config, InnerConfig, OuterConfig, ShotsConfig
from meta_rl.errors import InputError
from meta_rl.from_settings import OUTER_STEPS, make_outer, make_rule
from meta_rl.inner.rules import GradientDescent


@dataclass(frozen=True, kw_only=True)
class Stepless(OuterConfig):
    """Settings without a step."""


@dataclass(frozen=True, kw_only=True)
class Derived(AdamConfig):
    """Settings with the step of their parent."""


@dataclass(frozen=True, kw_only=True)
class Own(AdamConfig):
    """Settings with a step of their own."""

    def make(self, inner, meta, problem, run):
        return self, inner, meta, problem, run


@dataclass(frozen=True, kw_only=True)
class OwnRule(InnerConfig):
    """Settings with a rule of their own."""

    def make_rule(self, seed=0):
        return self, seed


def run(outer):
    return Config(family="sinusoid", data=ShotsConfig(), outer=outer)


def test_settings_of_ones_own_make_their_own_step_and_rule():
    config, rule = run(Own()), OwnRule()
    assert make_outer("inner", "meta", "problem", config) == (
        *(config.outer, "inner", "meta", "problem"),
        config,
    )
    assert make_rule(rule, 3) == (rule, 3)
    assert rule.learns
    assert isinstance(make_rule(InnerConfig()), GradientDescent)


def test_settings_derived_from_others_have_their_step(monkeypatch):
    monkeypatch.setitem(OUTER_STEPS, AdamConfig, lambda own, *others: own)
    assert make_outer(None, None, None, run(Derived())) == Derived()


def test_settings_without_a_step_are_refused_with_what_to_do():
    with pytest.raises(InputError, match="Stepless without one"):
        make_outer(None, None, None, run(Stepless()))

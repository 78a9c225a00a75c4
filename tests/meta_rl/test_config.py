"""Settings survive JSON, and what makes no sense is refused with what, expected and got."""

import json

import pytest

from meta_rl.algorithms import algorithm
from meta_rl.config import (
    AdamConfig,
    Config,
    EpisodesConfig,
    InnerConfig,
    NetworkConfig,
    ProMPConfig,
    ReptileConfig,
    ShotsConfig,
    SpeedConfig,
    TRPOConfig,
    from_dict,
    to_dict,
)
from meta_rl.errors import InputError
from meta_rl.presets import PRESETS, preset


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_survives_json(name):
    assert from_dict(json.loads(json.dumps(to_dict(PRESETS[name])))) == PRESETS[name]


def test_an_unknown_setting_is_refused_with_the_nearest():
    values = to_dict(PRESETS["cartpole"])
    values["inner"]["step_sise"] = 1
    with pytest.raises(InputError, match=r"no setting 'step_sise'. Did you mean 'step_size'"):
        from_dict(values)


def test_a_setting_of_the_wrong_class_is_refused():
    values = to_dict(PRESETS["cartpole"])
    values["outer"]["type"] = "os.system"
    with pytest.raises(InputError, match="expected type TRPOConfig or AdamConfig"):
        from_dict(values)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: EpisodesConfig(tasks=0), r"data\.tasks: expected 1 or more, got 0"),
        (lambda: EpisodesConfig(gamma=1.5), r"data\.gamma: expected between 0 and 1, got 1\.5"),
        (lambda: EpisodesConfig(gamma=float("nan")), r"data\.gamma"),
        (lambda: EpisodesConfig(estimator="lvc"), r"data\.estimator: expected one of 'likelihood"),
        (lambda: EpisodesConfig(exploration=-1.0), r"data\.exploration: expected 0 or more"),
        (lambda: EpisodesConfig(exploration=1.0), r"credits the support data already"),
        (lambda: EpisodesConfig(tasks=2**31), r"data\.tasks: expected a number below 2\*\*31"),
        (lambda: NetworkConfig(hidden=(8, 10**12)), r"network\.hidden: expected a number below"),
        (lambda: Config(family="x", seed=2**63), r"seed: expected a number that tensors hold"),
        (lambda: InnerConfig(steps=-1), r"inner\.steps: expected 0 or more, got -1"),
        (lambda: TRPOConfig(curvature_fraction=0.0), r"outer\.curvature_fraction"),
        (lambda: AdamConfig(learning_rate=float("inf")), r"outer\.learning_rate"),
        (lambda: ProMPConfig(epochs=0), r"outer\.epochs: expected 1 or more, got 0"),
        (lambda: ProMPConfig(clip=1.0), r"outer\.clip: expected between 0 and 1, got 1\.0"),
        (lambda: ProMPConfig(kl_target=0.0), r"outer\.kl_target: expected above 0, got 0\.0"),
        (lambda: ProMPConfig(kl_coefficient=-1.0), r"outer\.kl_coefficient: expected 0 or more"),
        (lambda: ProMPConfig(kl_coefficient=0.0, kl_target=0.01), "0 cannot be doubled"),
        (lambda: ReptileConfig(learning_rate=0.0), r"outer\.learning_rate: expected above 0"),
        (lambda: ReptileConfig(optimizer="rmsprop"), "outer.optimizer: expected one of 'sgd'"),
        (lambda: Config(family="x", iterations=0), r"iterations: expected 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: InnerConfig(form="per_parameter"), "inner.form: expected one of 'scalar', 'tens"),
        (lambda: InnerConfig(positive="softpluss"), "inner.positive: expected one of 'exp'"),
        (lambda: InnerConfig(steps=1.5), "inner.steps: expected int, got 1.5"),
        (lambda: InnerConfig(first_order=1), "inner.first_order: expected bool, got 1"),
        (lambda: SpeedConfig(tasks_at_once="all"), "speed.tasks_at_once: expected int | None"),
        (lambda: NetworkConfig(hidden=[64]), r"network.hidden: expected tuple, got \[64\]"),
        (lambda: NetworkConfig(activation="swish"), "network.activation: expected one of"),
        (lambda: EpisodesConfig(tasks="20"), "data.tasks: expected int, got '20'"),
        (lambda: Config(family=3), "family: expected str, got 3"),
        (lambda: Config(family="x", outer=None), "outer: expected OuterConfig, got None"),
    ],
)
def test_settings_of_another_type_are_refused(make, message):
    with pytest.raises(InputError, match=message.replace("|", r"\|")):
        make()


FIXED = InnerConfig(learn_step_size=False)


@pytest.mark.parametrize("outer", [ProMPConfig(kl_target=0.01), ReptileConfig(optimizer="adam")])
def test_every_outer_step_survives_json(outer):
    config = Config(family="x", inner=FIXED, outer=outer)
    assert from_dict(json.loads(json.dumps(to_dict(config)))) == config


@pytest.mark.parametrize(("outer", "name"), [(TRPOConfig(), "TRPO"), (ProMPConfig(), "ProMP")])
def test_trpo_and_promp_without_a_policy_are_refused(outer, name):
    with pytest.raises(InputError, match=f"{name} needs a policy.*Use AdamConfig or Reptile"):
        Config(family="sinusoid", data=ShotsConfig(), outer=outer)


def test_reptile_cannot_learn_step_sizes():
    with pytest.raises(InputError, match=r"got True\. Reptile has no.*--inner\.no-learn"):
        Config(family="x", outer=ReptileConfig())


@pytest.mark.parametrize("outer", [ProMPConfig(), ReptileConfig()])
def test_promp_and_reptile_need_an_inner_step(outer):
    inner = InnerConfig(steps=0, learn_step_size=False)
    with pytest.raises(InputError, match=r"inner\.steps: expected 1 or more with .*, got 0"):
        Config(family="x", inner=inner, outer=outer)


@pytest.mark.parametrize("data", [EpisodesConfig(), ShotsConfig()])
def test_reptile_fits_both_kinds_of_data(data):
    assert Config(family="x", inner=FIXED, outer=ReptileConfig(), data=data).data == data


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(InputError, match="Did you mean 'navigation-2d'"):
        preset("navigation2d")


@pytest.mark.parametrize("name", ["reptile", "anil", "pretrain", "oracle"])
def test_algorithms_on_weights_leave_a_presets_context_vector_out(name):
    assert preset("pendulum").inner.adapts == "context"
    config = algorithm(name, preset("pendulum"))
    assert config.inner.adapts != "context"
    assert config.network.context == 0
    assert config.inner.step_size < 1.0  # a context's is 17

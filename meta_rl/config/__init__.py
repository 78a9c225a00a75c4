"""Hold every setting of a training run in frozen dataclasses that import nothing heavy.

``meta-rl train --help`` must answer before torch is imported, so the settings live here and not
beside the code they configure. A settings class refuses invalid values when it is made.
"""

from meta_rl.config.data import EpisodesConfig, EvalConfig, ShotsConfig
from meta_rl.config.descent import AdamConfig, ProMPConfig, ReptileConfig, TRPOConfig
from meta_rl.config.effects import Facts, distance, require_effect
from meta_rl.config.evolution import EvolutionConfig, GeneticConfig
from meta_rl.config.inner import InnerConfig
from meta_rl.config.network import NetworkConfig
from meta_rl.config.outer import OuterConfig
from meta_rl.config.run import Config, from_dict, to_dict
from meta_rl.config.speed import SpeedConfig
from meta_rl.config.trials import RL2Config
from meta_rl.config.varibad import VariBADConfig

__all__ = [
    "AdamConfig",
    "Config",
    "EpisodesConfig",
    "EvalConfig",
    "EvolutionConfig",
    "Facts",
    "GeneticConfig",
    "InnerConfig",
    "NetworkConfig",
    "OuterConfig",
    "ProMPConfig",
    "RL2Config",
    "ReptileConfig",
    "ShotsConfig",
    "SpeedConfig",
    "TRPOConfig",
    "VariBADConfig",
    "distance",
    "from_dict",
    "require_effect",
    "to_dict",
]

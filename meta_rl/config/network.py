"""Settings of the network that adapts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from meta_rl.config.checks import require_types
from meta_rl.config.data import EpisodesConfig
from meta_rl.errors import InputError, require

if TYPE_CHECKING:
    from meta_rl.config.effects import Conditions, Facts
    from meta_rl.config.run import Config


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """The network that adapts."""

    kind: Literal["mlp", "convolutional", "gru", "lstm"] | None = None
    """mlp: a multi-layer perceptron. convolutional: four convolution blocks and a linear layer; in
    policies, the Atari network's convolutions, or smaller ones below 36 x 36 pixels, and a
    perceptron. gru, lstm: recurrent layers over a sequence, and a linear layer at its last step.
    If not given, mlp, but convolutional in policies whose observations have images."""
    hidden: tuple[int, ...] = (64, 64)
    """Units in each hidden layer of a perceptron, also of one behind a policy's convolutions, or in
    each recurrent layer."""
    activation: Literal["tanh", "relu", "elu", "gelu", "silu", "leaky-relu"] | None = None
    """Activation of a perceptron's hidden layers, also behind a policy's convolutions: tanh if not
    given. Convolutions use relu, recurrent layers tanh."""
    initialization: Literal["xavier", "orthogonal", "he"] = "xavier"
    """Initial weights. xavier: uniform, by inputs and outputs. orthogonal: as stable-baselines3,
    gain sqrt 2, and 0.01 in a policy's last layer. he: uniform, by inputs; for relu. Recurrent
    layers have their own."""
    head: Literal["linear", "observation", "hypernetwork"] = "linear"
    """Layers from the recurrent state to actions and values, in rl2. linear: one linear layer.
    observation: a perceptron of the state with the observation beside it. hypernetwork: a
    perceptron of the observation, whose weights the state generates (Beck et al. 2023)."""
    head_hidden: tuple[int, ...] = (32,)
    """Units in each hidden layer of a head that sees the observation, one head for actions and one
    for values. A generated head takes memory in proportion to its weights, at every step."""
    context: int = 0
    """Size of the context vector beside the input, for --inner.adapts context; 0 for none."""
    channels: int | tuple[int, ...] = 64
    """Channels of a convolutional network's four blocks: one number for all, or one for each."""
    module: str | None = None
    """Features extractor of yours, FILE.py:Class, under the hidden layers. The file is run. The
    class is called with the observation space, as stable-baselines3 calls a BaseFeaturesExtractor;
    a torch.nn.Module will do."""

    def __post_init__(self):
        require_types(self, "network")
        channels = self.channels if isinstance(self.channels, tuple) else (self.channels,)
        some = bool(channels) and min(channels) > 0
        require(some, "network.channels", "1 or more", self.channels)
        if self.kind == "convolutional" and self.context:
            raise InputError(
                f"network.context: expected 0 with a convolutional network, got {self.context}. It "
                "cannot join a vector to its input. Give --network.kind mlp."
            )
        if self.module is not None:
            self._check_module(self.module)
        for name in ("hidden", "head_hidden"):
            sizes = getattr(self, name)
            require(all(h > 0 for h in sizes), f"network.{name}", "sizes above 0", sizes)
        require(self.context >= 0, "network.context", "0 or more", self.context)

    def _check_module(self, module: str) -> None:
        file, _, name = module.rpartition(":")
        told = "a Python file and a class in it, FILE.py:Class"
        require(bool(file) and name.isidentifier(), "network.module", told, module)
        if self.kind is not None or self.context:
            raise InputError(
                f"network.module: expected no other network beside {module}, got kind {self.kind} "
                f"and a context of {self.context}. Give --network.kind None: the module comes in "
                "place of what a kind would choose."
            )

    def conditions(self, run: Config, facts: Facts) -> Conditions:
        """Return whether each setting acts in this run; see :mod:`meta_rl.config.effects`."""
        policy = isinstance(run.data, EpisodesConfig)
        recurrent = self.kind in ("gru", "lstm")
        # A few-shot network on images has blocks of convolutions and no hidden layers.
        blocks = self.kind == "convolutional" and not policy
        own = "relu" if blocks else "tanh"
        # A perceptron acts where another kind would be possible.
        images = facts.images is not False and not recurrent
        sequences = facts.sequences is not False and not policy and self.kind != "convolutional"
        remembers = recurrent and run.inner.method == "memory"
        return [
            (
                "network.kind",
                images or sequences or remembers,
                {
                    "convolutional": "on images",
                    "mlp": "on images, or sequences of few-shot families",
                }.get(str(self.kind), "on sequences of few-shot families, and in rl2"),
            ),
            ("network.head", remembers, "in rl2"),
            (
                "network.head_hidden",
                remembers and self.head != "linear",
                "in rl2, with --network.head observation or hypernetwork",
            ),
            (
                "network.context",
                run.inner.adapts == "context",
                "with --inner.adapts context",
            ),
            ("network.hidden", not blocks, "with --network.kind mlp, gru or lstm"),
            (
                "network.activation",
                self.activation == own or not (blocks or recurrent or not self.hidden),
                "with --network.kind mlp and hidden layers; a convolutional network's is relu, a "
                "recurrent one's tanh",
            ),
            (
                "network.channels",
                blocks,
                "with --network.kind convolutional, on images of few-shot families",
            ),
        ]

"""Start from another run's theta, perhaps of another family: copy the layers that match."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from meta_rl.config import Config, ShotsConfig
from meta_rl.errors import InputError
from meta_rl.naming import part_of
from meta_rl.problem import Problem
from meta_rl.problems.modules import fixed, module_of
from meta_rl.problems.normalization import normalization_of
from meta_rl.storage import checkpoint, files, run_folder
from meta_rl.types import Params


class Match(NamedTuple):
    """The source of one parameter's initial value."""

    name: str
    source: str | None  # the other run's parameter to copy; None for a fresh one
    why: str


class FromRun:
    """Carries another run's layers into theta where they match; the rest is fresh.

    Layers are matched by their place from the input, heads only with heads. A policy's ``mean`` and
    ``logits`` and a few-shot network's layers count alike. A layer is carried whole, if all of its
    tensors have the new layer's shapes, or not at all; ``log_std`` only with the head, statistics
    of observations with the first layer. The new run's inner rule and outer optimizer start fresh.

    Args:
        run: a run folder, one checkpoint in it, an adapted model's folder, or
            ``"pretrained:NAME"``, a model that is shipped.
    """

    step_size = None

    def __init__(self, run: str | Path):
        self.run = Path(run)
        self.matches: list[Match] = []
        self.digest = ""  # SHA-256 of the other run's tensors

    def theta(self, problem: Problem, config: Config) -> Params:
        """Return the problem's initial parameters, with the other run's where they match.

        Raises:
            InputError: if there is no run, its activation differs, no layer matches, or the first
                layer does and only one of the runs normalizes its observations.
        """
        _, manifest, tensors, _ = run_folder.load_newest(self.run)
        self.digest, kind = str(manifest["sha256"]), str(manifest.get("kind"))
        checkpoint.require_fields(manifest, "meta" if kind != "adapted" else kind, config=dict)
        source = tensors if kind == "adapted" else part_of("theta", tensors)
        own = problem.initial_parameters()
        self._check_activation(manifest["config"], config)
        self.matches = match(own, source)
        if not any(m.source for m in self.matches):
            units = {_split(n)[0]: len(v) for n, v in source.items() if v.ndim >= 2}
            hidden = [units[layer] for layer in _layers(source)[:-1]]
            raise InputError(
                f"init_run: expected a layer of {self.run} to fit, got none: {self.matches[0].why}."
                f" Its hidden layers have {' '.join(map(str, hidden))} units: give them to "
                "--network.hidden (or --network.channels)."
            )
        if next(m for m in self.matches if _split(m.name)[0] == _layers(own)[0]).source:
            self._carry_statistics(problem, part_of("fixed", tensors) or tensors)
        if config.network.module is not None:
            self._carry_fixed(problem, part_of("fixed", tensors) or tensors)
        return {
            m.name: source[m.source].to(own[m.name]) if m.source else own[m.name]
            for m in self.matches
        }

    @property
    def told(self) -> list[str]:
        """Return a line for each parameter: carried or fresh, and why."""
        width = max(len(m.name) for m in self.matches)
        head = f"theta starts from {self.run}:"
        return [head, *(f"  {m.name.ljust(width)}  {_verb(m)}: {m.why}" for m in self.matches)]

    def keep(self, folder: Path) -> None:
        """Write the list of carried parameters into a run folder's ``init_run.json``."""
        content: dict[str, Any] = {"run": str(self.run), "sha256": self.digest}
        content["parameters"] = {m.name: {"start": _verb(m), "why": m.why} for m in self.matches}
        files.write_json(folder / "init_run.json", content)

    def _carry_fixed(self, problem: Problem, tensors: Params) -> None:
        """Copy what a module of one's own does not learn: its layers were learned on top of it."""
        held = fixed(module_of(problem))
        own = {name: v for name, v in held.items() if not name.startswith("normalization.")}
        theirs = {name: value for name, value in tensors.items() if name in own}
        checkpoint.match_tensors(own, theirs)
        for name, value in own.items():
            value.copy_(theirs[name])

    def _carry_statistics(self, problem: Problem, tensors: Params) -> None:
        """Copy the other run's statistics of observations: its first layer goes with them."""
        theirs, module = part_of("normalization", tensors), module_of(problem)
        own = None if module is None else normalization_of(module)
        if bool(theirs) != (own is not None):
            raise InputError(
                f"init_run: expected normalize_observations {bool(theirs)}, as in {self.run}, got "
                f"{not theirs}: its first layer would see other numbers. Give "
                f"--data.{'' if theirs else 'no-'}normalize-observations."
            )
        if own is not None:
            checkpoint.match_tensors(own.state_dict(), theirs)
            own.load_state_dict(theirs)
            own.refresh()

    def _check_activation(self, theirs: dict[str, Any], config: Config) -> None:
        network: Any = theirs.get("network")
        given = (network.get("activation") if isinstance(network, dict) else None) or "tanh"
        ours = config.network.activation or "tanh"
        blocks = isinstance(config.data, ShotsConfig) and config.network.kind == "convolutional"
        module = network.get("module") if isinstance(network, dict) else None
        names = [str(told or "").rpartition(":")[2] for told in (config.network.module, module)]
        if names[0] != names[1]:
            raise InputError(
                f"init_run: expected the network's module to be {names[0] or 'none'}, got "
                f"{names[1] or 'none'} in {self.run}. Give the same --network.module as there."
            )
        if not blocks and given != ours:
            raise InputError(
                f"init_run: expected activation {ours}, got {given} in {self.run}: the same weights"
                f" would compute something else. Give --network.activation {given}."
            )


def match(own: Params, source: Params) -> list[Match]:
    """Return for each own parameter the source's parameter that fits, or why none does."""
    ours, theirs = _layers(own), _layers(source)
    matches = []
    for name, value in own.items():
        layer, leaf = _split(name)
        if layer not in ours:  # log_std and context belong to no layer; match them by name
            other = next((n for n in source if _split(n)[1] == leaf), None)
            matches.append(_compared(name, value, other, source))
            continue
        place = ours.index(layer)
        head = place == len(ours) - 1
        if place >= len(theirs) or head != (place == len(theirs) - 1):
            what = "the head" if head else f"hidden layer {place + 1}"
            why = f"{what} of {len(ours)} layers, the other run has {len(theirs)}"
            matches.append(Match(name, None, why))
            continue
        # A layer carried in part would get inputs or give outputs that it was not trained for.
        each = [
            _compared(n, v, f"{theirs[place]}.{_split(n)[1]}".lstrip("."), source)
            for n, v in own.items()
            if _split(n)[0] == layer
        ]
        misfit = next((m for m in each if m.source is None), None)
        fits = next(m for m in each if m.name == name)
        matches.append(fits if misfit is None else Match(name, None, misfit.why))
    head = next(m for m in matches if _split(m.name)[0] == ours[-1])
    return [_with_head(m, head) for m in matches]


def _with_head(match: Match, head: Match) -> Match:
    """Make ``log_std`` fresh if the head is: its units are the head's."""
    if head.source or not match.source or _split(match.name)[1] != "log_std":
        return match
    return Match(match.name, None, head.why)


def _compared(name: str, value: Tensor, other: str | None, source: Params) -> Match:
    if other is None or other not in source:
        return Match(name, None, "the other run has none")
    shapes = list(value.shape), list(source[other].shape)
    if shapes[0] != shapes[1]:
        return Match(name, None, f"expected {shapes[0]} for {name}, got {shapes[1]}")
    return Match(name, other, f"{shapes[0]} of {other}")


def _layers(params: Params) -> list[str]:
    """Return the names of layers (their weight has two or more dimensions), from the input on.

    They are sorted by numbers and words, because a checkpoint's tensors come in any order. A
    policy's network has another name with other actions.
    """
    names = dict.fromkeys(_split(n)[0] for n, v in params.items() if v.ndim >= 2)

    def place(layer: str) -> list[tuple[int, str]]:
        parts = layer.removeprefix("mean").removeprefix("logits").split(".")
        return [(int(part), "") if part.isdigit() else (0, part) for part in parts]

    return sorted(names, key=place)


def _split(name: str) -> tuple[str, str]:
    layer, _, leaf = name.rpartition(".")
    return layer, leaf


def _verb(match: Match) -> str:
    return "carried" if match.source else "fresh"

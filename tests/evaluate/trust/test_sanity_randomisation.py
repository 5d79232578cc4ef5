"""Every parameter is drawn anew, from its own initial distribution, in the order of the forward pass."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from an8flower.errors import Refusal
from an8flower.evaluate.models.classifier import Classifier, build, wrap
from an8flower.evaluate.models.kept_copies import state_of
from an8flower.evaluate.trust.sanity import randomisation
from an8flower.evaluate.trust.sanity.layers import Layer, layers_of, steps_of
from an8flower.evaluate.trust.sanity.randomisation import (
    ARCH,
    LAYER,
    NOT_ZERO,
    PERMUTED,
    RandomisableCopy,
    RedrawnParameter,
    Redraws,
    check_draw,
    coverage,
    redraw,
)

NAMES = tuple("abcdef")
SIZES = {"flowernet": 42, "resnet18": 32, "flowervit": 28, "mobilenet_v2": 32}


def trained(arch: str) -> Classifier:
    """As after training: no parameter is where it started."""
    classifier = build(arch, NAMES, SIZES[arch], seed=0)
    source = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in classifier.parameters():
            parameter += 0.01 * torch.randn(parameter.shape, generator=source)
    return classifier.eval()


def state(classifier: Classifier) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in classifier.state_dict().items()}


@pytest.mark.parametrize("arch", SIZES)
def test_every_element_of_every_parameter_is_redrawn(arch: str) -> None:
    classifier = trained(arch)
    found = coverage(classifier, layers_of(classifier), redraw(classifier, 5))
    assert found["share"] == 1
    assert found["unchanged"] == []
    assert found["parameters"] == len(list(classifier.parameters()))
    assert found["elements"] == sum(parameter.numel() for parameter in classifier.parameters())
    assert all(each["changed"] > 0 for each in found["by_parameter"])


def test_what_vision_transformers_hide_is_redrawn_too() -> None:
    classifier = trained("flowervit")
    found = {
        each["name"]: each
        for each in coverage(classifier, layers_of(classifier), redraw(classifier, 5))["by_parameter"]
    }
    block = "encoder.layers.encoder_layer_0"
    for name in (f"{block}.self_attention.in_proj_weight", f"{block}.self_attention.out_proj.weight"):
        assert found[name]["changed"] == found[name]["elements"]
        assert not found[name]["constant"]
    assert found["encoder.pos_embedding"]["changed"] == found["encoder.pos_embedding"]["elements"]
    for name in ("class_token", f"{block}.ln_1.weight", f"{block}.ln_1.bias", "encoder.ln.weight"):
        assert found[name]["constant"]
        assert found[name]["changed"] == found[name]["elements"]
    # torchvision starts the last layer at zero, behind which every gradient is zero
    assert found["heads.head.weight"]["source"] == NOT_ZERO
    assert found["heads.head.weight"]["changed"] == found["heads.head.weight"]["elements"]


def test_values_have_the_distribution_of_the_architecture() -> None:
    classifier = trained("flowernet")
    values, again = redraw(classifier, 5), redraw(classifier, 5)
    started = dict(build("flowernet", NAMES, 42, seed=1).network.named_parameters())
    for name, value in values.items():
        assert value.source == ARCH
        assert torch.equal(value.value, again[name].value)
        assert value.constant == (started[name].min() == started[name].max()).item()
        if not value.constant and value.value.numel() > 100:
            assert value.value.std() == pytest.approx(started[name].std().item(), rel=0.2)
    assert not torch.equal(values["features.0.weight"].value, redraw(classifier, 6)["features.0.weight"].value)


class Bare(nn.Module):
    """A network of one's own: bare parameters, attention, layers with and without an initialiser."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(8, 6)  # first here, last in use
        self.stem = nn.Conv2d(3, 8, 4, 4)
        self.token = nn.Parameter(torch.randn(1, 1, 8))
        self.gain = nn.Parameter(torch.ones(8))
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)

    def forward(self, images: Tensor) -> Tensor:
        tokens = self.stem(images).flatten(2).transpose(1, 2)
        tokens = torch.cat([self.token.expand(len(tokens), -1, -1), tokens * self.gain], 1)
        return self.last(self.norm(self.attention(tokens, tokens, tokens)[0])[:, 0])


@pytest.fixture
def bare() -> Classifier:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = wrap(Bare(), NAMES, 16, "stem")
    with torch.no_grad():
        classifier.network.norm.weight += torch.rand(8, generator=torch.Generator().manual_seed(1))
    return classifier.eval()


def test_a_network_of_ones_own_takes_what_its_layers_do(bare: Classifier) -> None:
    values = redraw(bare, 5)
    assert values["token"].source == PERMUTED
    assert values["gain"].source == PERMUTED
    assert values["gain"].constant
    assert not values["token"].constant
    token = bare.network.token.flatten()
    assert torch.equal(values["token"].value.flatten().sort().values, token.sort().values)
    others = set(values) - {"token", "gain"}
    assert {values[name].source for name in others} == {LAYER}
    assert torch.equal(values["norm.weight"].value, torch.ones(8))
    found = coverage(bare, layers_of(bare), values)
    assert found["share"] == 1
    assert found["unchanged"] == ["gain", "attention.in_proj_bias", "norm.bias"]


def test_layers_come_in_the_order_of_the_forward_pass(bare: Classifier) -> None:
    names = [layer.name for layer in layers_of(bare)]
    assert names == ["Bare", "stem", "attention", "attention.out_proj", "norm", "last"]
    names = [layer.name for layer in layers_of(trained("flowervit"))]
    first = [name.replace("encoder.layers.encoder_layer_0", "0") for name in names[:6]]
    assert first == [
        "VisionTransformer",
        "conv_proj",
        "encoder",
        "0.ln_1",
        "0.self_attention",
        "0.self_attention.out_proj",
    ]
    assert names[-2:] == ["encoder.ln", "heads.head"]


def test_a_shared_parameter_belongs_to_the_first_who_reads_it() -> None:
    network = nn.Sequential(nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1), nn.Flatten(), nn.Linear(3 * 64, 6))
    network[1].weight = network[0].weight
    layers = layers_of(wrap(network, NAMES, 8, "0"))
    assert [layer.parameters for layer in layers] == [
        ("0.weight", "0.bias"),
        ("1.bias",),
        ("3.weight", "3.bias"),
    ]


@pytest.mark.parametrize("count", [1, 2, 3, 10, 100])
def test_steps_go_down_from_the_last_layer_and_hold_every_layer_once(count: int) -> None:
    layers = [Layer(f"l{i}", (f"l{i}.weight",)) for i in range(10)]
    steps = steps_of(layers, count)
    assert len(steps) == min(count, 10)
    assert [layer for step in steps for layer in step.layers] == layers[::-1]
    assert count == 1 or steps[0].name == "l9"
    sizes = [len(step.layers) for step in steps[1:]] or [10]
    assert max(sizes) - min(sizes) <= 1


def test_only_the_named_parameters_change_and_only_inside_the_block() -> None:
    classifier = trained("flowernet")
    before, copied = state(classifier), RandomisableCopy(classifier)
    values = redraw(classifier, 5)
    with copied.only(["classifier.weight", "features.1.bias"], values) as changed:
        inside = dict(changed.network.named_parameters())
        differing = {
            name for name, value in classifier.network.named_parameters() if not torch.equal(value, inside[name])
        }
        assert differing == {"classifier.weight", "features.1.bias"}
        assert torch.equal(inside["classifier.weight"], values["classifier.weight"].value)
    for held in (classifier, copied.classifier):
        after = state(held)
        assert before.keys() == after.keys()
        assert all(torch.equal(before[name], after[name]) for name in before)
    assert not any(module.training for module in copied.classifier.modules())


def test_a_walk_passes_the_same_states_as_steps_by_themselves() -> None:
    classifier = trained("flowernet")
    copied, draws = RandomisableCopy(classifier), [redraw(classifier, 5), redraw(classifier, 6)]
    names = list(draws[0])
    stops = [(names[-2:], 0), (names[-6:], 0), (names, 0), (names[:3], 0), (names[:3], 1), ([], 1), (names, 1)]
    with copied.walking():
        for chosen, draw in stops:
            with (
                copied.only(chosen, draws[draw]) as changed,
                RandomisableCopy(classifier).only(chosen, draws[draw]) as expected,
            ):
                after, alone = state(changed), state(expected)
                assert all(torch.equal(value, alone[name]) for name, value in after.items())
    after = state(copied.classifier)
    assert all(torch.equal(value, after[name]) for name, value in state(classifier).items())


@pytest.mark.parametrize("arch", ["flowernet", "flowervit"])
def test_draws_together_are_those_alone(arch: str) -> None:
    classifier = trained(arch)
    for drawn, seed in zip(Redraws(classifier, [5, 6]), [5, 6], strict=True):
        alone = redraw(classifier, seed)
        assert drawn.keys() == alone.keys()
        for name, value in drawn.items():
            assert (value.source, value.constant) == (alone[name].source, alone[name].constant)
            assert torch.equal(value.value, alone[name].value)


@pytest.mark.parametrize(("seeds", "memory", "built"), [([5, 6, 7], 2**30, 3), ([5], 2**30, 2), ([5, 6, 7], 0, 4)])
def test_a_network_is_built_once_for_each_draw(
    seeds: list[int], memory: int, built: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One draw needs another one, to know what no draw changes; without memory, the second is built twice."""
    classifier, builds = trained("flowernet"), 0

    def counted(*args: object) -> Classifier:
        nonlocal builds
        builds += 1
        return build(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(randomisation, "build", counted)
    draws = Redraws(classifier, seeds, memory)
    for _ in range(1 if memory == 0 else 2):
        assert [draw["classifier.weight"].constant for draw in draws] == [False] * len(seeds)
    assert builds == built


def test_new_values_are_lent_and_nobody_writes_into_them() -> None:
    classifier = trained("flowernet")
    copied, values = RandomisableCopy(classifier), redraw(classifier, 5)
    before = {name: new.value.clone() for name, new in values.items()}
    parameters = dict(copied.classifier.network.named_parameters())
    places = {name: parameter.data_ptr() for name, parameter in parameters.items()}
    with copied.walking():
        for names in (list(values), [], ["classifier.weight"]):
            with copied.only(names, values):
                for name, parameter in parameters.items():
                    assert parameter.data_ptr() == (values[name].value.data_ptr() if name in names else places[name])
    assert {name: parameter.data_ptr() for name, parameter in parameters.items()} == places
    assert all(torch.equal(new.value, before[name]) for name, new in values.items())


def test_what_was_made_of_other_weights_is_not_taken_for_made_of_these() -> None:
    """Also where one parameter holds the same memory again, with other values meanwhile."""
    classifier = trained("flowernet")
    copied, values = RandomisableCopy(classifier), redraw(classifier, 5)
    states = [state_of(copied.classifier)]
    for _ in range(2):
        with copied.only(["classifier.weight"], values) as changed:
            states.append(state_of(changed))
        states.append(state_of(copied.classifier))
    assert len(set(states)) == len(states)


class Tied(nn.Module):
    """Two parameters in one block of memory: a write to one is a write to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1, bias=False), nn.Conv2d(3, 3, 1, bias=False)
        self.second.weight = nn.Parameter(self.first.weight.detach())

    def forward(self, images: Tensor) -> Tensor:
        return self.second(self.first(images)).flatten(2).amax(2)


def test_values_that_cannot_be_lent_are_copied() -> None:
    """A slow second version: each value written into a fresh copy of the network."""
    tied = wrap(Tied(), ("a", "b", "c"), 32, "first")
    turned = trained("flowernet").to(memory_format=torch.channels_last)
    wide = trained("flowernet").double()
    for classifier, chosen in ((tied, ["first.weight"]), (turned, None), (wide, None)):
        copied, expected = RandomisableCopy(classifier), copy.deepcopy(classifier)
        values = redraw(trained("flowernet"), 5) if classifier is wide else redraw(classifier, 5)
        written = dict(expected.network.named_parameters())
        with torch.no_grad():
            for name in chosen or values:
                written[name].copy_(values[name].value)
        with copied.only(chosen or list(values), values) as changed:
            assert all(torch.equal(value, state(expected)[name]) for name, value in state(changed).items())
            strides = [parameter.stride() for parameter in changed.parameters()]
            assert strides == [parameter.stride() for parameter in expected.parameters()]
        assert all(torch.equal(value, state(classifier)[name]) for name, value in state(copied.classifier).items())


def test_batch_norms_keep_their_statistics_unless_told_otherwise() -> None:
    classifier = trained("flowernet")
    copied, values = RandomisableCopy(classifier), redraw(classifier, 5)
    everything, images = list(values), torch.rand(20, 3, 42, 42, generator=torch.Generator().manual_seed(0))
    trained_mean = classifier.network.features[1].running_mean.clone()
    with copied.only(everything, values) as changed:
        assert torch.equal(changed.network.features[1].running_mean, trained_mean)
    with copied.only(everything, values, images) as changed:
        features = changed.network.features[0](changed.normalise(images))
        torch.testing.assert_close(
            changed.network.features[1].running_mean,
            torch.stack([features[:16].mean((0, 2, 3)), features[16:].mean((0, 2, 3))]).mean(0),
        )
        assert not changed.network.features[1].training
        assert changed.network.features[1].momentum == 0.1
    assert torch.equal(copied.classifier.network.features[1].running_mean, trained_mean)


def test_nothing_is_drawn_from_global_state() -> None:
    classifier = trained("flowernet")
    before = torch.get_rng_state()
    redraw(classifier, 5)
    redraw(wrap(copy.deepcopy(classifier.network), NAMES, 42, "features"), 5)
    assert torch.equal(before, torch.get_rng_state())


def test_what_is_not_reached_or_came_out_as_trained_is_refused() -> None:
    classifier = trained("flowernet")
    layers, values = layers_of(classifier), redraw(classifier, 5)
    with pytest.raises(Refusal, match=r"classifier\.bias, classifier\.weight cannot be randomised"):
        coverage(classifier, layers[:-1], values)
    values["classifier.weight"] = RedrawnParameter(classifier.network.classifier.weight.detach(), ARCH, False)
    for check in (coverage, check_draw):
        with pytest.raises(Refusal, match=r"classifier\.weight came out as trained"):
            check(classifier, layers, values)

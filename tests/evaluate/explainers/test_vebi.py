"""Explanation by interpretation against closed forms, slow second versions and captum."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from an8flower.errors import NotApplicable, WrongUsage
from an8flower.evaluate.case import Query
from an8flower.evaluate.explainers.filters.relevant_filters import Filter, Fit, Relevance, find_relevance, responses
from an8flower.evaluate.explainers.filters.responses import Listening, energies, layer_numbers, response_vectors
from an8flower.evaluate.explainers.fittable import Fitted
from an8flower.evaluate.explainers.interpretation import RelevantFilters, UpsamActRelevant, Vebi
from an8flower.evaluate.explaining.contract import CHECKS, Trial, judge
from an8flower.evaluate.explaining.contract_networks import NETWORKS
from an8flower.evaluate.explaining.explain import explain
from an8flower.evaluate.explaining.fitting import TensorExamples, prepare
from an8flower.evaluate.models.classifier import Classifier, build, wrap

METHODS = (Vebi, UpsamActRelevant)
FIT = Fit(layers=None, mu=5.0, positive=True, root=False, normalise=True)


def network(kind: str) -> Classifier:
    return NETWORKS[kind]().eval()


def asked(classifier: Classifier, rows: int = 5) -> Query:
    images = torch.rand(rows, 3, classifier.size, classifier.size, generator=torch.Generator().manual_seed(5))
    return Query(images, torch.arange(rows) % len(classifier.class_names), torch.arange(rows))


def with_weights(method: RelevantFilters, classifier: Classifier, seed: int = 0) -> Fitted:
    """A fit that was never made: every class has filters of its own, in all layers."""
    heard, _ = responses(classifier, asked(classifier, 1).images)
    channels = torch.tensor([layer.shape[1] for layer in heard])
    source = torch.Generator().manual_seed(seed)
    shape = int(channels.sum()), len(classifier.class_names)
    weights = torch.rand(shape, generator=source, dtype=torch.float64) - 0.5
    return Fitted(method, Relevance(torch.arange(len(heard)), channels, weights, torch.tensor(1.0))._asdict())


# Responses


def test_every_relu_is_heard_in_order() -> None:
    for kind, channels in (("in-place", [8, 6]), ("reuse", [8, 8, 8, 8])):
        heard: list[Tensor] = []
        classifier = network(kind)
        with Listening(lambda number, maps, heard=heard: heard.insert(number, maps.clone())), torch.no_grad():
            classifier(asked(classifier).images)
        assert [maps.shape[1] for maps in heard] == channels
        assert all((maps >= 0).all() for maps in heard)
    torch.testing.assert_close(heard[3], F.relu(heard[2] - 0.1))  # the functional one of the residual network
    flat = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU6(), nn.Flatten(), nn.Linear(784, 9), nn.ReLU(), nn.Linear(9, 4))
    classifier = wrap(flat, "abcd", 16, "0").eval()
    assert len(responses(classifier, asked(classifier).images)[0]) == 1  # that of a linear layer gives no maps


def test_response_vectors() -> None:
    first = torch.tensor([[[[1.0, 2.0]], [[0.0, 0.0]]], [[[0.0, 0.0]], [[0.0, 0.0]]]])
    second = torch.tensor([[[[3.0, 0.0]]], [[[0.0, 4.0]]]])
    layers = [energies(first), energies(second)]
    assert layers[0].tolist() == [[5, 0], [0, 0]]
    assert energies(second, root=True).tolist() == [[3], [4]]
    assert response_vectors(layers, normalise=False).tolist() == [[1, 0, 1], [0, 0, 1]]
    torch.testing.assert_close(response_vectors(layers), torch.tensor([[0.5**0.5, 0, 0.5**0.5], [0, 0, 1]]))
    assert response_vectors([torch.zeros(2, 3)]).tolist() == [[0, 0, 0]] * 2
    tiny = [layer * 1e-20 for layer in layers]
    torch.testing.assert_close(response_vectors(tiny), response_vectors(layers))


def test_layers_by_number() -> None:
    assert layer_numbers(None, 3) == [0, 1, 2]
    assert layer_numbers("-1+0+0", 3) == [0, 2]
    with pytest.raises(WrongUsage, match="layers are 0\\+3; ReLU 3 does not exist, 3 of them"):
        layer_numbers("0+3", 3)
    with pytest.raises(WrongUsage, match='layers are "last"; expected numbers'):
        Vebi(layers="last")


# The fit


class Colours(nn.Module):
    """The closed form: channel c fires for class c alone; conv 1 x 1, ReLU, mean, linear."""

    def __init__(self) -> None:
        super().__init__()
        self.same, self.linear = nn.Conv2d(3, 3, 1, bias=False), nn.Linear(3, 3, bias=False)
        self.same.weight.data = torch.eye(3)[:, :, None, None]
        self.linear.weight.data = torch.eye(3)

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(F.relu(self.same(images)).mean((2, 3)))


@pytest.fixture
def colours() -> Classifier:
    return wrap(Colours(), "rgb", 8, "same", mean=(0, 0, 0), std=(1, 1, 1)).eval()


@pytest.fixture
def pictures() -> TensorExamples:
    """Thirty images, each in one colour, brighter or darker from pixel to pixel."""
    labels = torch.arange(30) % 3
    grey = torch.rand(30, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    return TensorExamples(grey * F.one_hot(labels, 3)[:, :, None, None], labels)


def test_each_class_gets_its_own_filter(colours: Classifier, pictures: TensorExamples) -> None:
    relevance = find_relevance(colours, pictures.take(30, 8), FIT)
    assert relevance.weights.count_nonzero(0).tolist() == [1, 1, 1]
    assert [relevance.filters(target)[0][0] for target in range(3)] == [Filter(0, c) for c in range(3)]
    assert relevance.agreement == 1
    torch.testing.assert_close(relevance.weights, torch.eye(3, dtype=torch.float64), rtol=0, atol=1e-6)
    bounded = find_relevance(colours, pictures.take(30, 8), FIT._replace(mu=0.25))
    torch.testing.assert_close(bounded.weights, torch.eye(3, dtype=torch.float64) / 4, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_the_filter_is_drawn_in_the_image(
    method: type[RelevantFilters], colours: Classifier, pictures: TensorExamples
) -> None:
    ready = prepare(method(), colours, pictures)
    targets = torch.arange(3)
    maps = explain(colours, ready, Query(pictures.images[:3], targets, targets)).maps
    grey = pictures.images[:3].amax(1)
    low, high = grey.amin((1, 2), keepdim=True), grey.amax((1, 2), keepdim=True)
    torch.testing.assert_close(maps, (grey - low) / (high - low))


@pytest.mark.parametrize("method", METHODS)
def test_nothing_relevant_gives_zeros(
    method: type[RelevantFilters], colours: Classifier, pictures: TensorExamples
) -> None:
    red = TensorExamples(pictures.images[::3], pictures.labels[::3])
    ready = prepare(method(), colours, red)
    query = Query(pictures.images[:2], torch.tensor([0, 2]), torch.zeros(2, dtype=torch.int64))
    maps = explain(colours, ready, query).maps
    assert maps[0].any()  # red was seen
    assert not maps[1].any()  # blue never was


def test_features_that_must_be_absent(colours: Classifier) -> None:
    """Class g is predicted wherever the second channel wins, and the first one speaks against it."""
    images = (
        torch.rand(200, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * torch.tensor([1, 1, 0])[:, None, None]
    )
    examples = TensorExamples(
        images * torch.rand(200, 3, 1, 1, generator=torch.Generator().manual_seed(2)), torch.zeros(200)
    )
    relevance = find_relevance(colours, examples.take(200, 50), FIT._replace(positive=False))
    assert [each for each, _ in relevance.filters(1)] == [Filter(0, 1)]
    assert relevance.weights[0, 1] < 0
    assert (find_relevance(colours, examples.take(200, 50), FIT).weights >= 0).all()


def test_rows_of_the_weights_know_their_filters() -> None:
    relevance = Relevance(torch.tensor([1, 4]), torch.tensor([2, 3]), torch.zeros(5, 1), torch.tensor(1.0))
    places = [relevance.place(row) for row in range(5)]
    assert places == [(1, 0), (1, 1), (4, 0), (4, 1), (4, 2)]


def test_only_chosen_layers_are_fitted() -> None:
    classifier = network("reuse")
    images = asked(classifier, 8).images
    relevance = find_relevance(classifier, [(images, torch.zeros(8))], FIT._replace(layers="-1+1"))
    assert relevance.layers.tolist() == [1, 3]
    assert relevance.weights.shape == (16, 4)
    with pytest.raises(WrongUsage, match="ReLU 7 does not exist, 4 of them give maps"):
        find_relevance(classifier, [(images, torch.zeros(8))], FIT._replace(layers="7"))


# Explanations


def slow_strongest(ready: Fitted, layers: list[Tensor], target: int) -> list[Filter]:
    """Filters of one image by their strength, with loops; layers are maps (K, h, w)."""
    relevance, strengths = Relevance(**ready.learnt), {}
    shares = [[float((own**2).sum()) for own in maps] for maps in layers]
    shares = [[share / sum(layer) for share in layer] for layer in shares]
    length = sum(share**2 for layer in shares for share in layer) ** 0.5
    row = 0
    for number, layer in enumerate(shares):
        for channel, share in enumerate(layer):
            strengths[Filter(number, channel)] = share / length * float(relevance.weights[row, target])
            row += 1
    ranked = sorted(strengths, key=lambda each: -strengths[each])
    return [each for each in ranked if strengths[each] > 0][: ready.explainer.top]


def scaled(maps: Tensor) -> Tensor:
    return (maps - maps.min()) / (maps.max() - maps.min()) if maps.max() > maps.min() else maps * 0


class Chain(nn.Module):
    """Convolutions, each followed by a ReLU that is a module of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.ModuleList(
            [nn.Conv2d(3, 6, 5, 2, 2), nn.Conv2d(6, 5, 3, 1, 1), nn.Conv2d(5, 4, 3, 2, 0)]
        )
        self.relus = nn.ModuleList(nn.ReLU() for _ in self.convolutions)
        self.linear = nn.Linear(4, 4)

    def layers(self, images: Tensor) -> list[Tensor]:
        outputs = [images]
        for convolution, relu in zip(self.convolutions, self.relus, strict=True):
            outputs.append(relu(convolution(outputs[-1])))
        return outputs[1:]

    def forward(self, images: Tensor) -> Tensor:
        return self.linear(self.layers(images)[-1].mean((2, 3)))


@pytest.fixture
def chain() -> Classifier:
    torch.manual_seed(3)
    return wrap(Chain(), "abcd", 21, "relus.2", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).eval()


def slow_guided(classifier: Classifier, image: Tensor, each: Filter, resample: bool) -> Tensor:
    """Guided backpropagation from a filter's map, layer by layer with transposed convolutions written out."""
    inputs = [classifier.normalise(image[None])]
    inputs += classifier.network.layers(inputs[0])
    gradient = torch.zeros_like(inputs[each.layer + 1])
    gradient[0, each.channel] = inputs[each.layer + 1][0, each.channel]
    for number in range(each.layer, -1, -1):
        convolution, size = classifier.network.convolutions[number], inputs[number].shape[2]
        gradient = gradient.clamp(min=0) * (inputs[number + 1] > 0)
        kernel, stride, padding = convolution.kernel_size[0], convolution.stride[0], convolution.padding[0]
        if resample and stride > 1:
            large = size + 2 * padding - kernel + 1
            cells = [int((place + 0.5) * gradient.shape[2] / large) for place in range(large)]
            gradient, stride = gradient[:, :, cells][:, :, :, cells], 1
        rest = size - ((gradient.shape[2] - 1) * stride - 2 * padding + kernel)
        gradient = F.conv_transpose2d(gradient, convolution.weight, None, stride, padding, rest)
    return gradient[0] / classifier.std[0]


@torch.no_grad()
def slow_vebi(classifier: Classifier, ready: Fitted, query: Query) -> Tensor:
    whole = []
    for image, target in zip(query.images, query.targets.tolist(), strict=True):
        layers = [maps[0] for maps in classifier.network.layers(classifier.normalise(image[None]))]
        chosen = slow_strongest(ready, layers, target)
        maps = [slow_guided(classifier, image, each, ready.explainer.resample) for each in chosen]
        whole.append(torch.stack([scaled(own.clamp(min=0).square().sum(0).sqrt()) for own in maps]).amax(0))
    return torch.stack(whole)


@pytest.mark.parametrize("method", [Vebi(), Vebi(resample=False), Vebi(top=1), Vebi(top=7)], ids=str)
def test_vebi_equals_the_slow_version(chain: Classifier, method: Vebi) -> None:
    ready, query = with_weights(method, chain), asked(chain, 12)
    maps = explain(chain, ready, query, batch=5).maps
    torch.testing.assert_close(maps, slow_vebi(chain, ready, query), rtol=1e-4, atol=1e-5)
    assert (maps.amax((1, 2)) == 1).all()


def test_filters_of_all_layers_take_part(chain: Classifier) -> None:
    ready, query = with_weights(Vebi(), chain), asked(chain, 12)
    found = set()
    for image, target in zip(query.images, query.targets.tolist(), strict=True):
        layers = [maps[0].detach() for maps in chain.network.layers(chain.normalise(image[None]))]
        found |= {each.layer for each in slow_strongest(ready, layers, target)}
    assert found == {0, 1, 2}


def test_captum_agrees_on_guided_backpropagation_from_a_map(chain: Classifier) -> None:
    """The gradient of half the sum of squares of a filter's map is the map itself."""
    from captum.attr import GuidedBackprop

    class Energy(nn.Module):
        def __init__(self, each: Filter) -> None:
            super().__init__()
            self.chain, self.filter = chain, each

        def forward(self, images: Tensor) -> Tensor:
            maps = self.chain.network.layers(self.chain.normalise(images))[self.filter.layer][:, self.filter.channel]
            return maps.square().sum((1, 2))[:, None] / 2

    query = asked(chain, 4)
    for number, channel in ((0, 2), (1, 1), (2, 3)):
        leaves = query.images.clone().requires_grad_()
        with pytest.warns(UserWarning, match="backward hooks"):
            theirs = GuidedBackprop(Energy(Filter(number, channel))).attribute(leaves, 0).detach()
        heard, _ = responses(chain, query.images)
        channels = torch.tensor([layer.shape[1] for layer in heard])
        weights = torch.zeros(int(channels.sum()), 4, dtype=torch.float64)
        weights[int(channels[:number].sum()) + channel] = 1
        learnt = Relevance(torch.arange(3), channels, weights, torch.tensor(1.0))._asdict()
        ours = explain(chain, Fitted(Vebi(resample=False), learnt), query).maps
        expected = torch.stack([scaled(each.clamp(min=0).norm(dim=0)) for each in theirs])
        torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-5)
        assert ours.any()


@torch.no_grad()
def test_upsampled_activations_equal_the_slow_version(chain: Classifier) -> None:
    ready, query = with_weights(UpsamActRelevant(), chain), asked(chain, 6)
    maps = explain(chain, ready, query, batch=4).maps
    for image, target, ours in zip(query.images, query.targets.tolist(), maps, strict=True):
        layers = [layer[0] for layer in chain.network.layers(chain.normalise(image[None]))]
        drawn = [layers[each.layer][each.channel] for each in slow_strongest(ready, layers, target)]
        large = [F.interpolate(own[None, None], (21, 21), mode="bilinear")[0, 0] for own in drawn]
        torch.testing.assert_close(ours, torch.stack([scaled(own) for own in large]).amax(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["in-place", "reuse"])
@pytest.mark.parametrize("method", METHODS)
def test_the_contract(kind: str, method: type[RelevantFilters]) -> None:
    trial = Trial(with_weights(method(), network(kind)), kind)
    for check in CHECKS:
        found = judge(trial, check)
        assert found.status == ("ok" if check.name != "cuda" or torch.cuda.is_available() else "not applicable"), found


def test_layers_that_are_changed_in_place_afterwards(chain: Classifier) -> None:
    """What is kept of a layer is what its ReLU gave, whatever is added to it later."""

    class Residual(Chain):
        def forward(self, images: Tensor) -> Tensor:
            x = self.relus[0](self.convolutions[0](images))
            y = self.relus[1](self.convolutions[1](x))
            y += 1
            return self.linear(self.relus[2](self.convolutions[2](y - 1)).mean((2, 3)))

    other = Residual()
    other.load_state_dict(chain.network.state_dict())
    changed = wrap(other, "abcd", 21, "relus.2", mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)).eval()
    for method in METHODS:
        expected = explain(chain, with_weights(method(), chain), asked(chain)).maps
        maps = explain(changed, with_weights(method(), chain), asked(chain)).maps
        torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-5)


def test_costs(chain: Classifier) -> None:
    query = asked(chain, 5)
    for method, backwards in ((Vebi(), 15), (Vebi(top=1), 5), (UpsamActRelevant(), 0)):
        cost = explain(chain, with_weights(method, chain), query, batch=2).cost
        assert (cost.forwards, cost.backwards) == (5, backwards)


def test_more_images_than_may_be_in_flight(chain: Classifier, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes: list[int] = []
    forward = Chain.forward
    monkeypatch.setattr(Chain, "forward", lambda self, images: (sizes.append(len(images)), forward(self, images))[1])
    chain.in_flight = 4
    for method in METHODS:
        with_weights(method(), chain)(chain, asked(chain, 10))
        prepare(method(), chain, TensorExamples(asked(chain, 10).images, torch.zeros(10)), batch=4)
    assert max(sizes) == 4


# What is refused


def test_an_unfitted_method_says_what_it_needs(colours: Classifier) -> None:
    with pytest.raises(WrongUsage, match="explains nothing before it is fitted; fit it with `prepare"):
        explain(colours, Vebi(), asked(colours))


@pytest.mark.parametrize(("method", "says"), [(Vebi, "uses gelu"), (UpsamActRelevant, "has no ReLU that gives maps")])
@pytest.mark.parametrize("arch", ["flowervit", "flowervit_tiny", "convnext_tiny"])
def test_networks_without_relus(method: type[RelevantFilters], says: str, arch: str) -> None:
    classifier = build(arch, "abcd", 56, seed=0)
    with pytest.raises(NotApplicable, match=says):
        prepare(method(), classifier, TensorExamples(asked(classifier, 2).images, torch.zeros(2)))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"rows": 0}, "rows is 0"),
        ({"top": 0}, "top is 0"),
        ({"mu": 0.0}, "mu is 0.0"),
        ({"mu": float("nan")}, "mu is nan"),
    ],
)
def test_wrong_parameters(values: dict[str, float], says: str) -> None:
    for method in METHODS:
        with pytest.raises(WrongUsage, match=says):
            method(**values)


def test_the_fit_of_another_network(chain: Classifier, colours: Classifier) -> None:
    for method in METHODS:
        with pytest.raises(WrongUsage, match="the fit belongs to another network than this Colours"):
            explain(colours, with_weights(method(), chain), Query(*(each[:3] for each in asked(colours))))

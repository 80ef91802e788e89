"""FAN: clips do not depend on their company, and attention stays finite whatever the weights."""

import pytest
import torch
from torch import Tensor
from torchvision.models import resnet18

from Code.network.attention import HEADS, normalize
from Code.network.backbone import ResNet18
from Code.network.fan import FAN, FANOutput
from Code.network.weights import published_weights

AT_TYPES = pytest.mark.parametrize("at_type", [0, 1, 2])
LENGTHS = (5, 1, 3)


@pytest.fixture(scope="module")
def fans() -> dict[int, FAN]:
    """A network per attention, whose attention differs from frame to frame."""
    torch.manual_seed(0)
    fans = {at_type: FAN(at_type, 7).eval() for at_type in (0, 1, 2)}
    with torch.no_grad():
        for name, value in (pair for fan in fans.values() for pair in fan.named_parameters()):
            if name in ("head.alpha.0.weight", "head.beta.0.weight"):
                value.mul_(20)
    return fans


@pytest.fixture(scope="module")
def clips() -> list[Tensor]:
    generator = torch.Generator().manual_seed(1)
    return [torch.rand(length, 3, 32, 32, generator=generator) for length in LENGTHS]


def pad(clips: list[Tensor], extra: int = 0, fill: float = 0.0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(clip) for clip in clips])
    batch = clips[0].new_full((len(clips), int(lengths.max()) + extra, *clips[0].shape[1:]), fill)
    for row, clip in zip(batch, clips, strict=True):
        row[: len(clip)] = clip
    return batch, lengths


def random_features(num_clips: int, num_frames: int, seed: int = 2) -> Tensor:
    return torch.randn(num_clips, num_frames, 512, generator=torch.Generator().manual_seed(seed))


def assert_same(ours: FANOutput, other: FANOutput) -> None:
    for name, value in vars(ours).items():
        torch.testing.assert_close(value, getattr(other, name), rtol=0, atol=1e-5)


# ------------------------------------------------------------------------------------------- structure


@AT_TYPES
def test_parameter_names_are_the_published_ones(at_type: int) -> None:
    heads = {
        0: {"alpha.0", "pred_fc1"},
        1: {"alpha.0", "beta.0", "pred_fc2"},
        2: {"pred_fc1"},
    }[at_type]
    backbone = {name for name in resnet18().state_dict() if not name.startswith("fc.")}
    expected = backbone | {f"{layer}.{kind}" for layer in heads for kind in ("weight", "bias")}
    assert set(published_weights(FAN(at_type))) == expected


def test_resnet18_is_torchvisions_to_the_last_bit() -> None:
    torch.manual_seed(5)
    expected = resnet18()
    torch.manual_seed(5)
    own = ResNet18()
    weights = expected.state_dict()
    assert list(own.state_dict()) == list(weights)
    assert all(torch.equal(value, weights[name]) for name, value in own.state_dict().items())
    images = torch.rand(4, 3, 40, 48)
    for training in (True, False):
        assert torch.equal(own.train(training)(images), expected.train(training)(images))
    own(images).sum().backward()
    expected(images).sum().backward()
    assert torch.equal(own.layer2[0].conv1.weight.grad, expected.layer2[0].conv1.weight.grad)


@AT_TYPES
def test_shapes(fans: dict[int, FAN], clips: list[Tensor], at_type: int) -> None:
    out = fans[at_type](*pad(clips))
    assert out.logits.shape == (3, 7)
    assert out.alpha.shape == out.weights.shape == (3, 5)
    assert out.clip_features.shape == (3, 1024 if at_type == 1 else 512)
    assert (out.beta is None) == (at_type != 1)


def test_published_dropout_and_override() -> None:
    for fan, expected in ((FAN(), (0.5, 0.6)), (FAN(dropout=0.2), (0.2, 0.2))):
        assert (fan.head.dropout.p, fan.head.dropout2.p) == expected


@AT_TYPES
def test_dropout_leaves_features_alone(at_type: int) -> None:
    """It stands before alpha, beta and the classifier only: with everything dropped, biases remain."""
    fan = FAN(at_type, dropout=1.0).train()
    features = random_features(2, 4)
    out = fan.attend(features)
    mean = features.mean(dim=1)
    expected = torch.cat([mean, mean], dim=1) if at_type == 1 else mean
    torch.testing.assert_close(out.clip_features, expected)
    torch.testing.assert_close(out.weights, torch.full((2, 4), 0.25))
    bias = (fan.head.pred_fc2 if at_type == 1 else fan.head.pred_fc1).bias
    torch.testing.assert_close(out.logits, bias.expand(2, -1))


# ------------------------------------------------------------------------------------------- equations


@pytest.mark.parametrize("at_type", [0, 1])
def test_weights_are_the_quotient_of_sigmoids(fans: dict[int, FAN], at_type: int) -> None:
    features = random_features(3, 6) * 0.05
    out = fans[at_type].attend(features)
    scores = out.alpha if out.beta is None else out.alpha * out.beta
    torch.testing.assert_close(out.weights, scores / scores.sum(dim=1, keepdim=True))
    assert out.weights.std(dim=1).min() > 0.01, "the weights of this test are not to be uniform"


def test_score_fusion_averages_the_scores_of_frames(fans: dict[int, FAN], clips: list[Tensor]) -> None:
    fan = fans[2]
    out = fan(*pad(clips))
    expected = torch.stack([fan.head.pred_fc1(fan.encode(clip)).mean(dim=0) for clip in clips])
    torch.testing.assert_close(out.logits, expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(out.alpha, out.weights)
    torch.testing.assert_close(out.weights[2], torch.tensor([1 / 3, 1 / 3, 1 / 3, 0, 0]))


# --------------------------------------------------------------------------------------- independence


@AT_TYPES
@torch.no_grad()
def test_alone_padded_or_permuted(fans: dict[int, FAN], clips: list[Tensor], at_type: int) -> None:
    fan = fans[at_type]
    together = fan(*pad(clips)).logits
    alone = torch.cat([fan(clip.unsqueeze(0)).logits for clip in clips])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)
    torch.testing.assert_close(fan(*pad(clips, extra=4)).logits, alone, rtol=0, atol=1e-5)
    order = [2, 0, 1]
    permuted = fan(*pad([clips[index] for index in order])).logits
    torch.testing.assert_close(permuted, alone[order], rtol=0, atol=1e-5)


@AT_TYPES
@torch.no_grad()
def test_weights_sum_to_one_and_padding_is_zero(fans: dict[int, FAN], at_type: int) -> None:
    lengths = torch.tensor([1, 7, 64, 2, 30])
    out = fans[at_type].attend(random_features(5, 64), lengths)
    torch.testing.assert_close(out.weights.sum(dim=1), torch.ones(5))
    padding = torch.arange(64) >= lengths.unsqueeze(1)
    for value in (out.weights, out.alpha, out.beta):
        assert value is None or (value[padding] == 0).all()


@AT_TYPES
def test_no_clip_influences_another(fans: dict[int, FAN], clips: list[Tensor], at_type: int) -> None:
    batch, lengths = pad(clips)
    batch.requires_grad_()
    fans[at_type](batch, lengths).logits[1].square().sum().backward()
    assert batch.grad is not None
    assert batch.grad[1, :1].abs().sum() > 0
    batch.grad[1, :1] = 0
    assert (batch.grad == 0).all(), "only the one frame of clip 1 may matter to clip 1"


@AT_TYPES
def test_padding_holds_anything(fans: dict[int, FAN], clips: list[Tensor], at_type: int) -> None:
    fan, rubbish = fans[at_type], float("nan")
    with torch.no_grad():
        assert_same(fan(*pad(clips, fill=rubbish)), fan(*pad(clips)))
    features, lengths = pad([random_features(1, length)[0] for length in LENGTHS], fill=rubbish)
    features.requires_grad_()
    fan.zero_grad()
    out = fan.attend(features, lengths)
    clean, _ = pad([random_features(1, length)[0] for length in LENGTHS])
    assert_same(out, fan.attend(clean, lengths))
    out.logits.square().sum().backward()
    assert features.grad is not None and features.grad.isfinite().all()
    for name, parameter in fan.named_parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all(), name


@torch.no_grad()
def test_one_backbone_pass_over_the_frames_there_are(fans: dict[int, FAN], clips: list[Tensor]) -> None:
    seen: list[int] = []
    hook = fans[1].backbone.network.conv1.register_forward_hook(lambda _, inputs, __: seen.append(len(inputs[0])))
    try:
        fans[1](*pad(clips, extra=3))
    finally:
        hook.remove()
    assert seen == [sum(LENGTHS)]


# ------------------------------------------------------------------------------------------- precision


@pytest.mark.parametrize("at_type", [0, 1])
@pytest.mark.parametrize("logit", [-200.0, -1e4, 200.0])
def test_sigmoids_that_underflow_together(at_type: int, logit: float) -> None:
    fan = FAN(at_type, dropout=0.0)
    layers = [fan.head.alpha[0]] + ([fan.head.beta[0]] if at_type == 1 else [])
    for layer in layers:
        torch.nn.init.constant_(layer.weight, 0.0)
        torch.nn.init.constant_(layer.bias, logit)
    features = random_features(2, 4).requires_grad_()
    out = fan.attend(features, torch.tensor([4, 2]))
    torch.testing.assert_close(out.weights[0], torch.full((4,), 0.25))
    torch.testing.assert_close(out.weights[1], torch.tensor([0.5, 0.5, 0.0, 0.0]))
    out.logits.logsumexp(dim=1).sum().backward()
    gradients = [features.grad, *(parameter.grad for parameter in fan.parameters())]
    assert all(gradient.isfinite().all() for gradient in gradients if gradient is not None)
    assert fan.head.alpha[0].weight.grad is not None and fan.head.alpha[0].weight.grad.shape == (1, 512)


def test_log_domain_keeps_ratios_that_sigmoids_lose() -> None:
    """Frame logits of -200 and -201: both sigmoids are 0 in float32, their ratio is e."""
    logits = torch.tensor([[-200.0, -201.0]])
    weights = normalize(torch.nn.functional.logsigmoid(logits), torch.ones(1, 2, dtype=torch.bool))
    torch.testing.assert_close(weights, torch.softmax(torch.tensor([[1.0, 0.0]]), dim=1))


@AT_TYPES
def test_attention_is_float32_under_autocast(fans: dict[int, FAN], at_type: int) -> None:
    features = random_features(2, 3).bfloat16()
    plain = fans[at_type].attend(features.float())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = fans[at_type].attend(features)
        images = fans[at_type].encode(torch.rand(1, 3, 32, 32))
    assert images.dtype == torch.bfloat16, "autocast must still hold for the backbone"
    assert all(value is None or value.dtype == torch.float32 for value in vars(out).values())
    torch.testing.assert_close(out.logits, plain.logits, rtol=0, atol=0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
@AT_TYPES
@torch.no_grad()
def test_cuda_agrees_with_the_processor(fans: dict[int, FAN], clips: list[Tensor], at_type: int) -> None:
    batch, lengths = pad(clips)
    expected = fans[at_type](batch, lengths).logits
    try:
        for where in ("cpu", "cuda"):
            out = fans[at_type].to("cuda")(batch.cuda(), lengths.to(where))
            torch.testing.assert_close(out.logits.cpu(), expected, rtol=0, atol=1e-3)
    finally:
        fans[at_type].cpu()


# ---------------------------------------------------------------------------------------------- errors


@AT_TYPES
@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([2, 0]), "clip 1 .*length 0 is not in 1..3"),
        (torch.tensor([4, 2]), "clip 0 .*length 4 is not in 1..3"),
        (torch.tensor([2]), "2 integers"),
        (torch.tensor([2.0, 1.0]), "2 integers"),
    ],
)
def test_lengths_that_cannot_be(fans: dict[int, FAN], at_type: int, lengths: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fans[at_type].attend(random_features(2, 3), lengths)
    with pytest.raises(ValueError, match=message):
        fans[at_type](torch.rand(2, 3, 3, 32, 32), lengths)


def test_inputs_that_cannot_be(fans: dict[int, FAN]) -> None:
    with pytest.raises(ValueError, match=r"clip 0 .*no frames"):
        fans[1].attend(torch.zeros(2, 0, 512))
    with pytest.raises(ValueError, match=r"\[B, T, 512\], not \[2, 3, 256\]"):
        fans[1].attend(torch.zeros(2, 3, 256))
    with pytest.raises(ValueError, match=r"\[B, T, 3, H, W\]"):
        fans[1](torch.rand(2, 3, 32, 32))
    with pytest.raises(ValueError, match=r"in \[0, 1\], not torch.uint8"):
        fans[1](torch.zeros(1, 2, 3, 32, 32, dtype=torch.uint8))
    with pytest.raises(ValueError, match="at_type"):
        FAN(at_type=3)
    with pytest.raises(ValueError, match="num_classes"):
        FAN(num_classes=0)


@pytest.mark.parametrize("at_type", HEADS)
def test_a_very_long_clip_is_weighed_as_any_other(at_type):
    torch.manual_seed(at_type)
    fan = FAN(at_type, 7).eval()
    features = 30 * torch.rand(1, 23, 512)
    with torch.inference_mode():
        expected, output = vars(fan.attend(features)), vars(fan.head.attend_long(features))
    for name, value in expected.items():
        if value is None:
            assert output[name] is None
        else:
            torch.testing.assert_close(output[name], value, atol=1e-4, rtol=1e-5, msg=name)

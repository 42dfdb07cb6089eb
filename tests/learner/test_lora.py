"""Adapters in a model: what they add, what is frozen, what is trained, and what is saved of them."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from models import CONFIGS, save_model
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

from groupwise.config import LoraConfig
from groupwise.learner.lora import adapter_size, attach, attached, merged_weights, switched_off, targets_of
from groupwise.learner.policy import Policy, deliver, load_config, load_policy
from groupwise.rollout.trial import may_share
from groupwise.types import UserError

from .cases import CPU, assert_same, flat_weights, gradients, make_learner, on_policy, random_rollouts

RANK = LoraConfig(rank=4)
FUSED = LoraConfig(rank=2, targets=["q_proj", "gate_up_proj", "down_proj"])
IDS = torch.arange(40).reshape(2, 20)
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
every_kind = pytest.mark.parametrize("kind", CONFIGS)


@pytest.fixture(scope="session")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A saved model of each kind, in bfloat16."""
    return {kind: save_model(kind, tmp_path_factory.mktemp(kind), dtype="bfloat16") for kind in CONFIGS}


def adapted(folder: Path, lora: LoraConfig = RANK, trained: bool = True, **options: Any) -> Policy:
    """With an adapter that two updates have moved."""
    policy = load_policy(str(folder), CPU, lora=lora, **options)
    if trained:
        learner = make_learner(policy.model, learning_rate=0.05)
        for seed in range(2):
            learner.update(on_policy(policy.model, random_rollouts(seed)))
    return policy


def logits(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS, use_cache=False).logits
    return found


@every_kind
def test_a_new_adapter_changes_nothing_but_what_is_trained(kind: str, folders: dict[str, Path]) -> None:
    base = load_policy(str(folders[kind]), CPU).model
    policy = adapted(folders[kind], trained=False)
    assert type(policy.model) is type(base)
    assert torch.equal(logits(policy.model), logits(base))
    assert attached(policy.model) and not attached(base)
    trained = {name for name, p in policy.model.named_parameters() if p.requires_grad}
    assert trained == {name for name, _ in policy.model.named_parameters() if ".lora_" in name}
    assert sum(policy.model.get_parameter(name).numel() for name in trained) == adapter_size(base, RANK)
    assert not policy.model.training


@pytest.mark.parametrize(("kind", "lora"), [*((kind, RANK) for kind in CONFIGS), ("qwen3_moe", FUSED)])
def test_switched_off_it_is_the_base_and_merged_it_is_itself(
    kind: str, lora: LoraConfig, folders: dict[str, Path], tmp_path: Path
) -> None:
    base = load_policy(str(folders[kind]), CPU).model
    policy = adapted(folders[kind], lora)
    live = logits(policy.model)
    assert (live - logits(base)).abs().max() > 1e-3
    with switched_off(policy.model) as off:
        assert torch.equal(logits(off), logits(base))
    assert torch.equal(logits(policy.model), live)
    merged = dict(merged_weights(policy.model))
    delivered = deliver(policy._replace(dtype=torch.float32), tmp_path / "model")
    assert delivered.model is policy.model  # whoever generates with it sees the merged one
    assert not attached(delivered.model)
    torch.testing.assert_close(logits(delivered.model), live, rtol=1e-4, atol=1e-5)
    assert merged.keys() == dict(delivered.model.named_parameters()).keys()
    for name, weights in delivered.model.named_parameters():
        torch.testing.assert_close(merged[name], weights.detach())


@every_kind
@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft asks transformers for it
def test_what_is_delivered_loads_elsewhere(kind: str, folders: dict[str, Path], tmp_path: Path) -> None:
    policy = adapted(folders[kind])
    live = logits(policy.model)
    assert policy.dtype == torch.bfloat16
    delivered = deliver(policy, tmp_path / "model")
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    assert again.dtype == torch.bfloat16
    assert not (tmp_path / "model" / "adapter_config.json").exists()
    assert torch.equal(flat_weights(again).float(), flat_weights(delivered.model))  # the live model is what was saved
    base = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float32).eval()
    wrapped = peft.PeftModel.from_pretrained(base, tmp_path / "adapter")
    torch.testing.assert_close(logits(wrapped), live, rtol=1e-4, atol=1e-5)
    said = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (said["base_model_name_or_path"], said["r"], said["lora_alpha"]) == (str(folders[kind]), 4, 8)


def test_a_process_that_does_not_write_has_the_same_model(folders: dict[str, Path], tmp_path: Path) -> None:
    writer, other = (adapted(folders["llama"]) for _ in range(2))
    writer = deliver(writer, tmp_path / "writer" / "model")
    other = deliver(other, tmp_path / "other" / "model", write=False)
    assert torch.equal(flat_weights(writer.model), flat_weights(other.model))
    assert not (tmp_path / "other").exists()


def test_an_adapter_alone_is_loaded_with_its_base(folders: dict[str, Path], tmp_path: Path) -> None:
    policy = adapted(folders["gemma3"], LoraConfig(rank=4, alpha=3, targets=["q_proj"]))
    live = logits(policy.model)
    assert deliver(policy, tmp_path / "model", merge=False) is policy
    assert torch.equal(logits(policy.model), live)
    assert AutoTokenizer.from_pretrained(tmp_path / "model").eos_token == "<|end|>"
    again = load_policy(str(tmp_path / "model"), CPU)
    assert again.dtype == torch.bfloat16
    assert not attached(again.model)
    assert all(p.requires_grad for p in again.model.parameters())
    torch.testing.assert_close(logits(again.model), live, rtol=1e-4, atol=1e-5)
    assert load_config(str(tmp_path / "model")).model_type == "gemma3_text"
    path = tmp_path / "model" / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "base_model_name_or_path": "/nowhere/at/all"}))
    with pytest.raises(UserError, match="/nowhere/at/all is not a folder with a Hugging Face model"):
        load_policy(str(tmp_path / "model"), CPU)
    (tmp_path / "model" / "adapter_model.safetensors").unlink()
    with pytest.raises(UserError, match=r"has an adapter_config\.json but no weights"):
        load_policy(str(tmp_path / "model"), CPU)


@pytest.mark.parametrize("compute", [torch.float32, torch.bfloat16])
def test_the_base_stays_in_its_type_where_the_compute_type_allows(
    compute: torch.dtype, folders: dict[str, Path]
) -> None:
    for kind, lora in (("qwen3", RANK), ("qwen3_moe", FUSED)):
        model = adapted(folders[kind], lora, trained=False, compute=compute).model
        assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
        assert {p.dtype for p in model.parameters() if not p.requires_grad} == {compute}


def test_the_adapter_is_drawn_from_the_seed(folders: dict[str, Path]) -> None:
    def drawn(seed: int) -> torch.Tensor:
        torch.rand(seed + 3)  # whatever else was drawn before
        return flat_weights(adapted(folders["llama"], trained=False, seed=seed).model)

    assert torch.equal(drawn(1), drawn(1))
    assert not torch.equal(drawn(1), drawn(2))
    state = torch.get_rng_state()
    drawn_before = torch.rand(1)
    torch.set_rng_state(state)
    adapted(folders["llama"], trained=False)
    assert torch.equal(torch.rand(1), drawn_before)


def test_the_scale_is_alpha_by_rank(folders: dict[str, Path]) -> None:
    for lora, scale in ((RANK, 2.0), (LoraConfig(rank=4, alpha=1), 0.25)):
        layer: Any = adapted(folders["llama"], lora, trained=False).model.model.layers[0].self_attn.q_proj
        assert layer.scaling == {"default": scale}
        assert isinstance(layer.lora_dropout["default"], nn.Identity)


def test_which_layers_are_meant(folders: dict[str, Path]) -> None:
    models = {kind: load_policy(str(folders[kind]), CPU).model for kind in ("llama", "qwen3_moe")}
    assert targets_of(models["llama"], []) == (LAYERS, [])
    assert targets_of(models["llama"], ["mlp.up_proj", "q_proj"]) == (["mlp.up_proj", "q_proj"], [])
    assert targets_of(models["qwen3_moe"], []) == (LAYERS[:4], [])  # experts and router stay frozen
    assert targets_of(models["qwen3_moe"], ["gate_up_proj", "q_proj"]) == (["q_proj"], ["gate_up_proj"])
    for wrong in ("lm_head", "q_pro", "proj", "model", ""):
        with pytest.raises(
            UserError, match=f"^lora.targets: '{wrong}' is no linear layer of LlamaForCausalLM; .*q_proj"
        ):
            targets_of(models["llama"], ["q_proj", wrong])
    assert adapter_size(models["qwen3_moe"], FUSED) == sum(
        p.numel() for p in adapted(folders["qwen3_moe"], FUSED, trained=False).model.parameters() if p.requires_grad
    )
    assert adapter_size(models["llama"], LoraConfig()) == 0


def test_without_peft_it_says_how_to_get_it(model: nn.Module, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "peft", None)
    with pytest.raises(UserError, match=r"lora: this needs peft: pip install 'groupwise\[lora\]'"):
        attach(model, RANK, 0)


@every_kind
def test_the_grouped_decoder_takes_what_it_takes_of_the_base(kind: str, folders: dict[str, Path]) -> None:
    for policy in (load_policy(str(folders[kind]), CPU), adapted(folders[kind], trained=False)):
        with torch.no_grad():
            assert may_share(policy.model, CPU)


def test_the_gradient_is_that_of_the_adapters(folders: dict[str, Path]) -> None:
    """Of B, at the start, by the chain rule from that of the whole weight: dB = scale dW A'."""
    base = load_policy(str(folders["llama"]), CPU).model
    policy = adapted(folders["llama"], trained=False)
    rollouts = on_policy(base, random_rollouts(0))
    of_base, of_policy = (named_gradient(model, rollouts) for model in (base, policy.model))
    layer = "model.layers.1.mlp.up_proj"
    a = policy.model.get_parameter(f"{layer}.lora_A.default.weight").detach()
    assert_same(of_policy[f"{layer}.lora_B.default.weight"], 2.0 * of_base[f"{layer}.weight"] @ a.T)
    assert not any(gradient.any() for name, gradient in of_policy.items() if ".lora_" not in name)


def named_gradient(model: nn.Module, rollouts: list[Any]) -> dict[str, torch.Tensor]:
    (flat,) = gradients(make_learner(model), rollouts)
    parts = flat.split([p.numel() for p in model.parameters()])
    return {name: part.view_as(p) for (name, p), part in zip(model.named_parameters(), parts, strict=True)}


@pytest.mark.parametrize("kl", ["k3", "k1"])
def test_the_reference_is_the_adapter_switched_off(kl: str, folders: dict[str, Path]) -> None:
    base = load_policy(str(folders["qwen3"]), CPU).model
    policy = adapted(folders["qwen3"])
    whole, lora = make_learner(base, beta=0.3, kl=kl), make_learner(policy.model, beta=0.3, kl=kl)
    rollouts = on_policy(policy.model, random_rollouts(3))
    assert lora._copy is None
    ours, theirs = lora.reference_kl(rollouts), whole.reference_kl(rollouts)
    torch.testing.assert_close(torch.tensor(ours), torch.tensor(theirs), rtol=1e-4, atol=1e-5)
    assert max(map(abs, ours)) > 1e-3


def test_its_state_is_small_and_continues_to_the_bit(folders: dict[str, Path]) -> None:
    policy = adapted(folders["qwen3_moe"])
    live = make_learner(policy.model, beta=0.1)
    live.update(on_policy(policy.model, random_rollouts(1)))
    state = copy.deepcopy(live.state())
    assert all(".lora_" in name for name in state["model"])
    other = adapted(folders["qwen3_moe"], trained=False, seed=5)
    resumed = make_learner(other.model, beta=0.1)
    resumed.load_state(state)
    rollouts = on_policy(policy.model, random_rollouts(2))
    assert live.update(rollouts) == resumed.update(rollouts)
    assert torch.equal(flat_weights(policy.model), flat_weights(other.model))
    with pytest.raises(RuntimeError, match="nonsense"):
        resumed.load_state({**state, "model": {"nonsense": torch.zeros(1)}})

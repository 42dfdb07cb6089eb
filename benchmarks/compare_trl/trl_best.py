"""TRL's configuration at its best on a CPU; imported in TRL's virtual environment only.

Found by trying: micro-batches of 32 rollouts, gradient checkpointing off (TRL's default is on) and fused AdamW, bf16
where the CPU has it. Continuous batching and torch.compile were slower there.
"""

from __future__ import annotations

from typing import Any

from trl import GRPOConfig


def best_config(
    folder: str,
    *,
    rollouts: int,
    group: int,
    micro_batch: int,
    completion_tokens: int,
    dtype: str,
    device: str,
    minibatches: int = 1,
    continuous: bool = False,
    **more: Any,
) -> GRPOConfig:
    """Each batch of `rollouts` makes `minibatches` optimizer steps. `more`: what the work fixes, e.g. max_steps.

    Prompts keep their order, and no logs are written.
    """
    return GRPOConfig(
        output_dir=folder,
        use_cpu=device == "cpu",
        bf16=dtype == "bfloat16",
        fp16=False,
        per_device_train_batch_size=micro_batch,
        gradient_accumulation_steps=rollouts // minibatches // micro_batch,
        steps_per_generation=rollouts // micro_batch,
        num_generations=group,
        max_completion_length=completion_tokens,
        temperature=1.0,
        loss_type="dapo",
        gradient_checkpointing=False,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        use_transformers_continuous_batching=continuous,
        shuffle_dataset=False,
        model_init_kwargs={"attn_implementation": "sdpa", "dtype": "float32"},
        logging_steps=10**6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **more,
    )

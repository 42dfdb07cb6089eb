from dataclasses import replace
def encode(prompts, tokenizer):
    out = []
    for p in prompts:
        ids = tokenizer.apply_chat_template([{"role": "user", "content": p.text}], add_generation_prompt=True, return_dict=False)
        out.append(replace(p, token_ids=tuple(ids)))
    return out

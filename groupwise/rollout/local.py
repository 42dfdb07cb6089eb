import torch
from groupwise.types import Completion
class LocalEngine:
    def __init__(self, model, tokenizer, *, compute_dtype=torch.float32):
        self.model, self.tok, self.dtype, self.version = model, tokenizer, compute_dtype, 0
    def take_weights(self, tensors, version):
        self.version = version
    @torch.no_grad()
    def generate(self, prompts, keys, sampling):
        n = len(prompts); L = max(len(p.token_ids) for p in prompts)
        ids = torch.zeros(n, L, dtype=torch.long); att = torch.zeros(n, L, dtype=torch.long)
        for i, p in enumerate(prompts):
            ids[i, L - len(p.token_ids):] = torch.tensor(p.token_ids); att[i, L - len(p.token_ids):] = 1
        g = torch.Generator().manual_seed(sampling.seed * 1000003 + (keys[0] if len(keys) else 0))
        past = None; toks = [[] for _ in range(n)]; lps = [[] for _ in range(n)]; done = torch.zeros(n, dtype=torch.bool)
        eos = self.tok.eos_token_id
        cur = ids
        for t in range(sampling.max_tokens):
            pos = (att.cumsum(-1) - 1).clamp(min=0)[:, -cur.shape[1]:]
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.dtype != torch.float32):
                o = self.model(input_ids=cur, attention_mask=att, position_ids=pos, past_key_values=past, use_cache=True, logits_to_keep=1)
            past = o.past_key_values
            lp = torch.log_softmax(o.logits[:, -1].float() / sampling.temperature, -1)
            nxt = torch.multinomial(lp.exp(), 1, generator=g)
            for i in range(n):
                if not done[i]:
                    toks[i].append(int(nxt[i])); lps[i].append(float(lp[i, nxt[i]]))
                    if int(nxt[i]) == eos: done[i] = True
            if bool(done.all()): break
            cur = nxt; att = torch.cat([att, torch.ones(n, 1, dtype=torch.long)], 1)
        return [Completion(token_ids=tuple(toks[i]), logprobs=tuple(lps[i]), text=self.tok.decode(toks[i], skip_special_tokens=True), finish_reason="stop" if done[i] else "length", policy_version=self.version) for i in range(n)]

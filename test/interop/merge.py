"""
Adapters that PEFT's `add_weighted_adapter` merges, and what it makes of them, for test/pure/merge-adapters.test.ts.

Usage: python test/interop/merge.py > test/interop/merge.json (torch, peft)
"""
import json
import math

import peft
import torch
from peft.utils import merge_utils

ADAPTERS = {
    "one": {"r": 2, "lora_alpha": 3, "target_modules": ["first", "second"]},
    "two": {"r": 2, "lora_alpha": 5, "target_modules": ["first", "second"], "use_rslora": True},
    "small": {"r": 1, "lora_alpha": 2, "target_modules": ["first"]},
    "patterned": {"r": 3, "lora_alpha": 4, "target_modules": ["first", "second"], "rank_pattern": {"second": 2},
                  "alpha_pattern": {"second": 7}},
}
PAIR = (["one", "two"], [0.7, -0.4])
CASES = [
    *({"method": method, "adapters": PAIR[0], "weights": PAIR[1]} for method in ("linear", "cat", "svd")),
    {"method": "svd", "adapters": ["one", "small", "patterned"], "weights": [1, 0.5, -2], "rank": 2},
    {"method": "svd", "adapters": ["small", "two"], "weights": [2, 1]},
    {"method": "cat", "adapters": ["one", "small", "patterned"], "weights": [1, 0.5, -2]},
    {"method": "svd", "adapters": ["two"], "weights": [-0.5]},
    *({"method": method, "adapters": PAIR[0], "weights": PAIR[1], "density": 0.6, "sign": sign}
      for method in ("ties", "ties_svd") for sign in ("total", "frequency")),
    *({"method": method, "adapters": PAIR[0], "weights": PAIR[1], "density": 0.4}
      for method in ("magnitude_prune", "magnitude_prune_svd")),
    *({"method": method, "adapters": PAIR[0], "weights": PAIR[1], "density": 1}
      for method in ("dare_linear", "dare_ties", "dare_linear_svd", "dare_ties_svd")),
    {"method": "ties_svd", "adapters": ["one", "small", "patterned"], "weights": [1, 2, 0.5], "density": 0.5},
]


class Model(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(5, 4), torch.nn.Linear(4, 3)


def numbers(tensor):
    return {"shape": list(tensor.shape), "data": tensor.flatten().tolist()}


def main():
    torch.manual_seed(3)
    name, *others = ADAPTERS
    model = peft.get_peft_model(Model(), peft.LoraConfig(**ADAPTERS[name]), adapter_name=name)
    for other in others:
        model.add_adapter(other, peft.LoraConfig(**ADAPTERS[other]))
    for key, parameter in model.named_parameters():
        if "lora_" in key:
            parameter.data = torch.randn_like(parameter)
    tensors = {each: {key: numbers(tensor) for key, tensor in peft.get_peft_model_state_dict(model, adapter_name=each).items()}
               for each in ADAPTERS}
    cases = []
    for i, case in enumerate(CASES):
        model.add_weighted_adapter(case["adapters"], case["weights"], f"merged{i}", combination_type=case["method"],
                                   svd_rank=case.get("rank"), density=case.get("density"),
                                   majority_sign_method=case.get("sign", "total"))
        modules = {}
        for module in ("first", "second"):
            layer = getattr(model.base_model.model, module)
            if f"merged{i}" in layer.lora_A:
                a, b = (factors[f"merged{i}"].weight.data for factors in (layer.lora_A, layer.lora_B))
                modules[module] = {"rank": a.shape[0], "product": numbers(b @ a)}
        cases.append({**case, "modules": modules})
    # DARE with masks that are given: a draw below the density keeps the element.
    draws = torch.rand(3, 12)
    tasks, weights, density = torch.randn(3, 12), [0.5, -1.5, 1.0], 0.5
    masks = iter(draws)
    torch.bernoulli = lambda probabilities: (next(masks) < probabilities).to(probabilities.dtype)
    dare = {"tasks": tasks.tolist(), "weights": weights, "density": density, "draws": draws.flatten().tolist()}
    dare["dare_linear"] = merge_utils.dare_linear(list(tasks), torch.tensor(weights), density).tolist()
    for sign in ("total", "frequency"):
        masks = iter(draws)
        dare[f"dare_ties {sign}"] = merge_utils.dare_ties(list(tasks), torch.tensor(weights), density, sign).tolist()
    result = {"versions": {"peft": peft.__version__, "torch": torch.__version__}, "configs": ADAPTERS, "tensors": tensors,
              "cases": cases, "dare": dare}
    # Seven digits are those of float32.
    print(json.dumps(rounded(result)))


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.7g}") if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return [rounded(each) for each in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()

"""Runs Qwen2-VL with transformers: the model in a folder, on given tokens and images; what it found goes to a file."""

from __future__ import annotations

import sys

import numpy as np
import torch
from transformers import Qwen2VLForConditionalGeneration

folder, asked, answered = sys.argv[1:]
model = Qwen2VLForConditionalGeneration.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager")
given = {name: torch.from_numpy(array) for name, array in np.load(asked).items()}
logits = model(
    input_ids=given["tokens"],
    pixel_values=given["pixels"],
    image_grid_thw=given["grids"],
    mm_token_type_ids=(given["tokens"] == model.config.image_token_id).int(),
).logits
loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), given["labels"].flatten())
loss.backward()
found = {
    name.replace("model.language_model.", "model.").replace("model.visual.", "visual."): parameter.grad.numpy()
    for name, parameter in model.named_parameters()
}
np.savez(answered, logits=logits.detach().numpy(), loss=loss.detach().numpy(), **found)

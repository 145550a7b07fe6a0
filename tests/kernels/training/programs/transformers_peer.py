"""Runs with transformers: the model in a folder, on given tokens; logits, loss and gradients go to a file."""

from __future__ import annotations

import sys

import numpy as np
import torch
from transformers import AutoModelForCausalLM

folder, asked, answered = sys.argv[1:]
model = AutoModelForCausalLM.from_pretrained(folder, torch_dtype=torch.float32, attn_implementation="eager")
tokens, labels = (torch.from_numpy(array) for array in np.load(asked).values())
logits = model(tokens).logits
loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
loss.backward()
found = {name: parameter.grad.numpy() for name, parameter in model.named_parameters()}
np.savez(answered, logits=logits.detach().numpy(), loss=loss.detach().numpy(), **found)

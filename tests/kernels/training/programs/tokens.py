"""With the library tokenizers: a text as tokens and back, in pieces as whole. Prints what was found as JSON."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from devkit.kernels.training import data, tokens

folder = Path(sys.argv[1])
path, text = str(folder / tokens.FILE), folder / "text.txt"
made = Tokenizer(models.BPE())
made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
made.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
made.train([str(text)], trainers.BpeTrainer(vocab_size=300, initial_alphabet=alphabet, show_progress=False))
made.save(path)
tokens.PIECE = 100
whole, read = tokens.Tokens(path), data.load(str(text), path)
encoded = whole.encode(text.read_text("utf-8"))
print(  # noqa: T201 - its answer
    json.dumps(
        {
            "vocabulary": [tokens.vocabulary(path), made.get_vocab_size(), tokens.padded(path)],
            "same": whole.decode(encoded) == text.read_text("utf-8"),
            "fewer": read.train.size + read.validation.size < read.train_bytes + read.validation_bytes,
            "bytes": read.train_bytes + read.validation_bytes,
            "unit": read.unit,
            "both": whole.decode([*read.train.tolist(), *read.validation.tolist(), 319]) == text.read_text("utf-8"),
        }
    )
)

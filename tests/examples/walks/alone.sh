# Each line for itself, with Paddle, and a .venv-peers with torch and SciPy: they take a minute or two each.

devkit train --stage 2
devkit train --stage 2 --steps 200 --save-every 50
devkit train --nproc 2
devkit train --nproc 2 --stage 3
devkit train --mp 2 --sequence-parallel
devkit train --nproc 4 --mp 2 --stage 2
devkit train --nproc 4 --mp 2 --sep 2
devkit train --pp 2 --accumulate 4
devkit train --tokenizer Qwen2/tokenizer.json --data corpus/ --save-every 50
devkit train --size vl-tiny --batch 16 --steps 300 --lr 4e-3
devkit bench train --peer torch --peer-env .venv-peers
devkit bench train --peer auto --mp 2
devkit bench train --peer auto --size vl-tiny --lora 8
devkit bench train --peer auto --size vl-tiny --lora 8 --mp 2
devkit bench attn --seqlen 512,1024 --head-dim 128 --causal
devkit bench sparse --op spmm --density 0.1%,1%,10% --rows 4096
devkit bench sparse --op spmm,sddmm --density 0.1%,1%,5%,20% --threads 1,2 --peer scipy,torch --peer-env .venv-peers
devkit bench sparse --op spmm --density 0.1%,1%,5%,20% --threads 1,2 --peer scipy,torch --peer-env .venv-peers
devkit bench train --stages 0 --peer torch --peer-env .venv-peers
devkit train --lora 8 --quick-lora
devkit train --trace 1-2,57

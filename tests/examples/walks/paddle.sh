# In the clone, with a .venv that has Paddle, a model, a script and a history that breaks a test.

devkit api paddle.distributed.parallelize
devkit op show relu
devkit op new gated_unit
devkit op check gated_unit
devkit op check paddle.nn.functional.relu
devkit env show .venv
devkit bisect --good v1.0 -- python -m pytest tests/test_a.py
devkit bisect --good v1.0 --test tests/test_a.py
devkit align model.py:model@HEAD~1 model.py
devkit launch --nproc 2 -- train.py --lr 1e-3
devkit launch train.py --lr 1e-3
devkit launch --dry-run --nproc 2 -- train.py
devkit launch --no-guard -- train.py
devkit bench run --budget 10 -- my_kernel.py:forward
devkit bench report last
devkit bench report last --markdown
devkit bench report last --html report.html
devkit train --size tiny --steps 20
devkit bench run -- my_kernel.py:forward
devkit launch --nproc 4 -- train.py
devkit launch -- train.py
devkit launch -- train.py --lr 1e-3
devkit api nn.Linear
cp model.py a.py && cp model.py b.py
devkit align a.py b.py
cp torch_model.py b.py
devkit align a.py b.py --peer-env .venv-peers
devkit align paddle_model.py torch_model.py --peer-env .venv-peers
devkit train --dry-run
echo 'import not_here' > train.py
python train.py 2>&1 | devkit explain -  #= 4

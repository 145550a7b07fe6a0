# In an empty folder. A mirror on loopback has uv's Python, and packages come from where pip's and uv's settings say.

devkit env create --dry-run
devkit env create
on_terminal devkit env shell
devkit env run python -c 'import paddle; paddle.utils.run_check()'
devkit env install einops 'pytest>=8'
devkit env uninstall einops
devkit env install pip
devkit env install tokenizers
devkit env freeze -o devkit.lock.toml
devkit env create again --from devkit.lock.toml
devkit env create second --no-verify
devkit env create try-311 --python 3.11
devkit env remove try-311
devkit env create try-311 --python 3.11 --with 'einops pytest'
devkit env uninstall try-311 einops
devkit env install try-311 einops
devkit env upgrade try-311 einops
devkit env install try-311 einops 'pytest>=8'
devkit env run try-311 -- python -c 'import paddle'
on_terminal devkit env shell try-311
devkit env doctor try-311 --fix
devkit env freeze try-311 -o paddle.lock.toml
devkit env clone try-311 try-311-numpy1
devkit env bundle try-311
devkit env remove try-311
devkit env create try-311 --from try-311.tar
python -m venv --without-pip ~/miniconda3/envs/paddle
devkit env adopt ~/miniconda3/envs/paddle --name conda-paddle
eval "$(devkit env activate try-311)"
command -v deactivate
cd "$(devkit runs open last --path)"
test -f record.json
devkit doctor
devkit completion bash >> ~/.bashrc
bash -n ~/.bashrc

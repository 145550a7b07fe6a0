# In a small tree of Paddle's shape, whose .venv has what its build imports.

devkit build preflight
devkit build preflight --fix
devkit build --dry-run
devkit build deps
devkit build deps --offline
devkit build deps export deps.tar
devkit build deps export paddle-deps.tar
devkit build
devkit build stats
devkit build stats --trace trace.json
devkit build stats last
sed -i s/double/doubel/ paddle/phi/add_kernel.cc
python -m devkit build 2> build.log  #= 1
devkit build doctor  #= 4
devkit build doctor - < build.log  #= 4
sed -i s/doubel/double/ paddle/phi/add_kernel.cc
devkit build --retry
devkit build --target common
devkit build -D WITH_GPU=OFF --jobs 4
devkit build --profile cpu -D WITH_TESTING=ON
devkit build sync
devkit build test test_diff_op
devkit build test test_diff_op --changed --cov
devkit build test --changed --like-ci --dry-run
devkit build test --changed --like-ci
devkit build overlay
devkit build overlay --near
devkit build overlay --remove
devkit build overlay && devkit env run -- python test/a.py
devkit build overlay --remove
devkit build clean
devkit build clean wheels objects
devkit build deps import deps.tar
devkit build deps import paddle-deps.tar
devkit build --offline
devkit build deps && devkit build --offline

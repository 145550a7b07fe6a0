# In a folder, beside an engine that has an image by the name of Paddle's development image.

devkit env create dev --docker
on_terminal devkit env shell dev
on_terminal devkit env shell dev --root
devkit env commit dev mine:1
devkit env images
python -m devkit env create paddle-dev --docker
mkdir -p build/python/dist && touch build/python/dist/a.whl
devkit env cp paddle-dev:/paddle/build/python/dist .
test -f dist/a.whl
devkit env commit paddle-dev paddle-dev:with-nccl
devkit env logs paddle-dev --follow &
devkit env stop paddle-dev
wait $!

# In a folder with dist/model.tar, in a network of its own: --bind 0.0.0.0 reaches nobody else.

devkit serve dist --bind 0.0.0.0 --expire 2h > served &
for ((turn = 0; turn < 600; turn++)); do grep -q sha256= served && break; sleep 0.1; done
[[ $(< served) =~ :([0-9]+)/([^/#]+)/.*sha256=([0-9a-f]+) ]]
HOST=127.0.0.1 PORT=${BASH_REMATCH[1]} SECRET=${BASH_REMATCH[2]} HASH=${BASH_REMATCH[3]}
devkit get - <<< https://$HOST:$PORT/$SECRET/model.tar#sha256=$HASH
mkdir there
devkit get https://$HOST:$PORT/$SECRET/model.tar#sha256=$HASH there/
cmp dist/model.tar there/model.tar

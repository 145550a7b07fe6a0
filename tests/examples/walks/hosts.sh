# In a folder with dist/, checkpoints/ and train.py; gpu7, gpu8, node1 and node2 are an sshd on this machine.

devkit send dist/*.whl checkpoints gpu7:work/
mkdir "$THERE/work/logs" && echo 1 > "$THERE/work/logs/a.log"
devkit recv gpu7:work/logs 'gpu8:work/*.whl' .
cmp logs/a.log "$THERE/work/logs/a.log" && cmp a-1-py3-none-any.whl dist/a-1-py3-none-any.whl
devkit net gpu7
devkit serve dist --bind 0.0.0.0 --expire 2h > served &
until grep -q sha256= served; do sleep 0.1; done
[[ $(< served) =~ :([0-9]+)/([^/#]+)/.*sha256=([0-9a-f]+) ]]
HOST=127.0.0.1 PORT=${BASH_REMATCH[1]} SECRET=${BASH_REMATCH[2]} HASH=${BASH_REMATCH[3]}
devkit get - <<< https://$HOST:$PORT/$SECRET/model.tar#sha256=$HASH
mkdir there
devkit get https://$HOST:$PORT/$SECRET/model.tar#sha256=$HASH there/
cmp dist/model.tar there/model.tar
devkit launch --hosts node1,node2 --nproc 8 -- train.py

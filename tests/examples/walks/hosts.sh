# In a folder with dist/, checkpoints/ and train.py; gpu7, gpu8, node1 and node2 are an sshd on this machine.

devkit send dist/*.whl checkpoints gpu7:work/
mkdir "$THERE/work/logs" && echo 1 > "$THERE/work/logs/a.log"
devkit recv gpu7:work/logs 'gpu8:work/*.whl' .
cmp logs/a.log "$THERE/work/logs/a.log" && cmp a-1-py3-none-any.whl dist/a-1-py3-none-any.whl
devkit net gpu7
devkit launch --hosts node1,node2 --nproc 8 -- train.py

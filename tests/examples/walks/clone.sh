# In a clone of a small project, whose requests 7 and 1007 apply and 8 conflicts; each line in a fork, not in bash.

devkit config set proxy.bypass .bcebos.com
devkit config show
devkit config path
devkit config set proxy.bypass localhost,127.0.0.1,.example.com
devkit config get runs.keep
devkit config unset runs.keep
devkit build profiles
devkit train mesh '[[[0,1],[2,3]],[[4,5],[6,7]]]' dp,mp,pp
devkit train mesh '[[[0,1],[2,3]],[[4,5],[6,7]]]' dp,pp,mp
devkit train mesh '[[0,1],[2,3]]' dp,mp
devkit train mesh '[[0,1],[2,3]]' dp,pp
devkit train mesh '[[0,1],[2,3]]' dp,sep
devkit train mesh '[[0,1],[2,3]]' dp,sharding
devkit train mesh '[0,1]' dp
devkit train plan --size qwen2-7b --nproc 8 --mp 2 --gpu-memory 80G
devkit train plan --nproc 4 --pp 4 --accumulate 8
devkit env list
devkit net
devkit new trainer my_model
devkit new trainer
devkit new editor
devkit train --nnodes 2 --gpus 0,1,2,3,4,5,6,7 --batch 16 --emit slurm
devkit op new gated_unit
devkit wip save
devkit pr remotes
devkit pr fetch 7
devkit pr show 7
devkit pr rebase 7
devkit pr fetch 1007
devkit pr show 1007
devkit pr diff 1007 --stat
devkit pr list
devkit pr rebase 1007
devkit undo --list
devkit undo
devkit redo
devkit pr start fix-softmax
devkit pr start more-tests --on fix-softmax
devkit wip list
devkit wip restore
devkit check --fast --body request.md
devkit check --fast
devkit check
devkit pr sync
devkit pr drop 1007
devkit pr drop 7
devkit pr fetch 1007 --worktree
devkit pr clean
devkit config set proxy.url http://10.1.2.3:8080
devkit config set env.index-url https://mirror.example.com/simple
devkit runs clean --keep 20
devkit runs list
devkit runs list --command bench
devkit runs show last
devkit bench report gpu-check.json
devkit explain error.log  #= 4
devkit build doctor build.log  #= 4
devkit train plan --nproc 8 --sweep
devkit train plan --engine auto
devkit train plan --engine auto --nproc 4 --mp 2 --pp 2  #= 4
devkit train plan --size qwen2-7b --dtype bf16 --nproc 8 --gpu-memory 80G  #= 4
devkit pr rebase 8  #= 1
devkit pr abort
devkit pr rebase 8  #= 1
git checkout --theirs later.py
git add later.py
devkit pr continue
devkit undo
devkit pr skip
devkit pr start fix-diff
sed -i s/1/2/ python/paddle/nn/layer.py
devkit wip save python/paddle -m "half a refactoring"
sed -i s/1/3/ python/paddle/nn/layer.py
devkit wip save
devkit wip show 2
devkit wip diff 2 --stat
devkit wip restore --from 2 python/paddle/nn
git commit -q -a -m One
git commit -q --allow-empty -m Two
devkit pr squash -m "Fix softmax of empty tensors"
git commit -q --allow-empty -m Three
devkit pr squash
devkit pr push
devkit pr rebase
devkit pr rebase --onto upstream/release/3.0
sed -i s/=/==/ python/paddle/nn/layer.py
devkit wip save python/paddle -m "half a refactoring"
devkit wip drop 2
devkit wip restore --markers
git branch my-fix
git push -q fork my-fix
devkit pr drop my-fix --remote
devkit pr clean --remote
devkit check --install

# In an empty folder, with Paddle and the library tokenizers.

python -m devkit train --size tiny --steps 20 --save-every 10 && name_last_run 7f3a
python -m devkit train --size tiny --steps 20 --lr 1e-3 && name_last_run 9c1d
devkit train report 7f3a 9c1d --output report.html
as_paddlenlp_logs < "$(folder_of 7f3a)/events.jsonl" > paddlenlp.log
devkit train compare 7f3a ./paddlenlp.log --tolerance 1e-4
RUN=7f3a
devkit train export 7f3a ./my-model --dtype bf16
devkit train export $RUN ./model --dtype bf16
devkit train sample $RUN "def main(" --tokens 200
devkit train --init-from $RUN --lr 1e-3
devkit train --size tiny --teacher $RUN --alpha 0.1
devkit train --weights ./model --lora 8
python -m devkit train --weights ./model --lora 8 --steps 10 --save-every 10 && name_last_run 91c0
devkit train sample last "def main(" --tokens 200 --temperature 0.7
RUN=91c0
devkit train export $RUN ./adapters --adapters
mkdir merged && cd merged && python -m devkit train export 91c0 ./model
devkit train export $RUN ./base --unmerge ./model
cd ..
python -m devkit train --nproc 1 --steps 4 --warmup 0 --lr 1e30 --clip 0  #= 1
devkit train replay last  #= 4
mv "$(folder_of 7f3a)" ~
devkit train --nproc 1 --steps 2 --trace 1-2
name_last_run 7f3a
devkit train --nproc 2 --mp 2 --steps 2 --trace 1-2
name_last_run b5c2
devkit train compare 7f3a b5c2 --trace

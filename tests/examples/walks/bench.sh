# In an empty folder, with Paddle.

devkit bench decode --context 4096 --heads 32 --kv-heads 8 --paged
devkit bench comm --op all_reduce --size 4KiB,1MiB,32MiB --nproc 2
devkit bench comm --op all_reduce,all_gather --size 4KiB,1MiB,32MiB --nproc 2
python -m devkit bench sparse && name_last_run 7f3a
devkit bench sparse --baseline 7f3a
devkit bench compare 7f3a last
name_last_run 91c0
devkit bench report 7f3a 91c0 --html report.html
devkit bench report last --plot
mkdir docs && python -m devkit bench attn --seqlen 64 --budget 1
devkit bench report last --svg docs/bench-attn.svg

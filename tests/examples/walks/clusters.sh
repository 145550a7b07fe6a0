# With the same machines.

devkit train --hosts node1,node2 --save-every 50 --max-restarts 3

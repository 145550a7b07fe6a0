# There too: the requests 1, 7 and 1007 mend what a test fails on.

devkit pr try 7
devkit pr try 1
devkit pr try 1007
devkit pr try 1007 -- python demo.py
devkit pr try 1007 --bench --markdown

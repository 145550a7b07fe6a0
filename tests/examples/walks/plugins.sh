# In a folder with custom operators and a device's plugin, whose .venv has Paddle.

devkit build --profile custom-operators -C csrc
devkit build --profile custom-device -C backends/custom_cpu
cd FastDeploy
devkit build --profile fastdeploy

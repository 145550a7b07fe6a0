# In a clone whose forge answers on loopback.

devkit pr fetch 1007
devkit pr list --forge
devkit pr checks 1007  #= 4
devkit pr checks 1007 --log CI-Build=build.log  #= 4
git switch -q -c mine && git commit -q --allow-empty -m Mine && python -m devkit pr push
devkit pr create
devkit pr create --draft

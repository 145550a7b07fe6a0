#!/bin/sh
# Stands before wget in this build: what devkit's cache has comes from there, all else from wget itself.
file='' url='' before='' kept=''
for word; do
  case $before in -O | --output-document) file=$word ;; esac
  case $word in
    --output-document=*) file=${word#*=} ;;
    -O?*) file=${word#-O} ;;
    *://*) url=$word ;;
  esac
  before=$word
done
case $url in
@CASES@
esac
if [ -n "$kept" ] && [ -f "$kept" ]; then
  exec cp -- "$kept" "${file:-${url##*/}}"
fi
@REAL@

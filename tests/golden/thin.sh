#!/bin/bash
# How the containers in thin/ came to be: one that lies over a container, and one that lies over a store.
# `tests/golden/thin.sh STMOUNT` makes them again, with other times of change; the listing is that of the folder.
set -eu
stmount=$(realpath "$1") here=$(dirname "$(realpath "$0")")
work=$(mktemp -d) && cd "$work" && mkdir -p engine game/dir
noise() { openssl enc -aes-128-ctr -nosalt -K "$1" -iv 0 </dev/zero 2>/dev/null | head -c "$2" || true; }
seq 1 20000 >engine/numbers && noise 0 60000 >engine/noise && for i in 1 2 3; do seq "$i" 700 >"engine/small-$i"; done
cp engine/* game/dir/ && echo text >game/text && noise 1 9000 >game/own && ln game/own game/hard && ln -s dir/numbers game/link
find engine game -exec touch -h -d '2001-02-03 04:05:06.789 UTC' {} +
"$stmount" pack -q engine base.st && "$stmount" pack -q -7 --base base.st game over-a-container.st
"$stmount" store init store && "$stmount" pack -q -7 game over-a-store.st && "$stmount" store add -q store over-a-store.st
rm -rf "$here/thin" store/lock store/tmp store/catalogs && mkdir "$here/thin"
python3 "$here/../os_list.py" game >"$here/thin/thin.jsonl"
cp -r base.st over-a-container.st over-a-store.st store "$here/thin/" && rm -r "$work"

#!/bin/bash
# How written.st came to be: a container that was created, mounted, and written to in several commits, with names for two
# of its states. `tests/golden/written.sh STMOUNT` makes it again, with other times of change; the listing is that of the
# mounted tree.
set -eu
stmount=$(realpath "$1") here=$(dirname "$(realpath "$0")")
work=$(mktemp -d) && cd "$work" && mkdir empty m
"$stmount" pack -q empty written.st
"$stmount" -o commit=1h written.st m
mkdir -p m/dir/sub && echo one >m/one && ln m/one m/dir/hard && ln -s ../one m/dir/link && mkfifo m/fifo
seq 1 20000 >m/numbers && truncate -s 1M m/sparse && echo end >>m/sparse
"$stmount" snapshot m first
printf 'XXXX' | dd of=m/numbers bs=1 seek=50000 conv=notrunc status=none
echo two >m/two && mv m/two m/one && rm m/fifo && setfattr -n user.note -v hello m/dir
"$stmount" snapshot m second
for i in $(seq 1 40); do echo "$i" >>m/log && "$stmount" sync m; done
for i in 0 1 2 3 4 5 6; do printf '%s' "$i" | dd of=m/numbers bs=1 seek=$((i * 12000)) conv=notrunc status=none; done
cp m/numbers m/copy && rmdir m/dir/sub && chmod 4750 m/copy && chown 4711:815 m/copy
find m -exec touch -h -d '2001-02-03 04:05:06.789 UTC' {} +
python3 "$here/../os_list.py" m >"$here/written.jsonl"
"$stmount" umount m
cp written.st "$here/" && rm -r "$work"

#!/bin/bash
# How parity.st came to be: a container that was packed with parity, then mounted and written to, so that a second group
# covers what is new. `tests/golden/parity.sh STMOUNT` makes it again, with other times of change; the listing is that of
# the mounted tree.
set -eu
stmount=$(realpath "$1") here=$(dirname "$(realpath "$0")")
work=$(mktemp -d) && cd "$work" && mkdir from m
seq 1 9000 >from/numbers && echo text >from/text && openssl enc -aes-128-ctr -nosalt -K 0 -iv 0 </dev/zero 2>/dev/null | head -c 30000 >from/noise
"$stmount" pack -q --parity 10% from parity.st
"$stmount" -o commit=1h parity.st m
mkdir m/dir && echo more >m/dir/more && rm m/text && printf XXXX | dd of=m/numbers bs=1 seek=5000 conv=notrunc status=none
find m -exec touch -h -d '2001-02-03 04:05:06.789 UTC' {} +
python3 "$here/../os_list.py" m >"$here/parity.jsonl"
"$stmount" umount m
"$stmount" check -q parity.st && cp parity.st "$here/" && rm -r "$work"

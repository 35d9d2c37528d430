#!/bin/bash
# How given-back.st came to be: a container that was written to, and gave back what nothing needed, with a name for an
# earlier state. `tests/golden/given-back.sh STMOUNT` makes it again, with other times of change; the listing is that of
# the mounted tree.
set -eu
stmount=$(realpath "$1") here=$(dirname "$(realpath "$0")")
work=$(mktemp -d) && cd "$work" && mkdir from m
echo kept >from/kept && seq 1 9000 >from/numbers && echo gone >from/gone
"$stmount" pack -q from given-back.st
"$stmount" -o commit=200ms,slack=0,keep-last=2,keep-hourly=0,keep-daily=0,keep-weekly=0,keep-monthly=0 given-back.st m
echo named >m/named && "$stmount" snapshot m named
for i in $(seq 1 30); do seq "$i" 3000 >m/changing && rm -f m/gone m/named && "$stmount" sync m; done
find m -exec touch -h -d '2001-02-03 04:05:06.789 UTC' {} +
before=$(stat -c %s given-back.st)
for _ in $(seq 1 50); do [ "$(stat -c %s given-back.st)" -lt "$before" ] && break; sleep 0.1; done
[ "$(stat -c %s given-back.st)" -lt "$before" ]
python3 "$here/../os_list.py" m >"$here/given-back.jsonl"
"$stmount" umount m
"$stmount" cat given-back.st@named:named | grep -q named
cp given-back.st "$here/" && rm -r "$work"

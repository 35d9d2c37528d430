#!/usr/bin/env bash
# Starts sshd of OpenSSH in the foreground, with all of its own in one directory.
#
#   tests/servers/sshd.sh DIR PORT [OPTION...]      each OPTION is a line of sshd_config
#
# DIR/ssh has host (the key of the server, ed25519), client (a key that is let in), locked (another one, with the passphrase
# `secret`) and stranger (one that is not let in). Whoever is let in is who started the server, and has sftp.
set -euo pipefail
dir=$(realpath "$1") port=$2
shift 2
mkdir -p "$dir/ssh"
cd "$dir/ssh"
make() { # NAME PASSPHRASE
    [ -e "$1" ] || ssh-keygen -q -t ed25519 -N "$2" -C "$1" -f "$1"
}
make host ''
make client ''
make locked secret
make stranger ''
[ -e rsa ] || ssh-keygen -q -t rsa -b 2048 -N '' -C rsa -f rsa
cat client.pub locked.pub rsa.pub >authorized_keys
printf '%s\n' "$@" >sshd_config # the first that is said counts
cat >>sshd_config <<CONF
ListenAddress 127.0.0.1
Port $port
HostKey $dir/ssh/host
PidFile none
AuthorizedKeysFile $dir/ssh/authorized_keys
StrictModes no
PermitRootLogin yes
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
MaxStartups 100
CONF
[[ "$*" == *Subsystem* ]] || echo 'Subsystem sftp internal-sftp' >>sshd_config
# It starts itself once more for each connection, and so wants to be called by its whole path.
[ "$(id -u)" != 0 ] || mkdir -p /run/sshd
exec "$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v sshd)" -D -e -f "$dir/ssh/sshd_config"

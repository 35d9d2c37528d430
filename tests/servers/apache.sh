#!/usr/bin/env bash
# Starts Apache in the foreground, with all of its own in one directory.
#
#   tests/servers/apache.sh DIR PORT      serves DIR/root: with long pages, below /plain/ with short ones, below /dav/ by WebDAV
#
# Whoever is asked by the network is no root: a server that root starts serves as `www-data`, who may write below DIR/root.
set -euo pipefail
dir=$(realpath "$1") port=$2
mkdir -p "$dir"/{root,apache}
chmod 755 "$dir" "$dir/root"
user=
if [ "$(id -u)" = 0 ]; then
    user='User www-data
Group www-data'
    chown -R www-data "$dir/root" "$dir/apache"
fi
modules=$(for name in mpm_event authz_core alias autoindex dir mime dav dav_fs; do
    [ ! -e /usr/lib/apache2/modules/mod_$name.so ] || echo "LoadModule ${name}_module /usr/lib/apache2/modules/mod_$name.so"
done)
cat >"$dir/apache.conf" <<CONF
$modules
$user
ServerName localhost
Listen 127.0.0.1:$port
DefaultRuntimeDir $dir/apache
PidFile $dir/apache/pid
ErrorLog $dir/apache/error.log
TypesConfig /dev/null
DocumentRoot $dir/root
DavLockDB $dir/apache/locks
Alias /plain/ $dir/root/
Alias /dav/ $dir/root/
<Directory $dir/root>
    Require all granted
    Options Indexes FollowSymLinks
    IndexOptions FancyIndexing HTMLTable NameWidth=* Charset=UTF-8
    # Without this it leaves names out that begin with a dot.
    IndexIgnoreReset ON
</Directory>
<Location /plain/>
    IndexOptions -FancyIndexing -HTMLTable -NameWidth
</Location>
<Location /dav/>
    Dav On
    DirectoryIndex disabled
</Location>
CONF
# Its pages tell the time of where it is.
export TZ=UTC0
exec "$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v apache2)" -D FOREGROUND -f "$dir/apache.conf"

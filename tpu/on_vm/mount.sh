#!/usr/bin/env bash
# On a worker: the bucket as the folder ~/bucket. mount.sh gs://BUCKET
# All workers share the run folder through the bucket. Nothing of its names may be remembered: the first worker writes,
# the others read right after.
set -euo pipefail
BUCKET="${1#gs://}" GCSFUSE=3.0.0
cd "$HOME"
mountpoint -q bucket && exit 0
command -v gcsfuse >/dev/null || {
	curl -fsSLO "https://github.com/GoogleCloudPlatform/gcsfuse/releases/download/v$GCSFUSE/gcsfuse_${GCSFUSE}_amd64.deb"
	# A first boot updates packages for some minutes and holds the lock meanwhile.
	sudo apt-get -o DPkg::Lock::Timeout=600 install -qq -y "./gcsfuse_${GCSFUSE}_amd64.deb"
}
mkdir -p bucket
gcsfuse --implicit-dirs --metadata-cache-ttl-secs 0 --rename-dir-limit 10000 "$BUCKET" bucket

# shellcheck shell=bash
# debian_mirror: prints the Debian mirror that this machine's apt uses; $DEBIAN_MIRROR takes precedence.
debian_mirror() {
  local format="\$(REPO_URI) \$(CODENAME)" codename mirror=${DEBIAN_MIRROR:-}
  if [ -z "$mirror" ]; then
    # shellcheck source=/dev/null
    codename=$(. /etc/os-release && echo "$VERSION_CODENAME")
    mirror=$(apt-get indextargets --format "$format" 'Created-By: Packages' 'Origin: Debian' | awk -v codename="$codename" '$2 == codename { print $1; exit }')
  fi
  [ -n "$mirror" ] || { echo "apt names no Debian mirror here; run apt-get update, or set DEBIAN_MIRROR" >&2; return 1; }
  echo "$mirror"
}

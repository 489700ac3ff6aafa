# arm64.bash, to be sourced: lets this machine run programs of 64-bit ARM, with qemu-user and binfmt_misc.

run_arm64() { # says why it cannot
  [ "$(uname -m)" != aarch64 ] || return 0
  command -v qemu-aarch64-static >/dev/null || { echo "qemu-aarch64-static is not installed"; return 1; }
  mountpoint -q /proc/sys/fs/binfmt_misc || mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc 2>/dev/null || { echo "no binfmt_misc"; return 1; }
  [ ! -e /proc/sys/fs/binfmt_misc/qemu-aarch64 ] || return 0
  # F: the kernel opens the interpreter now, so that it is found inside other roots too.
  printf '%s' ':qemu-aarch64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:'"$(command -v qemu-aarch64-static)"':F' \
    >/proc/sys/fs/binfmt_misc/register
}

#!/bin/sh
# Runs a command as if this Linux machine had no Vulkan loader, no Vulkan driver and no packaged Chromium:
#   scripts/without-vulkan.sh npm run demo
# A mount namespace of its own covers them with nothing; nothing outside of it changes. Works as root, and as a user
# where the kernel lets users make namespaces. Exit status: the command's, or 125 where hiding is impossible.
set -eu

if [ "${1:-}" != --inside ]; then
  [ $# -gt 0 ] || { echo "usage: $0 COMMAND [ARGUMENT...]" >&2; exit 2; }
  namespace=--mount
  [ "$(id -u)" = 0 ] || namespace='--map-root-user --mount'
  # shellcheck disable=SC2086 # two words on purpose
  unshare $namespace mount -t tmpfs none /mnt 2>/dev/null || {
    echo "$0: mount namespaces are not allowed here" >&2
    exit 125
  }
  # shellcheck disable=SC2086
  exec unshare $namespace "$0" --inside "$@"
fi
shift

unset VK_DRIVER_FILES VK_ICD_FILENAMES VK_ADD_DRIVER_FILES
for directory in /usr/share/vulkan /usr/local/share/vulkan /etc/vulkan /usr/local/etc/vulkan \
  /usr/lib/chromium /usr/lib/chromium-browser /opt/google/chrome; do
  [ ! -d "$directory" ] || mount -t tmpfs none "$directory"
done
for library in /lib/libvulkan.so.1 /lib/*/libvulkan.so.1 /lib64/libvulkan.so.1 \
  /usr/lib/libvulkan.so.1 /usr/lib/*/libvulkan.so.1 /usr/lib64/libvulkan.so.1 /usr/local/lib/libvulkan.so.1; do
  # -s: two of these names may lead to one file, which is then covered (empty) already.
  [ ! -s "$library" ] || mount --bind /dev/null "$(readlink -f "$library")"
done
exec "$@"

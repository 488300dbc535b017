# Shell functions (bash) for boot tests with sound: sourced, not run, after lib-guest.sh.

# sound_initramfs OUTPUT KERNEL-PACKAGE MODULE...: an initramfs with these modules of that kernel in /modules, in that
# order numbered, and Debian's alsa-utils (aplay, amixer, speaker-test) with the libraries they need.
sound_initramfs() {
    local output=$1 package deb dir file number=10 program
    package=$(meta_package_target "$2") || die "no package $2"
    deb=$(download_deb "$package") || die "cannot fetch $package"
    shift 2
    need_packages alsa-utils cpio || die "cannot install alsa-utils"
    dir=$(mktemp -d) || exit 1
    mkdir -p "$dir"/{unpacked,tree/modules,tree/bin,tree/usr/share,tree/var/lib/alsa}
    # shellcheck disable=SC2046 # a list
    dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$dir/unpacked" --wildcards $(printf './lib/modules/*/%s.ko ' "$@") ||
        die "modules are missing in $package"
    for file; do
        cp "$(find "$dir/unpacked" -name "$file.ko")" "$dir/tree/modules/$number-$file.ko" || exit 1
        number=$((number + 1))
    done
    for program in aplay amixer speaker-test; do
        cp "$(command -v $program)" "$dir/tree/bin/" || exit 1
        ldd "$(command -v $program)" | grep -o '/[^ ]*' | while read -r file; do
            mkdir -p "$dir/tree/${file%/*}" && cp -L "$file" "$dir/tree/$file"
        done
    done
    cp -r /usr/share/alsa "$dir/tree/usr/share/"
    cp -r /etc/alsa "$dir/tree/etc" 2>/dev/null
    (cd "$dir/tree" && find . | cpio -o -H newc -R 0:0 --quiet) >"$dir/cpio" || exit 1
    cat guests/initramfs-amd64.cpio "$dir/cpio" >"$output"
    rm -r "$dir"
}

# The modules of Linux's driver for AC'97 on Intel's chips.
sound_ac97_modules="soundcore snd snd-timer snd-pcm ac97_bus snd-ac97-codec snd-intel8x0"

#!/bin/bash
# tests/boot/boot-order.sh: the firmware gets devices in the order of their bootindex, whatever they are; -boot once= counts
# until the first reset.
cd "$(dirname "$0")/../.." || exit 1
dir=$(mktemp -d) || exit 1
trap 'rm -rf "$dir"' EXIT
truncate -s 1M "$dir/disk"
timeout 60 "${CALQUE:-build/calque}" -display none -d firmware -D "$dir/log" -nodefaults -qmp stdio -boot strict=on \
    -device e1000,addr=5,bootindex=5 -device e1000,addr=6,bootindex=1 -drive "if=none,id=v,format=raw,file=$dir/disk,readonly=on" \
    -device virtio-blk-pci,drive=v,addr=7,bootindex=3 -device ide-cd,bootindex=2 -device floppy,bootindex=4 \
    >/dev/null < <(echo '{"execute": "qmp_capabilities"}'; sleep 3; echo '{"execute": "quit"}')
sed -n '/^boot order:/,/^[^0-9]*$/p' "$dir/log" | sed -n 's/^[0-9]: //p' | head -n 6 >"$dir/order"
diff - "$dir/order" <<'END' || { echo "wrong boot order"; exit 1; }
/pci@i0cf8/ethernet@6/ethernet-phy@0
/pci@i0cf8/ide@1,1/drive@0/disk@0
/pci@i0cf8/scsi@7/disk@0,0
/pci@i0cf8/isa@1/fdc@03f0/floppy@0
/pci@i0cf8/ethernet@5/ethernet-phy@0
HALT
END
look() { echo 'o /b 0x70 0x3d'; echo 'i /b 0x71'; sleep 0.5; }
(look; echo system_reset; sleep 0.5; look; echo quit) |
    timeout 60 "${CALQUE:-build/calque}" -display none -S -boot order=c,once=d -monitor stdio >"$dir/log"
[ "$(grep -o 'portb.*' "$dir/log" | tr -d '\r' | tr '\n' ' ')" = 'portb[0x0071] = 0x03 portb[0x0071] = 0x02 ' ] ||
    { cat "$dir/log"; echo "-boot once= is not what counts first, or not once"; exit 1; }
echo "boot-order: passed"

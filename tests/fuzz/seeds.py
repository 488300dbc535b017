#!/usr/bin/env python3
"""seeds.py pack DIR FILE: the inputs of a directory as lines of hexadecimal digits; seeds.py unpack FILE DIR: back."""
import os
import sys

what, source, target = sys.argv[1:]
if what == "pack":
    inputs = sorted(open(os.path.join(source, name), "rb").read() for name in os.listdir(source))
    with open(target, "w") as out:
        out.writelines(data.hex() + "\n" for data in inputs if data)
else:
    for number, line in enumerate(open(source)):
        with open(os.path.join(target, f"seed{number:04}"), "wb") as out:
            out.write(bytes.fromhex(line.strip()))

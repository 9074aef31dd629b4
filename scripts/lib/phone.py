#!/usr/bin/env python3
"""The phone's half of a TOTP token (RFC 6238), in the few lines that it takes.

phone.py SECRET [STEPS]   prints the code of the step that is STEPS away (0: now, -1: the one before), and the second
                          since 1970 at which that step began
"""

import base64
import hmac
import struct
import sys
import time

STEP = 30  # seconds; the default of every authenticator app


def code(secret, step, digits=6):
    key = base64.b32decode(secret.upper() + "=" * (-len(secret) % 8))
    digest = hmac.digest(key, struct.pack(">Q", step), "sha1")
    start = digest[-1] & 15
    return str((int.from_bytes(digest[start : start + 4], "big") & 0x7FFFFFFF) % 10**digits).zfill(digits)


if __name__ == "__main__":
    # The test vectors of RFC 6238, appendix B, shortened to six digits: a wrong phone would blame Gatepost.
    rfc = base64.b32encode(b"12345678901234567890").decode()
    assert [code(rfc, t // 30) for t in (59, 1111111109, 20000000000)] == ["287082", "081804", "353130"]

    step = int(time.time()) // STEP + int(sys.argv[2] if len(sys.argv) > 2 else 0)
    print(code(sys.argv[1].replace(" ", ""), step), step * STEP)

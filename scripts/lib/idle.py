#!/usr/bin/env python3
"""A mail program that waits for new mail: signs in, opens the mailbox, and idles (RFC 2177) until somebody ends it.

idle.py PORT CA LOGIN LITERAL FILE   appends "live" to FILE when it idles, and "ended SECOND LAST-LINE" when the session
                                     was ended by the other side, with the second since 1970
"""

import imaplib
import ssl
import sys
import time

port, ca, login, literal, path = sys.argv[1:]


def tell(text):
    with open(path, "a") as file:
        print(text, file=file, flush=True)


mailbox = imaplib.IMAP4_SSL("localhost", int(port), ssl_context=ssl.create_default_context(cafile=ca), timeout=120)
mailbox.login(login, literal)
mailbox.select("INBOX")
mailbox.send(b"idle1 IDLE\r\n")
last = ""
try:
    while line := mailbox.readline():
        if line.startswith(b"+"):
            tell("live")
        last = line.decode(errors="replace").strip()
except (OSError, imaplib.IMAP4.abort) as error:
    last = last or str(error)
tell(f"ended {time.time():.3f} {last}")

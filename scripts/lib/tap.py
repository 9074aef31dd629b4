#!/usr/bin/env python3
"""Listens in between Gatepost and the mail server, behind the encryption.

Takes TLS connections with the mail server's own certificate and key, writes every byte that Gatepost sends into a file
*before* it passes it on over TLS, and brings back the answers unchanged. What is not in the file never reached the mail
server. Only a test can do that: it has the server's key.

tap.py --listen PORT --to HOST:PORT --cert FILE --key FILE --ca FILE --record FILE
"""

import argparse
import asyncio
import ssl


async def pump(reader, writer, record=None):
    """Copies until the end of the stream."""
    while chunk := await reader.read(65536):
        if record is not None:
            record.write(chunk)
        writer.write(chunk)
        await writer.drain()


async def serve(options):
    inside = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    inside.load_cert_chain(options.cert, options.key)
    outside = ssl.create_default_context(cafile=options.ca)
    host, port = options.to.rsplit(":", 1)
    record = open(options.record, "ab", buffering=0)

    async def connection(reader, writer):
        upstream = None
        try:
            up_reader, upstream = await asyncio.open_connection(host, int(port), ssl=outside, server_hostname=host)
            # TLS in asyncio knows no half-close: the first end ends both directions.
            both = {
                asyncio.ensure_future(pump(reader, upstream, record)),
                asyncio.ensure_future(pump(up_reader, writer)),
            }
            _, other = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            for task in other:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
        except OSError as error:
            print("tap:", error, flush=True)
        finally:
            for end in (writer, upstream):
                if end is not None:
                    end.close()

    server = await asyncio.start_server(connection, "127.0.0.1", options.listen, ssl=inside)
    async with server:
        await server.serve_forever()


parser = argparse.ArgumentParser()
parser.add_argument("--listen", type=int, required=True)
for name in ("to", "cert", "key", "ca", "record"):
    parser.add_argument("--" + name, required=True)
asyncio.run(serve(parser.parse_args()))

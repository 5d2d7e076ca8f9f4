"""A mail server and a receiver of webhooks for tests. Started with one argument, a JSON object that says
which and how; prints {"ready": PORT}, then one JSON object for each message, decoded by Python's own modules.
"""

import asyncio
import email
import email.policy
import hashlib
import hmac
import json
import logging
import ssl
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer


def say(what):
    print(json.dumps(what), flush=True)


def tls_context(how):
    if not how.get("cert"):
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(how["cert"], how["key"])
    return context


class Mailbox:
    def __init__(self, how):
        self.refused = how.get("refuse", [])
        self.later = list(how.get("later", []))

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return "550 5.1.1 nobody of this name"
        if address in self.later:
            # The first time only.
            self.later.remove(address)
            return "450 4.2.0 this mailbox is busy"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        say({
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "encrypted": session.ssl is not None,
            "headers": [[name, str(value)] for name, value in mail.items()],
            "subject": mail["subject"],
            "text": mail.get_body(("plain",)).get_content(),
            "html": mail.get_body(("html",)).get_content(),
        })
        return "250 OK"


async def serve_mail(how):
    from aiosmtpd.smtp import SMTP, AuthResult

    def login(server, session, envelope, mechanism, data):
        good = (data.login, data.password) == (how["user"].encode(), how["password"].encode())
        say({"login": good})
        # What is not handled here is refused by the server: 535.
        return AuthResult(success=good, handled=False)

    options = {}
    context = tls_context(how)
    if how.get("user"):
        options.update(authenticator=login, auth_required=True, auth_require_tls=False)
    if how["security"] == "starttls":
        options.update(tls_context=context, require_starttls=True)
    mailbox = Mailbox(how)
    server = await asyncio.get_running_loop().create_server(
        lambda: SMTP(mailbox, hostname="localhost", **options),
        "127.0.0.1",
        how.get("port", 0),
        ssl=context if how["security"] == "tls" else None,
    )
    say({"ready": server.sockets[0].getsockname()[1]})
    await server.serve_forever()


def serve_webhook(how):
    answers = list(how.get("answers", []))

    class Hook(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            parts = dict(part.split("=", 1) for part in self.headers.get("X-Virtuozo-Signature", "").split(",") if part)
            wanted = hmac.new(how["secret"].encode(), parts.get("t", "").encode() + b"." + body, hashlib.sha256)
            say({
                "id": self.headers["X-Virtuozo-Id"],
                "kind": self.headers["X-Virtuozo-Kind"],
                "signed": hmac.compare_digest(wanted.hexdigest(), parts.get("v1", "")),
                "at": int(parts.get("t", "0")),
                "body": json.loads(body),
            })
            status = answers.pop(0) if answers else 204
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/elsewhere")
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *args):
            pass

    server = HTTPServer(("127.0.0.1", how.get("port", 0)), Hook)
    context = tls_context(how)
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    say({"ready": server.server_address[1]})
    server.serve_forever()


# What goes wrong on purpose is no news.
logging.disable(logging.CRITICAL)
how = json.loads(sys.argv[1])
if how["what"] == "webhook":
    serve_webhook(how)
else:
    asyncio.run(serve_mail(how))

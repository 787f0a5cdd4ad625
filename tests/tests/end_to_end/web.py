"""A web server for the tests: files of a directory, and who the client seems to be.

web.py PORT DIRECTORY. /peer answers with the client's address and port; /late does so after two
seconds, so that many connections are open at once.
"""

import functools
import http.server
import socketserver
import sys
import time


class Handler(http.server.SimpleHTTPRequestHandler):
    def do_GET(self):
        if self.path not in ("/peer", "/late"):
            return super().do_GET()
        if self.path == "/late":
            time.sleep(2)
        body = b"%s:%d\n" % (self.client_address[0].encode(), self.client_address[1])
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 1024

    def server_bind(self):
        # HTTPServer would ask DNS for its own name, which nobody answers here.
        socketserver.TCPServer.server_bind(self)


handler = functools.partial(Handler, directory=sys.argv[2])
server = Server(("0.0.0.0", int(sys.argv[1])), handler)
print("serving", flush=True)
server.serve_forever()

"""A Hugging Face Hub on 127.0.0.1: one repository of files, over the protocol that huggingface_hub and
kvserve speak. Large files are redirected to a second server, which knows ranges and cuts connections
when it is told to."""

import hashlib
import http.client
import http.server
import json
import pathlib
import socket
import ssl
import threading
import urllib.parse

COMMIT = "89abcdef0123456789abcdef0123456789abcdef"


def is_large(name):
    return name.endswith(".safetensors")


def content_hash(name, content):
    if is_large(name):
        return hashlib.sha256(content).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


class Server:
    """Serves `answer(handler)` on a free port, over TLS when it has a certificate."""

    def __init__(self, answer, certificate=None):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                answer(self)

            do_HEAD = do_GET

            def log_message(self, *_):
                pass

            def send(self, status, headers, body=b""):
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", headers.get("Content-Length", str(len(body))))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        scheme = "http"
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*certificate)
            self.http.socket = context.wrap_socket(self.http.socket, server_side=True)
            scheme = "https"
        self.url = f"{scheme}://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class StubProxy:
    """An HTTP proxy on 127.0.0.1: passes requests on, opens tunnels, and wants `user:word`."""

    def __init__(self):
        self.seen = []  # what was asked for, and how
        proxy = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def admitted(self):
                proxy.seen.append((self.command, self.path))
                if self.headers.get("Proxy-Authorization") == "Basic dXNlcjp3b3Jk":
                    return True
                self.send_error(407)
                return False

            def do_GET(self):
                if not self.admitted():
                    return
                url = urllib.parse.urlsplit(self.path)
                server = http.client.HTTPConnection(url.netloc)
                kept = {k: v for k, v in self.headers.items() if not k.lower().startswith("proxy")}
                server.request(self.command, urllib.parse.urlunsplit(("", "", *url[2:])), headers=kept)
                answer = server.getresponse()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer.read())

            do_HEAD = do_GET

            def do_CONNECT(self):
                if not self.admitted():
                    return
                host, port = self.path.split(":")
                server = socket.create_connection((host, int(port)))
                self.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
                back = threading.Thread(target=pass_on, args=(server, self.connection), daemon=True)
                back.start()
                pass_on(self.connection, server)
                back.join()
                self.close_connection = True

            def log_message(self, *_):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://user:word@127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.http.server_close()


def pass_on(source, target):
    try:
        while data := source.recv(1 << 16):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass


class StubHub:
    """`with StubHub({"config.json": bytes, ...}) as hub:`; hub.seen holds (method, path) of every
    request, hub.authorized the paths that came with a token."""

    def __init__(self, files, repo="org/tiny", token=None, certificate=None):
        self.files, self.repo, self.token = files, repo, token
        self.seen, self.authorized, self.ranges = [], [], []
        self.cuts = 0  # how many more answers of the second server to break off in the middle
        self.refuse = None  # (status, error code) for everything
        self.lock = threading.Lock()
        self.store = Server(self.answer_store, certificate)
        self.hub = Server(self.answer_hub, certificate)
        self.url = self.hub.url

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.hub.close()
        self.store.close()

    def note(self, handler):
        with self.lock:
            self.seen.append((handler.command, handler.path))
            if handler.headers.get("Authorization"):
                self.authorized.append(handler.path)
            if handler.headers.get("Range"):
                self.ranges.append(handler.headers["Range"])

    def answer_hub(self, handler):
        self.note(handler)
        if self.refuse:
            status, code = self.refuse
            return handler.send(status, {"X-Error-Code": code} if code else {})
        if self.token and handler.headers.get("Authorization") != f"Bearer {self.token}":
            return handler.send(401, {"X-Error-Code": "GatedRepo"})
        path = urllib.parse.unquote(urllib.parse.urlsplit(handler.path).path)
        if path in (f"/api/models/{self.repo}/revision/main", f"/api/models/{self.repo}",
                    f"/api/models/{self.repo}/revision/{COMMIT}"):
            return self.send_json(handler, {
                "id": self.repo, "modelId": self.repo, "sha": COMMIT, "tags": [],
                "siblings": [{"rfilename": name, "size": len(content)}
                             for name, content in self.files.items()]})
        if path.startswith(f"/api/models/{self.repo}/revision/"):
            return handler.send(404, {"X-Error-Code": "RevisionNotFound"})
        if path == f"/api/models/{self.repo}/tree/{COMMIT}":
            return self.send_json(handler, [self.tree_entry(*file) for file in self.files.items()])
        for revision in ("main", COMMIT):
            prefix = f"/{self.repo}/resolve/{revision}/"
            if path.startswith(prefix):
                return self.send_file(handler, path[len(prefix):])
        return handler.send(404, {"X-Error-Code": "RepoNotFound"})

    @staticmethod
    def send_json(handler, value):
        handler.send(200, {"Content-Type": "application/json"}, json.dumps(value).encode())

    @staticmethod
    def tree_entry(name, content):
        entry = {"type": "file", "path": name, "size": len(content),
                 "oid": hashlib.sha1(content).hexdigest()}
        if is_large(name):
            entry["lfs"] = {"oid": content_hash(name, content), "size": len(content),
                            "pointerSize": 134}
        else:
            entry["oid"] = content_hash(name, content)
        return entry

    def send_file(self, handler, name):
        if name not in self.files:
            return handler.send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        content = self.files[name]
        headers = {"X-Repo-Commit": COMMIT, "ETag": f'"{content_hash(name, content)}"'}
        if not is_large(name):
            return handler.send(200, headers, content)
        headers["X-Linked-Etag"] = headers.pop("ETag")
        headers["X-Linked-Size"] = str(len(content))
        # What a real one looks like: a signature over escapes that must come back as they are.
        headers["Location"] = (f"{self.store.url}/blobs/{name}?"
                               "disposition=inline%3B+filename*%3DUTF-8%27%27w%22&Signature=a%2Fb~")
        return handler.send(302, headers)

    def answer_store(self, handler):
        self.note(handler)
        assert handler.headers.get("Authorization") is None, "a token went to another host"
        parts = urllib.parse.urlsplit(handler.path)
        if not parts.query.endswith("27w%22&Signature=a%2Fb~"):
            return handler.send(403, {})
        content = self.files[pathlib.PurePosixPath(parts.path).name]
        status, headers, begin = 200, {"Accept-Ranges": "bytes"}, 0
        if asked := handler.headers.get("Range"):
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            status = 206
            headers["Content-Range"] = f"bytes {begin}-{len(content) - 1}/{len(content)}"
        body = content[begin:]
        with self.lock:
            cut, self.cuts = self.cuts > 0, max(0, self.cuts - 1)
        if not cut:
            return handler.send(status, headers, body)
        headers["Content-Length"] = str(len(body))
        handler.send(status, headers, body[:len(body) // 2])
        handler.wfile.flush()
        handler.close_connection = True

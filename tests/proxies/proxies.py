"""Starts a server, and nginx, Caddy, and HAProxy in front of it, for `tests/proxies` and `tests/browser`."""

import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[2]
PREFIX = "/k8s-cli"
USER, PASSWORD = "alice", "correct-horse"
# How long a program may take to start, to stop, or to notice an event. Generous, because the machine may be busy.
LIMIT = 60
# The files of the recipes, by program.
RECIPES = {"nginx": "nginx.conf", "caddy": "Caddyfile", "haproxy": "haproxy.cfg"}
# What people write first, and nothing more. The timeouts of HAProxy are those of Debian's `haproxy.cfg`.
DEFAULTS = {
    "nginx": "server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://127.0.0.1:8000; }} }}",
    "caddy": "http://localhost:{port} {{\n\tbind 127.0.0.1\n\treverse_proxy 127.0.0.1:8000\n}}",
    "haproxy": "defaults\n mode http\n timeout connect 5000\n timeout client 50000\n timeout server 50000\n"
    "frontend web\n bind 127.0.0.1:{port}\n default_backend tasks\nbackend tasks\n server one 127.0.0.1:8000",
}


def eventually(what, condition, limit=LIMIT):
    """Returns the first true value of `condition`."""
    deadline = time.monotonic() + limit
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.05)
    raise TimeoutError(f"{what}: not within {limit} s")


def exit_on_sigterm():
    """Makes SIGTERM raise an exception, so that what this process has started is stopped."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def is_listening(port):
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def children(pid):
    return set(pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


def missing_programs():
    return [name for name in RECIPES if not shutil.which(name)]


def binary(name):
    """The program that `K8S_CLI_API_BIN` or `K8S_CLI_BIN` names, or else that of a new debug build."""
    variable = name.replace("-", "_").upper() + "_BIN"
    if variable not in os.environ:
        package = "server" if name == "k8s-cli-api" else "cli"
        subprocess.run(["cargo", "build", "--quiet", "--locked", "-p", package], cwd=ROOT, check=True)
    return os.environ.get(variable, ROOT / "target/debug" / name)


def certificate(directory, host):
    """Writes `tls.crt`, `tls.key`, and `tls.pem` (both) for a host. Not a CA: rustls rejects a server that uses one."""
    key, cert = directory / "tls.key", directory / "tls.crt"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
        + ["-subj", f"/CN={host}", "-addext", f"subjectAltName=DNS:{host}", "-addext", "basicConstraints=CA:FALSE"]
        + ["-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
    )
    (directory / "tls.pem").write_text(cert.read_text() + key.read_text())


class Server:
    """A server on this machine that keeps its port and its state over restarts."""

    def __init__(self, directory, *arguments):
        self.port = free_port()
        self.log = open(directory / "server.log", "ab")
        self.command = [binary("k8s-cli-api"), "--port", str(self.port), "--backend", "embedded"]
        self.command += ["--state-dir", directory / "state", "--log-format", "json", "--allow-local-users", *arguments]
        self.base = f"http://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(self.command, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)
        eventually("the server is ready", lambda: self.request("GET", "/readyz")[0] == 200)

    def stop(self, number=signal.SIGTERM):
        self.process.send_signal(number)
        self.process.wait(LIMIT)

    def request(self, method, path, body=None, user=USER):
        """Returns status and body; status 0 if nothing listens."""
        headers = {"X-User": user, "Content-Type": "application/json"}
        body = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.base + path, body, headers, method=method)
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=LIMIT) as response:
                return response.status, response.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def submit(self, script):
        # The time limit ends a task that an aborted test leaves behind.
        status, body = self.request("POST", "/tasks/submit", {"name": "test", "run": script, "max_duration": "10m"})
        assert status == 200, body
        return json.loads(body)["task_id"]


class Proxy:
    """A proxy with a configuration, `default` or `recipe`, in front of a server."""

    def __init__(self, kind, config, server, directory, host):
        self.kind, self.config, self.port = kind, config, free_port()
        self.directory = directory / f"{kind}-{config}"
        self.directory.mkdir()
        is_recipe = config == "recipe"
        if is_recipe:
            certificate(self.directory, host)
        scheme, prefix = ("https", PREFIX) if is_recipe else ("http", "")
        self.base = f"{scheme}://{host}:{self.port}{prefix}"
        self.credentials = (USER, PASSWORD) if is_recipe else None
        text = self.recipe(host) if is_recipe else DEFAULTS[kind].format(port=self.port)
        self.file = self.directory / "config"
        self.file.write_text(self.whole(text.replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")))
        self.log = open(self.directory / "log", "ab")
        self.process = subprocess.Popen(
            self.command(), stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=self.environment()
        )
        eventually(f"{kind} listens", lambda: is_listening(self.port))

    def recipe(self, host):
        """The recipe with the addresses, files, and password of this test."""
        text = (ROOT / "examples/proxies" / RECIPES[self.kind]).read_text()
        files = {"/etc/ssl/tasks.example.com": f"{self.directory}/tls"}
        (self.directory / "users").write_text(f"{USER}:{{PLAIN}}{PASSWORD}\n")
        if self.kind == "nginx":
            files["listen 443 ssl"] = f"listen 127.0.0.1:{self.port} ssl"
            files["/etc/nginx/k8s-cli.users"] = f"{self.directory}/users"
        elif self.kind == "caddy":
            files["\ntasks.example.com {"] = f"\nhttps://{host}:{self.port} {{\n\tbind 127.0.0.1"
            command = ["caddy", "hash-password", "--plaintext", PASSWORD]
            hashed = subprocess.run(command, check=True, capture_output=True)
            files["$2a$14$PASSWORD"] = hashed.stdout.decode().strip()
        else:
            files["bind :443"] = f"bind 127.0.0.1:{self.port}"
            files["password $5$PASSWORD"] = f"insecure-password {PASSWORD}"
        for old, new in files.items():
            assert old in text, f"the recipe of {self.kind} has no `{old}`"
            text = text.replace(old, new)
        return text

    def whole(self, text):
        """The configuration with what keeps the program within the directory of the test, and lets it reload."""
        if self.kind == "nginx":
            kinds = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            temporary = " ".join(f"{kind}_temp_path {self.directory}/{kind};" for kind in kinds)
            start = f"daemon off; pid {self.directory}/pid; error_log stderr; events {{}}"
            return f"{start}\nhttp {{ access_log off; {temporary}\n{text}\n}}\n"
        if self.kind == "caddy":
            return f"{{\n\tadmin unix/{self.directory}/admin\n\tauto_https off\n}}\n{text}\n"
        return text + "\n"

    def command(self):
        return {
            "nginx": ["nginx", "-p", self.directory, "-c", self.file],
            "caddy": ["caddy", "run", "--adapter", "caddyfile", "--config", self.file],
            "haproxy": ["haproxy", "-W", "-f", self.file],
        }[self.kind]

    def environment(self):
        return {**os.environ, "HOME": str(self.directory), "XDG_DATA_HOME": str(self.directory)}

    def reload(self):
        """Makes the proxy read its configuration again, and waits until new workers serve it."""
        if self.kind == "caddy":
            # Without --force, an unchanged configuration is not loaded.
            command = ["caddy", "reload", "--force", "--adapter", "caddyfile", "--config", self.file]
            command += ["--address", f"unix/{self.directory}/admin"]
            subprocess.run(command, check=True, stdout=self.log, stderr=self.log, env=self.environment(), timeout=LIMIT)
            return
        before = children(self.process.pid)
        self.process.send_signal(signal.SIGHUP if self.kind == "nginx" else signal.SIGUSR2)
        eventually(f"{self.kind} has new workers", lambda: children(self.process.pid) - before)

    def version(self):
        command = {"nginx": ["nginx", "-v"], "caddy": ["caddy", "version"], "haproxy": ["haproxy", "-v"]}[self.kind]
        result = subprocess.run(command, check=True, capture_output=True, text=True)
        text = (result.stdout + result.stderr).splitlines()[0]
        number = next(part for part in text.replace("/", " ").split() if part.lstrip("v")[0].isdigit())
        return tuple(int(part) for part in number.lstrip("v").split("-")[0].split("."))

    def stop(self):
        # The masters of HAProxy and nginx end their workers on SIGTERM. Caddy is a single process, which would wait for
        # open streams.
        self.process.send_signal(signal.SIGKILL if self.kind == "caddy" else signal.SIGTERM)
        self.process.wait(LIMIT)

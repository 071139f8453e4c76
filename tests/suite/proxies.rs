//! The proxy configurations in `examples/proxies/`, with the real proxies.
//!
//! A proxy that is not installed is skipped. If `K8S_CLI_E2E_PROXIES` is set, as in CI, its tests fail instead.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use e2e::{TaskBuilder, World, eventually};
use futures::StreamExt;
use reqwest::{Certificate, Client, Method, RequestBuilder, StatusCode};

const HOST: &str = "tasks.example.com";
const PREFIX: &str = "/k8s-cli";
const PASSWORD: &str = "correct horse";

/// How long a proxy may take to start or to notice that the server is back.
const LIMIT: Duration = Duration::from_secs(20);

/// A proxy of one test, with its files; stopped on drop.
struct ReverseProxy {
    child: Child,
    dir: PathBuf,
    client: Client,
    base: String,
}

impl Drop for ReverseProxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

/// A program with its recipe.
#[derive(Debug, Clone, Copy)]
enum ProxyKind {
    Nginx,
    Caddy,
    HaProxy,
}

impl ProxyKind {
    fn name(self) -> &'static str {
        match self {
            Self::Nginx => "nginx",
            Self::Caddy => "caddy",
            Self::HaProxy => "haproxy",
        }
    }

    /// Whether the program is installed.
    fn is_installed(self) -> bool {
        let flag = if matches!(self, Self::Caddy) { "version" } else { "-v" };
        let found = Command::new(self.name()).arg(flag).output().is_ok();
        assert!(
            found || std::env::var_os("K8S_CLI_E2E_PROXIES").is_none(),
            "`{}` is not installed",
            self.name()
        );
        if !found {
            eprintln!("note: `{}` is not installed; skipping its recipe", self.name());
        }
        found
    }

    /// Whether a client notices that the server aborted a response. Caddy before 2.8 ends it as if it were complete:
    /// <https://github.com/caddyserver/caddy/issues/5951>.
    fn propagates_aborts(self) -> bool {
        if !matches!(self, Self::Caddy) {
            return true;
        }
        let version = Command::new("caddy").arg("version").output().unwrap();
        let version = String::from_utf8(version.stdout).unwrap();
        let mut parts = version.trim_start_matches('v').split(['.', ' ', '-']);
        let mut number = || parts.next().and_then(|part| part.trim().parse::<u32>().ok());
        let version = (number().expect("a version"), number().expect("a version"));
        version >= (2, 8)
    }

    fn recipe(self) -> String {
        let file = match self {
            Self::Nginx => "nginx.conf",
            Self::Caddy => "Caddyfile",
            Self::HaProxy => "haproxy.cfg",
        };
        let path = format!("{}/../examples/proxies/{file}", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    /// What differs between the recipe and a test: addresses, files, and the password.
    fn replacements(self, port: u16, server: &str, dir: &Path) -> Vec<(String, String)> {
        let dir = dir.display();
        let pair = |from: &str, to: String| (from.to_owned(), to);
        let mut pairs = vec![pair("127.0.0.1:8000", server.to_owned())];
        pairs.extend(match self {
            Self::Nginx => vec![
                pair("listen 443 ssl", format!("listen 127.0.0.1:{port} ssl")),
                pair("/etc/ssl/tasks.example.com", format!("{dir}/tls")),
                pair("/etc/nginx/k8s-cli.users", format!("{dir}/users")),
            ],
            Self::Caddy => vec![
                pair(
                    "tasks.example.com {",
                    format!("https://{HOST}:{port} {{\n\tbind 127.0.0.1"),
                ),
                pair("/etc/ssl/tasks.example.com", format!("{dir}/tls")),
                pair("$2a$14$PASSWORD", caddy_hash()),
            ],
            Self::HaProxy => vec![
                pair("bind :443", format!("bind 127.0.0.1:{port}")),
                pair("/etc/ssl/tasks.example.com.pem", format!("{dir}/tls.pem")),
                pair(
                    "password $5$PASSWORD",
                    format!("insecure-password {}", PASSWORD.replace(' ', "\\ ")),
                ),
            ],
        });
        pairs
    }

    fn command(self, dir: &Path, recipe: &str) -> Command {
        let mut command = Command::new(self.name());
        let file = dir.join("config");
        let text = match self {
            // The recipe is a part of the configuration; the rest keeps nginx within the directory of the test.
            Self::Nginx => {
                let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
                    .map(|name| format!("{name}_temp_path {0}/{name};", dir.display()))
                    .join(" ");
                format!(
                    "daemon off; master_process off; pid {0}/pid; error_log stderr; events {{}}\n\
                     http {{ access_log off; {temporary}\n{recipe}\n}}\n",
                    dir.display()
                )
            }
            Self::Caddy => format!("{{\n\tadmin off\n\tauto_https off\n}}\n{recipe}"),
            Self::HaProxy => recipe.to_owned(),
        };
        std::fs::write(&file, text).unwrap();
        match self {
            Self::Nginx => command.arg("-c").arg(&file).arg("-p").arg(dir),
            Self::Caddy => command
                .args(["run", "--adapter", "caddyfile", "--config"])
                .arg(&file)
                .env("HOME", dir),
            Self::HaProxy => command.args(["-db", "-f"]).arg(&file),
        };
        command
    }
}

fn caddy_hash() -> String {
    let hashed = Command::new("caddy")
        .args(["hash-password", "--plaintext", PASSWORD])
        .output()
        .unwrap();
    String::from_utf8(hashed.stdout).unwrap().trim().to_owned()
}

impl ReverseProxy {
    /// Starts a program with its recipe in front of a server.
    async fn start(kind: ProxyKind, server: &str) -> Self {
        let server = server.strip_prefix("http://").unwrap();
        let recipe = kind.recipe();
        Self::with(kind, server, |port, dir| {
            let replacements = kind.replacements(port, server, dir);
            replacements.into_iter().fold(recipe, |recipe, (from, to)| {
                assert!(recipe.contains(&from), "the recipe has no `{from}`");
                recipe.replace(&from, &to)
            })
        })
        .await
    }

    async fn with(kind: ProxyKind, server: &str, recipe: impl FnOnce(u16, &Path) -> String) -> Self {
        let dir = std::env::temp_dir().join(format!("k8s-cli-proxy-{:016x}", fastrand::u64(..)));
        std::fs::create_dir(&dir).unwrap();
        let key = rcgen::generate_simple_self_signed(vec![HOST.to_owned()]).unwrap();
        let (certificate, private) = (key.cert.pem(), key.signing_key.serialize_pem());
        std::fs::write(dir.join("tls.crt"), &certificate).unwrap();
        std::fs::write(dir.join("tls.key"), &private).unwrap();
        std::fs::write(dir.join("tls.pem"), certificate.clone() + &private).unwrap();
        std::fs::write(dir.join("users"), format!("alice:{{PLAIN}}{PASSWORD}\n")).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let recipe = recipe(port, &dir);
        let mut command = kind.command(&dir, &recipe);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let client = Client::builder()
            .no_proxy()
            .resolve(HOST, ([127, 0, 0, 1], port).into())
            .tls_certs_only([Certificate::from_pem(certificate.as_bytes()).unwrap()])
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .unwrap();
        let scheme = if recipe.contains("ssl") || recipe.contains("tls") {
            "https"
        } else {
            "http"
        };
        let proxy = Self {
            child,
            dir,
            client,
            base: format!("{scheme}://{HOST}:{port}"),
        };
        eventually(LIMIT, &format!("{} in front of {server}", kind.name()), async || {
            let answer = proxy.request(Method::GET, "/tasks").send().await.ok()?;
            answer.status().is_success().then_some(())
        })
        .await;
        proxy
    }

    /// Builds a request with the password of alice and a forged `X-User` header.
    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.anonymous(method, path).basic_auth("alice", Some(PASSWORD))
    }

    /// Builds the same without a password.
    fn anonymous(&self, method: Method, path: &str) -> RequestBuilder {
        let url = format!("{}{PREFIX}{path}", self.base);
        self.client.request(method, url).header("X-User", "mallory")
    }
}

async fn works_behind(kind: ProxyKind) {
    if !kind.is_installed() {
        return;
    }
    let mut world = World::own(&["--root-path", PREFIX, "--allow-local-users"]).await;
    let proxy = ReverseProxy::start(kind, world.api.base()).await;
    let anonymous = proxy.anonymous(Method::GET, "/tasks").send().await.unwrap();
    assert_eq!(anonymous.status(), StatusCode::UNAUTHORIZED);

    // The proxy forwards a large body and sets the user.
    let comment = "#".repeat(400_000);
    let task = TaskBuilder::new(format!("echo first; sleep 5; echo second; sleep 600\n{comment}"));
    let submit = proxy.request(Method::POST, "/tasks/submit").json(&task);
    let id = world.api.send(submit).await.task_id();
    let status = world.api.as_user("alice").status(&id).await;
    assert_eq!(status.username, "alice");

    // It also forwards a pack of the largest size that the CLI uploads.
    let length = (4 << 20) - 4;
    let content = [
        u32::try_from(length).unwrap().to_be_bytes().to_vec(),
        vec![b'x'; length],
    ]
    .concat();
    let pack = proxy.request(Method::POST, "/files/contents").body(content.repeat(2));
    assert_eq!(pack.send().await.unwrap().status(), StatusCode::OK);

    // Redirects and pages stay behind the prefix.
    let redirect = proxy.request(Method::GET, "/tasks/").send().await.unwrap();
    assert_eq!(redirect.headers()["location"], format!("{PREFIX}/tasks"));
    for path in ["/docs", "/docs/assets/swagger-ui-bundle.js", "/openapi.json"] {
        assert_eq!(
            proxy.request(Method::GET, path).send().await.unwrap().status(),
            StatusCode::OK,
            "{path}"
        );
    }

    // The proxy does not buffer lines.
    let path = format!("/tasks/{id}/logs");
    let mut stream = proxy.request(Method::GET, &path).send().await.unwrap().bytes_stream();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(first, "first\n");
    let start = Instant::now();
    let second = stream.next().await.unwrap().unwrap();
    assert_eq!(second, "second\n");
    assert!(start.elapsed() > Duration::from_secs(1), "both lines arrived together");

    // Clients notice that their streams were aborted, and the proxy reconnects to a restarted server.
    let streams: Vec<_> = (0..20)
        .map(|_| {
            let request = proxy.request(Method::GET, &path);
            tokio::spawn(async move {
                let mut stream = request.send().await.unwrap().bytes_stream();
                let mut log = Vec::new();
                while !log.ends_with(b"second\n") {
                    log.extend_from_slice(&stream.next().await.unwrap().unwrap());
                }
                stream
            })
        })
        .collect();
    let streams = futures::future::join_all(streams).await;
    assert!(world.server().terminate());
    for open in streams.into_iter().map(Result::unwrap).chain([stream]) {
        let rest: Vec<_> = open.collect().await;
        let is_cut = rest.last().is_some_and(Result::is_err);
        assert!(is_cut || !kind.propagates_aborts(), "an incomplete log looks complete");
    }
    world.server().restart();
    eventually(LIMIT, "the proxy to reach the new server", async || {
        let answer = proxy
            .request(Method::POST, &format!("/tasks/{id}/stop"))
            .send()
            .await
            .unwrap();
        answer.status().is_success().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_works_behind_nginx() {
    works_behind(ProxyKind::Nginx).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_works_behind_caddy() {
    works_behind(ProxyKind::Caddy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_works_behind_haproxy() {
    works_behind(ProxyKind::HaProxy).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_1_0_client_behind_nginx_can_detect_an_incomplete_log() {
    if !ProxyKind::Nginx.is_installed() {
        return;
    }
    let mut world = World::own(&["--allow-local-users", "--allowed-host", HOST]).await;
    let server = world.api.base().strip_prefix("http://").unwrap().to_owned();
    // The defaults of nginx 1.22.
    let config = |port: u16, _: &Path| {
        format!(
            "server {{ listen 127.0.0.1:{port}; location {PREFIX}/ {{ proxy_pass http://{server}/; \
             proxy_set_header Host {HOST}; proxy_http_version 1.0; }} }}"
        )
    };
    let proxy = ReverseProxy::with(ProxyKind::Nginx, &server, config).await;
    let id = world.api.as_user("mallory").run("echo first; sleep 600").await;
    for is_killed in [false, true] {
        let request = proxy.request(Method::GET, &format!("/tasks/{id}/logs"));
        let mut stream = request.send().await.unwrap().bytes_stream();
        assert_eq!(stream.next().await.unwrap().unwrap(), "first\n");
        if is_killed {
            world.server().kill();
        } else {
            assert!(world.server().terminate());
        }
        let rest: Vec<_> = stream.collect().await;
        let is_noticed = rest.last().is_some_and(Result::is_err);
        assert!(is_noticed, "an incomplete log looks complete; killed: {is_killed}");
        world.server().restart();
    }
}

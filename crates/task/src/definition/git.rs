//! A git repository: its address and a revision of it, as they may be given to `git`.

use serde::{Serialize, Serializer};
use url::{Host, Url};

/// The maximum length of an address.
const MAX_URL_BYTES: usize = 2048;

/// The maximum length of a branch, tag, or commit. Git stores the first two as paths of files.
const MAX_REF_BYTES: usize = 250;

/// The secret that is the password for repositories at `https://`.
pub const TOKEN_VARIABLE: &str = "GIT_TOKEN";

/// The secret with the private key for repositories at `ssh://`.
pub const SSH_KEY_VARIABLE: &str = "GIT_SSH_KEY";

const FORMS: &str = "expected `https://HOST/PATH`, `ssh://USER@HOST/PATH`, or `USER@HOST:PATH`";

/// The address of a repository, which names no local file, no program, and no secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GitUrl {
    text: String,
    transport: Transport,
}

/// How a repository is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Transport {
    /// By `https://`, with a token for this scheme, host, and port.
    Https(String),
    /// By `http://` on the same machine, where nobody else listens. The rest is as for [`Transport::Https`].
    HttpLoopback(String),
    /// By `http://`, over which no token is sent.
    Http,
    /// By SSH.
    Ssh,
}

impl GitUrl {
    /// Reads an address.
    ///
    /// # Errors
    /// What is wrong with it. The reason never repeats the address, which may contain a password.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_safe = |character: char| !character.is_whitespace() && !character.is_control() && character != '\\';
        if text.is_empty() || text.len() > MAX_URL_BYTES || text.starts_with('-') || !text.chars().all(is_safe) {
            return Err(format!(
                "the address of a repository has 1 to {MAX_URL_BYTES} bytes, no spaces, and no leading `-`; {FORMS}"
            ));
        }
        let transport = match text.split_once("://") {
            Some((scheme, _)) => parse_url(scheme, text)?,
            None => parse_scp(text).ok_or_else(|| format!("the address is not that of a repository; {FORMS}"))?,
        };
        let text = text.to_owned();
        Ok(Self { text, transport })
    }

    /// The address as the user wrote it.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// How the repository is reached.
    #[must_use]
    pub fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The variable with the secret that opens the repository, if it is private.
    #[must_use]
    pub fn credential_variable(&self) -> Option<&'static str> {
        match self.transport {
            Transport::Https(_) | Transport::HttpLoopback(_) => Some(TOKEN_VARIABLE),
            Transport::Http => None,
            Transport::Ssh => Some(SSH_KEY_VARIABLE),
        }
    }
}

impl Serialize for GitUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

fn parse_url(scheme: &str, text: &str) -> Result<Transport, String> {
    // `url` would lower its case, and git does not know it then.
    if !["https", "http", "ssh"].contains(&scheme) {
        return Err(format!("repositories are cloned by https and ssh only; {FORMS}"));
    }
    let url = Url::parse(text).map_err(|error| format!("the address is not valid ({error}); {FORMS}"))?;
    let is_ssh = scheme == "ssh";
    if !is_ssh && (!url.username().is_empty() || url.password().is_some()) {
        return Err(format!(
            "the address must not contain a user name, token, or password; pass a token as the secret `{TOKEN_VARIABLE}`"
        ));
    }
    if url.password().is_some() {
        return Err(format!(
            "the address must not contain a password; pass a private key as the secret `{SSH_KEY_VARIABLE}`"
        ));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err("the address of a repository has no `?` or `#`; use `ref` for a branch, tag, or commit".to_owned());
    }
    let host = url.host_str().filter(|host| !host.starts_with('-'));
    let is_user = |user: &str| user.is_empty() || is_name(user);
    let (Some(host), true, false) = (host, is_user(url.username()), matches!(url.path(), "" | "/")) else {
        return Err(format!("the address is not that of a repository; {FORMS}"));
    };
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    let scope = format!("{scheme}://{host}{port}");
    Ok(match scheme {
        "https" => Transport::Https(scope),
        "http" if is_loopback(&url) => Transport::HttpLoopback(scope),
        "http" => Transport::Http,
        _ => Transport::Ssh,
    })
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// The short form of an address for SSH. The user is required, because `C:\code` and `ext::COMMAND` look alike without.
fn parse_scp(text: &str) -> Option<Transport> {
    let (user, rest) = text.split_once('@')?;
    let (host, path) = rest.split_once(':')?;
    let is_path = !path.is_empty() && !path.starts_with(['-', ':']);
    (is_name(user) && is_name(host) && is_path).then_some(Transport::Ssh)
}

/// Whether a text can be a user or a host that `ssh` does not take for an option.
fn is_name(text: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    !text.is_empty() && !text.starts_with('-') && text.bytes().all(is_part)
}

/// A branch, tag, or commit of a repository.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct GitRef(String);

impl GitRef {
    /// Reads a branch, tag, or commit: what `git fetch` takes for a name, and not for an option, a pattern, or a
    /// refspec (<https://git-scm.com/docs/git-check-ref-format>).
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let is_allowed = |character: char| {
            let is_special = matches!(character, '~' | '^' | ':' | '?' | '*' | '[' | '\\');
            !is_special && !character.is_whitespace() && !character.is_control()
        };
        let is_ref = (1..=MAX_REF_BYTES).contains(&text.len())
            && text.chars().all(is_allowed)
            && !text.starts_with(['-', '+', '/', '@'])
            && !text.ends_with(['/', '.'])
            && !["..", "//", "@{"].iter().any(|part| text.contains(part));
        if !is_ref {
            return Err(format!(
                "not the name of a branch, a tag, or a commit of 1 to {MAX_REF_BYTES} bytes"
            ));
        }
        Ok(Self(text.to_owned()))
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::{GitRef, GitUrl, Transport};

    #[test]
    fn the_forms_of_an_address_are_those_of_git_for_other_machines() {
        let https = |scope: &str| Transport::Https(scope.to_owned());
        let loopback = |scope: &str| Transport::HttpLoopback(scope.to_owned());
        for (text, transport) in [
            ("https://github.com/org/repo.git", https("https://github.com")),
            (
                "https://git.example.com:8443/a/b%20c",
                https("https://git.example.com:8443"),
            ),
            ("https://GitHub.com:443/org/repo", https("https://github.com")),
            ("http://127.0.0.1:3000/repo", loopback("http://127.0.0.1:3000")),
            ("http://localhost/repo", loopback("http://localhost")),
            ("http://[::1]:80/repo", loopback("http://[::1]")),
            ("http://git.example.com/repo", Transport::Http),
            ("http://localhost.example.com/repo", Transport::Http),
            ("ssh://git@github.com/org/repo", Transport::Ssh),
            ("ssh://git.example.com:2222/repo", Transport::Ssh),
            ("git@github.com:org/repo.git", Transport::Ssh),
            ("me@host:~/repo", Transport::Ssh),
        ] {
            let url = GitUrl::parse(text).unwrap();
            assert_eq!((url.transport(), url.as_str()), (&transport, text));
        }
    }

    #[test]
    fn an_address_names_no_file_no_program_and_no_option() {
        for text in [
            "",
            "-u",
            "--upload-pack=touch /tmp/x",
            "/srv/repo",
            "../repo",
            "file:///srv/repo",
            "ext::sh -c touch",
            "git@ext::sh",
            "ext::sh",
            "fd::3",
            "git://github.com/org/repo",
            "HTTPS://github.com/org/repo",
            "C:\\code",
            "ssh://-oProxyCommand=x/repo",
            "ssh://-oUser@host/repo",
            "-oProxyCommand=x@host:repo",
            "git@-oProxyCommand=x:repo",
            "git@host:-x",
            "git@host:",
            "https://",
            "https://github.com",
            "https://github.com/",
            "https:///repo",
            "https://github.com/a b",
            "https://github.com/a\nb",
            "https://github.com/org/repo?private_token=x",
            "https://github.com/org/repo#main",
        ] {
            assert!(GitUrl::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_password_in_an_address_is_refused_without_repeating_it() {
        for (text, variable) in [
            ("https://me:canary@github.com/org/repo", "GIT_TOKEN"),
            ("https://canary@github.com/org/repo", "GIT_TOKEN"),
            ("http://canary@localhost/org/repo", "GIT_TOKEN"),
            ("ssh://git:canary@github.com/org/repo", "GIT_SSH_KEY"),
        ] {
            let reason = GitUrl::parse(text).unwrap_err();
            assert!(reason.contains(variable) && !reason.contains("canary"), "{reason}");
        }
    }

    #[test]
    fn a_ref_is_a_name_and_nothing_that_git_would_expand() {
        for text in [
            "main",
            "v1.0",
            "feature/x",
            "refs/pull/1/head",
            "3f786850e387550fdab836ed7e6dc881de23001b",
            "é",
        ] {
            assert_eq!(GitRef::parse(text).unwrap().as_str(), text);
        }
        for text in [
            "", "-x", "+main", "a:b", "main~1", "main^", "a..b", "a*", "a b", "@{-1}", "@", "main@{1}", "a/", "a.",
            "/a",
        ] {
            assert!(GitRef::parse(text).is_err(), "{text}");
        }
        assert!(GitRef::parse(&"x".repeat(251)).is_err());
    }
}

//! Finds the configuration of the cluster: kubeconfig files, or the service account of this pod.

use std::net::IpAddr;
use std::path::PathBuf;

use hyper_util::client::proxy::matcher::Matcher;
use kube::config::{Config, KubeConfigOptions, Kubeconfig, KubeconfigError};

use crate::error::{Error, first_line};

/// The configuration that `kubectl` would use here.
///
/// `Config::infer` falls back to the service account if the kubeconfig is broken, which would silently select another
/// cluster.
///
/// # Errors
/// [`Error::NoCluster`] if no cluster is configured, [`Error::Configuration`] if the configuration is invalid.
pub(crate) async fn load() -> Result<Config, Error> {
    match kubeconfig()? {
        Some(kubeconfig) => config_of(kubeconfig).await,
        None if std::env::var_os("KUBERNETES_SERVICE_HOST").is_none() => Err(Error::NoCluster),
        None => Config::incluster().map_err(|error| invalid_config(error.to_string())),
    }
}

/// The merged kubeconfig files, or `None` if there are none.
fn kubeconfig() -> Result<Option<Kubeconfig>, Error> {
    let named = std::env::var_os("KUBECONFIG").unwrap_or_default();
    let paths: Vec<PathBuf> = std::env::split_paths(&named)
        .filter(|path| !path.as_os_str().is_empty())
        .collect();
    if paths.is_empty() {
        return match Kubeconfig::read() {
            Ok(kubeconfig) => Ok(Some(kubeconfig)),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(invalid_config(describe(&error))),
        };
    }
    merged(&paths).map(Some)
}

/// Merges the files as `kubectl` does: the first value wins, and missing files are skipped if there are several.
fn merged(paths: &[PathBuf]) -> Result<Kubeconfig, Error> {
    let mut merged: Option<Kubeconfig> = None;
    for path in paths {
        let next = match Kubeconfig::read_from(path) {
            Err(error) if is_absent(&error) && paths.len() > 1 => continue,
            read => read.map_err(|error| invalid_config(describe(&error)))?,
        };
        let before = merged.take().unwrap_or_default();
        merged = Some(before.merge(next).map_err(|error| invalid_config(describe(&error)))?);
    }
    merged.ok_or_else(|| {
        let names: Vec<String> = paths.iter().map(|path| format!("`{}`", path.display())).collect();
        invalid_config(format!("none of the files in `KUBECONFIG` exist: {}", names.join(", ")))
    })
}

async fn config_of(kubeconfig: Kubeconfig) -> Result<Config, Error> {
    let clusters = kubeconfig.clusters.iter().filter_map(|named| named.cluster.as_ref());
    let with_proxy = clusters.filter(|cluster| cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()));
    let servers: Vec<String> = with_proxy.filter_map(|cluster| cluster.server.clone()).collect();
    let options = KubeConfigOptions::default();
    let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
    let mut config = config.map_err(|error| invalid_config(describe(&error)))?;
    let names_proxy = servers
        .iter()
        .any(|server| server.parse().is_ok_and(|url: http::Uri| url == config.cluster_url));
    if !names_proxy && !is_behind_proxy(&config.cluster_url) {
        config.proxy_url = None;
    }
    Ok(config)
}

/// Whether the proxy from the environment applies to this URL, by the rules of Go and therefore `kubectl`: never for
/// loopback addresses, nor for hosts in `NO_PROXY`.
fn is_behind_proxy(url: &http::Uri) -> bool {
    let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_this_machine = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    !is_this_machine && Matcher::from_env().intercept(url).is_some()
}

fn is_absent(error: &KubeconfigError) -> bool {
    match error {
        KubeconfigError::FindPath => true,
        KubeconfigError::ReadConfig(source, _) => source.kind() == std::io::ErrorKind::NotFound,
        _ => false,
    }
}

/// The client's messages already include their causes, but print paths in Rust's debug format.
fn describe(error: &KubeconfigError) -> String {
    match error {
        KubeconfigError::ReadConfig(source, path) => format!("cannot read `{}`: {source}", path.display()),
        KubeconfigError::ParseNoProxy(source) => format!("invalid `NO_PROXY`: {source}"),
        other => other.to_string(),
    }
}

fn invalid_config(reason: String) -> Error {
    Error::Configuration {
        reason: first_line(&reason),
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::{is_behind_proxy, merged};

    #[test]
    fn a_missing_file_of_several_is_skipped() {
        let dir = std::env::temp_dir().join(format!("k8s-cli-kubeconfig-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let [missing, present, broken] = ["missing", "present", "broken"].map(|name| dir.join(name));
        std::fs::write(&present, "apiVersion: v1\nkind: Config\ncurrent-context: here\n").unwrap();
        std::fs::write(&broken, "not: [a kubeconfig").unwrap();
        let context = |paths: &[&PathBuf]| {
            let paths: Vec<PathBuf> = paths.iter().map(|path| (*path).clone()).collect();
            merged(&paths).map(|config| config.current_context)
        };
        assert_eq!(context(&[&missing, &present]).unwrap().as_deref(), Some("here"));
        assert_eq!(context(&[&present, &missing]).unwrap().as_deref(), Some("here"));
        let none = context(&[&missing, &missing]).unwrap_err().to_string();
        assert!(none.contains("none of the files"), "{none}");
        // A single file must exist.
        let alone = context(&[&missing]).unwrap_err().to_string();
        assert_eq!(alone.matches("No such file").count(), 1, "{alone}");
        assert!(
            alone.contains(&format!("cannot read `{}`", missing.display())),
            "{alone}"
        );
        assert!(context(&[&broken, &present]).is_err());
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn this_machine_is_behind_no_proxy() {
        for url in ["https://127.0.0.1:6443", "https://[::1]:6443", "https://localhost:6443"] {
            assert!(!is_behind_proxy(&url.parse().unwrap()), "{url}");
        }
    }
}

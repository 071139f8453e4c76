//! Facts about the paths of the API that more than the router has to know.

/// Whether health checks may request this path with HEAD. The recorded API answers `HEAD /` with 405.
pub(crate) fn answers_head(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz")
}

/// Whether health checks may request this path for any host, with GET or OPTIONS.
pub(crate) fn is_health_route(path: &str) -> bool {
    path == "/" || answers_head(path)
}

/// Whether the nodes of tasks request this path, with the token of their task.
pub(crate) fn is_task_route(path: &str) -> bool {
    let is_of_set = |rest: &str| matches!(rest.split_once('/'), Some((_, "manifest" | "contents")));
    path.starts_with("/outputs/") || path.strip_prefix("/files/").is_some_and(is_of_set)
}

/// Whether a route is a page of the documentation or a file of one.
pub(crate) fn is_page(route: &str) -> bool {
    ["/docs", "/redoc", "/openapi.json"]
        .iter()
        .any(|page| route.starts_with(page))
}

/// Whether the server has a route for a path, without its trailing slash. Empty segments are rejected: redirecting
/// `//evil.example/` would send the client to another host.
pub(crate) fn is_known_path(path: &str) -> bool {
    let parts: Vec<&str> = path.split('/').skip(1).collect();
    if parts.iter().any(|part| part.is_empty()) {
        return false;
    }
    match parts.as_slice() {
        [
            "tasks" | "volumes" | "files" | "history" | "usage" | "docs" | "redoc" | "nodes" | "gpus" | "healthz"
            | "readyz" | "version" | "metrics" | "openapi.json",
        ] => true,
        ["tasks" | "volumes" | "files" | "outputs" | "groups" | "history", _] => true,
        ["history", _, "logs"] => true,
        ["files", _, last] => matches!(*last, "manifest" | "contents"),
        ["tasks", _, last] => matches!(*last, "stop" | "cancel" | "logs" | "outputs"),
        ["tasks", _, "outputs", last] => matches!(*last, "manifest" | "contents"),
        ["groups", _, last] => matches!(*last, "stop" | "cancel"),
        _ => false,
    }
}

//! Tests of the redirects.

use super::is_known_path;

#[test]
fn only_a_path_of_the_api_is_redirected() {
    for path in ["/tasks", "/tasks/abc", "/tasks/abc/logs", "/volumes/x", "/docs"] {
        assert!(is_known_path(path), "{path}");
    }
    for path in [
        "",
        "//tasks",
        "//evil.example",
        "/tasks//logs",
        "/tasks/a/b",
        "/nothing",
    ] {
        assert!(!is_known_path(path), "{path}");
    }
}

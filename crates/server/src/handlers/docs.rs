//! Serves the OpenAPI document and its viewers, Swagger UI and Redoc, without loading anything from the internet.

use std::sync::{Arc, LazyLock};

use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{StatusCode, header};

use super::json::json_response;
use crate::app::AppState;
use crate::error::error_response;

/// Redoc 2.5.4, MIT; its license is in the same directory.
const REDOC: &str = include_str!("../../assets/redoc.standalone.js");

/// The only thing that Redoc loads from the internet; `POLICY` forbids it, which browsers report as an error.
const REDOC_LOGO: &str = "https://cdn.redoc.ly/redoc/logo-mini.svg";

/// Redoc without that logo.
static REDOC_WITHOUT_LOGO: LazyLock<Bytes> = LazyLock::new(|| REDOC.replace(REDOC_LOGO, "data:,").into());

static SWAGGER_SCRIPT: LazyLock<Bytes> = LazyLock::new(|| swagger_file("swagger-ui-bundle.js"));
static SWAGGER_STYLE: LazyLock<Bytes> = LazyLock::new(|| swagger_file("swagger-ui.css"));

/// Allows only content from this server. Both pages set inline styles from scripts and use data URLs for images.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      worker-src 'self' blob:; frame-ancestors 'none'";

const SWAGGER_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>k8s-cli API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css?v=VERSION">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js?v=VERSION"></script>
<script src="docs/assets/start.js?v=VERSION"></script>
</body>
</html>
"#;

const SWAGGER_START: &str = r##"SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#swagger-ui",
  layout: "BaseLayout",
  deepLinking: true,
  showExtensions: true,
  showCommonExtensions: true,
  presets: [SwaggerUIBundle.presets.apis, SwaggerUIBundle.SwaggerUIStandalonePreset],
});
"##;

const REDOC_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>k8s-cli API</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<style>body { margin: 0; padding: 0; }</style>
</head>
<body>
<redoc spec-url="openapi.json"></redoc>
<script src="redoc/assets/redoc.standalone.js?v=VERSION"></script>
</body>
</html>
"#;

/// The OpenAPI document.
pub(crate) async fn openapi(State(app): State<AppState>) -> Response {
    json_response(app.openapi.clone().into())
}

/// The Swagger UI page.
pub(crate) async fn docs() -> Response {
    page(SWAGGER_PAGE)
}

/// The Redoc page.
pub(crate) async fn redoc() -> Response {
    page(REDOC_PAGE)
}

/// A script or stylesheet of Swagger UI. Its other files include a page of its own, which would not have [`POLICY`].
pub(crate) async fn docs_asset(Path(name): Path<String>) -> Response {
    match name.as_str() {
        "start.js" => asset("text/javascript", Bytes::from_static(SWAGGER_START.as_bytes())),
        "swagger-ui-bundle.js" => asset("text/javascript", SWAGGER_SCRIPT.clone()),
        "swagger-ui.css" => asset("text/css", SWAGGER_STYLE.clone()),
        _ => error_response(StatusCode::NOT_FOUND, "Not Found"),
    }
}

/// A file that `utoipa-swagger-ui` contains, kept once for all clients.
fn swagger_file(name: &str) -> Bytes {
    let config = Arc::new(utoipa_swagger_ui::Config::from("/openapi.json"));
    let file = utoipa_swagger_ui::serve(name, config).ok().flatten();
    file.map(|file| file.bytes.into_owned().into()).unwrap_or_default()
}

/// The Redoc script.
pub(crate) async fn redoc_asset() -> Response {
    asset("text/javascript", REDOC_WITHOUT_LOGO.clone())
}

fn page(html: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
    ];
    // A new version of a page must not get an old script from the browser's cache.
    let html = html.replace("VERSION", env!("CARGO_PKG_VERSION"));
    (headers, html).into_response()
}

fn asset(content_type: &str, bytes: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "public, max-age=3600"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    ];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::{
        REDOC, REDOC_LOGO, REDOC_PAGE, REDOC_WITHOUT_LOGO, SWAGGER_PAGE, SWAGGER_SCRIPT, SWAGGER_START, SWAGGER_STYLE,
    };

    #[test]
    fn the_files_of_swagger_ui_exist() {
        assert!(SWAGGER_SCRIPT.len() > 100_000 && SWAGGER_STYLE.len() > 10_000);
    }

    #[test]
    fn the_pages_load_nothing_from_elsewhere() {
        assert!(
            REDOC.contains(REDOC_LOGO),
            "a new version of Redoc loads something else"
        );
        assert!(!String::from_utf8_lossy(&REDOC_WITHOUT_LOGO).contains("cdn."));
        for page in [SWAGGER_PAGE, SWAGGER_START, REDOC_PAGE] {
            assert!(
                !page.contains("://") && !page.contains("=\"/") && !page.contains("\"/openapi"),
                "{page}"
            );
        }
    }
}

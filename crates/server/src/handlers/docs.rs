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

/// Allows only content from this server. Both pages set inline styles from scripts and use data URLs for images.
const POLICY: &str = "default-src 'self'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; \
                      worker-src 'self' blob:; frame-ancestors 'none'";

const SWAGGER_PAGE: &str = r#"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>k8s-cli API</title>
<link rel="stylesheet" href="docs/assets/swagger-ui.css">
<link rel="icon" href="data:,">
</head>
<body>
<div id="swagger-ui"></div>
<script src="docs/assets/swagger-ui-bundle.js"></script>
<script src="docs/assets/start.js"></script>
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
<script src="redoc/assets/redoc.standalone.js"></script>
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

/// A script or stylesheet of Swagger UI.
pub(crate) async fn docs_asset(Path(name): Path<String>) -> Response {
    if name == "start.js" {
        return asset("text/javascript", Bytes::from_static(SWAGGER_START.as_bytes()));
    }
    let config = Arc::new(utoipa_swagger_ui::Config::from("/openapi.json"));
    match utoipa_swagger_ui::serve(&name, config) {
        Ok(Some(file)) => {
            let content_type = file.content_type.clone();
            asset(&content_type, file.bytes.to_vec().into())
        }
        Ok(None) | Err(_) => error_response(StatusCode::NOT_FOUND, "Not Found"),
    }
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
    (headers, html).into_response()
}

fn asset(content_type: &str, bytes: Bytes) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, bytes).into_response()
}

#[cfg(test)]
mod tests {
    use super::{REDOC, REDOC_LOGO, REDOC_PAGE, REDOC_WITHOUT_LOGO, SWAGGER_PAGE, SWAGGER_START};

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
